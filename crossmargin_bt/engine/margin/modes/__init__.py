# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin modes: the collateral of a position and the margin in use of its orders.

A mode is a module that implements `Mode`; its functions are pure functions of a book. Cash mode is not a margin
mode: it is backtrader's own broker, unchanged (docs/decisions/0002-cash-mode.md).
"""

from typing import Protocol, cast

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect, Position
from crossmargin_bt.engine.margin.modes import cross, isolated, option, spot


class Mode(Protocol):
    """The interface of a margin mode. Amounts are in the settle currency of the book."""

    POOLED: bool
    """Whether the shared pool is the collateral of its positions."""
    ISOLATED: bool
    """Whether each position has an isolated margin as its only collateral."""
    ORDER_USE: str
    """The use, one of `Rules.profit_pays_for`, that the margin of its orders is."""

    def in_use(self, book: Book) -> float:
        """Return the margin in use of the book's positions and orders."""
        ...

    def opening_margin(self, book: Book, effect: FillEffect, price: float) -> float:
        """Return the amount a fill at `price` moves from the shared balance into the isolated margin of its leg."""
        ...

    def maintenance_margin(self, book: Book, *, with_orders: bool) -> float:
        """Return what a shared pool must keep for the book's positions, and for its orders where the venue counts them."""
        ...

    def leg_maintenance(self, book: Book, position: Position) -> float:
        """Return the maintenance margin of one leg by itself at its mark, without orders and fees."""
        ...

    def orders_against_collateral(self, book: Book) -> float:
        """Return what the book's orders take from the collateral of the shared pool's risk ratio."""
        ...

    def option_value(self, book: Book) -> float:
        """Return the option value of the book's positions."""
        ...

    def breakpoints(self, book: Book, *, with_orders: bool) -> list[tuple[int, float]]:
        """Return the (direction, mark) at which a maintenance rate of the book changes."""
        ...


MODES: dict[str, Mode] = {
    "cross": cast("Mode", cross),
    "isolated": cast("Mode", isolated),
    "spot": cast("Mode", spot),
    "option": cast("Mode", option),
}
