# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin modes: the collateral of a position and the margin in use of its orders.

A mode is a module that implements `Mode`; its functions are pure functions of a book. Cash mode is not a margin
mode: it is backtrader's own broker, unchanged (docs/decisions/0002-cash-mode.md).
"""

from typing import Protocol, cast

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect
from crossmargin_bt.engine.margin.modes import cross, isolated, option, spot


class Mode(Protocol):
    """The interface of a margin mode."""

    POOLED: bool
    """Whether the shared pool is the collateral of its positions."""
    ISOLATED: bool
    """Whether each position has an isolated margin as its only collateral."""
    FULLY_FUNDED: bool
    """Whether positions are paid for in full: spot, options."""

    def in_use(self, book: Book) -> float:
        """Return the margin in use of the book's positions and orders, in its settle currency."""
        ...

    def opening_margin(self, book: Book, effect: FillEffect, price: float) -> float:
        """Return the amount a fill at `price` moves from the shared balance into the isolated margin of its leg."""
        ...


MODES: dict[str, Mode] = {
    "cross": cast("Mode", cross),
    "isolated": cast("Mode", isolated),
    "spot": cast("Mode", spot),
    "option": cast("Mode", option),
}
