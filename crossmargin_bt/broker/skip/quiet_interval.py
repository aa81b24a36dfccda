# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars in which nothing can happen: while prices stay within a range that was proven safe, a bar moves the marks and no more.

What else may happen in a bar is ruled out when the range is found, or looked at: funding, an expiry, new terms, an
order reached. Anything else the broker works through in full (`crossmargin_bt.broker.bar.intrabar`).
"""

import math
from array import array
from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np
from backtrader.linebuffer import LineBuffer

from crossmargin_bt.broker.bar.intrabar import IntrabarSimulator
from crossmargin_bt.broker.session import bars
from crossmargin_bt.broker.session.bars import EPOCH_DAY, INSTANT, Feed
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.lookahead import FEWEST, MOST, passing
from crossmargin_bt.broker.skip.safe_range import BarEvent
from crossmargin_bt.broker.skip.screen import look_for_sinking
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.liquidation import risk_control
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.time_units import MS_PER_DAY

# Margin, fees of opening and of closing come to less than this many times a value.
DEAREST = 2.0
NOWHERE, ANYWHERE = (math.inf, 0.0), (0.0, math.inf)

# Where looking at the bars to come leads nowhere, not again before so many have passed one by one.
PATIENCE = 4
# Where somebody looked, or something happened, after each of so many bars in a row, so many pass one by one.
LOOKS, SEEN = 4, 256


class FeedRange(NamedTuple):
    """A feed and the prices between which a bar of it changes nothing."""

    feed: Feed
    low: float
    high: float
    mark_low: float
    mark_high: float
    level: list[float]
    """The marks beyond which the lowest margin level of the run may be undercut."""


class QuietInterval:
    """The ranges of all feeds, true of one version of the account."""

    def __init__(self, broker: Any, run: BrokerSession, stills: list[FeedRange], until: float) -> None:
        self._broker, self._run, self._stills, self._until = broker, run, stills, until
        self._version = run.account.version
        self.since: int = broker.bars
        """The bar after which it began."""
        self._pools = run.pools()
        # Figures over many bars are worked out from the marks of what is held, where nothing else counts in them.
        rules = run.account.rules
        profit_pays = "cross_orders" in rules.profit_pays_for
        self.marks_are_kept = run.is_one_pool and rules.initial_price != "last" and profit_pays
        self._marks: list[tuple[Feed, array[float]]] = []
        """Whose marks count in the figures, and those of the bars since they were taken."""
        if broker.keeps_curve and self.marks_are_kept:
            self._marks = [(feed, array("d")) for feed, *_ in stills if feed.book.legs or feed.book.orders]
        self._moved: list[tuple[Feed, int, float, float, float]] = []
        self._bars_looked_at = FEWEST
        may_look = bool(stills) and broker.cerebro._dopreload and broker.cerebro._dorunonce and not run.is_watched
        may_look = may_look and run.is_one_currency and (self.marks_are_kept or not broker.keeps_curve)
        self._patience: float = max(0, run.seen_until - broker.bars) if may_look else math.inf
        """So many bars pass one by one before the bars to come are looked at."""
        self._cursor: Any = bars.cursor(stills[0].feed.clock) if stills else None
        self._next_at = self._known_to = 0
        """The index of the next bar and of the first that is not known to pass; feeds and marks may be left behind."""
        self.is_run_through = False
        """Whether the loop runs through bars without asking the broker for each; they are not counted yet."""

    def foresaw(self) -> bool:
        """Return whether the new bar is known to pass; it is counted, and feeds and marks are left behind until `catch_up`."""
        at = self._next_at
        if at >= self._known_to or self._cursor.at != at:
            return False
        self._next_at = at + 1
        return True

    def foresees(self) -> bool:
        """Return the same where somebody may have changed the account, having looked at the bars to come where it is time to."""
        if self._run.account.version != self._version:
            return False
        if self._patience <= 0 and self._next_at >= self._known_to:
            self._look_ahead()
        return self.foresaw()

    def run_through(self) -> int:
        """Let the bars known to pass follow one another until somebody looks; return how many there are."""
        self.is_run_through = self._next_at < self._known_to
        return self._known_to - self._next_at

    def count_run_through(self) -> None:
        """Count the bars that were run through."""
        if self.is_run_through:
            self.is_run_through = False
            bars = self._cursor.at + 1 - self._next_at
            self._next_at += bars
            self._broker.count_unseen(bars)

    def catch_up(self) -> None:
        """Move feeds and marks on to the bar that passed last."""
        self.count_run_through()
        run, length = self._run, self._next_at
        self._count_looks(length - self._stills[0].feed.length)
        for feed, marks in self._marks:
            marks.extend(feed.closing_mark.array[feed.length : length])
        at = length - 1
        for feed, *_ in self._stills:
            assert feed.clock._idx >= at, f"{feed.symbol} has not moved with the other feeds"
            feed.length, feed.day = length, feed.clock.array[at]
            book = feed.book
            book.long_mark = book.short_mark = feed.closing_mark.array[at]
            book.last = run.last_close[feed.symbol] = feed.close.array[at]
            run.day = max(run.day, feed.day)

    def _count_looks(self, unseen: int) -> None:
        """Let bars pass one by one for a while where none passes unseen but the next is looked at."""
        run = self._run
        run.looks_in_a_row = run.looks_in_a_row + 1 if unseen == 1 else 0
        if run.looks_in_a_row >= LOOKS:
            run.looks_in_a_row, run.seen_until = 0, self._broker.bars + SEEN
            self._known_to, self._patience = self._next_at, SEEN

    def see_every_bar(self) -> None:
        """Leave no bar unseen from now on."""
        self._known_to, self._patience = 0, math.inf

    def _look_ahead(self) -> None:
        """Look how many of the bars to come surely pass."""
        run, lead = self._run, self._stills[0].feed
        first, times = lead.length, lead.clock.array
        if not run.is_in_step or (len(self._stills) > 1 and any(still.feed.length != first for still in self._stills)):
            self.see_every_bar()
            return
        last = min(first + self._bars_looked_at, len(times))
        if not math.isinf(self._until):
            last = bisect_left(times, self._until, first, last)
        for feed, *ranges, level in self._stills:
            low, high, mark_low, mark_high = ranges
            marks = (max(mark_low, level[0]), min(mark_high, level[1]))
            if feed.mark:
                bounds = [(feed.low, feed.high, low, high), (feed.mark[2], feed.mark[1], *marks)]
            else:
                bounds = [(feed.low, feed.high, max(low, marks[0]), min(high, marks[1]))]
            last = passing(feed, first, last, run.step_days, bounds)
        self._next_at, self._known_to = first, last
        self._patience = 0 if last - first > PATIENCE else PATIENCE
        self._bars_looked_at = min(2 * self._bars_looked_at, MOST)

    def passes(self) -> bool:  # noqa: C901 - in every bar of every run, where a call costs more than it tidies
        """Take the new bars in where nothing can happen in any of them; otherwise change nothing and return False."""
        run = self._run
        if run.account.version != self._version:
            return False
        moved = self._moved = []
        may_sink = False
        for feed, lowest, highest, mark_lowest, mark_highest, level in self._stills:
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
                and run.step_days <= day - feed.day
                and day < self._until
            ):
                return False
            mark = close
            if feed.mark or feed.funding is not None:
                marked = _marked(feed, at, bottom, top, close)
                if marked is None:
                    return False
                bottom, top, mark = marked
            if not (mark_lowest < bottom and top < mark_highest):
                return False
            may_sink = may_sink or not (level[0] < bottom and top < level[1])
            moved.append((feed, length, day, close, mark))
        if may_sink:
            self._look_at_levels()
        for feed, length, day, close, mark in moved:
            feed.length, feed.day = length, day
            book = feed.book
            book.long_mark = book.short_mark = mark
            book.last = run.last_close[feed.symbol] = close
            if day > run.day:  # noqa: PLR1730 - a call in every bar
                run.day = day
        self.note_marks()
        self._patience -= 1
        return True

    def note_marks(self) -> None:
        """Keep the marks of a bar whose figures wait."""
        for feed, marks in self._marks:
            marks.append(feed.book.long_mark)

    def marks_ahead(self, bars: int) -> list[tuple[Book, Any]]:
        """Return the marks of this bar and of those that follow it, by book that counts in the figures; fewer where a feed ends."""
        found = []
        for feed, *_ in self._stills:
            if feed.book.legs or feed.book.orders:
                at = feed.clock._idx
                found.append((feed.book, np.array(feed.closing_mark.array[at : at + bars])))
        return found

    def take_marks(self) -> "list[tuple[Book, array[float]]]":
        """Return the marks of the bars since the last time, oldest first, by book."""
        taken = self._marks
        self._marks = [(feed, array("d")) for feed, _ in taken]
        return [(feed.book, marks) for feed, marks in taken]

    def _look_at_levels(self) -> None:
        """Look how near the lowest margin level is; note the levels on the way where it may be undercut."""
        run = self._run
        run.day = max(run.day, *(day for _, _, day, _, _ in self._moved))
        read = [feed.bar(day, funding_is_new=False) for feed, _, day, _, _ in self._moved]
        bars = [bar for bar in read if bar is not None]
        if look_for_sinking(run, bars, self._pools) is not BarEvent.NOTHING:
            IntrabarSimulator(self._broker, run, bars).note_levels()
        for still in self._stills:
            still.level[:] = _level_range(run, still.feed)


def _level_range(run: BrokerSession, feed: Feed) -> tuple[float, float]:
    """Return the marks of a feed within which the lowest level so far is not undercut."""
    if run.band.version == run.account.risk_version:
        return run.band.ranges.get(feed.symbol, NOWHERE)
    return NOWHERE if feed.book.legs or feed.book.orders else ANYWHERE


def _marked(feed: Feed, at: int, bottom: float, top: float, close: float) -> tuple[float, float, float] | None:
    """Return lowest, highest and last mark of a bar; None where it has none, or where funding is due on a position."""
    if feed.funding is not None and feed.book.legs:
        rate = feed.funding.array[at]
        if rate and not math.isnan(rate):
            return None
    if not feed.mark:
        return bottom, top, close
    opened, top, bottom, mark = [line.array[at] for line in feed.mark]
    return (bottom, top, mark) if bottom <= mark <= top and bottom <= opened <= top else None


def found(broker: Any, run: BrokerSession, figures: Any = None) -> QuietInterval | None:
    """Return the calm that begins after the bar just worked through, if one does.

    Without the bar's figures only one in which the account surely covers all that may come to be in use.
    """
    account = run.account
    watch = run.watch
    if (
        account.pooled
        or account.has_options
        or account.has_loans
        or account.rules.volatility_scaling is not None
        or broker.p.guards
        or not broker.pending.is_still
        or not watch.is_at_rest
        or run.closed
        or run.safe.version != account.risk_version
    ):
        return None
    stills = []
    for data, feed in run.feeds.items():
        # Lines that keep only their latest bars stand at an index each.
        if feed.may_float or not feed.length or feed.clock.mode != LineBuffer.UnBounded:
            return None
        if feed.is_ended:
            continue
        mark_low, mark_high = run.safe.ranges.get(feed.symbol, NOWHERE)
        low, high = broker.pending.still(data)
        # What is valued at the last price stays within the range as well.
        last_counts = feed.mark and (
            account.rules.initial_price == "last" or account.rules.sell_order_markup is not None
        )
        if last_counts and (feed.book.legs or feed.book.orders):
            low, high = max(low, mark_low), min(high, mark_high)
        stills.append(FeedRange(feed, low, high, mark_low, mark_high, list(_level_range(run, feed))))
    if not _is_surely_covered(run, stills) and (figures is None or _may_call(run, stills, figures.totals)):
        return None
    next_ms = run.next_change_ms
    until = math.inf if math.isinf(next_ms) else EPOCH_DAY + next_ms / MS_PER_DAY - INSTANT
    return QuietInterval(broker, run, stills, until)


def _may_call(run: BrokerSession, stills: list[FeedRange], totals: metrics.PoolBalance) -> bool:
    """Return whether more could come to be in use than there is, which is looked at when a bar ends.

    What a book locks is largest at one end of its range, or the other: its value rises or falls with the price
    throughout, and orders at prices of their own bend that once. Leaves the marks as they were.
    """
    account = run.account
    currency = account.pool_of(run.currency)
    locked, worst = totals.in_use, 0.0
    for feed, _, _, low, high, _ in stills:
        book, mode = feed.book, MODES[feed.book.margin_mode]
        if mode.FULLY_FUNDED or not (book.legs or book.orders) or account.pool_of(book.instrument.settle) != currency:
            continue
        if book.orders and book.maintenance.has_initial_floor:
            return True  # a rate that rises with the value breakpoints it again
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
    return risk_control.margin_deficit(totals._replace(in_use=locked, cross_profit=totals.cross_profit + worst)) >= 0


def _is_surely_covered(run: BrokerSession, stills: list[FeedRange]) -> bool:
    """Return whether what is there covers everything at its dearest, without any offset, and more."""
    account = run.account
    currency = account.pool_of(run.currency)
    if not account.is_plain or account.set_aside:
        return False
    most, left = 0.0, account.balances.get(currency, 0.0)
    for feed, _, _, low, high, _ in stills:
        book = feed.book
        if not (book.legs or book.orders) or book.instrument.settle != currency:
            continue
        if not 0 < low <= high < math.inf:
            return False
        dearest = min(low, book.last) if book.instrument.inverse else max(high, book.last)
        for leg in book.legs.values():
            if leg.interest:
                return False
            most += book.instrument.value(leg.lots, (min if book.instrument.inverse else max)(dearest, leg.entry))
            profit = book.instrument.profit(leg.lots, leg.entry, low if leg.lots > 0 else high)
            left += profit if MODES[book.margin_mode].POOLED else min(profit, 0.0)
        if book.orders:
            most += book.orders.notional_upper_bound(dearest)
    return most * DEAREST < left
