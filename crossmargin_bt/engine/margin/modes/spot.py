# SPDX-License-Identifier: GPL-3.0-or-later
"""Coins: paid for in full, held as a balance of their own; no margin of theirs is ever at risk.

What a coin counts for as collateral is the account's business (`crossmargin_bt.engine.terms.collateral`).
"""

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect
from crossmargin_bt.engine.math import formulas

POOLED = False
ISOLATED = False
FULLY_FUNDED = True


def in_use(book: Book) -> float:
    """Return what resting buys reserve of the quote currency, fees included."""
    return reserved(book)[1]


def reserved(book: Book) -> tuple[float, float]:
    """Return the coins that resting sells reserve, and what resting buys do of the quote currency, fees included.

    Of orders that exclude each other the dearest counts.
    """
    sells: dict[object, float] = {}
    buys: dict[object, float] = {}
    for order in book.orders.values():
        key = ("order", order.number) if order.group is None else ("group", order.group)
        units = abs(order.lots) * book.instrument.units_per_lot
        if order.lots < 0:
            sells[key] = max(sells.get(key, 0.0), units)
        else:
            value = formulas.value(units, order.price)
            buys[key] = max(buys.get(key, 0.0), value + formulas.fee(value, book.taker))
    return sum(sells.values()), sum(buys.values())


def opening_margin(book: Book, effect: FillEffect, price: float) -> float:  # noqa: ARG001 - the modes' common shape
    """Return 0: a coin is paid for, not margined."""
    return 0.0
