# SPDX-License-Identifier: GPL-3.0-or-later
"""Intervals of bars in which nothing can happen: while prices stay within a range proven safe, a bar moves the marks and no more.

Everything else that may happen in a bar is ruled out when the interval is found, or checked per bar: funding, an expiry, new
terms, an order reached. Any other bar is processed in full.
"""

import math
from array import array
from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np
from backtrader.linebuffer import LineBuffer

from crossmargin_bt.broker.bar.reference_engine import ReferenceEngine
from crossmargin_bt.broker.bar.screen import BarEvent
from crossmargin_bt.broker.session.bars import EPOCH_DAY, INSTANT, Feed
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.lookahead import BARS_MAX, BARS_MIN, Lookahead, cursor_of
from crossmargin_bt.broker.skip.price_sorted_queue import PriceSortedQueue
from crossmargin_bt.broker.skip.screen import BoundScreen
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.liquidation import risk_control
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.time_units import MS_PER_DAY

# Margin, opening and closing fees together stay below this multiple of a value.
COST_FACTOR_MAX = 2.0
NO_PRICE, ANY_PRICE = (math.inf, 0.0), (0.0, math.inf)

# After a look ahead that found at most this many quiet bars, the next one waits for as many bars.
LOOKAHEAD_PAUSE = 4
# After this many reads in a row with a single skipped bar between them, bars pass one by one for SINGLE_BARS bars.
CONSECUTIVE_READS_MAX, SINGLE_BARS = 4, 256


class FeedRange(NamedTuple):
    """A feed and the prices between which a bar of it changes nothing."""

    feed: Feed
    low: float
    high: float
    mark_low: float
    mark_high: float
    level_range: list[float]
    """The marks between which the margin level makes no new low."""


class Parts(NamedTuple):
    """The parts of the broker that a quiet interval watches."""

    host: BrokerHost
    session: BrokerSession
    inner: ReferenceEngine
    queue: PriceSortedQueue
    screen: BoundScreen
    lookahead: Lookahead


