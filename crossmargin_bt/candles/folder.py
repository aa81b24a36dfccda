# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles in a folder, one or several files a symbol.

Two layouts are read, CSV or Parquet: `SYMBOL.parquet` with OHLCV and optional mark and funding
columns, or `SYMBOL_last_1h.parquet` with `SYMBOL_mark_1h.parquet` and `SYMBOL_funding.csv` beside
it. `instruments.toml`, when present, holds the contract facts by symbol.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd

from crossmargin_bt.columns import PRICES, TIMES
from crossmargin_bt.engine.instrument import Instrument
from crossmargin_bt.errors import FeedError, RuleError, suggestion

LAST = re.compile(r"^(?P<symbol>.+)_last_(?P<timeframe>[0-9]+[smhdw])$")
BESIDE = re.compile(r"_(mark|index)_[0-9]+[smhdw]$|_funding$")
SUFFIXES = (".parquet", ".csv")

# Without contract facts a lot is the largest power of ten worth at most this much at the first close.
LOT_VALUE = 10.0


class Candles(NamedTuple):
    """One symbol's candles (a row a bar, UTC index), its funding by settlement time, its contract."""

    symbol: str
    frame: pd.DataFrame
    funding: pd.Series | None
    instrument: Instrument
    assumptions: tuple[str, ...] = ()


def read(
    directory: Path, *, symbols: Sequence[str] | None = None, start: str | None = None, end: str | None = None
) -> list[Candles]:
    """Return the symbols of a folder in the order given, else as its instruments.toml lists them, else by name.

    `start` (inclusive) and `end` (exclusive) cut by date, UTC.

    Raises:
        FeedError: the folder holds no candles, a file cannot be read, or feeds do not share one
            grid of times.
        RuleError: instruments.toml breaks the schema.
    """
    if not directory.is_dir():
        raise FeedError(f"{directory} is no folder; give --data a folder with one CSV or Parquet file a symbol")
    instruments = _instruments(directory / "instruments.toml")
    files = _candle_files(directory)
    if symbols is not None:
        for symbol in symbols:
            if symbol not in files:
                raise FeedError(f"{directory} has no candles of {symbol}{suggestion(symbol, files)}")
        files = {symbol: files[symbol] for symbol in symbols}
    found = [_symbol(path, instruments, (start, end)) for path in files.values()]
    candles = [one for one in found if len(one.frame)]
    if not candles:
        raise FeedError(
            f"{directory} holds no candles (SYMBOL.csv, SYMBOL.parquet or SYMBOL_last_1h.parquet) in that period"
        )
    if symbols is None:
        order = {symbol: n for n, symbol in enumerate(instruments)}
        candles.sort(key=lambda one: (order.get(one.symbol, len(order)), one.symbol))
    _check_grid(candles)
    return candles


def _candle_files(directory: Path) -> dict[str, Path]:
    """Return the candle file of every symbol."""
    files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    return {_symbol_of(path): path for path in files if not BESIDE.search(path.stem)}


def _symbol_of(path: Path) -> str:
    split = LAST.match(path.stem)
    return split["symbol"] if split else path.stem


def _instruments(path: Path) -> dict[str, Instrument]:
    if not path.is_file():
        return {}
    try:
        sections = msgspec.toml.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except msgspec.DecodeError as error:
        raise RuleError(f"{path}: {error}") from error
    return {symbol: _instrument(path, symbol, facts) for symbol, facts in sections.items()}


def _instrument(path: Path, symbol: str, facts: dict[str, Any]) -> Instrument:
    known = Instrument.__struct_fields__
    for key in facts:
        if key not in known:
            raise RuleError(f"{path}: [{symbol}] has an unknown key {key!r}{suggestion(key, known)}")
    try:
        return msgspec.convert({"symbol": symbol, **facts}, type=Instrument)
    except (msgspec.ValidationError, RuleError) as error:
        raise RuleError(f"{path}: [{symbol}] {error}") from error


def _symbol(path: Path, instruments: dict[str, Instrument], period: tuple[str | None, str | None]) -> Candles:
    split = LAST.match(path.stem)
    symbol = _symbol_of(path)
    frame, funding = _table(path), None
    if split:
        mark = _beside(path.parent, f"{symbol}_mark_{split['timeframe']}")
        if mark is not None:
            frame = frame.join(mark[list(PRICES)].add_prefix("mark_"))
        rates = _beside(path.parent, f"{symbol}_funding", ("funding_rate",))
        funding = None if rates is None else rates["funding_rate"]
    frame = frame.loc[slice(*_cut(period))]
    known = instruments.get(symbol)
    if known is not None or not len(frame):
        return Candles(symbol, frame, funding, known or Instrument(symbol=symbol))
    lot = 10.0 ** math.floor(math.log10(LOT_VALUE / float(frame["close"].iloc[0])))
    text = f"{symbol}: no contract facts; a lot of {lot:g} and the venue's fees and tiers are assumed"
    return Candles(symbol, frame, funding, Instrument(symbol=symbol, lot=lot), (text,))


def _cut(period: tuple[str | None, str | None]) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return the bounds of a label slice, which includes both ends: the end moves one tick back."""
    start, end = (None if bound is None else _timestamp(bound) for bound in period)
    return start, None if end is None else end - pd.Timedelta(1, "ms")


def _timestamp(text: str) -> pd.Timestamp:
    try:
        stamp = pd.Timestamp(text)
    except ValueError as error:
        raise FeedError(f"{text!r} is no date; write it as 2020-03-12") from error
    return stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")


def _beside(directory: Path, stem: str, columns: Sequence[str] = PRICES) -> pd.DataFrame | None:
    """Return the table of that name with the columns it must have, or None when there is none."""
    path = next((path for path in (directory / f"{stem}{suffix}" for suffix in SUFFIXES) if path.is_file()), None)
    if path is None:
        return None
    table = _table(path)
    for column in columns:
        if column not in table:
            raise FeedError(f"{path}: no column {column!r}; it has {', '.join(table.columns)}")
    return table


def _table(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise FeedError(f"{path}: cannot be read ({error})") from error
    frame.columns = [str(column).lower() for column in frame.columns]
    times = next((column for column in TIMES if column in frame), None)
    if times is None:
        raise FeedError(f"{path}: no column 'date'; it has {', '.join(frame.columns)}")
    stamps = frame[times]
    try:
        numeric = pd.api.types.is_numeric_dtype(stamps)
        index = pd.DatetimeIndex(
            pd.to_datetime(stamps, utc=True, unit="ms") if numeric else pd.to_datetime(stamps, utc=True)
        )
    except (ValueError, TypeError) as error:
        raise FeedError(f"{path}: column {times!r} holds no times ({error})") from error
    return frame.drop(columns=times).set_axis(index, axis=0)


def _check_grid(candles: list[Candles]) -> None:
    """Check that all feeds step alike and on the same instants; starts, ends and holes may differ."""
    grids = {}
    for one in candles:
        if len(one.frame) > 1:
            times = pd.DatetimeIndex(one.frame.index).as_unit("s").asi8
            step = int(min(times[1:] - times[:-1]))
            grids[one.symbol] = (step, int(times[0]) % step if step > 0 else 0)
    if len(set(grids.values())) > 1:
        (first, a), (other, b) = next((x, y) for x in grids.items() for y in grids.items() if x[1] != y[1])
        raise FeedError(
            f"feeds are misaligned: {first} has a bar every {a[0]} s from second {a[1]}, {other} every {b[0]} s "
            f"from second {b[1]}; resample them to one grid"
        )
