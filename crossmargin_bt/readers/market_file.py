# SPDX-License-Identifier: GPL-3.0-or-later
"""The markets in a file: its table under canonical names, split by symbol and kind of data, each with its timeframe."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.columns import MARKS, OPTIONAL_COLUMNS, PRICES
from crossmargin_bt.errors import ConfigurationError, FeedError
from crossmargin_bt.readers.columns import SYMBOL, canonical_table
from crossmargin_bt.readers.file_formats import read_table
from crossmargin_bt.readers.file_names import (
    FREQTRADE,
    UNKNOWN,
    FileMetadata,
    data_suffix,
    is_symbol,
    parse_file_name,
)
from crossmargin_bt.readers.options import DEFAULT_TIMES, TimeOptions
from crossmargin_bt.readers.validation import by_symbol, sorted_rows, validate
from crossmargin_bt.symbols import VALID_NAME, MarketName, Product, market_name, spot_name
from crossmargin_bt.time_units import UNIT_MS, timeframe_ms

NOTHING_GIVEN = FileMetadata()


class MarketTable(NamedTuple):
    """The rows of one market and kind in a file.

    `kind` is candles, mark, index or funding. `frame` has canonical columns (prices under `open high low close` for mark and
    index too), sorted by time, validated. `timeframe` is empty for funding, and for a single row whose name states none.
    """

    symbol: str
    product: Product
    kind: str
    timeframe: str
    frame: pd.DataFrame
    path: Path


class ReadOptions(NamedTuple):
    """What the user states about files: metadata in place of their names, times, and that of two rows the later one is right."""

    given: FileMetadata = NOTHING_GIVEN
    times: TimeOptions = DEFAULT_TIMES
    last_wins: bool = False
    exchange: str = ""


def read_markets(path: Path, options: ReadOptions | None = None) -> list[MarketTable]:
    """Return the markets in a file.

    Raises:
        ConfigurationError: name and content leave open which symbol, kind or timeframe the rows are; the text names the option
            that answers.
        FeedError: the file cannot be read, or a row is invalid.
    """
    options = options or ReadOptions()
    named = parse_file_name(path)
    known = named.overridden(options.given)
    table = read_table(path, kind=known.kind)
    if known.kind == "funding":
        table = _with_rate(table, known)
    frame = canonical_table(table, str(path), options.times)
    if known.archive.utc_offset:
        frame.index = pd.DatetimeIndex(frame.index) - known.archive.utc_offset
    if known.kind != "funding" and (known.counts_contracts or options.exchange in known.archive.coin_margined):
        frame["volume"] = _coin_volume(table, frame)
    found = []
    for name, rows in _by_market(frame, path, known, options):
        for kind in _kinds(rows, path, known):
            part = sorted_rows(_of_kind(rows, kind, path), f"{path}: {name.symbol}", last_wins=options.last_wins)
            validate(part, f"{path}: {name.symbol} {kind}")
            timeframe = "" if kind == "funding" else _timeframe(part, path, known, options.given)
            found.append(MarketTable(name.symbol, name.product, kind, timeframe, part, path))
    return found


def _with_rate(table: pd.DataFrame, known: FileMetadata) -> pd.DataFrame:
    """Return a table of funding rates; freqtrade stores the rate in the column `open`."""
    names = {str(name).lower(): name for name in table.columns}
    if known.archive is FREQTRADE and "funding_rate" not in names and "open" in names:
        prices = [names[name] for name in ("high", "low", "close", "volume") if name in names]
        return table.drop(columns=prices).rename(columns={names["open"]: "funding_rate"})
    return table


def _coin_volume(table: pd.DataFrame, frame: pd.DataFrame) -> pd.Series:
    """Return the volume in coins of a file whose column `volume` counts contracts and whose quote volume counts coins."""
    names = {str(name).lower(): name for name in table.columns}
    base = next((names[name] for name in ("quote_volume", "quote_asset_volume") if name in names), None)
    if base is None or not (pd.to_numeric(table[base], errors="coerce") > 0).any():
        return frame["volume"]
    return pd.Series(pd.to_numeric(table[base]).to_numpy(), index=frame.index)


def _by_market(
    frame: pd.DataFrame, path: Path, known: FileMetadata, options: ReadOptions
) -> Iterator[tuple[MarketName, pd.DataFrame]]:
    """Yield the rows of each market in a table: by its symbol column, else by the symbol given or in the file's name."""
    given = market_name(options.given.symbol) if options.given.symbol else None
    if SYMBOL in frame:
        parts = by_symbol(frame)
        if given is None:
            for text, rows in parts.items():
                yield _resolved(text, known, options), rows
            return
        wanted = options.given.symbol
        matching = [text for text in parts if market_name(text) == given or _pair(text) == _pair(wanted)]
        if not matching:
            raise ConfigurationError(f"{path}: its symbol column has {', '.join(parts)}, not {options.given.symbol}")
        if len(matching) > 1:
            raise ConfigurationError(
                f"{path}: {' and '.join(matching)} are both {options.given.symbol}; split the file"
            )
        yield _checked(given, path), parts[matching[0]]
        return
    if given is not None:
        yield _checked(given, path), frame
        return
    if known.archive is UNKNOWN and not is_symbol(known.symbol):
        raise ConfigurationError(f"{path}: its name does not say which market it holds; give --symbol (symbol=)")
    yield _checked(_resolved(known.symbol, known, options, named=True), path), frame


