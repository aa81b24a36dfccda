# SPDX-License-Identifier: GPL-3.0-or-later
"""An event screen by worst-case bounds: whether anything can happen to a pool within bars, without simulating them.

Conservative: the collateral is taken with every leg at its adverse extreme, the requirement at its maximum, all at once. If no
threshold is crossed under this bound, none is on any intrabar path. A range of prices proven safe stays safe until the account
changes, so most bars cost two comparisons per feed.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crossmargin_bt.broker.bar.risk_monitor import RiskMonitor
from crossmargin_bt.broker.bar.screen import BarEvent
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip import portfolio_screen
from crossmargin_bt.broker.skip.safe_range import NO_RANGE, RANGE_MARGIN, Backoff, SafePriceRange
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.metrics import Pool

# How many candle ranges a safe range reaches beyond the candles it was found at: at most, and at least to be worth keeping.
REACH_MAX, REACH_MIN = 100.0, 0.5

# An order that comes or goes changes the risk of a pool only where the venue counts resting orders.
ORDER_ENTRIES = (events.OrderPlaced, events.OrderRemoved)

PriceRanges = dict[str, tuple[float, float]]


class Slack(NamedTuple):
    """A lower bound on how far pools stay clear of events within ranges of marks; at or below 0 an event is possible."""

    thresholds: float
    """Of a threshold that may act."""
    low_level: float
    """Of the lowest margin level so far."""

    def of_thresholds(self) -> float:
        """Return the slack before any threshold acts."""
        return self.thresholds

    def of_any_event(self) -> float:
        """Return the slack before a threshold acts or the margin level makes a new low, which may lie below every threshold."""
        return min(self)


class SlackSpan(NamedTuple):
    """The slack of bars themselves, and of the widest ranges around them."""

    near: Slack
    far: Slack


class BoundScreen:
    """Classifies bars by worst-case bounds, and keeps the price ranges proven safe."""

    def __init__(self, session: BrokerSession, monitor: RiskMonitor) -> None:
        self._session, self._monitor = session, monitor
        self.risk_version = 0
        """Counts journal entries that can change the risk of a pool; the ranges hold for one version."""
        self.quiet_range = NO_RANGE
        """Where no threshold acts and the margin level makes no new low."""
        self.threshold_range = NO_RANGE
        """Where no threshold acts."""
        self._portfolio_range = NO_RANGE
        """The quiet range of pools without a single worst price; valid for one version of the account, orders included."""
        self._backoff = Backoff()
        monitor.on_rearm = self.reset

    def reset(self) -> None:
        """Drop every proof."""
        self.quiet_range = self.threshold_range = self._portfolio_range = NO_RANGE

    def classify(self, bars: Sequence[Bar], *, at_open: bool = False) -> BarEvent:
        """Return the most that can happen to a pool within these bars, or as they open."""
        if self._monitor.has_acted:
            return BarEvent.THRESHOLD  # a pool may recover inside the bar and come down again
        account = self._session.account
        if self.quiet_range.version == self.risk_version and self.quiet_range.contains(bars, at_open=at_open):
            return BarEvent.NOTHING
        if self._portfolio_range.version == account.version and self._portfolio_range.contains(bars, at_open=at_open):
            return BarEvent.NOTHING
        if (account.pooled or account.has_options) and portfolio_screen.has_no_single_worst_price(account):
            self.quiet_range = NO_RANGE
            event, self._portfolio_range = portfolio_screen.screen_bars(self._session, self._monitor, bars)
            return event
        return self._screen(bars)

    def _screen(self, bars: Sequence[Bar]) -> BarEvent:
        """Classify bars outside the quiet range, and find the next ranges."""
        session, account = self._session, self._session.account
        pools = session.pools()
        if not pools:
            if not account.pooled:
                everywhere = dict.fromkeys(account.books, (0.0, math.inf))
                self.quiet_range = self.threshold_range = SafePriceRange(self.risk_version, everywhere)
            return BarEvent.NOTHING
        if self.threshold_range.version == self.risk_version and self.threshold_range.contains(bars):
            return self.screen_low_level(bars, pools)
        # These bars have left the ranges, which say nothing about where their instruments are from now on.
        self.reset()
        wide = self._widened(bars, REACH_MAX)
        far = self.slack(wide, pools)
        if min(far) > 0:
            self.quiet_range = self.threshold_range = SafePriceRange(self.risk_version, wide)
            return BarEvent.NOTHING
        if far.thresholds > 0 and self._backoff.should_skip():
            self.threshold_range = SafePriceRange(self.risk_version, wide)
            return BarEvent.NEW_LOW_LEVEL
        near = self.slack(self._widened(bars, 0.0), pools)
        if near.thresholds <= 0:
            return BarEvent.THRESHOLD
        span = SlackSpan(near, far)
        self.threshold_range = self._range(bars, pools, span, Slack.of_thresholds)
        return self._low_level_event(bars, pools, span)

    def screen_low_level(self, bars: Sequence[Bar], pools: Sequence[Pool]) -> BarEvent:
        """Return whether the margin level may make a new low within bars in which no threshold acts."""
        self.quiet_range = NO_RANGE
        if self._backoff.should_skip():
            return BarEvent.NEW_LOW_LEVEL
        far = self.slack(self._widened(bars, REACH_MAX), pools)
        near = far if far.low_level > 0 else self.slack(self._widened(bars, 0.0), pools)
        return self._low_level_event(bars, pools, SlackSpan(near, far))

    def _low_level_event(self, bars: Sequence[Bar], pools: Sequence[Pool], span: SlackSpan) -> BarEvent:
        is_possible = span.near.low_level <= 0
        self._backoff.record(failed=is_possible)
        if is_possible:
            return BarEvent.NEW_LOW_LEVEL
        self.quiet_range = self._range(bars, pools, span, Slack.of_any_event)
        return BarEvent.NOTHING

    def _range(
        self, bars: Sequence[Bar], pools: Sequence[Pool], span: SlackSpan, of: Callable[[Slack], float]
    ) -> SafePriceRange:
        """Return the range around bars in which there is slack of one kind, interpolated between near and far."""
        near, far = of(span.near), of(span.far)
        reach = REACH_MAX if far > 0 else RANGE_MARGIN * REACH_MAX * near / (near - far)
        if reach < REACH_MIN:
            return NO_RANGE
        wide = self._widened(bars, reach)
        if far <= 0 and of(self.slack(wide, pools)) <= 0:
            return NO_RANGE
        return SafePriceRange(self.risk_version, wide)

    def _widened(self, bars: Sequence[Bar], reach: float) -> PriceRanges:
        """Return the marks of bars widened by `reach` candle ranges; any price for an instrument without exposure."""
        is_pooled = self._session.account.pooled
        ranges = {}
        for bar in bars:
            book, mark = bar.book, bar.mark
            if book.legs or book.orders or is_pooled:
                more = reach * (mark.high - mark.low)
                ranges[book.instrument.symbol] = (max(mark.low - more, mark.low / 2), mark.high + more)
            else:
                ranges[book.instrument.symbol] = (0.0, math.inf)
        return ranges

    def slack(self, ranges: PriceRanges, pools: Sequence[Pool]) -> Slack:
        """Return a lower bound on the slack of pools while marks stay within ranges. The marks are left as they were."""
        account = self._session.account
        books = [
            (book, low, high)
            for symbol, (low, high) in ranges.items()
            if (book := account.books[symbol]).legs or book.orders or account.pooled
        ]
        rules = account.rules
        counts_loss = rules.order_loss_in_ratio or (
            rules.orders_cancelled_overdrawn and any(book.rules.values_orders_at_market for book, _, _ in books)
        )
        if counts_loss and _has_orders(account):
            return Slack(-math.inf, -math.inf)  # the losses of orders are not largest where the rest is worst
        kept = [(book, book.long_mark, book.short_mark) for book, _, _ in books]
        try:
            return self._slack(books, pools)
        finally:
            for book, long_mark, short_mark in kept:
                book.long_mark, book.short_mark = long_mark, short_mark

    def _slack(self, books: Sequence[tuple[Book, float, float]], pools: Sequence[Pool]) -> Slack:
        account, monitor, lowest_level = self._session.account, self._monitor, self._session.lowest_level
        for book, low, high in books:
            book.long_mark, book.short_mark = low, high
        collateral = [metrics.collateral(account, pool) for pool in pools]
        debts, factor = 0.0, 1.0
        if account.pooled:
            debts = sum(one.maintenance_margin for one in currencies.holdings(account))
            factor = revaluation_factor(account, books)
        for book, low, high in books:
            book.set_mark(low if book.instrument.is_curved else high)
        thresholds = low_level = math.inf
        for pool, worst in zip(pools, collateral, strict=True):
            most = metrics.required(account, pool)
            if account.pooled and not pool.isolated:
                most = factor * most + debts
            if most or worst <= 0:
                thresholds = min(thresholds, worst - monitor.next_threshold(pool).level * most)
            if monitor.watches_deficit(pool) and _has_orders(account):
                in_use = metrics.pool_balance(account, pool.currency).in_use
                thresholds = min(thresholds, worst - in_use)
            if most:
                low_level = min(low_level, worst - lowest_level * most)
        return Slack(thresholds, low_level)


def revaluation_factor(account: Account, books: Sequence[tuple[Book, float, float]]) -> float:
    """Return an upper bound on how much a requirement can exceed the sum of each contract's own maximum.

    A requirement settled in coin is largest, in coin, where the coin is cheapest, and the coin may be priced through other
    markets: each hop of its price can add the widest relative range of all marks.
    """
    settles = {book.instrument.settle for book in account.books.values() if book.legs or book.orders}
    hops = max((len(account.valuation.route(one)) for one in settles if one != account.valuation.unit), default=0)
    widest = max((high / low for _, low, high in books), default=1.0)
    return float(widest**hops)


def _has_orders(account: Account) -> bool:
    return any(book.orders for book in account.books.values())
