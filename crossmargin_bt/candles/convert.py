# SPDX-License-Identifier: GPL-3.0-or-later
"""Market data from other places into the store.

Read are Binance's bulk archives (zip), freqtrade's feather and JSON files, and CSV or Parquet with the usual columns;
what a file's name does not say has to be given.
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

from crossmargin_bt.candles.folder import LAST
from crossmargin_bt.candles.months import Rows
from crossmargin_bt.candles.series import COLUMNS, Row, Series, in_file_names, milliseconds
from crossmargin_bt.candles.spans import union
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.columns import MARKS, PRICES, TIMES
from crossmargin_bt.errors import ConfigurationError, FeedError, suggestion
from crossmargin_bt.stamps import times_of
from crossmargin_bt.venues.tiers import short_symbol

FREQTRADE = re.compile(
    r"^(?P<base>[^_]+)_(?P<quote>[^_]+)(_(?P<settle>[^-]+))?-(?P<timeframe>[0-9]+[smhdw])(-(?P<kind>futures|mark|funding_rate|index))?$"
)
BINANCE = re.compile(
    r"^(?P<symbol>[A-Z0-9]+)-((?P<timeframe>[0-9]+[smhdw])|(?P<funding>fundingRate))-[0-9]{4}-[0-9]{2}(-[0-9]{2})?$"
)
# The archive's folders of prices whose files are named as those of candles are.
BINANCE_FOLDERS = {"markPriceKlines": "mark", "indexPriceKlines": "index"}
BESIDE = re.compile(r"^(?P<symbol>.+)_(?P<kind>mark|index)_(?P<timeframe>[0-9]+[smhdw])$|^(?P<funded>.+)_funding$")
KLINES = ("open_time", "open", "high", "low", "close", "volume")
ALSO_TIMES = ("open_time", "calc_time", "funding_time", "fundingtime")
ALSO_RATES = ("last_funding_rate", "fundingrate", "rate")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, StopIteration, OverflowError, zipfile.BadZipFile, zlib.error,
    pa.ArrowException,
)  # fmt: skip


class Said(NamedTuple):
    """What is known of a file's rows; empty where its name does not say."""

    symbol: str = ""
    kind: str = ""
    timeframe: str = ""


class Imported(NamedTuple):
    """What an import brought into a series."""

    series: Series
    rows: int
    stored: int


def import_files(paths: Sequence[Path], out: Path, exchange: str, given: Said) -> list[Imported]:
    """Bring files into the store of an exchange; rows of the same time replace what was there.

    What the rows do not cover is not taken as answered: a download asks for it.

    Args:
        paths: the files.
        out: the folder of downloads.
        exchange: the folder in it, ccxt's id where a download is to go on from there.
        given: what is known of all files, before what their names say.

    Raises:
        ConfigurationError: a file's name and columns do not say what it holds.
        FeedError: a file cannot be read.
        StoreError: the disk does not take it.
    """
    if not NAME.fullmatch(exchange):
        raise ConfigurationError(f"{exchange!r} is no name of a folder; give ccxt's id of the exchange, binanceusdm")
    done = []
    for path in paths:
        for series, rows in _read(path, exchange, given):
            with SeriesStore(out, series, source=f"import of {path.name}") as store:
                if len(rows.times):
                    listed = [
                        Row(time, tuple(line)) for time, line in zip(*(part.tolist() for part in rows), strict=True)
                    ]
                    spans = union((row.time, row.time + (series.step or 1)) for row in listed)
                    for span in spans:
                        a, b = np.searchsorted(rows.times, span)
                        store.add(span, listed[a:b])
                store.commit()
                done.append(Imported(series, len(rows.times), store.rows))
    return done


