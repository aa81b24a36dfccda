# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolated margin: each leg has its own margin as collateral; orders that open lock their full margin and fee.

Source: docs/sources.md#isolated (no offset between orders; the quantity that closes locks nothing).
"""

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect
from crossmargin_bt.engine.math import formulas

POOLED = False
ISOLATED = True
FULLY_FUNDED = False


def in_use(book: Book) -> float:
    """Return the margin of orders that open, fees included; the margin of positions has already left the balance."""
    if not book.orders:
        return 0.0
    total = 0.0
    for side in book.sides:
        waiting = book.pending(side)
        held = book.leg(side).lots
        direction = -1 if side == "short" or held < 0 else 1
        same = waiting.same_value * book.initial_rate(abs(held) + waiting.same_lots)
        opening = waiting.opening_value * book.initial_rate(max(0, waiting.opposite_lots - abs(held)))
        same += _closing_fee(book, waiting.same_value, direction)
        opening += _closing_fee(book, waiting.opening_value, -direction)
        total += formulas.summed_margin(0.0, same, opening)
        total += formulas.fee(waiting.same_value + waiting.opening_value, book.taker)
        total += waiting.loss if book.rules.order_loss_reserved else 0.0
    return total


def _closing_fee(book: Book, value: float, direction: int) -> float:
    """Return the closing fee in the margin of an order: the fee its position will hold, else the fee the venue reserves."""
    carried = book.rules.isolated_fee_in_margin
    return book.closing_fee(book.rules.closing_fee_reserved if carried == "none" else carried, value, direction)


def opening_margin(book: Book, effect: FillEffect, price: float) -> float:
    """Return the initial margin of the quantity a fill opens at `price`, at the initial rate of the resulting position.

    Includes the closing fee if the venue holds it in the isolated margin (`Rules.isolated_fee_in_margin`).
    """
    value = book.instrument.value(effect.opened, price)
    direction = 1 if effect.position.lots > 0 else -1
    fee = book.closing_fee(book.rules.isolated_fee_in_margin, value, direction)
    return value * book.initial_rate(effect.position.lots) + fee
