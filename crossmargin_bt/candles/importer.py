# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing market data from files of other programs into the store.

Supported are the bulk archives of Binance (zip), the feather and JSON files of freqtrade, and CSV or Parquet files with the
usual column names. Facts that a file name does not contain must be given.
"""

import gzip
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from crossmargin_bt.candles.folder import LAST_PRICE_FILE
from crossmargin_bt.candles.month_file import RowArrays
from crossmargin_bt.candles.series import (
    KIND_COLUMNS,
    Series,
    SeriesKind,
    SeriesRow,
    is_series_kind,
    path_safe_symbol,
    timeframe_ms,
)
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.candles.time_ranges import union
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.errors import ConfigurationError, FeedError, suggestion
from crossmargin_bt.timestamps import TIME_COLUMNS, parse_times
from crossmargin_bt.venues.tiers import short_symbol

FREQTRADE_FILE = re.compile(
    r"^(?P<base>[^_]+)_(?P<quote>[^_]+)(_(?P<settle>[^-]+))?-(?P<timeframe>[0-9]+[smhdw])(-(?P<kind>futures|mark|funding_rate|index))?$"
)
BINANCE_FILE = re.compile(
    r"^(?P<symbol>[A-Z0-9]+)-((?P<timeframe>[0-9]+[smhdw])|(?P<funding>fundingRate))-[0-9]{4}-[0-9]{2}(-[0-9]{2})?$"
)
# Folders of Binance's archive whose files are named like candle files but hold other prices.
BINANCE_FOLDERS = {"markPriceKlines": "mark", "indexPriceKlines": "index"}
COMPANION_FILE = re.compile(
    r"^(?P<symbol>.+)_(?P<kind>mark|index)_(?P<timeframe>[0-9]+[smhdw])$|^(?P<funded>.+)_funding$"
)
KLINE_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")
OTHER_TIME_COLUMNS = ("open_time", "calc_time", "funding_time", "fundingtime")
OTHER_RATE_COLUMNS = ("last_funding_rate", "fundingrate", "rate")
VALID_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
READ_ERRORS = (
    OSError, EOFError, ValueError, KeyError, TypeError, StopIteration, OverflowError, zipfile.BadZipFile, zlib.error,
    pa.ArrowException,
)  # fmt: skip


class FileMetadata(NamedTuple):
    """Symbol, kind and timeframe of the rows in a file; an empty string means unknown."""

    symbol: str = ""
    kind: str = ""
    timeframe: str = ""


class ImportedSeries(NamedTuple):
    """Result of an import for one series: rows read and rows stored."""

    series: Series
    rows: int
    stored: int


def import_files(paths: Sequence[Path], out: Path, exchange: str, given: FileMetadata) -> list[ImportedSeries]:
    """Import files into the store of an exchange; a row replaces a stored row of the same time.

    Only the times of the rows count as covered; a later download requests the gaps between them.

    Args:
        paths: the files.
        out: the folder of downloads.
        exchange: the folder of the exchange below it; ccxt's id, so that downloads can continue the series.
        given: metadata of all files, which takes precedence over their names.

    Raises:
        ConfigurationError: name and columns of a file do not determine what it holds.
        FeedError: a file cannot be read.
        StoreError: the folder cannot be written to.
    """
    if not VALID_NAME.fullmatch(exchange):
        raise ConfigurationError(
            f"{exchange!r} is not a valid folder name; give ccxt's id of the exchange, for example binanceusdm"
        )
    done = []
    for path in paths:
        for series, rows in _read(path, exchange, given):
            with SeriesStore(out, series, source=f"import of {path.name}") as store:
                if len(rows.times):
                    listed = [
                        SeriesRow(time, tuple(line))
                        for time, line in zip(*(part.tolist() for part in rows), strict=True)
                    ]
                    ranges = union((row.time, row.time + (series.step_ms or 1)) for row in listed)
                    for time_range in ranges:
                        a, b = np.searchsorted(rows.times, time_range)
                        store.add(time_range, listed[a:b])
                store.commit()
                done.append(ImportedSeries(series, len(rows.times), store.rows))
    return done


def _read(path: Path, exchange: str, given: FileMetadata) -> list[tuple[Series, RowArrays]]:
    """Return the series in a file."""
    named = parse_file_name(path)
    symbol = _stored_symbol(given.symbol or named.symbol)
    frame = _table(path, funding=(given.kind or named.kind) == "funding")
    if not symbol:
        raise ConfigurationError(f"{path.name} does not name a symbol; give --symbol")
    kinds = [given.kind or named.kind] if given.kind or named.kind else _kinds(frame, path)
    found = []
    for kind in kinds:
        if not is_series_kind(kind):
            raise ConfigurationError(f"unknown kind of data {kind!r}{suggestion(kind, KIND_COLUMNS)}")
        part = _select_kind(frame, kind, path)
        timeframe = "" if kind == "funding" else given.timeframe or named.timeframe or _infer_timeframe(part, path)
        series = Series(exchange, symbol, kind, timeframe)
        if series.step_ms and len(part) > 1 and (usual := _infer_timeframe(part, path)) != timeframe:
            raise ConfigurationError(f"{path}: its rows are {usual} apart, not {timeframe}; give --timeframe {usual}")
        rows = RowArrays(pd.DatetimeIndex(part.index).as_unit("ms").asi8, part.to_numpy(dtype=np.float64))
        off = next((time for time in rows.times.tolist() if not series.is_aligned(time)), None)
        if off is not None:
            raise FeedError(f"{path}: a row at {pd.Timestamp(off, unit='ms')} is not on the grid of {timeframe}")
        found.append((series, rows))
    return found


def _stored_symbol(symbol: str) -> str:
    """Return a symbol under its name in the store; unified symbols of perpetuals (BTC/USDT:USDT) are shortened as by downloads."""
    name = path_safe_symbol(short_symbol(symbol) if ":" in symbol else symbol)
    if name and not VALID_NAME.fullmatch(name):
        raise ConfigurationError(f"{symbol!r} is not a valid market name; write it as BTCUSDT or BTC/USDT:USDT")
    return name


def parse_file_name(path: Path) -> FileMetadata:
    """Return the metadata that a file name contains.

    >>> parse_file_name(Path("BTC_USDT_USDT-1h-futures.feather"))
    FileMetadata(symbol='BTCUSDT', kind='candles', timeframe='1h')
    >>> parse_file_name(Path("ETHUSDT-fundingRate-2024-01.zip"))
    FileMetadata(symbol='ETHUSDT', kind='funding', timeframe='')
    """
    stem = path.name.removesuffix(".gz").removesuffix(path.suffix if path.suffix != ".gz" else Path(path.stem).suffix)
    if match := FREQTRADE_FILE.match(stem):
        kind = {None: "candles", "futures": "candles", "funding_rate": "funding"}.get(match["kind"], match["kind"])
        return FileMetadata(match["base"] + match["quote"], kind, "" if kind == "funding" else match["timeframe"])
    if match := BINANCE_FILE.match(stem):
        if match["funding"]:
            return FileMetadata(match["symbol"], "funding")
        priced = next((BINANCE_FOLDERS[part] for part in path.parts if part in BINANCE_FOLDERS), "candles")
        return FileMetadata(match["symbol"], priced, match["timeframe"])
    if match := COMPANION_FILE.match(stem):
        return (
            FileMetadata(match["funded"], "funding")
            if match["funded"]
            else FileMetadata(match["symbol"], match["kind"], match["timeframe"])
        )
    if match := LAST_PRICE_FILE.match(stem):
        return FileMetadata(match["symbol"], "candles", match["timeframe"])
    return FileMetadata(stem)


def _table(path: Path, *, funding: bool) -> pd.DataFrame:
    """Return the rows of a file with lower-case column names and times as index."""
    if not path.is_file():
        raise FeedError(f"{path} does not exist")
    try:
        frame = READERS.get("".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix, _reject_suffix)(path)
    except READ_ERRORS as error:
        raise FeedError(f"{path} cannot be read: {error or type(error).__name__}") from error
    if not len(frame):
        raise FeedError(f"{path} holds no rows")
    frame.columns = [str(column).lower() for column in frame.columns]
    column = next((name for name in (*TIME_COLUMNS, *OTHER_TIME_COLUMNS) if name in frame), None)
    if column is None:
        if not isinstance(frame.index, pd.DatetimeIndex):
            raise FeedError(f"{path}: no time column ({', '.join(TIME_COLUMNS)}); it has {', '.join(frame.columns)}")
        frame.index = frame.index if frame.index.tz is not None else frame.index.tz_localize("UTC")
    else:
        try:
            frame = frame.set_index(parse_times(frame[column])).drop(columns=column)
        except READ_ERRORS as error:
            raise FeedError(f"{path}: column {column!r} holds no times ({error})") from error
    if funding and "funding_rate" not in frame:
        rate = next(
            (name for name in (*OTHER_RATE_COLUMNS, "open") if name in frame), None
        )  # freqtrade stores the rate in the column open
        if rate is None:
            raise FeedError(f"{path}: no column funding_rate; it has {', '.join(frame.columns)}")
        frame = frame.rename(columns={rate: "funding_rate"})
    rows: pd.DataFrame = frame[~frame.index.duplicated(keep="last")].sort_index()
    return rows


def _read_zip(path: Path) -> pd.DataFrame:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".csv"))
        with archive.open(name) as file:
            first = file.read(1)
        with archive.open(name) as file:
            if not first.isdigit():
                return pd.read_csv(file)
            frame = pd.read_csv(file, header=None)
    names = (
        KLINE_COLUMNS
        if len(frame.columns) > len(KLINE_COLUMNS)
        else ("calc_time", "funding_interval_hours", "last_funding_rate")
    )
    return frame.iloc[:, : len(names)].set_axis(list(names), axis=1)


def _read_json(path: Path) -> pd.DataFrame:
    """Return the rows of a freqtrade file: a list of [time, open, high, low, close, volume]."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = msgspec.json.decode(text, type=list[list[float]])
    return pd.DataFrame([row[: len(KLINE_COLUMNS)] for row in rows], columns=list(KLINE_COLUMNS))