def _read(path: Path, exchange: str, given: Said) -> list[tuple[Series, Rows]]:
    """Return the series in a file."""
    said = named(path)
    symbol = _stored_name(given.symbol or said.symbol)
    frame = _table(path, funding=(given.kind or said.kind) == "funding")
    if not symbol:
        raise ConfigurationError(f"{path.name} does not say whose it is; give --symbol")
    kinds = [given.kind or said.kind] if given.kind or said.kind else _kinds(frame, path)
    found = []
    for kind in kinds:
        if kind not in COLUMNS:
            raise ConfigurationError(f"unknown kind of data {kind!r}{suggestion(kind, COLUMNS)}")
        part = _part(frame, kind, path)
        timeframe = "" if kind == "funding" else given.timeframe or said.timeframe or _timeframe(part, path)
        series = Series(exchange, symbol, kind, timeframe)
        if series.step and len(part) > 1 and (usual := _timeframe(part, path)) != timeframe:
            raise ConfigurationError(f"{path}: its rows are {usual} apart, not {timeframe}; give --timeframe {usual}")
        rows = Rows(pd.DatetimeIndex(part.index).as_unit("ms").asi8, part.to_numpy(dtype=np.float64))
        off = next((time for time in rows.times.tolist() if not series.on_grid(time)), None)
        if off is not None:
            raise FeedError(f"{path}: a row at {pd.Timestamp(off, unit='ms')} is not on the grid of {timeframe}")
        found.append((series, rows))
    return found


def _stored_name(symbol: str) -> str:
    """Return a symbol as the store names it; a unified one of a perpetual (BTC/USDT:USDT) as downloads name it."""
    name = in_file_names(short_symbol(symbol) if ":" in symbol else symbol)
    if name and not NAME.fullmatch(name):
        raise ConfigurationError(f"{symbol!r} is no name of a market; write it as BTCUSDT or BTC/USDT:USDT")
    return name


def named(path: Path) -> Said:
    """Return what a file's name says of it.

    >>> named(Path("BTC_USDT_USDT-1h-futures.feather"))
    Said(symbol='BTCUSDT', kind='candles', timeframe='1h')
    >>> named(Path("ETHUSDT-fundingRate-2024-01.zip"))
    Said(symbol='ETHUSDT', kind='funding', timeframe='')
    """
    stem = path.name.removesuffix(".gz").removesuffix(path.suffix if path.suffix != ".gz" else Path(path.stem).suffix)
    if match := FREQTRADE.match(stem):
        kind = {None: "candles", "futures": "candles", "funding_rate": "funding"}.get(match["kind"], match["kind"])
        return Said(match["base"] + match["quote"], kind, "" if kind == "funding" else match["timeframe"])
    if match := BINANCE.match(stem):
        if match["funding"]:
            return Said(match["symbol"], "funding")
        priced = next((BINANCE_FOLDERS[part] for part in path.parts if part in BINANCE_FOLDERS), "candles")
        return Said(match["symbol"], priced, match["timeframe"])
    if match := BESIDE.match(stem):
        return (
            Said(match["funded"], "funding")
            if match["funded"]
            else Said(match["symbol"], match["kind"], match["timeframe"])
        )
    if match := LAST.match(stem):
        return Said(match["symbol"], "candles", match["timeframe"])
    return Said(stem)


def _table(path: Path, *, funding: bool) -> pd.DataFrame:
    """Return a file's rows under lower-case names, times as index."""
    if not path.is_file():
        raise FeedError(f"{path} does not exist")
    try:
        frame = READERS.get("".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix, _unknown)(path)
    except UNREADABLE as error:
        raise FeedError(f"{path} cannot be read: {error or type(error).__name__}") from error
    if not len(frame):
        raise FeedError(f"{path} holds no rows")
    frame.columns = [str(column).lower() for column in frame.columns]
    column = next((name for name in (*TIMES, *ALSO_TIMES) if name in frame), None)
    if column is None:
        if not isinstance(frame.index, pd.DatetimeIndex):
            raise FeedError(f"{path}: no column of times ({', '.join(TIMES)}); it has {', '.join(frame.columns)}")
        frame.index = frame.index if frame.index.tz is not None else frame.index.tz_localize("UTC")
    else:
        try:
            frame = frame.set_index(times_of(frame[column])).drop(columns=column)
        except UNREADABLE as error:
            raise FeedError(f"{path}: column {column!r} holds no times ({error})") from error
    if funding and "funding_rate" not in frame:
        rate = next((name for name in (*ALSO_RATES, "open") if name in frame), None)  # freqtrade keeps the rate as open
        if rate is None:
            raise FeedError(f"{path}: no column funding_rate; it has {', '.join(frame.columns)}")
        frame = frame.rename(columns={rate: "funding_rate"})
    kept: pd.DataFrame = frame[~frame.index.duplicated(keep="last")].sort_index()
    return kept


