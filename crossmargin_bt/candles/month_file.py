# SPDX-License-Identifier: GPL-3.0-or-later
"""One month of a series in one Parquet file. The footer holds the coverage of the file and a checksum of its rows.

Files are written atomically (temporary file, fsync, rename), so a file is complete or absent. The same rows and coverage
give the same bytes.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.time_ranges import TimeRange, grid_gaps, union
from crossmargin_bt.errors import DECODE_ERRORS, StoreError

FOOTER = b"crossmargin_bt"
SCHEMA = 1


class Footer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metadata in a Parquet footer: schema version, series, time ranges covered by downloads, SHA-256 of the rows."""

    schema: int
    exchange: str
    symbol: str
    kind: str
    timeframe: str
    covered: list[TimeRange]
    rows_sha256: str


class RowArrays(NamedTuple):
    """Rows as arrays. `times`: shape (rows,), int64, milliseconds since 1970-01-01 UTC, ascending; `values`: shape (rows, columns), float64."""

    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[SeriesRow], width: int) -> "RowArrays":
        """Return rows as arrays sorted by time; of rows with the same time the last one given is used."""
        by_time = {row.time: row.values for row in rows}
        times = np.array(sorted(by_time), dtype=np.int64)
        values = np.array([by_time[time] for time in times.tolist()], dtype=np.float64).reshape(len(times), width)
        return cls(times, values)

    def merge(self, later: "RowArrays") -> "RowArrays":
        """Return the rows of both; where both have a row at a time, the row of `later` is used."""
        kept = ~np.isin(self.times, later.times)
        times = np.concatenate([self.times[kept], later.times])
        order = np.argsort(times, kind="stable")
        return RowArrays(times[order], np.concatenate([self.values[kept], later.values])[order])

    def select(self, time_range: TimeRange) -> "RowArrays":
        """Return the rows within a time range."""
        a, b = np.searchsorted(self.times, time_range)
        return RowArrays(self.times[a:b], self.values[a:b])

    @property
    def sha256(self) -> str:
        """SHA-256 of times and values, in hexadecimal."""
        return hashlib.sha256(self.times.tobytes() + np.ascontiguousarray(self.values).tobytes()).hexdigest()


class MonthData(NamedTuple):
    """The rows of a month and its coverage: the time ranges that were requested and answered."""

    rows: RowArrays
    covered: list[TimeRange]

    def merge(self, rows: RowArrays, covered: Sequence[TimeRange]) -> "MonthData":
        """Return the month with additional rows and coverage."""
        return MonthData(self.rows.merge(rows), union([*self.covered, *covered]))

    def gaps(self, series: Series) -> list[TimeRange]:
        """Return the gaps within the coverage: grid times without a row. A series without a grid has none."""
        if not series.step_ms:
            return []
        found = []
        phase = series.phase(int(self.rows.times[0])) if len(self.rows.times) else 0
        for start, end in self.covered:
            first = series.align_up(start, phase)
            times = self.rows.select((start, end)).times.tolist()
            found.extend(grid_gaps((first, series.align_up(end, phase)), times, series.step_ms))
        return union(found)


def empty_month(series: Series) -> MonthData:
    """Return a month without rows or coverage."""
    return MonthData(RowArrays.of([], len(series.columns)), [])


def write_month(path: Path, series: Series, month: MonthData) -> None:
    """Write the file of a month, atomically."""
    footer = Footer(
        SCHEMA, series.exchange, series.symbol, series.kind, series.timeframe, month.covered, month.rows.sha256
    )
    columns = [pa.array(month.rows.times, type=pa.timestamp("ms", tz="UTC"))]
    columns += [pa.array(month.rows.values[:, n]) for n in range(len(series.columns))]
    table = pa.Table.from_arrays(columns, names=["date", *series.columns])
    table = table.replace_schema_metadata({FOOTER: msgspec.json.encode(footer)})
    with AtomicWrite(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_month(path: Path, series: Series) -> MonthData:
    """Return a month from its file, after checking its rows against their checksum.

    Raises:
        StoreError: the file cannot be read, belongs to another series, or its rows do not match their checksum.
    """
    try:
        table = pq.read_table(path)
        footer = msgspec.json.decode((table.schema.metadata or {}).get(FOOTER, b""), type=Footer)
    except (OSError, pa.ArrowInvalid, *DECODE_ERRORS) as error:
        raise StoreError(f"{path} is not a file of this store, or it is broken: {error}") from error
    if (footer.schema, *footer_series(footer)) != (SCHEMA, *series):
        raise StoreError(f"{path} holds {'/'.join(footer_series(footer))}, schema {footer.schema}")
    times = table.column("date").cast(pa.int64()).to_numpy()
    values = np.column_stack([table.column(name).to_numpy() for name in series.columns])
    rows = RowArrays(times, values)
    if rows.sha256 != footer.rows_sha256:
        raise StoreError(f"{path}: its rows do not match their checksum")
    return MonthData(rows, footer.covered)


def read_coverage(path: Path) -> list[TimeRange]:
    """Return the coverage stored in a file's footer, without reading its rows.

    Raises:
        StoreError: the file is not one of a store.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return msgspec.json.decode(metadata.get(FOOTER, b""), type=Footer).covered
    except (OSError, pa.ArrowInvalid, *DECODE_ERRORS) as error:
        raise StoreError(f"{path} is not a file of this store, or it is broken: {error}") from error


def footer_series(footer: Footer) -> tuple[str, str, str, str]:
    """Return exchange, symbol, kind and timeframe of the series that a file belongs to."""
    return footer.exchange, footer.symbol, footer.kind, footer.timeframe


class AtomicWrite:
    """Context manager that yields a temporary path; on success that file is flushed to disk and renamed to the final path."""

    def __init__(self, path: Path) -> None:
        self._path, self._temporary = path, path.with_name(path.name + ".tmp")

    def __enter__(self) -> Path:
        return self._temporary

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._temporary.unlink(missing_ok=True)
            return
        with self._temporary.open("rb") as written:
            os.fsync(written.fileno())
        self._temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
