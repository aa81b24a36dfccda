# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates a venue would show: where a position is liquidated if only its own price moves."""

from typing import NamedTuple

from crossmargin_bt.engine import reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.path import first_breach

# Prices above this many times the mark are not looked at.
HIGHEST = 1_000.0


class Estimate(NamedTuple):
    """A price, or None with the reason why there is none."""

    price: float | None
    reason: str = ""


def liquidation_price(account: Account, symbol: str, side: str = "net") -> Estimate:
    """Return the mark of `symbol` at which the pool behind a leg gives out, all other marks standing.

    A long looks downward, a short upward. Resting orders are left out: they are cancelled first. Tiers
    are those that hold at the answer. In hedge mode both legs move with the price.

    Source: docs/sources.md#liquidation-price.
    """
    if side not in account.books[symbol].legs:
        return Estimate(None, "no position")
    trial = account.copy(symbol)
    book = trial.books[symbol]
    leg = book.legs[side]
    pool = next(pool for pool in reading.pools(trial) if (symbol, side) in pool.legs)
    start = book.mark_of(leg.lots)

    def gap(price: float) -> float:
        book.mark(price)
        return reading.risk(trial, pool, with_orders=False).gap

    bends = [mark for name, _, mark in reading.knots(trial, pool, with_orders=False) if name == symbol]
    if leg.lots > 0:
        below = first_breach(lambda down: gap(-down), -start, 0.0, [-bend for bend in bends])
        return Estimate(None, "covered down to a price of 0") if below is None else Estimate(-below)
    above = first_breach(gap, start, HIGHEST * start, bends)
    return Estimate(None, f"covered up to {HIGHEST:g} times the mark") if above is None else Estimate(above)
