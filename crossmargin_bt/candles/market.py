# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of one market as the rest of the package uses it, whether it comes from files or from downloads."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import FeedError

# The lot assumed without contract facts: the largest power of ten worth at most this much at the first close.
LOT_VALUE = 10.0

Period = tuple[str | None, str | None]
"""First date (inclusive) and end date (exclusive), UTC; None means unbounded."""


class Candles(NamedTuple):
    """Candles of one symbol (one row per bar, UTC index), funding rates by settlement time, its contract, assumptions made about it."""

    symbol: str
    frame: pd.DataFrame
    funding: pd.Series | None
    instrument: Instrument
    assumptions: tuple[str, ...] = ()


def assumed_instrument(symbol: str, frame: pd.DataFrame) -> tuple[Instrument, str]:
    """Return a default contract for a symbol without contract facts, and a sentence that states the assumption."""
    lot = 10.0 ** math.floor(math.log10(LOT_VALUE / float(frame["close"].iloc[0])))
    text = f"{symbol}: no contract facts; a lot of {lot:g} is assumed, fees and tiers are the venue's"
    return Instrument(symbol=symbol, lot=lot), text


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
