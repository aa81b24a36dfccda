# SPDX-License-Identifier: GPL-3.0-or-later
"""The result folder of a sweep, from which an interrupted sweep resumes.

`parts/*.parquet` contain rows in order of completion; each file is written atomically. `results.parquet` contains the rows
in task order with a column per param and is written at the end. `sweep.json` contains the definition of the sweep.
"""

import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from crossmargin_bt.errors import ConfigurationError, StoreError
from crossmargin_bt.report import files
from crossmargin_bt.sweep.rows import FIGURES, SweepRow

FLUSH_SECONDS = 1.0

_FIELDS = (
    pa.field("key", pa.string()), pa.field("venue", pa.string()), pa.field("mode", pa.string()), pa.field("params", pa.string()),
    pa.field("window", pa.int32()), pa.field("sample", pa.string()), pa.field("from_ms", pa.int64()),
    pa.field("to_ms", pa.int64()), *(pa.field(name, pa.float64()) for name in FIGURES),
    pa.field("error", pa.string()),
)  # fmt: skip
SCHEMA = pa.schema(_FIELDS)


class SweepStore:
    """The rows of a result folder, which is locked against use by a second sweep.

    Raises:
        ConfigurationError: another sweep uses the folder, or it is not writable.
        StoreError: a file in it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, SweepRow] = {}
        self._pending: list[SweepRow] = []
        self._mutex = threading.Lock()
        self._timer: threading.Timer | None = None
        self._write_error: StoreError | None = None
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(folder / ".lock", blocking=False)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise ConfigurationError(
                f"another sweep is running in {folder}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"cannot write to {folder}: {error.strerror or error}") from error
        for left_over in folder.rglob("*.partial"):
            left_over.unlink()
        for file in [folder / "results.parquet", *sorted(self._parts.glob("*.parquet"))]:
            if file.is_file():
                self.rows.update((row.key, row) for row in read_rows(file))

    @property
    def _parts(self) -> Path:
        return self.folder / "parts"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            self._lock.release()

    def add(self, row: SweepRow) -> None:
        """Add a row; it is written to disk within a second.

        Raises:
            StoreError: earlier rows could not be written.
        """
        with self._mutex:
            self.rows[row.key] = row
            self._pending.append(row)
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self._flush_from_timer)
                self._timer.daemon = True
                self._timer.start()
        if self._write_error is not None:
            raise self._write_error

    def drop_failed(self) -> None:
        """Drop the rows of failed runs, so that these are repeated."""
        self.rows = {key: row for key, row in self.rows.items() if not row.error}

    def _flush_from_timer(self) -> None:
        try:
            self.flush()
        except StoreError as error:
            self._write_error = error

    def flush(self) -> None:
        """Write all pending rows.

        Raises:
            StoreError: writing failed.
        """
        with self._mutex:
            self._timer = None
            if self._pending:
                _write(_table(self._pending), self._next_part())
                self._pending = []

    def _next_part(self) -> Path:
        numbers = [int(file.stem) for file in self._parts.glob("*.parquet") if file.stem.isdigit()]
        return self._parts / f"{max(numbers, default=0) + 1:06}.parquet"

    def write_definition(self, content: dict[str, Any]) -> None:
        """Write sweep.json."""
        files.write(json.dumps(content, indent=2, default=str).encode() + b"\n", self.folder / "sweep.json")

    def finish(self, keys: Sequence[str]) -> list[SweepRow]:
        """Write the rows of a sweep in task order and return them; other rows in the folder are preserved."""
        self.flush()
        mine = [self.rows[key] for key in keys]
        others = [row for key, row in self.rows.items() if key not in set(keys)]
        parts = sorted(self._parts.glob("*.parquet"))
        table = _table(mine)
        for name in sorted({name for row in mine for name in row.params}):
            values = [row.params.get(name) for row in mine]
            table = table.append_column(f"param_{name}", _column(values))
        if others:
            _write(_table(others), self._next_part())
        _write(table, self.folder / "results.parquet")
        for part in parts:
            part.unlink()
        return mine


def read_rows(file: Path) -> list[SweepRow]:
    """Read the rows of a Parquet file of a sweep.

    Raises:
        StoreError: the file cannot be read or has another format.
    """
    try:
        records = pq.read_table(file).to_pylist()
        return [
            SweepRow(
                key=row["key"], venue=row["venue"], mode=row["mode"], params=json.loads(row["params"]), window=row["window"],
                sample=row["sample"], from_ms=row["from_ms"], to_ms=row["to_ms"], error=row["error"], figures={} if row["error"] else {name: row[name] for name in FIGURES},
            )
            for row in records
        ]  # fmt: skip
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{file} is not a readable file of a sweep ({error}); move it away to repeat its runs"
        ) from error


def _table(rows: Iterable[SweepRow]) -> pa.Table:
    content = [
        {
            "key": row.key, "venue": row.venue, "mode": row.mode, "params": json.dumps(row.params), "window": row.window,
            "sample": row.sample, "from_ms": row.from_ms, "to_ms": row.to_ms, "error": row.error, **row.figures,
        }
        for row in rows
    ]  # fmt: skip
    return pa.Table.from_pylist(content, schema=SCHEMA)


def _column(values: Sequence[Any]) -> pa.Array:
    """Return the values of a param as one column of integers, floats or text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        numbers = all(isinstance(value, int | float) for value in values if value is not None)
        return pa.array(
            [None if one is None else float(one) for one in values] if numbers else [str(one) for one in values]
        )


def _write(table: pa.Table, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(table, partial, compression="zstd")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; rows already in the folder are preserved"
        ) from error
