# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin modes: whose collateral stands behind a position and what its orders lock.

A mode is a module with the functions of `Mode`; it reads a book and never changes it. Cash mode is
not among them: it is backtrader's own broker, unchanged (docs/decisions/0002-cash-mode.md).
"""

from typing import Protocol, cast

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect
from crossmargin_bt.engine.margin.modes import cross, isolated, option, spot


class Mode(Protocol):
    """What a margin mode contributes."""

    POOLED: bool
    """Whether its positions stand on the shared pool."""
    ISOLATED: bool
    """Whether each of them stands on a margin of its own."""
    FULLY_FUNDED: bool
    """Whether what is traded is paid for in full."""

    def in_use(self, book: Book) -> float:
        """Return what the book's positions and orders lock of the shared balance."""
        ...

    def opening_margin(self, book: Book, effect: FillEffect, price: float) -> float:
        """Return what leaves the shared balance for the leg's own margin when a fill at `price` opens."""
        ...


MODES: dict[str, Mode] = {
    "cross": cast("Mode", cross),
    "isolated": cast("Mode", isolated),
    "spot": cast("Mode", spot),
    "option": cast("Mode", option),
}