def _reject_suffix(_path: Path) -> pd.DataFrame:
    raise ValueError(f"unsupported file type; supported are {', '.join(READERS)}")


READERS: dict[str, Any] = {
    ".csv": pd.read_csv,
    ".csv.gz": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".feather": pd.read_feather,
    ".json": _read_json,
    ".json.gz": _read_json,
    ".zip": _read_zip,
}


def _kinds(frame: pd.DataFrame, path: Path) -> list[str]:
    """Return the kinds of series that the columns of a file contain."""
    if not set(PRICES) <= set(frame.columns):
        if "funding_rate" in frame:
            return ["funding"]
        raise FeedError(f"{path}: no columns {' '.join(PRICES)}; it has {', '.join(frame.columns)}")
    kinds = ["candles"]
    kinds += ["mark"] if set(MARKS) <= set(frame.columns) else []
    return kinds + (["funding"] if "funding_rate" in frame else [])


def _select_kind(frame: pd.DataFrame, kind: SeriesKind, path: Path) -> pd.DataFrame:
    """Return the columns of one kind of series, without rows that have missing values."""
    part = frame
    if kind == "mark" and set(MARKS) <= set(frame.columns):
        part = frame[list(MARKS)].set_axis(list(PRICES), axis=1)
    elif kind == "candles" and "volume" not in frame:
        part = frame.assign(volume=0.0)
    missing = [column for column in KIND_COLUMNS[kind] if column not in part]
    if missing:
        raise FeedError(f"{path}: no column {missing[0]!r}; it has {', '.join(frame.columns)}")
    try:
        numbers: pd.DataFrame = part[list(KIND_COLUMNS[kind])].apply(pd.to_numeric).dropna()
    except READ_ERRORS as error:
        raise FeedError(f"{path}: {error}") from error
    if kind != "funding":
        prices = numbers[list(PRICES)]
        bad = numbers.index[~((prices > 0) & (prices < np.inf)).all(axis=1)]
        if len(bad):
            raise FeedError(f"{path}: a price at {bad[0]} is not above 0; fix or drop that row")
    return numbers


def _infer_timeframe(frame: pd.DataFrame, path: Path) -> str:
    """Return the median interval between rows as a timeframe."""
    times = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
    step = int(np.median(np.diff(times))) if len(times) > 1 else 0
    for unit in ("w", "d", "h", "m", "s"):
        length = timeframe_ms(f"1{unit}")
        if step and step % length == 0:
            return f"{step // length}{unit}"
    raise ConfigurationError(f"{path}: the interval between its rows is not a timeframe; give --timeframe")
