# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything can happen to a pool within a bar, found without walking through it."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip import portfolio_screen
from crossmargin_bt.broker.skip.safe_range import ALMOST, NO_RANGE, BarEvent, SafePriceRange
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.metrics import Pool

# How many candle ranges a band of safe prices reaches at most beyond the candles it was found at, and at least.
FARTHEST, NARROWEST = 100.0, 0.5


def danger(run: BrokerSession, bars: Sequence[Bar], *, at_open: bool = False) -> BarEvent:
    """Return what could happen to a pool within these bars, or as they open.

    Every leg is put at its worse extreme and every requirement at the price where its value is highest,
    all at once: what holds there holds on every path. A band of prices found safe stays safe until the account changes, so
    most bars cost two comparisons. Where no single price is worst, as in a portfolio, pools are looked at by how much
    they may change at most (`crossmargin_bt.broker.skip.portfolio_screen`). May leave the marks anywhere.
    """
    if run.watch.has_acted:
        return BarEvent.THRESHOLD  # a pool may recover inside the bar and come down again
    account = run.account
    if run.band.holds(account, bars, at_open=at_open):
        return BarEvent.NOTHING
    if (account.pooled or account.has_options) and portfolio_screen.is_stirred(account):
        return portfolio_screen.danger(run, bars)
    return _beyond_the_band(run, bars)


def _beyond_the_band(run: BrokerSession, bars: Sequence[Bar]) -> BarEvent:
    """Return what could happen where the band does not say it, and find the next bands."""
    account = run.account
    pools = run.pools()
    if not pools:
        if not account.pooled:
            run.band = run.safe = SafePriceRange(account.risk_version, dict.fromkeys(account.books, (0.0, math.inf)))
        return BarEvent.NOTHING
    if run.safe.holds(account, bars):
        return look_for_sinking(run, bars, pools)
    # These bars have left the bands, so they say nothing about where their instruments stand any more.
    run.band = run.safe = NO_RANGE
    wide = _widened(bars, FARTHEST, is_pooled=account.pooled)
    far = _outlook(run, wide, pools)
    if min(far) > 0:
        run.band = run.safe = SafePriceRange(account.risk_version, wide)
        return BarEvent.NOTHING
    if far.acts > 0 and run.spell.lasts():
        run.safe = SafePriceRange(account.risk_version, wide)
        return BarEvent.NEW_LOW_LEVEL
    near = _outlook(run, _widened(bars, 0.0, is_pooled=account.pooled), pools)
    if near.acts <= 0:
        return BarEvent.THRESHOLD
    run.safe = _band(run, bars, pools, Span(near, far), Outlook.of_acting)
    return _sinks(run, bars, pools, Span(near, far))


def look_for_sinking(run: BrokerSession, bars: Sequence[Bar], pools: Sequence[Pool]) -> BarEvent:
    """Return whether the margin level may sink below its lowest within bars in which nothing acts."""
    run.band = NO_RANGE  # it was left, as above
    account = run.account
    if run.spell.lasts():
        return BarEvent.NEW_LOW_LEVEL
    far = _outlook(run, _widened(bars, FARTHEST, is_pooled=account.pooled), pools)
    near = far if far.sinks > 0 else _outlook(run, _widened(bars, 0.0, is_pooled=account.pooled), pools)
    return _sinks(run, bars, pools, Span(near, far))


def _sinks(run: BrokerSession, bars: Sequence[Bar], pools: Sequence[Pool], span: "Span") -> BarEvent:
    run.spell.hear(sinks=span.near.sinks <= 0)
    if span.near.sinks <= 0:
        return BarEvent.NEW_LOW_LEVEL
    run.band = _band(run, bars, pools, span, Outlook.of_anything)
    return BarEvent.NOTHING


