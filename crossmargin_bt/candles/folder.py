# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the markets in a folder of files: any file that `readers` understands, several per market joined.

Files are named by their symbol (`BTCUSDT.csv`), or as exports (`BTCUSDT_last_1h.parquet` with `BTCUSDT_mark_1h.parquet` and
`BTCUSDT_funding.csv`), or by the program that wrote them: Binance's and OKX's archives, freqtrade's data folder. An optional
`instruments.toml` holds the contract facts by symbol.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from crossmargin_bt.candles import catalog
from crossmargin_bt.candles.market import Candles, Period, check_alignment, complete_market, slice_bounds
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import DECODE_ERRORS, FeedError, RuleError, suggestion
from crossmargin_bt.readers.file_names import FREQTRADE, data_suffix, parse_file_name
from crossmargin_bt.readers.market_file import MarketTable, ReadOptions, market_files, read_markets
from crossmargin_bt.readers.options import DEFAULT_TIMES, TimeOptions
from crossmargin_bt.readers.validation import sorted_rows
from crossmargin_bt.symbols import Product
from crossmargin_bt.time_units import timeframe_ms

# Files with these suffixes are market data only if a known program named them.
OTHER_CONTENT = (".json", ".json.gz", ".txt")


def read(
    directory: Path | str,
    *,
    symbols: Sequence[str] | str | None = None,
    timeframe: str | None = None,
    start: str | None = None,
    end: str | None = None,
    downloads: bool = True,
    times: TimeOptions = DEFAULT_TIMES,
) -> list[Candles]:
    """Return the markets in a folder, in the order of `symbols`, else of its instruments.toml, else by name.

    `start` (inclusive) and `end` (exclusive) are UTC dates. Folders of downloads are supported too; `timeframe` then chooses
    among several. In a folder with both files and downloads, the downloads are read, unless only the files contain the
    symbols or `downloads` is False. Sub-folders are read if the folder itself has no data files.

    Raises:
        ConfigurationError: name and content of a file leave open what it holds.
        FeedError: the folder holds no candles, a file cannot be read, two files contradict each other, or the feeds do not
            share one grid of times.
        RuleError: instruments.toml does not match its schema.
    """
    directory = Path(directory)
    period = (start, end)
    symbols = [symbols] if isinstance(symbols, str) else symbols
    if not directory.is_dir():
        raise FeedError(f"{directory} is not a folder; give --data a folder with one CSV or Parquet file per symbol")
    if downloads and _reads_downloads(directory, symbols):
        candles = catalog.read_markets(directory, symbols=symbols, timeframe=timeframe, period=period)
    else:
        candles = _read_files(directory, symbols, timeframe, period, times)
    if not candles:
        raise FeedError(
            f"{directory} holds no candles (SYMBOL.csv, SYMBOL.parquet or SYMBOL_last_1h.parquet) from "
            f"{start or 'the first bar'} to {end or 'the last'}"
        )
    check_alignment(candles)
    return candles


def _reads_downloads(directory: Path, symbols: Sequence[str] | None) -> bool:
    names = {series.symbol for series in catalog.list_series(directory)}
    if not names:
        return False
    files = {parse_file_name(path).symbol for path in _data_files(directory)}
    return symbols is None or not names.isdisjoint(symbols) or files.isdisjoint(symbols)


def _data_files(directory: Path) -> list[Path]:
    """Return the data files of a folder, those of its sub-folders only if it has none; freqtrade keeps futures in one of its own."""
    top = [path for path in sorted(directory.iterdir()) if path.is_file() and _may_hold_candles(path)]
    if not top:
        stored = {directory / series.exchange for series in catalog.list_series(directory)}
        return [
            path for path in market_files([directory]) if _may_hold_candles(path) and stored.isdisjoint(path.parents)
        ]
    futures = directory / "futures"
    if futures.is_dir() and any(parse_file_name(path).archive is FREQTRADE for path in top):
        top += [path for path in market_files([futures]) if _may_hold_candles(path)]
    return top


def _may_hold_candles(path: Path) -> bool:
    suffix = data_suffix(path)
    return bool(suffix) and (suffix not in OTHER_CONTENT or parse_file_name(path).archive is FREQTRADE)


