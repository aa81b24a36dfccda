# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything can happen to a pool within a bar, found without walking through it."""

import math
from collections.abc import Sequence

from crossmargin_bt.broker.run import NO_BAND, Band, Bar, Run
from crossmargin_bt.engine import reading
from crossmargin_bt.engine.path import Candle
from crossmargin_bt.engine.reading import Pool

# How many candle ranges a band of safe prices reaches beyond the candle it was found at.
BAND_ROOM = 6.0


def in_danger(run: Run, bars: Sequence[Bar]) -> bool:
    """Return whether any pool could be liquidated, or sink below its lowest level so far, within these bars.

    Every leg is put at its worse extreme and every requirement at the price where its value is highest,
    all at once: what holds there holds on every path. A band of prices found safe stays safe until the account changes, so
    most bars cost two comparisons. May leave the marks anywhere.
    """
    if run.watch.has_acted:
        return True  # a pool may recover inside the bar and come down again
    if run.account.pooled or any(
        book.margin_mode == "option" for book in run.account.books.values() if book.legs or book.orders
    ):
        return bool(reading.pools(run.account))  # no price at which all currencies are worst at once
    if run.band.holds(run.account, bars):
        return False
    pools = reading.pools(run.account)
    if not pools:
        run.band = Band(run.account.version, dict.fromkeys(run.account.books, (0.0, math.inf)))
        return False
    wide = {bar.book.instrument.symbol: _widened(bar.mark) for bar in bars}
    if not _could_give_out(run, wide, pools):
        run.band = Band(run.account.version, wide)
        return False
    # These bars have left the band, so it says nothing about where their instruments stand any more.
    run.band = NO_BAND
    return _could_give_out(run, {bar.book.instrument.symbol: (bar.mark.low, bar.mark.high) for bar in bars}, pools)


def _widened(candle: Candle) -> tuple[float, float]:
    """Return the range of a candle with room for those that follow."""
    room = BAND_ROOM * (candle.high - candle.low)
    return max(candle.low - room, candle.low / 2), candle.high + room


def _could_give_out(run: Run, ranges: dict[str, tuple[float, float]], pools: Sequence[Pool]) -> bool:
    """Return whether any pool could come to a threshold that may act, all legs at their worse extreme at once."""
    books = run.account.books
    for symbol, (low, high) in ranges.items():
        books[symbol].long_mark, books[symbol].short_mark = low, high
    collateral = [reading.risk(run.account, pool).collateral for pool in pools]
    for symbol, (low, high) in ranges.items():
        books[symbol].mark(low if books[symbol].instrument.is_curved else high)
    required = [reading.risk(run.account, pool).requirement for pool in pools]
    for pool, worst, most in zip(pools, collateral, required, strict=True):
        level = max(run.watch.armed(pool).level, run.lowest_level)
        if run.account.rules.order_loss_in_ratio and any(book.orders for book in books.values()):
            return True  # what orders would lose is not largest where all else is worst
        if (most or worst <= 0) and worst <= level * most:
            return True
        if run.watch.watches_overdrawn(pool) and worst <= reading.totals(run.account, pool.currency).in_use:
            return True
    return False
