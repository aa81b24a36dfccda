# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything can happen to a pool within a bar, found without walking through it."""

import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from crossmargin_bt.broker.bands import NO_BAND, Band
from crossmargin_bt.broker.bars import Bar
from crossmargin_bt.broker.run import Run
from crossmargin_bt.engine import reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.reading import Pool

# How many candle ranges a band of safe prices reaches at most beyond the candles it was found at, and at least.
FARTHEST, NARROWEST = 100.0, 0.5
# A band ends this part of the way to where the slack does.
ALMOST = 0.95
# What is held may change by so many times its range, as margins do whose rates rise with it.
ROOM = 2.0


class Danger(IntEnum):
    """What can happen to a pool within bars."""

    NONE = 0
    SINKS = 1
    """Nothing acts, but its lowest level so far may be undercut."""
    ACTS = 2
    """A threshold may act."""


def danger(run: Run, bars: Sequence[Bar], *, at_open: bool = False) -> Danger:
    """Return what could happen to a pool within these bars, or as they open.

    Accounts of many currencies and options are looked at by how much they may change at most.

    Every leg is put at its worse extreme and every requirement at the price where its value is highest,
    all at once: what holds there holds on every path. A band of prices found safe stays safe until the account changes, so
    most bars cost two comparisons. May leave the marks anywhere.
    """
    if run.watch.has_acted:
        return Danger.ACTS  # a pool may recover inside the bar and come down again
    account = run.account
    if account.pooled or (
        account.has_options and any(b.margin_mode == "option" and (b.legs or b.orders) for b in account.books.values())
    ):
        return _stirred(run, bars)
    return Danger.NONE if run.band.holds(account, bars, at_open=at_open) else _beyond_the_band(run, bars)


def _beyond_the_band(run: Run, bars: Sequence[Bar]) -> Danger:
    """Return what could happen where the band does not say it, and find the next bands."""
    account = run.account
    pools = run.pools()
    if not pools:
        run.band = run.safe = Band(account.risk_version, dict.fromkeys(account.books, (0.0, math.inf)))
        return Danger.NONE
    if run.safe.holds(account, bars):
        return look_for_sinking(run, bars, pools)
    # These bars have left the bands, so they say nothing about where their instruments stand any more.
    run.band = run.safe = NO_BAND
    wide = _widened(bars, FARTHEST)
    far = _outlook(run, wide, pools)
    if min(far) > 0:
        run.band = run.safe = Band(account.risk_version, wide)
        return Danger.NONE
    if far.acts > 0 and run.spell.lasts():
        run.safe = Band(account.risk_version, wide)
        return Danger.SINKS
    near = _outlook(run, _widened(bars, 0.0), pools)
    if near.acts <= 0:
        return Danger.ACTS
    run.safe = _band(run, bars, pools, Span(near, far), Outlook.of_acting)
    return _sinks(run, bars, pools, Span(near, far))


def look_for_sinking(run: Run, bars: Sequence[Bar], pools: Sequence[Pool]) -> Danger:
    """Return whether the margin level may sink below its lowest within bars in which nothing acts."""
    run.band = NO_BAND  # it was left, as above
    if run.spell.lasts():
        return Danger.SINKS
    far = _outlook(run, _widened(bars, FARTHEST), pools)
    near = far if far.sinks > 0 else _outlook(run, _widened(bars, 0.0), pools)
    return _sinks(run, bars, pools, Span(near, far))


def _sinks(run: Run, bars: Sequence[Bar], pools: Sequence[Pool], span: "Span") -> Danger:
    run.spell.hear(sinks=span.near.sinks <= 0)
    if span.near.sinks <= 0:
        return Danger.SINKS
    run.band = _band(run, bars, pools, span, Outlook.of_anything)
    return Danger.NONE


def _band(
    run: Run, bars: Sequence[Bar], pools: Sequence[Pool], span: "Span", slack: Callable[["Outlook"], float]
) -> Band:
    """Return the band around bars in which there is slack of one kind, looked for on the line from near to far."""
    near, far = slack(span.near), slack(span.far)
    room = FARTHEST if far > 0 else ALMOST * FARTHEST * near / (near - far)
    if room < NARROWEST:
        return NO_BAND
    wide = _widened(bars, room)
    if far <= 0 and slack(_outlook(run, wide, pools)) <= 0:
        return NO_BAND
    return Band(run.account.risk_version, wide)


