# SPDX-License-Identifier: GPL-3.0-or-later
"""One month of a series in one Parquet file, which says itself what it covers and how its rows add up.

A file is written beside its place and renamed into it, so it is whole or not there. The same rows and
coverage give the same bytes.
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
from crossmargin_bt.errors import StoreError

FOOTER = b"crossmargin_bt"
SCHEMA = 1


class Footer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file says of itself: whose rows it holds, which ranges were asked for and answered, and a hash of the rows."""

    schema: int
    exchange: str
    symbol: str
    kind: str
    timeframe: str
    covered: list[TimeRange]
    rows_sha256: str


class RowArrays(NamedTuple):
    """RowArrays by time: `times` in milliseconds since 1970 (UTC), rising; `values` one line a row, one column a column."""

    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[SeriesRow], width: int) -> "RowArrays":
        """Return rows as arrays; of two at one time the later given stands."""
        by_time = {row.time: row.values for row in rows}
        times = np.array(sorted(by_time), dtype=np.int64)
        values = np.array([by_time[time] for time in times.tolist()], dtype=np.float64).reshape(len(times), width)
        return cls(times, values)

    def merge(self, later: "RowArrays") -> "RowArrays":
        """Return both; where both have a row the later one's stands."""
        kept = ~np.isin(self.times, later.times)
        times = np.concatenate([self.times[kept], later.times])
        order = np.argsort(times, kind="stable")
        return RowArrays(times[order], np.concatenate([self.values[kept], later.values])[order])

    def select(self, time_range: TimeRange) -> "RowArrays":
        """Return the rows of a time_range."""
        a, b = np.searchsorted(self.times, time_range)
        return RowArrays(self.times[a:b], self.values[a:b])

    @property
    def sha256(self) -> str:
        """A hash of times and values."""
        return hashlib.sha256(self.times.tobytes() + np.ascontiguousarray(self.values).tobytes()).hexdigest()


class MonthData(NamedTuple):
    """The rows of a month, and the ranges of it that were asked for and answered."""

    rows: RowArrays
    covered: list[TimeRange]

    def merge(self, rows: RowArrays, covered: Sequence[TimeRange]) -> "MonthData":
        """Return the month with more rows and ranges."""
        return MonthData(self.rows.merge(rows), union([*self.covered, *covered]))

    def missing_rows(self, series: Series) -> list[TimeRange]:
        """Return the ranges that were answered with no row; none for rows without a grid."""
        if not series.step_ms:
            return []
        found = []
        for start, end in self.covered:
            first = series.align_up(start)
            times = self.rows.select((start, end)).times.tolist()
            found.extend(grid_gaps((first, series.align_up(end)), times, series.step_ms))
        return union(found)


def empty_month(series: Series) -> MonthData:
    """Return a month without rows."""
    return MonthData(RowArrays.of([], len(series.columns)), [])


def write_month(path: Path, series: Series, month: MonthData) -> None:
    """Write a month's file."""
    footer = Footer(
        SCHEMA, series.exchange, series.symbol, series.kind, series.timeframe, month.covered, month.rows.sha256
    )
    columns = [pa.array(month.rows.times, type=pa.timestamp("ms", tz="UTC"))]
    columns += [pa.array(month.rows.values[:, n]) for n in range(len(series.columns))]
    table = pa.Table.from_arrays(columns, names=["date", *series.columns])
    table = table.replace_schema_metadata({FOOTER: msgspec.json.encode(footer)})
    with AtomicWrite(path) as beside:
        pq.write_table(table, beside, compression="zstd")


def read_month(path: Path, series: Series) -> MonthData:
    """Return a month from its file, its rows checked against their hash.

    Raises:
        StoreError: the file cannot be read, is another series', or its rows are not those that were written.
    """
    try:
        table = pq.read_table(path)
        footer = msgspec.json.decode((table.schema.metadata or {}).get(FOOTER, b""), type=Footer)
    except (OSError, pa.ArrowInvalid, msgspec.DecodeError) as error:
        raise StoreError(f"{path} is no file of this store, or broken: {error}") from error
    if (footer.schema, *footer_series(footer)) != (SCHEMA, *series):
        raise StoreError(f"{path} holds {'/'.join(footer_series(footer))}, schema {footer.schema}")
    times = table.column("date").cast(pa.int64()).to_numpy()
    values = np.column_stack([table.column(name).to_numpy() for name in series.columns])
    rows = RowArrays(times, values)
    if rows.sha256 != footer.rows_sha256:
        raise StoreError(f"{path}: its rows are not those that were written")
    return MonthData(rows, footer.covered)


def read_coverage(path: Path) -> list[TimeRange]:
    """Return which ranges a file says it covers, without reading its rows.

    Raises:
        StoreError: it is no file of a store.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return msgspec.json.decode(metadata.get(FOOTER, b""), type=Footer).covered
    except (OSError, pa.ArrowInvalid, msgspec.DecodeError) as error:
        raise StoreError(f"{path} is no file of this store, or broken: {error}") from error


def footer_series(footer: Footer) -> Series:
    """Return the series a file belongs to."""
    return Series(footer.exchange, footer.symbol, footer.kind, footer.timeframe)


class AtomicWrite:
    """A context in which a file is written beside its place; at the end it is flushed to the disk and put there."""

    def __init__(self, path: Path) -> None:
        self._path, self._beside = path, path.with_name(path.name + ".tmp")

    def __enter__(self) -> Path:
        return self._beside

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._beside.unlink(missing_ok=True)
            return
        with self._beside.open("rb") as written:
            os.fsync(written.fileno())
        self._beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