def _resolved(text: str, known: FileMetadata, options: ReadOptions, *, named: bool = False) -> MarketName:
    """Return the market of a symbol found in a file.

    The product that the file's name states holds for the symbol column too; else the exchange that the file is
    imported for decides, as far as the archive has a product for it.
    """
    name = MarketName(text, known.product) if named else market_name(text)
    product = known.product or known.archive.products.get(options.exchange, "")
    if product == "spot" and (not name.product or named):
        return spot_name(name.symbol) or name._replace(product="spot")
    if not name.product and product:
        name = name._replace(product=product)
    return MarketName(name.symbol.replace("/", "-"), name.product)


def _checked(name: MarketName, path: Path) -> MarketName:
    if not VALID_NAME.fullmatch(name.symbol):
        raise ConfigurationError(
            f"{path}: {name.symbol!r} is not a valid market name; give --symbol BTCUSDT or BTC/USDT:USDT"
        )
    return name


def _pair(text: str) -> str:
    """Return the letters and digits of a pair in capitals, without the words for a perpetual and without its settlement currency."""
    pair = text.partition(":")[0].removesuffix("-SWAP").removesuffix("_PERP")
    return re.sub(r"[\W_]", "", pair).upper()


def _kinds(frame: pd.DataFrame, path: Path, known: FileMetadata) -> Sequence[str]:
    """Return the kinds of data in a table: as stated, else by its columns."""
    if known.kind:
        return (known.kind,)
    prices = [name for name in PRICES if name in frame]
    priced = len(prices) == len(PRICES)
    if prices and not priced:
        missing = next(name for name in PRICES if name not in frame)
        raise FeedError(f"{path}: column {missing!r} is missing; it has {', '.join(map(str, frame.columns))}")
    if priced and known.archive.has_ambiguous_names and "volume" in frame and not (frame["volume"] > 0).any():
        raise ConfigurationError(
            f"{path}: every volume is 0, as in archives of mark and index prices; give --kind candles, mark or index"
        )
    found = [
        *(["candles"] if priced else []),
        *(["mark"] if set(MARKS) <= set(frame.columns) else []),
        *(["funding"] if "funding_rate" in frame else []),
    ]
    if not found:
        columns = ", ".join(map(str, frame.columns)) or "none of the known columns"
        raise FeedError(f"{path}: no columns {' '.join(PRICES)}; it has {columns}")
    return found


def _of_kind(frame: pd.DataFrame, kind: str, path: Path) -> pd.DataFrame:
    """Return the columns of one kind; rows without any of its values are left out for marks and funding."""
    if kind == "funding":
        if "funding_rate" not in frame:
            raise FeedError(f"{path}: no column funding_rate; it has {', '.join(map(str, frame.columns))}")
        return frame[["funding_rate"]].dropna()
    if kind == "candles":
        return frame[
            [name for name in frame.columns if name in (*PRICES, *OPTIONAL_COLUMNS) and name != "funding_rate"]
        ]
    names = MARKS if kind == "mark" and set(MARKS) <= set(frame.columns) else PRICES
    missing = next((name for name in names if name not in frame), None)
    if missing is not None:
        raise FeedError(f"{path}: no column {missing!r}; it has {', '.join(map(str, frame.columns))}")
    part = frame[list(names)].set_axis(list(PRICES), axis=1)
    return part.dropna(how="all") if names is MARKS else part


def _timeframe(frame: pd.DataFrame, path: Path, known: FileMetadata, given: FileMetadata) -> str:
    """Return the timeframe of candles: the interval between most rows, which must be the one that is stated."""
    found = infer_timeframe(pd.DatetimeIndex(frame.index))
    stated = known.timeframe
    if not stated:
        return found
    if found and timeframe_ms(found) != timeframe_ms(stated):
        said = "--timeframe" if given.timeframe else "its name"
        raise ConfigurationError(
            f"{path}: its rows are {found} apart, not {stated} as {said} says; give --timeframe {found}"
        )
    return found or stated


def infer_timeframe(times: pd.DatetimeIndex) -> str:
    """Return the median interval between rows as a timeframe; empty if it is none.

    >>> infer_timeframe(pd.date_range("2024-01-01", periods=5, freq="15min"))
    '15m'
    """
    stamps = times.as_unit("ms").asi8
    step = int(np.median(np.diff(stamps))) if len(stamps) > 1 else 0
    units = sorted(UNIT_MS, key=lambda unit: -UNIT_MS[unit])
    return next((f"{step // UNIT_MS[unit]}{unit}" for unit in units if step and step % UNIT_MS[unit] == 0), "")


def market_files(paths: Sequence[Path]) -> list[Path]:
    """Return the data files among paths, and all data files below the folders among them."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and data_suffix(file) and not file.name.startswith(".")
            )
        else:
            found.append(path)
    return found