class QuietInterval:
    """The price ranges of all feeds for one version of the account.

    Bars within them pass one by one, or unseen: bars known in advance to pass leave feeds and marks behind until `catch_up`.
    """

    def __init__(self, parts: Parts, ranges: list[FeedRange], until: float, single_bars: float) -> None:
        host, session = parts.host, parts.session
        self._parts, self._session, self._ranges, self._until = parts, session, ranges, until
        self._version = session.account.version
        self.since: int = parts.inner.bars
        """The bar after which it began."""
        self._pools = session.pools()
        # Snapshots over many bars are computed from the marks of held instruments, where nothing else counts in them.
        rules, keeps_curve = session.account.rules, parts.inner.kept_curve is not None
        profit_pays = "cross_orders" in rules.profit_pays_for
        self.is_computable = session.is_one_pool and rules.initial_price != "last" and profit_pays
        self._marks: list[tuple[Feed, array[float]]] = []
        """The feeds whose marks count in snapshots, with the marks of the bars since they were taken."""
        if keeps_curve and self.is_computable:
            self._marks = [(feed, array("d")) for feed, *_ in ranges if feed.book.legs or feed.book.orders]
        self._moved: list[tuple[Feed, int, float, float, float]] = []
        self._lookahead_bars = BARS_MIN
        may_look = bool(ranges) and host.cerebro._dopreload and host.cerebro._dorunonce
        may_look = may_look and session.is_one_currency and (self.is_computable or not keeps_curve)
        self._pause: float = single_bars if may_look else math.inf
        """The number of bars that pass one by one before the next look ahead."""
        self._cursor: Any = cursor_of(ranges[0].feed.clock) if ranges else None
        self._next_at = self._safe_end = 0
        """The index of the next bar, and the end of the bars known to pass."""
        self.is_run_through = False
        """Whether the run loop passes bars without calling the broker; they are not counted yet."""

    # Bars that pass unseen

    def passes_unseen(self) -> bool:
        """Return whether the new bar is known to pass; it is counted, and feeds and marks stay behind until `catch_up`."""
        at = self._next_at
        if at >= self._safe_end or self._cursor.at != at:
            return False
        self._next_at = at + 1
        return True

    def may_pass_unseen(self) -> bool:
        """Return the same for a bar before which the account may have changed; looks ahead when it is time to."""
        if self._session.account.version != self._version:
            return False
        if self._pause <= 0 and self._next_at >= self._safe_end:
            self._look_ahead()
        return self.passes_unseen()

    def run_through(self) -> int:
        """Let the run loop pass the bars known to pass without calling the broker; return how many there are."""
        self.is_run_through = self._next_at < self._safe_end
        return self._safe_end - self._next_at

    def count_run_through(self) -> int:
        """End passing bars in the run loop; return how many passed since they were last counted."""
        if not self.is_run_through:
            return 0
        self.is_run_through = False
        bars: int = self._cursor.at + 1 - self._next_at
        self._next_at += bars
        return bars

    def catch_up(self) -> int:
        """Move feeds and marks to the last bar that passed unseen; return how many bars they were behind."""
        session, length = self._session, self._next_at
        behind = length - self._ranges[0].feed.length
        for feed, marks in self._marks:
            marks.extend(feed.mark_close.array[feed.length : length])
        at = length - 1
        for feed, *_ in self._ranges:
            assert feed.clock._idx >= at, f"{feed.symbol} has not moved with the other feeds"
            feed.length, feed.day = length, feed.clock.array[at]
            book = feed.book
            book.long_mark = book.short_mark = feed.mark_close.array[at]
            book.last = session.last_close[feed.symbol] = feed.close.array[at]
            session.day = max(session.day, feed.day)
        return behind

    def pass_bars_one_by_one(self, bars: float) -> None:
        """Let no bar pass unseen for as many bars."""
        self._safe_end, self._pause = self._next_at, bars

    def _look_ahead(self) -> None:
        """Find how many of the bars ahead are known to pass."""
        session, lead = self._session, self._ranges[0].feed
        first, times = lead.length, lead.clock.array
        others = self._ranges[1:]
        in_step = not others or self._parts.lookahead.are_in_step(list(session.feeds.values()))
        if not in_step or any(one.feed.length != first for one in others):
            self.pass_bars_one_by_one(math.inf)
            return
        last = min(first + self._lookahead_bars, len(times))
        if not math.isinf(self._until):
            last = bisect_left(times, self._until, first, last)
        for feed, low, high, mark_low, mark_high, level in self._ranges:
            marks = (max(mark_low, level[0]), min(mark_high, level[1]))
            if feed.mark_lines:
                bounds = [(feed.low, feed.high, low, high), (feed.mark_lines[2], feed.mark_lines[1], *marks)]
            else:
                bounds = [(feed.low, feed.high, max(low, marks[0]), min(high, marks[1]))]
            last = self._parts.lookahead.last_safe_bar(feed, first, last, session.step_days, bounds)
        self._next_at, self._safe_end = first, last
        self._pause = 0 if last - first > LOOKAHEAD_PAUSE else LOOKAHEAD_PAUSE
        self._lookahead_bars = min(2 * self._lookahead_bars, BARS_MAX)

    # Bars that pass one by one

    def passes(self) -> bool:  # noqa: C901 - in every bar of every run, where a call costs more than it tidies
        """Take in the new bars if nothing can happen in any of them; otherwise change nothing and return False."""
        session = self._session
        if session.account.version != self._version:
            return False
        moved = self._moved = []
        may_sink = False
        for feed, lowest, highest, mark_lowest, mark_highest, level in self._ranges:
            clock = feed.clock
            at = clock._idx
            length = at + 1
            if length == feed.length:
                continue
            day = clock.array[at]
            bottom, top, close = feed.low.array[at], feed.high.array[at], feed.close.array[at]
            # Written so that a NaN fails it.
            if not (
                lowest < bottom <= close <= top < highest
                and bottom <= feed.open.array[at] <= top
                and session.step_days <= day - feed.day
                and day < self._until
            ):
                return False
            mark = close
            if feed.mark_lines or feed.funding is not None:
                marked = _marks_of(feed, at, bottom, top, close)
                if marked is None:
                    return False
                bottom, top, mark = marked
            if not (mark_lowest < bottom and top < mark_highest):
                return False
            may_sink = may_sink or not (level[0] < bottom and top < level[1])
            moved.append((feed, length, day, close, mark))
        if may_sink:
            self._follow_level()
        for feed, length, day, close, mark in moved:
            feed.length, feed.day = length, day
            book = feed.book
            book.long_mark = book.short_mark = mark
            book.last = session.last_close[feed.symbol] = close
            if day > session.day:  # noqa: PLR1730 - a call in every bar
                session.day = day
        self.note_marks()
        self._pause -= 1
        return True

    def _follow_level(self) -> None:
        """Record the margin levels of bars that may make a new low, and find the next range in which none can."""
        session, screen = self._session, self._parts.screen
        session.day = max(session.day, *(day for _, _, day, _, _ in self._moved))
        read = [feed.bar(day, funding_is_new=False) for feed, _, day, _, _ in self._moved]
        bars = [bar for bar in read if bar is not None]
        if screen.screen_low_level(bars, self._pools) is not BarEvent.NOTHING:
            self._parts.inner.simulator.record_levels(bars)
        for one in self._ranges:
            one.level_range[:] = _level_range(screen, one.feed)

    # Marks for snapshots

    def note_marks(self) -> None:
        """Keep the marks of a bar whose snapshot is deferred."""
        for feed, marks in self._marks:
            marks.append(feed.book.long_mark)

    def take_marks(self) -> "list[tuple[Book, array[float]]]":
        """Return the marks of the bars since the last call, oldest first, by book."""
        taken = self._marks
        self._marks = [(feed, array("d")) for feed, _ in taken]
        return [(feed.book, marks) for feed, marks in taken]

    def marks_ahead(self, bars: int) -> list[tuple[Book, Any]]:
        """Return the marks of this bar and the following ones by book, for books that count in snapshots; fewer where a feed ends."""
        found = []
        for feed, *_ in self._ranges:
            if feed.book.legs or feed.book.orders:
                at = feed.clock._idx
                found.append((feed.book, np.array(feed.mark_close.array[at : at + bars])))
        return found


