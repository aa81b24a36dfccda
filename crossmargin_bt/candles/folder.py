# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading candles from a folder of CSV or Parquet files, with one or several files per symbol.

Two layouts are supported: `SYMBOL.parquet` with OHLCV and optional mark price and funding columns, or
`SYMBOL_last_1h.parquet` with the companion files `SYMBOL_mark_1h.parquet` and `SYMBOL_funding.csv`. An optional
`instruments.toml` holds the contract facts by symbol.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from crossmargin_bt.candles import catalog
from crossmargin_bt.candles.market import Candles, Period, assumed_instrument, check_alignment, slice_bounds
from crossmargin_bt.columns import PRICES
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import FeedError, RuleError, suggestion
from crossmargin_bt.timestamps import TIME_COLUMNS, parse_times

LAST_PRICE_FILE = re.compile(r"^(?P<symbol>.+)_last_(?P<timeframe>[0-9]+[smhdw])$")
COMPANION_FILE = re.compile(r"_(mark|index)_[0-9]+[smhdw]$|_funding$")
SUFFIXES = (".parquet", ".csv")


def read(
    directory: Path | str,
    *,
    symbols: Sequence[str] | str | None = None,
    timeframe: str | None = None,
    start: str | None = None,
    end: str | None = None,
    downloads: bool = True,
) -> list[Candles]:
    """Return the markets in a folder, in the order of `symbols`, else of its instruments.toml, else by name.

    `start` (inclusive) and `end` (exclusive) are UTC dates. Folders of downloads are supported too; `timeframe` then chooses
    among several. In a folder with both files and downloads, the downloads are read, unless only the files contain the
    symbols or `downloads` is False.

    Raises:
        FeedError: the folder holds no candles, a file cannot be read, or the feeds do not share one grid of times.
        RuleError: instruments.toml does not match its schema.
    """
    directory = Path(directory)
    period = f"from {start or 'the first bar'} to {end or 'the last'}"
    symbols = [symbols] if isinstance(symbols, str) else symbols
    if not directory.is_dir():
        raise FeedError(f"{directory} is not a folder; give --data a folder with one CSV or Parquet file per symbol")
    if downloads and _reads_downloads(directory, symbols):
        candles = catalog.read_markets(directory, symbols=symbols, timeframe=timeframe, period=(start, end))
        if not candles:
            raise FeedError(f"{directory} holds no candles {period}")
        check_alignment(candles)
        return candles
    instruments = _instruments(directory / "instruments.toml")
    files = _candle_files(directory)
    if symbols is not None:
        for symbol in symbols:
            if symbol not in files:
                raise FeedError(f"{directory} has no candles of {symbol}{suggestion(symbol, files)}")
        files = {symbol: files[symbol] for symbol in symbols}
    markets = [_read_symbol(path, instruments, (start, end)) for path in files.values()]
    candles = [market for market in markets if len(market.frame)]
    if not candles:
        raise FeedError(f"{directory} holds no candles (SYMBOL.csv, SYMBOL.parquet or SYMBOL_last_1h.parquet) {period}")
    if symbols is None:
        order = {symbol: n for n, symbol in enumerate(instruments)}
        candles.sort(key=lambda market: (order.get(market.symbol, len(order)), market.symbol))
    check_alignment(candles)
    return candles


def _reads_downloads(directory: Path, symbols: Sequence[str] | None) -> bool:
    names = {series.symbol for series in catalog.list_series(directory)}
    return bool(names) and (symbols is None or not names.isdisjoint(symbols) or not _candle_files(directory))


def _candle_files(directory: Path) -> dict[str, Path]:
    """Return the candle file of each symbol."""
    files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    return {_symbol_of(path): path for path in files if not COMPANION_FILE.search(path.stem)}


def _symbol_of(path: Path) -> str:
    split = LAST_PRICE_FILE.match(path.stem)
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


def _read_symbol(path: Path, instruments: dict[str, Instrument], period: Period) -> Candles:
    split = LAST_PRICE_FILE.match(path.stem)
    symbol = _symbol_of(path)
    frame, funding = _table(path), None
    if split:
        mark = _companion_table(path.parent, f"{symbol}_mark_{split['timeframe']}")
        if mark is not None:
            frame = frame.join(mark[list(PRICES)].add_prefix("mark_"))
        rates = _companion_table(path.parent, f"{symbol}_funding", ("funding_rate",))
        funding = None if rates is None else rates["funding_rate"]
    frame = frame.loc[slice(*slice_bounds(period))]
    known = instruments.get(symbol)
    if known is not None or not len(frame):
        return Candles(symbol, frame, funding, known or Instrument(symbol=symbol))
    instrument, text = assumed_instrument(symbol, frame)
    if instruments:
        text += f"; instruments.toml has {', '.join(instruments)}"
    return Candles(symbol, frame, funding, instrument, (text,))


def _companion_table(directory: Path, stem: str, columns: Sequence[str] = PRICES) -> pd.DataFrame | None:
    """Return the companion table of that name, or None if there is none; the columns given are required."""
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
    times = next((column for column in TIME_COLUMNS if column in frame), None)
    if times is None:
        raise FeedError(f"{path}: no column 'date'; it has {', '.join(frame.columns)}")
    try:
        index = parse_times(frame[times])
    except (ValueError, TypeError) as error:
        raise FeedError(f"{path}: column {times!r} holds no times ({error})") from error
    return frame.drop(columns=times).set_axis(index, axis=0)
