# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading downloads: the series on disk, their rows as frames, and the data of a market combined from its series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crossmargin_bt.candles import contracts, month_file
from crossmargin_bt.candles.manifest import month_files
from crossmargin_bt.candles.market import Candles, Period, complete_market, slice_bounds
from crossmargin_bt.candles.month_file import RowArrays
from crossmargin_bt.candles.series import Series, is_series_kind, month_of
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, FeedError, StoreError, suggestion
from crossmargin_bt.symbols import product_of_stored
from crossmargin_bt.time_units import timeframe_ms


def list_series(directory: Path) -> list[Series]:
    """Return every series below a folder of downloads, or below the folder of one exchange; empty if there are none."""
    found = []
    for pattern in ("*/*/*/*.parquet", "*/*/*.parquet"):
        for folder in sorted({path.parent for path in directory.glob(pattern)}):
            kind, _, timeframe = folder.name.partition("-")
            if is_series_kind(kind) and _is_timeframe(timeframe, kind):
                found.append(Series(folder.parent.parent.resolve().name, folder.parent.name, kind, timeframe))
        if found:
            break
    return found


def _is_timeframe(text: str, kind: str) -> bool:
    if kind == "funding":
        return not text
    try:
        return timeframe_ms(text) > 0
    except ConfigurationError:
        return False


def store_root(directory: Path, series: Series) -> Path:
    """Return the download folder that holds a series listed for `directory`, which may be an exchange's folder."""
    return directory if series.folder(directory).is_dir() else directory.resolve().parent


def read_frame(out: Path, series: Series, period: Period = (None, None)) -> pd.DataFrame:
    """Return the rows of a series as a frame indexed by UTC time.

    Raises:
        FeedError: a bound of the period is not a date.
        StoreError: a file cannot be read.
    """
    start, end = slice_bounds(period)
    first, last = (None if bound is None else month_of(int(bound.timestamp() * 1000)) for bound in (start, end))
    parts = []
    for path in month_files(series.folder(out)):
        if (first is None or path.stem >= first) and (last is None or path.stem <= last):
            try:
                parts.append(month_file.read_month(path, series).rows)
            except StoreError as error:
                raise StoreError(f"{error}; `crossmargin data repair` fetches it again") from error
    rows = RowArrays.of([], len(series.columns))
    if parts:
        rows = RowArrays(np.concatenate([part.times for part in parts]), np.concatenate([part[1] for part in parts]))
    index = pd.DatetimeIndex(rows.times.astype("datetime64[ms]"), name="date").tz_localize("UTC")
    return pd.DataFrame(rows[1], columns=list(series.columns), index=index).loc[slice(start, end)]


def read_markets(
    directory: Path,
    *,
    symbols: Sequence[str] | None = None,
    timeframe: str | None = None,
    period: Period = (None, None),
) -> list[Candles]:
    """Return the markets in a folder of downloads: candles with mark price, funding, contract facts and latest leverage tiers.

    Raises:
        FeedError: a symbol or timeframe does not exist, or several exchanges or timeframes are present and none was chosen.
        StoreError: a file cannot be read.
    """
    candle_series = [series for series in list_series(directory) if series.kind == "candles"]
    exchanges = sorted({series.exchange for series in candle_series})
    if len(exchanges) > 1:
        raise FeedError(f"{directory} holds candles of {', '.join(exchanges)}; name one: {directory / exchanges[0]}")
    if not candle_series or (symbols is not None and not symbols):
        raise FeedError(f"{directory} holds no candles" if not candle_series else "no symbol is given")
    candle_series = _of_timeframe(directory, candle_series, timeframe)
    by_symbol = {series.symbol: series for series in candle_series}
    for symbol in symbols or ():
        if symbol not in by_symbol:
            raise FeedError(f"{directory} has no candles of {symbol}{suggestion(symbol, by_symbol)}")
    chosen = candle_series if symbols is None else [by_symbol[symbol] for symbol in symbols]
    out = store_root(directory, chosen[0])
    instruments, invalid_tiers = contracts.read_instruments(out / exchanges[0])
    markets = []
    for series in chosen:
        market = _market(out, series, period, instruments.get(series.symbol))
        told = invalid_tiers.get(series.symbol)
        texts = (f"{series.symbol}: its stored tiers are left out: {told}",) if told else ()
        markets.append(market._replace(assumptions=(*market.assumptions, *texts)))
    empty = [market.symbol for market in markets if not len(market.frame)]
    if symbols is not None and empty and len(empty) < len(markets):
        raise FeedError(
            f"{directory} has no candles of {', '.join(empty)} in that period; leave them out or start later"
        )
    return [market for market in markets if len(market.frame)]


def _of_timeframe(directory: Path, candle_series: Sequence[Series], timeframe: str | None) -> list[Series]:
    known = sorted({series.timeframe for series in candle_series}, key=timeframe_ms)
    if timeframe is None and len(known) > 1:
        raise FeedError(f"{directory} holds candles of {', '.join(known)}; choose one with --timeframe (timeframe=)")
    if timeframe is not None and timeframe not in known:
        raise FeedError(f"{directory} has no candles of {timeframe}; it has {', '.join(known)}")
    return [series for series in candle_series if series.timeframe == (timeframe or known[0])]


def _market(out: Path, series: Series, period: Period, instrument: Instrument | None) -> Candles:
    rows = read_frame(out, series, period)
    marks = {
        other.timeframe: read_frame(out, other, period)
        for other in list_series(out / series.exchange)
        if (other.symbol, other.kind) == (series.symbol, "mark")
    }
    rates = read_frame(out, series._replace(kind="funding", timeframe=""), period)
    funding = rates["funding_rate"] if len(rates) else None
    market = complete_market(
        series.symbol, product_of_stored(series.symbol), rows, marks=marks, funding=funding, instrument=instrument
    )
    if instrument is None or instrument.maintenance is None or not len(rows):
        return market
    text = f"{series.symbol}: the tiers last downloaded hold at all times; --tiers VENUE=FILE takes them by date"
    return market._replace(assumptions=(*market.assumptions, text))