def _level_range(screen: BoundScreen, feed: Feed) -> tuple[float, float]:
    """Return the marks of a feed between which the margin level makes no new low."""
    if screen.quiet_range.version == screen.risk_version:
        return screen.quiet_range.ranges.get(feed.symbol, NO_PRICE)
    return NO_PRICE if feed.book.legs or feed.book.orders else ANY_PRICE


def _marks_of(feed: Feed, at: int, bottom: float, top: float, close: float) -> tuple[float, float, float] | None:
    """Return lowest, highest and last mark of a bar; None where one is missing, or funding is due on a position."""
    if feed.funding is not None and feed.book.legs:
        rate = feed.funding.array[at]
        if rate and not math.isnan(rate):
            return None
    if not feed.mark_lines:
        return bottom, top, close
    opened, top, bottom, mark = [line.array[at] for line in feed.mark_lines]
    return (bottom, top, mark) if bottom <= mark <= top and bottom <= opened <= top else None


def find_quiet_interval(
    parts: Parts, *, single_bars: float, balance: metrics.PoolBalance | None = None
) -> QuietInterval | None:
    """Return the quiet interval that begins after the bar just processed, if one does.

    Args:
        parts: the parts of the broker to watch.
        single_bars: how many bars pass one by one before a look ahead.
        balance: the pool balance of the bar's snapshot. Without it, only an interval in which a margin call is provably
            impossible is returned.
    """
    host, session, screen = parts.host, parts.session, parts.screen
    account = session.account
    if (
        account.pooled
        or account.has_options
        or account.has_loans
        or account.rules.volatility_scaling is not None
        or host.p.guards
        or not parts.queue.waits_for_prices_only
        or not parts.inner.monitor.is_idle
        or session.closed_out
        or screen.threshold_range.version != screen.risk_version
    ):
        return None
    ranges = []
    for data, feed in session.feeds.items():
        # Lines that keep only their latest bars have an index of their own.
        if feed.may_change or not feed.length or feed.clock.mode != LineBuffer.UnBounded:
            return None
        if feed.is_ended:
            continue
        mark_low, mark_high = screen.threshold_range.ranges.get(feed.symbol, NO_PRICE)
        low, high = parts.queue.untouched_range(data)
        # Figures valued at the last price must stay within the range as well.
        last_counts = feed.mark_lines and (
            account.rules.initial_price == "last" or account.rules.sell_order_markup is not None
        )
        if last_counts and (feed.book.legs or feed.book.orders):
            low, high = max(low, mark_low), min(high, mark_high)
        ranges.append(FeedRange(feed, low, high, mark_low, mark_high, list(_level_range(screen, feed))))
    if not _covers_every_cost(session, ranges) and (balance is None or _may_call_margin(session, ranges, balance)):
        return None
    next_ms = session.next_change_ms
    until = math.inf if math.isinf(next_ms) else EPOCH_DAY + next_ms / MS_PER_DAY - INSTANT
    return QuietInterval(parts, ranges, until, single_bars)