def _zipped(path: Path) -> pd.DataFrame:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".csv"))
        with archive.open(name) as file:
            first = file.read(1)
        with archive.open(name) as file:
            if not first.isdigit():
                return pd.read_csv(file)
            frame = pd.read_csv(file, header=None)
    names = KLINES if len(frame.columns) > len(KLINES) else ("calc_time", "funding_interval_hours", "last_funding_rate")
    return frame.iloc[:, : len(names)].set_axis(list(names), axis=1)


def _json(path: Path) -> pd.DataFrame:
    """Return freqtrade's list of [time, open, high, low, close, volume]."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = msgspec.json.decode(text, type=list[list[float]])
    return pd.DataFrame([row[: len(KLINES)] for row in rows], columns=list(KLINES))


def _unknown(_path: Path) -> pd.DataFrame:
    raise ValueError(f"files of this kind are not read; give {', '.join(READERS)}")


READERS: dict[str, Any] = {
    ".csv": pd.read_csv,
    ".csv.gz": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".feather": pd.read_feather,
    ".json": _json,
    ".json.gz": _json,
    ".zip": _zipped,
}


def _kinds(frame: pd.DataFrame, path: Path) -> list[str]:
    """Return what a file of candles carries beside them."""
    if not set(PRICES) <= set(frame.columns):
        if "funding_rate" in frame:
            return ["funding"]
        raise FeedError(f"{path}: no columns {' '.join(PRICES)}; it has {', '.join(frame.columns)}")
    kinds = ["candles"]
    kinds += ["mark"] if set(MARKS) <= set(frame.columns) else []
    return kinds + (["funding"] if "funding_rate" in frame else [])


def _part(frame: pd.DataFrame, kind: str, path: Path) -> pd.DataFrame:
    """Return the columns of a kind; rows without a value are left out."""
    part = frame
    if kind == "mark" and set(MARKS) <= set(frame.columns):
        part = frame[list(MARKS)].set_axis(list(PRICES), axis=1)
    elif kind == "candles" and "volume" not in frame:
        part = frame.assign(volume=0.0)
    missing = [column for column in COLUMNS[kind] if column not in part]
    if missing:
        raise FeedError(f"{path}: no column {missing[0]!r}; it has {', '.join(frame.columns)}")
    try:
        numbers: pd.DataFrame = part[list(COLUMNS[kind])].apply(pd.to_numeric).dropna()
    except UNREADABLE as error:
        raise FeedError(f"{path}: {error}") from error
    if kind != "funding":
        prices = numbers[list(PRICES)]
        bad = numbers.index[~((prices > 0) & (prices < np.inf)).all(axis=1)]
        if len(bad):
            raise FeedError(f"{path}: a price at {bad[0]} is not above 0; mend or drop that row")
    return numbers


def _timeframe(frame: pd.DataFrame, path: Path) -> str:
    """Return the usual step between rows as a timeframe."""
    times = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
    step = int(np.median(np.diff(times))) if len(times) > 1 else 0
    for unit in ("w", "d", "h", "m", "s"):
        length = milliseconds(f"1{unit}")
        if step and step % length == 0:
            return f"{step // length}{unit}"
    raise ConfigurationError(f"{path}: the step between its rows is no timeframe; give --timeframe")
