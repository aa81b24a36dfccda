# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing market data from files of other programs into the store: all files are understood first, then all are written."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.candles.month_file import RowArrays
from crossmargin_bt.candles.series import KIND_COLUMNS, Series, SeriesRow, format_time, is_series_kind
from crossmargin_bt.candles.store import SeriesStore, read_stored
from crossmargin_bt.candles.time_ranges import late_intervals, subtract, union
from crossmargin_bt.errors import ConfigurationError, FeedError, suggestion
from crossmargin_bt.readers.market_file import MarketTable, ReadOptions, market_files, read_markets
from crossmargin_bt.readers.validation import EXAMPLES, sorted_rows
from crossmargin_bt.symbols import VALID_NAME
from crossmargin_bt.time_units import timeframe_ms


class ImportedSeries(NamedTuple):
    """Result of an import for one series: files and rows read, and rows stored."""

    series: Series
    files: int
    rows: int
    stored: int


def import_files(
    paths: Sequence[Path], out: Path, exchange: str, options: ReadOptions | None = None, *, replace: bool = False
) -> list[ImportedSeries]:
    """Import files into the store of an exchange. Nothing is written unless every file is understood.

    Only the times of the rows count as covered; a later download requests the gaps between them.

    Args:
        paths: files, or folders of files.
        out: the folder of downloads.
        exchange: the folder of the exchange below it; ccxt's id, so that downloads can continue the series.
        options: metadata of all files, which takes precedence over their names, and how times are written.
        replace: of rows of one time with different values take the later one: within a file, of a later file, and instead of
            a stored row.

    Raises:
        ConfigurationError: name and columns of a file do not determine what it holds.
        FeedError: a file cannot be read, or rows of one time differ and `replace` is not set.
        StoreError: the folder cannot be written to.
    """
    if not VALID_NAME.fullmatch(exchange):
        raise ConfigurationError(
            f"{exchange!r} is not a valid folder name; give ccxt's id of the exchange, for example binanceusdm"
        )
    options = (options or ReadOptions())._replace(last_wins=replace, exchange=exchange)
    kind = options.given.kind
    if kind and not is_series_kind(kind):
        raise ConfigurationError(f"unknown kind of data {kind!r}{suggestion(kind, KIND_COLUMNS)}")
    parts: dict[Series, list[MarketTable]] = {}
    for path in market_files(paths):
        for table in read_markets(path, options):
            parts.setdefault(_series(exchange, table), []).append(table)
    if not parts:
        raise FeedError(f"{', '.join(map(str, paths))}: no data files")
    rows = {series: _rows(series, tables, replace=replace) for series, tables in parts.items()}
    if not replace:
        for series, arrays in rows.items():
            _check_stored(out, series, arrays)
    return [_store(out, series, rows[series], parts[series]) for series in rows]


def _series(exchange: str, table: MarketTable) -> Series:
    if not is_series_kind(table.kind):
        raise ConfigurationError(
            f"{table.path}: unknown kind of data {table.kind!r}{suggestion(table.kind, KIND_COLUMNS)}"
        )
    if table.kind != "funding" and not table.timeframe:
        raise ConfigurationError(f"{table.path}: its rows do not show the interval between them; give --timeframe")
    return Series(exchange, table.symbol, table.kind, table.timeframe)


def _rows(series: Series, tables: Sequence[MarketTable], *, replace: bool) -> RowArrays:
    """Return the rows of a series in all its files.

    Raises:
        FeedError: rows of one time differ, or a row is off the grid of the others.
    """
    where = f"{series.symbol} {series.name} in {', '.join(dict.fromkeys(table.path.name for table in tables))}"
    frames = [_stored_columns(table.frame, series) for table in tables]
    try:
        frame = sorted_rows(pd.concat(frames), where, last_wins=replace)
    except FeedError as error:
        raise FeedError(f"{error}, or take the later ones with --replace") from error
    rows = RowArrays(pd.DatetimeIndex(frame.index).as_unit("ms").asi8, frame.to_numpy(dtype=np.float64))
    if series.timeframe:
        phases = rows.times % timeframe_ms(series.timeframe)
        off = np.flatnonzero(phases != phases[0])
        if len(off):
            raise FeedError(
                f"{where}: the row at {pd.Timestamp(rows.times[off[0]], unit='ms')} is not a whole number of {series.timeframe} after "
                f"the row at {format_time(int(rows.times[0]))}"
            )
    return rows


def _stored_columns(frame: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Return the columns of a series; an unknown volume is stored as 0."""
    columns = frame.reindex(columns=list(series.columns))
    return columns.fillna({"volume": 0.0}) if "volume" in columns else columns


def _check_stored(out: Path, series: Series, rows: RowArrays) -> None:
    """Raise if a stored row would change."""
    before = read_stored(out, series, (int(rows.times[0]), int(rows.times[-1]) + 1))
    common, a, b = np.intersect1d(before.times, rows.times, return_indices=True)
    if series.timeframe and len(before.times) and (before.times[0] - rows.times[0]) % timeframe_ms(series.timeframe):
        raise FeedError(
            f"{series.symbol} {series.name}: stored bars begin at {format_time(int(before.times[0]))}, imported ones at "
            f"{format_time(int(rows.times[0]))}; they are not on one grid, import into another --exchange folder"
        )
    (_, stored), (_, imported) = before, rows
    changed = np.flatnonzero(~(stored[a] == imported[b]).all(axis=1))
    if not len(changed):
        return
    listed = ", ".join(
        _change(int(common[n]), stored[a[n]], imported[b[n]], series.columns) for n in changed[:EXAMPLES]
    )
    raise FeedError(
        f"{series.symbol} {series.name}: {len(changed)} stored rows would change: {listed}; if they are the same market, "
        "--replace takes the imported ones"
    )


def _change(time: int, stored: np.ndarray, imported: np.ndarray, columns: Sequence[str]) -> str:
    column = int(np.argmax(stored != imported))
    return f"{format_time(time)} ({columns[column]} {stored[column]:g} to {imported[column]:g})"


def _store(out: Path, series: Series, rows: RowArrays, tables: Sequence[MarketTable]) -> ImportedSeries:
    names = list(dict.fromkeys(table.path.name for table in tables))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    with SeriesStore(out, series, source=f"import of {names[0]}{more}") as store:
        for time_range, listed in _contiguous(series, rows):
            store.add(time_range, listed)
        store.commit()
        return ImportedSeries(series, len(names), len(rows.times), store.rows)


def _contiguous(series: Series, rows: RowArrays) -> Iterator[tuple[tuple[int, int], list[SeriesRow]]]:
    """Yield the runs of rows without a gap, each with the time range that it covers; settlements cover the interval between them."""
    listed = [SeriesRow(time, tuple(line)) for time, line in zip(*(part.tolist() for part in rows), strict=True)]
    covered = [(row.time, row.time + (series.step_ms or 1)) for row in listed]
    if not series.step_ms and listed:
        late = [gap for gap, _ in late_intervals([row.time for row in listed])]
        covered += subtract((listed[0].time, listed[-1].time), [(start + 1, end) for start, end in late])
    for time_range in union(covered):
        a, b = np.searchsorted(rows.times, time_range)
        yield time_range, listed[a:b]
