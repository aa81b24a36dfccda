# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolated margin: every leg stands on the margin it was opened with, and orders are charged in full.

Source: docs/sources.md#isolated (orders are summed, only what closes is free).
"""

from crossmargin_bt.engine import formulas
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.position import Effect
from crossmargin_bt.engine.rules import Rules

POOLED = False


def in_use(book: Book, rules: Rules) -> float:  # noqa: ARG001 - the modes' common shape
    """Return what opening orders lock, fees included; the margin of positions has already left the balance."""
    if not book.orders:
        return 0.0
    total = 0.0
    for side in book.sides:
        waiting = book.pending(side)
        opened = waiting.same_value + waiting.opening_value
        rate = book.rate(abs(book.leg(side).lots) + waiting.same_lots)
        total += formulas.summed_margin(0.0, waiting.same_value * rate, waiting.opening_value * rate)
        total += formulas.fee(opened, book.taker)
    return total


def opening_margin(book: Book, effect: Effect, price: float) -> float:
    """Return the initial margin of what a fill opens at `price`, at the rate of the position it leads to."""
    return book.instrument.value(effect.opened, price) * book.rate(effect.position.lots)