def _stirred(run: Run, bars: Sequence[Bar]) -> Danger:
    """Return what could happen to pools that no single price is worst for.

    At the opens, all that is held may change against the account by its value x the range of its bar, and what is
    required by as much again: where that leaves a pool above its thresholds, nothing within the bars can bring it there.
    """
    account = run.account
    for bar in bars:
        bar.book.mark(bar.mark.open)
    account.follow()
    pools = reading.pools(account)
    most = ROOM * _largest_change(account, bars) if pools else 0.0
    found = Danger.NONE
    for pool in pools:
        price = account.price(pool.currency)
        if not price:
            return Danger.ACTS
        change = most / price
        risk = reading.risk(account, pool)
        level = run.watch.armed(pool).level
        if risk.collateral - level * risk.requirement <= (1 + level) * change:
            return Danger.ACTS
        if run.watch.watches_overdrawn(pool):
            total = reading.totals(account, pool.currency)
            if total.counted + total.cross_profit - total.in_use <= 2 * change:
                return Danger.ACTS
        if risk.requirement and (risk.collateral - change) / (risk.requirement + change) <= run.lowest_level:
            found = Danger.SINKS
    return found


def _largest_change(account: Account, bars: Sequence[Bar]) -> float:
    """Return by how much everything an account holds may change within bars, all of it against the account."""
    ranges = {bar.book.instrument.symbol: bar.mark for bar in bars}
    moves = {symbol: max(mark.high / mark.open - 1, 1 - mark.low / mark.open) for symbol, mark in ranges.items()}
    most = max(moves.values())
    total = 0.0
    for symbol, book in account.books.items():
        if not (book.legs or book.orders):
            continue
        held = [leg.lots for leg in book.legs.values()] + [order.lots for order in book.orders.values()]
        rate = account.price(book.instrument.settle)
        if book.margin_mode == "option":
            candle = ranges.get(symbol)
            own = candle.high - candle.low if candle is not None else 0.0
            units = sum(map(abs, held)) * book.instrument.units_per_lot
            total += rate * units * (own + book.underlying_value * most)
        elif not book.is_paid:
            total += rate * sum(book.instrument.value(lots, book.long_mark) for lots in held) * moves.get(symbol, 0.0)
    return total + sum(
        abs(amount * account.price(currency)) * most
        for currency, amount in account.balances.items()
        if currency != account.valuation.unit
    )


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


def _widened(bars: Sequence[Bar], room: float) -> dict[str, tuple[float, float]]:
    """Return the ranges of marks with room for bars that follow, so many times their own; of what is not held any price."""
    ranges = {}
    for bar in bars:
        book, mark = bar.book, bar.mark
        if book.legs or book.orders:
            more = room * (mark.high - mark.low)
            ranges[book.instrument.symbol] = (max(mark.low - more, mark.low / 2), mark.high + more)
        else:
            ranges[book.instrument.symbol] = (0.0, math.inf)
    return ranges


def _outlook(run: Run, ranges: dict[str, tuple[float, float]], pools: Sequence[Pool]) -> Outlook:
    account, watch = run.account, run.watch
    books = [
        (book, low, high)
        for symbol, (low, high) in ranges.items()
        if (book := account.books[symbol]).legs or book.orders
    ]
    if account.rules.order_loss_in_ratio and any(book.orders for book in account.books.values()):
        return Outlook(-math.inf, -math.inf)  # what orders would lose is not largest where all else is worst
    for book, low, high in books:
        book.long_mark, book.short_mark = low, high
    collateral = [reading.collateral(account, pool) for pool in pools]
    for book, low, high in books:
        book.mark(low if book.instrument.is_curved else high)
    acts = sinks = math.inf
    for pool, worst in zip(pools, collateral, strict=True):
        most = reading.required(account, pool)
        if most or worst <= 0:
            acts = min(acts, worst - watch.armed(pool).level * most)
        if watch.watches_overdrawn(pool):
            acts = min(acts, worst - reading.totals(account, pool.currency).in_use)
        if most:
            sinks = min(sinks, worst - run.lowest_level * most)
    return Outlook(acts, sinks)
