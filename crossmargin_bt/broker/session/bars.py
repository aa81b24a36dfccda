# SPDX-License-Identifier: GPL-3.0-or-later
"""The bars of traded feeds, read from backtrader's line buffers directly."""

import math
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import backtrader as bt

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.math.intrabar_path import Candle
from crossmargin_bt.protocols import perpetual_feed
from crossmargin_bt.time_units import MS_PER_DAY

# backtrader counts days so that 0001-01-01 is day 1; this is day 0 of the epoch on that scale.
EPOCH_DAY = datetime(1970, 1, 1).toordinal()  # noqa: DTZ001 - a date, used for its day number only
# Two bars lie further apart than this many days, which is less than a millisecond.
INSTANT = 1e-9
# How many of a feed's last bars tell its usual step.
STEPS_READ = 100


def time_ms(day_number: float) -> int:
    """Return milliseconds since 1970-01-01 UTC of a backtrader day number.

    >>> time_ms(719163.5)
    43200000
    """
    return round((day_number - EPOCH_DAY) * MS_PER_DAY)


# How long bars of a timeframe are; months have no one length.
LENGTHS_MS = {
    bt.TimeFrame.Seconds: 1_000, bt.TimeFrame.Minutes: 60_000, bt.TimeFrame.Days: MS_PER_DAY,
    bt.TimeFrame.Weeks: 7 * MS_PER_DAY,
}  # fmt: skip


def bar_ms(data: Any) -> int | None:
    """Return how long a bar of a feed of ours is; of others the timeframe is what a user left it at."""
    length = LENGTHS_MS.get(data._timeframe) if perpetual_feed(data) is not None else None
    return None if length is None else int(length * data._compression)


def is_halted(data: Any) -> bool:
    """Return whether the current bar of a feed is one of a halt: without volume, in a market whose volume is known."""
    if data.volume[0] != 0:
        return False
    perpetual = perpetual_feed(data)
    return any(volume > 0 for volume in data.volume.array) if perpetual is None else perpetual.has_volume


class Bar(NamedTuple):
    """A new bar of one feed: the last-price candle, the mark candle, and the funding due at its open."""

    data: Any
    book: Book
    time_ms: int
    last: Candle
    mark: Candle
    funding_rate: float


class Feed:
    """One traded feed: its line buffers, looked up once, its book, and the bar that was seen last.

    A buffer's value is `buffer.array[buffer._idx]`: what `buffer[0]` comes to after a property and a method.
    """

    __slots__ = (
        "book",
        "clock",
        "close",
        "data",
        "day",
        "end_day",
        "funding",
        "high",
        "index",
        "interest_rate",
        "is_ended",
        "length",
        "low",
        "mark_close",
        "mark_lines",
        "may_change",
        "open",
        "symbol",
        "volatility",
    )  # fmt: skip

    def __init__(self, data: Any, book: Book) -> None:
        lines = data.lines
        self.data, self.book, self.symbol = data, book, book.instrument.symbol
        self.clock = lines.datetime
        self.open, self.high, self.low, self.close = (getattr(lines, name) for name in Candle._fields)
        perpetual = perpetual_feed(data)
        marked = perpetual is not None and perpetual.has_mark
        self.mark_lines = [getattr(lines, f"mark_{name}") for name in Candle._fields] if marked else []
        self.mark_close = self.mark_lines[-1] if marked else self.close
        self.funding = lines.funding_rate if perpetual is not None and perpetual.has_funding else None
        self.volatility: Any = getattr(lines, "volatility", None)
        self.index: Any = getattr(lines, "index_price", None)
        self.interest_rate = getattr(lines, "interest_rate", None)
        self.may_change = bool(data.replaying or data._filters)
        """Whether a bar may change after it was delivered."""
        self.is_ended = False
        """Whether the contract has expired, or was delisted."""
        self.end_day = math.inf
        """The time from which the feed, loaded as a whole, has no bar: the end of its last one; infinity if it is not known."""
        self.length = 0
        self.day = 0.0

    def find_end(self, *, is_preloaded: bool) -> None:
        """Note where the feed ends if that is known: one of its usual steps after its last bar.

        It is known of a feed over arrays, and of any feed that is loaded as a whole.
        """
        perpetual = perpetual_feed(self.data)
        days = None if perpetual is None or self.may_change else perpetual.bar_days()
        if days is None:
            days = self.clock.array if is_preloaded else ()
        if len(days) > 1:
            step = min(after - before for before, after in pairwise(days[-STEPS_READ:]))
            self.end_day = days[-1] + max(step, 0.0)

    def read_option(self) -> None:
        """Take an option's volatility and index price over, where the bar has them."""
        volatility, index = float(self.volatility[0]), float(self.index[0])
        self.book.volatility = volatility if volatility > 0 else 0.0
        if index > 0:
            self.book.index = index
        rate = math.nan if self.interest_rate is None else self.interest_rate[0]
        self.book.interest_rate = 0.0 if math.isnan(rate) else rate

    def bar(self, day: float, *, funding_is_new: bool) -> Bar | None:
        """Return the current bar, or None when it has no usable prices."""
        candle = Candle(self.open[0], self.high[0], self.low[0], self.close[0])
        if self.data.replaying:
            candle = Candle(
                *(_tick(self.data, name, price) for name, price in zip(candle._fields, candle, strict=True))
            )
        last = _sound(candle)
        if last is None:
            return None
        mark = last
        if self.mark_lines:
            mark = _sound(Candle(*[line[0] for line in self.mark_lines])) or last
        rate = 0.0
        if self.funding is not None and funding_is_new and not math.isnan(self.funding[0]):
            rate = self.funding[0]
        return Bar(self.data, self.book, time_ms(day), last, mark, rate)


def _sound(candle: Candle) -> Candle | None:
    """Return a candle whose range holds its open and close, widened where it does not; None where a price cannot be used."""
    # A comparison with NaN is false, whichever way it is put.
    opened, high, low, close = candle
    if not (low > 0 and opened > 0 and close > 0 and 0 < high < math.inf):
        return None
    if low <= opened <= high and low <= close <= high:
        return candle
    return Candle(opened, max(candle), min(candle), close)


def _tick(data: Any, name: str, price: float) -> float:
    """Return a price of the part of a replayed bar that has come."""
    tick = getattr(data, f"tick_{name}", None)
    return price if tick is None else float(tick)