def _band(
    run: BrokerSession, bars: Sequence[Bar], pools: Sequence[Pool], span: "Span", slack: Callable[["Outlook"], float]
) -> SafePriceRange:
    """Return the band around bars in which there is slack of one kind, looked for on the line from near to far."""
    near, far = slack(span.near), slack(span.far)
    room = FARTHEST if far > 0 else ALMOST * FARTHEST * near / (near - far)
    if room < NARROWEST:
        return NO_RANGE
    wide = _widened(bars, room, is_pooled=run.account.pooled)
    if far <= 0 and slack(_outlook(run, wide, pools)) <= 0:
        return NO_RANGE
    return SafePriceRange(run.account.risk_version, wide)


class Outlook(NamedTuple):
    """By how much pools stay clear within ranges of marks, all legs at their worse extreme; at or below 0 they may not."""

    acts: float
    """Of a threshold that may act."""
    sinks: float
    """Of the lowest margin level so far."""

    def of_acting(self) -> float:
        """Return the slack before anything acts."""
        return self.acts

    def of_anything(self) -> float:
        """Return the slack before anything acts, or the level sinks: it may lie below every threshold."""
        return min(self)


class Span(NamedTuple):
    """The outlook for bars themselves, and for the widest ranges around them."""

    near: Outlook
    far: Outlook


def _widened(bars: Sequence[Bar], room: float, *, is_pooled: bool) -> dict[str, tuple[float, float]]:
    """Return the ranges of marks with room for bars that follow, so many times their own; of what counts for nothing any price."""
    ranges = {}
    for bar in bars:
        book, mark = bar.book, bar.mark
        if book.legs or book.orders or is_pooled:
            more = room * (mark.high - mark.low)
            ranges[book.instrument.symbol] = (max(mark.low - more, mark.low / 2), mark.high + more)
        else:
            ranges[book.instrument.symbol] = (0.0, math.inf)
    return ranges


def _outlook(run: BrokerSession, ranges: dict[str, tuple[float, float]], pools: Sequence[Pool]) -> Outlook:
    account, watch = run.account, run.watch
    books = [
        (book, low, high)
        for symbol, (low, high) in ranges.items()
        if (book := account.books[symbol]).legs or book.orders or account.pooled
    ]
    if account.rules.order_loss_in_ratio and _has_orders(account):
        return Outlook(-math.inf, -math.inf)  # what orders would lose is not largest where all else is worst
    for book, low, high in books:
        book.long_mark, book.short_mark = low, high
    collateral = [metrics.collateral(account, pool) for pool in pools]
    debts = sum(one.maintenance_margin for one in currencies.holdings(account)) if account.pooled else 0.0
    dearer = _dearer(account, books) if account.pooled else 1.0
    for book, low, high in books:
        book.set_mark(low if book.instrument.is_curved else high)
    acts = sinks = math.inf
    for pool, worst in zip(pools, collateral, strict=True):
        most = metrics.required(account, pool)
        if account.pooled and not pool.isolated:
            most = dearer * most + debts
        if most or worst <= 0:
            acts = min(acts, worst - watch.armed(pool).level * most)
        if watch.watches_overdrawn(pool) and _has_orders(account):
            acts = min(acts, worst - metrics.pool_balance(account, pool.currency).in_use)
        if most:
            sinks = min(sinks, worst - run.lowest_level * most)
    return Outlook(acts, sinks)


def _dearer(account: Account, books: Sequence[tuple[Book, float, float]]) -> float:
    """Return how much more a requirement may come to than where each contract alone keeps most: what is settled in coin
    is worth most in coin where the coin is worth least, and a coin may be priced through another.
    """
    settles = {book.instrument.settle for book in account.books.values() if book.legs or book.orders}
    hops = max((len(account.valuation.route(one)) for one in settles if one != account.valuation.unit), default=0)
    widest = max((high / low for _, low, high in books), default=1.0)
    return float(widest**hops)


def _has_orders(account: Account) -> bool:
    return any(book.orders for book in account.books.values())
