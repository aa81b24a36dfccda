# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of one market as the rest of the package uses it, whether it comes from files or from downloads."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from crossmargin_bt.candles.marks import with_marks
from crossmargin_bt.columns import MARKS
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import FeedError
from crossmargin_bt.symbols import Product, split_pair

# The lot assumed without contract facts: the largest power of ten worth at most this much at the first close.
LOT_VALUE = 10.0

NO_MARKS = (
    "no mark prices; the last price is taken for them, so wicks of the last price liquidate and funding is charged on it "
    "(`crossmargin download --what mark`)"
)
NO_FUNDING = "no funding rates; none is charged or paid, which flatters whoever would have paid (`crossmargin download --what funding`)"

Period = tuple[str | None, str | None]
"""First date (inclusive) and end date (exclusive), UTC; None means unbounded."""


class Candles(NamedTuple):
    """Candles of one symbol (one row per bar, UTC index), funding rates by settlement time, its contract, assumptions made about it.

    `warnings` say what its data lack and which way that biases a run.
    """

    symbol: str
    frame: pd.DataFrame
    funding: pd.Series | None
    instrument: Instrument
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def complete_market(
    symbol: str, product: Product, frame: pd.DataFrame, *, marks: Mapping[str, pd.DataFrame], funding: pd.Series | None,
    instrument: Instrument | None, others: str = "",
) -> Candles:  # fmt: skip
    """Return a market of its parts, with the assumptions that stand in for missing ones.

    Args:
        symbol: its symbol.
        product: its product as far as known.
        frame: candles by time, in the period wanted.
        marks: mark prices by timeframe.
        funding: funding rates by settlement time.
        instrument: its contract facts; None assumes a contract.
        others: which contract facts the source has, appended to the assumption.
    """
    if not len(frame):
        return Candles(symbol, frame, funding, instrument or Instrument(symbol=symbol))
    frame, texts = with_marks(frame, marks, symbol)
    assumptions = list(texts)
    if instrument is None:
        instrument, text = assumed_instrument(symbol, frame, product)
        assumptions.append(text + others)
    warnings = []
    if instrument.kind == "perpetual":
        known = ((MARKS[0] in frame, NO_MARKS), (funding is not None and len(funding) > 0, NO_FUNDING))
        warnings = [f"{symbol}: {text}" for is_known, text in known if not is_known]
    return Candles(symbol, frame, funding, instrument, tuple(assumptions), tuple(warnings))


def assumed_instrument(symbol: str, frame: pd.DataFrame, product: Product = "") -> tuple[Instrument, str]:
    """Return a default contract for a symbol without contract facts, and a sentence that states the assumption."""
    lot = 10.0 ** math.floor(math.log10(LOT_VALUE / float(frame["close"].iloc[0])))
    pair = split_pair(symbol)
    facts: dict[str, Any] = {}
    what = "a perpetual"
    if product == "spot" and pair is not None:
        what, facts = "spot", {"kind": "spot", "underlying": pair[0], "settle": pair[1]}
    elif product == "future" and (expiry := _expiry(symbol)) is not None:
        what, facts = "a future that expires at 08:00 UTC", {"kind": "future", "expiry": expiry}
    text = f"{symbol}: no contract facts; {what} with a lot of {lot:g} is assumed, fees and tiers are the venue's"
    return Instrument(symbol=symbol, lot=lot, **facts), text


def _expiry(symbol: str) -> datetime | None:
    """Return the expiry of a symbol that ends in a date (BTC-USDT-USDT-250328), at 08:00 UTC as on most exchanges."""
    try:
        return datetime.strptime(symbol[-6:], "%y%m%d").replace(hour=8, tzinfo=UTC)
    except ValueError:
        return None


def slice_bounds(period: Period) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return the bounds of a label-based slice. Such slices include both ends, so the end moves back by 1 ms.

    Raises:
        FeedError: a bound is not a date, or the start is not before the end.
    """
    start, end = (None if bound is None else parse_date(bound) for bound in period)
    if start is not None and end is not None and start >= end:
        raise FeedError(f"the period starts at {period[0]}, which is not before its end, {period[1]}")
    return start, None if end is None else end - pd.Timedelta(1, "ms")


def parse_date(text: str) -> pd.Timestamp:
    """Return a date or time as a UTC timestamp; text without a time zone is taken as UTC.

    Raises:
        FeedError: the text is not a date.
    """
    try:
        stamp = pd.Timestamp(text)
    except ValueError as error:
        raise FeedError(f"{text!r} is not a date; write it as 2020-03-12") from error
    if pd.isna(stamp):
        raise FeedError(f"{text!r} is not a date; write it as 2020-03-12")
    return stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")


def check_alignment(candles: Sequence[Candles]) -> None:
    """Check that all feeds share one bar length and one grid of times; their starts, ends and gaps may differ.

    Raises:
        FeedError: the feeds are misaligned.
    """
    grids = {}
    for market in candles:
        if len(market.frame) > 1:
            times = pd.DatetimeIndex(market.frame.index).as_unit("s").asi8
            step = int(min(times[1:] - times[:-1]))
            grids[market.symbol] = (step, int(times[0]) % step if step > 0 else 0)
    if len(set(grids.values())) > 1:
        (first, a), (other, b) = next((x, y) for x in grids.items() for y in grids.items() if x[1] != y[1])
        raise FeedError(
            f"feeds are misaligned: {first} has a bar every {a[0]} s from second {a[1]}, {other} every {b[0]} s "
            f"from second {b[1]}; resample them to one grid"
        )