def _may_call_margin(session: BrokerSession, ranges: list[FeedRange], balance: metrics.PoolBalance) -> bool:
    """Return whether margin in use could exceed the collateral at a close within the ranges. The marks are left as they were.

    The margin a book locks is largest at one end of its range or the other: its value is monotone in the price, and
    orders at prices of their own add one kink at most.
    """
    account = session.account
    currency = account.pool_of(session.currency)
    locked, worst = balance.in_use, 0.0
    for feed, _, _, low, high, _ in ranges:
        book, mode = feed.book, MODES[feed.book.margin_mode]
        if (
            book.is_fully_funded
            or not (book.legs or book.orders)
            or account.pool_of(book.instrument.settle) != currency
        ):
            continue
        if book.orders and book.maintenance.has_initial_floor:
            return True  # a rate that rises with the value adds another kink
        kept = book.prices()
        now, profit = mode.in_use(book), book.unrealised()
        most = now
        for price in (low, high):
            if not 0 < price < math.inf:
                return True
            book.set_prices((price, price, price))
            most = max(most, mode.in_use(book))
        locked += most - now
        if mode.POOLED:
            book.set_prices((low, high, high))
            worst += book.unrealised() - profit
        book.set_prices(kept)
    return risk_control.margin_deficit(balance._replace(in_use=locked, cross_profit=balance.cross_profit + worst)) >= 0


def _covers_every_cost(session: BrokerSession, ranges: list[FeedRange]) -> bool:
    """Return whether the collateral exceeds the highest cost of every position and order, without any offset."""
    account = session.account
    currency = account.pool_of(session.currency)
    if not account.is_plain or account.set_aside:
        return False
    most, left = 0.0, account.balances.get(currency, 0.0)
    for feed, _, _, low, high, _ in ranges:
        book = feed.book
        if not (book.legs or book.orders) or book.instrument.settle != currency:
            continue
        if not 0 < low <= high < math.inf:
            return False
        is_inverse = book.instrument.inverse
        extreme = min(low, book.last) if is_inverse else max(high, book.last)
        for leg in book.legs.values():
            if leg.interest:
                return False
            most += book.instrument.value(leg.lots, (min if is_inverse else max)(extreme, leg.entry))
            profit = book.instrument.profit(leg.lots, leg.entry, low if leg.lots > 0 else high)
            left += profit if MODES[book.margin_mode].POOLED else min(profit, 0.0)
        if book.orders:
            most += book.orders.notional_upper_bound(extreme)
    return most * COST_FACTOR_MAX < left
