# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything can happen to a pool within a bar, found without walking through it."""

import math
from collections.abc import Sequence
from enum import IntEnum

from crossmargin_bt.broker.bars import Bar
from crossmargin_bt.broker.run import NO_BAND, Band, Run
from crossmargin_bt.engine import reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.reading import Pool

# How many candle ranges a band of safe prices reaches beyond the candle it was found at: the first that is safe.
BAND_ROOMS = (100.0, 6.0)
# What is held may change by so many times its range, as margins do whose rates rise with it.
ROOM = 2.0


class Danger(IntEnum):
    """What can happen to a pool within bars."""

    NONE = 0
    SINKS = 1
    """Nothing acts, but its lowest level so far may be undercut."""
    ACTS = 2
    """A threshold may act."""


def danger(run: Run, bars: Sequence[Bar]) -> Danger:
    """Return what could happen to a pool within these bars.

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
    if run.band.holds(account, bars):
        return Danger.NONE
    pools = reading.pools(account)
    if not pools:
        run.band = run.safe = Band(account.version, dict.fromkeys(account.books, (0.0, math.inf)))
        return Danger.NONE
    if not run.safe.holds(account, bars):
        # These bars have left the bands, so they say nothing about where their instruments stand any more.
        run.band = run.safe = NO_BAND
        for room in BAND_ROOMS:
            wide = {bar.book.instrument.symbol: _widened(bar, room) for bar in bars}
            found = _outlook(run, wide, pools)
            if found is not Danger.ACTS and run.safe is NO_BAND:
                run.safe = Band(account.version, wide)
            if found is Danger.NONE:
                run.band = Band(account.version, wide)
                return Danger.NONE
    return _outlook(run, {bar.book.instrument.symbol: (bar.mark.low, bar.mark.high) for bar in bars}, pools)


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


def _widened(bar: Bar, room: float) -> tuple[float, float]:
    """Return the range of a candle with room for those that follow; of what is not held any price."""
    if not (bar.book.legs or bar.book.orders):
        return 0.0, math.inf
    candle = bar.mark
    more = room * (candle.high - candle.low)
    return max(candle.low - more, candle.low / 2), candle.high + more


def _outlook(run: Run, ranges: dict[str, tuple[float, float]], pools: Sequence[Pool]) -> Danger:
    """Return what any pool could come to within ranges of marks, all legs at their worse extreme at once."""
    account = run.account
    books = [
        (book, low, high)
        for symbol, (low, high) in ranges.items()
        if (book := account.books[symbol]).legs or book.orders
    ]
    if account.rules.order_loss_in_ratio and any(book.orders for book in account.books.values()):
        return Danger.ACTS  # what orders would lose is not largest where all else is worst
    for book, low, high in books:
        book.long_mark, book.short_mark = low, high
    collateral = [reading.risk(account, pool).collateral for pool in pools]
    for book, low, high in books:
        book.mark(low if book.instrument.is_curved else high)
    found = Danger.NONE
    for pool, worst in zip(pools, collateral, strict=True):
        most = reading.risk(account, pool).requirement
        if (most or worst <= 0) and worst <= run.watch.armed(pool).level * most:
            return Danger.ACTS
        if run.watch.watches_overdrawn(pool) and worst <= reading.totals(account, pool.currency).in_use:
            return Danger.ACTS
        if most and worst <= run.lowest_level * most:
            found = Danger.SINKS
    return found