def _read_files(
    directory: Path, symbols: Sequence[str] | None, timeframe: str | None, period: Period, times: TimeOptions
) -> list[Candles]:
    instruments = _instruments(directory / "instruments.toml")
    files = _data_files(directory)
    if symbols is not None:
        named = {parse_file_name(path).symbol for path in files}
        if set(symbols) <= named:
            files = [path for path in files if parse_file_name(path).symbol in symbols]
    by_symbol: dict[str, list[MarketTable]] = {}
    for table in (table for path in files for table in read_markets(path, ReadOptions(times=times))):
        by_symbol.setdefault(table.symbol, []).append(table)
    tradable = [symbol for symbol, tables in by_symbol.items() if any(table.kind == "candles" for table in tables)]
    for symbol in symbols or ():
        if symbol not in tradable:
            raise FeedError(f"{directory} has no candles of {symbol}{suggestion(symbol, tradable)}")
    if symbols is None and len(tradable) < len(by_symbol):
        without = next(symbol for symbol in by_symbol if symbol not in tradable)
        raise FeedError(
            f"{directory} has {by_symbol[without][0].kind} of {without}, but no candles; add them, or name the others with --symbols"
        )
    order = {symbol: n for n, symbol in enumerate(instruments)}
    chosen = symbols or sorted(tradable, key=lambda symbol: (order.get(symbol, len(order)), symbol))
    markets = [_market(directory, by_symbol[symbol], timeframe, period, instruments) for symbol in chosen]
    return [market for market in markets if len(market.frame)]


def _market(
    directory: Path,
    tables: Sequence[MarketTable],
    timeframe: str | None,
    period: Period,
    instruments: dict[str, Instrument],
) -> Candles:
    """Return one market of all its tables."""
    symbol = tables[0].symbol
    candles = _by_timeframe(directory, tables, "candles")
    if timeframe is None and len(candles) > 1:
        raise FeedError(
            f"{directory} holds candles of {symbol} of {', '.join(candles)}; choose one with --timeframe (timeframe=)"
        )
    if timeframe is not None and timeframe not in candles:
        raise FeedError(f"{directory} has no candles of {symbol} of {timeframe}; it has {', '.join(candles)}")
    bounds = slice(*slice_bounds(period))
    frame = candles[timeframe or next(iter(candles))].loc[bounds]
    marks = {name: rows.loc[bounds] for name, rows in _by_timeframe(directory, tables, "mark").items()}
    rates = _by_timeframe(directory, tables, "funding").get("")
    funding = None if rates is None else rates["funding_rate"]
    others = f"; instruments.toml has {', '.join(instruments)}" if instruments else ""
    return complete_market(
        symbol,
        _product(directory, tables),
        frame,
        marks=marks,
        funding=funding,
        instrument=instruments.get(symbol),
        others=others,
    )


def _product(directory: Path, tables: Sequence[MarketTable]) -> Product:
    products = {table.product: table.path for table in tables if table.product}
    if len(products) > 1:
        (one, path), (other, second) = list(products.items())[:2]
        raise FeedError(
            f"{directory}: {tables[0].symbol} is {one} in {path.name} and {other} in {second.name}; keep them in two folders"
        )
    return next(iter(products), "")


def _by_timeframe(directory: Path, tables: Iterable[MarketTable], kind: str) -> dict[str, pd.DataFrame]:
    """Return the rows of one kind by timeframe, those of several files joined.

    Raises:
        FeedError: files have different rows of one time.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    symbol = ""
    for table in tables:
        if table.kind == kind:
            parts.setdefault(table.timeframe, []).append(table.frame)
            symbol = table.symbol
    if len(parts) > 1 and "" in parts:  # a single row has no timeframe of its own
        parts[next(name for name in parts if name)].extend(parts.pop(""))
    known = sorted(parts, key=lambda name: timeframe_ms(name) if name else 0)
    return {name: sorted_rows(pd.concat(parts[name]), f"{directory}: {symbol} {kind}") for name in known}


def _instruments(path: Path) -> dict[str, Instrument]:
    if not path.is_file():
        return {}
    try:
        sections = msgspec.toml.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except DECODE_ERRORS as error:
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
