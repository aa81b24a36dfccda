# SPDX-License-Identifier: GPL-3.0-or-later
"""Spot: coins are paid for in full and held as a balance; they have no margin requirement.

Their collateral value in a multi-currency pool is defined by `crossmargin_bt.engine.terms.collateral`.
"""

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect, Position
from crossmargin_bt.engine.margin.modes import cross
from crossmargin_bt.engine.math import formulas

POOLED = False
ISOLATED = False
ORDER_USE = "isolated_orders"


def in_use(book: Book) -> float:
    """Return the amount of the quote currency reserved by resting buys, fees included."""
    return reserved(book)[1]


def reserved(book: Book) -> tuple[float, float]:
    """Return the coins reserved by resting sells, and the quote currency reserved by resting buys, fees included.

    Of a group of mutually exclusive orders (one-cancels-other) only the largest reservation counts.
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


def opening_margin(book: Book, effect: FillEffect, price: float) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: a spot position has no margin."""
    return 0.0


def maintenance_margin(book: Book, *, with_orders: bool) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: coins have no maintenance margin."""
    return 0.0


def leg_maintenance(book: Book, position: Position) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: coins have no maintenance margin."""
    return 0.0


def orders_against_collateral(book: Book) -> float:
    """Return the reserved quote currency, where the venue takes it from the collateral of the shared pool's risk ratio."""
    return in_use(book) if book.rules.isolated_orders_in_ratio else 0.0


option_value = cross.option_value


def breakpoints(book: Book, *, with_orders: bool) -> list[tuple[int, float]]:  # noqa: ARG001 - the common signature
    """Return none: there is no maintenance rate."""
    return []
