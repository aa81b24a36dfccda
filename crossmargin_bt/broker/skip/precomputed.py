# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of calm bars to come, where something reads them in every bar: the engine's own sums, over the marks that are loaded.

What is worked out ahead is told of a bar alone in which the marks stand where they were expected; nobody sees it earlier.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from crossmargin_bt.broker.skip.lookahead import FEWEST
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import metrics


def totals_over(account: Account, currency: str, marks: Sequence[tuple[Book, Any]]) -> Any:
    """Return the totals of a pool over arrays of marks, or None where a figure is compared or taken for one number on the way."""
    kept = [book.prices() for book, _ in marks]
    try:
        for book, values in marks:
            book.set_mark(np.asarray(values))  # type: ignore[arg-type]  # the sums do not mind
        return metrics.pool_balance(account, currency)
    except (TypeError, ValueError):
        return None
    finally:
        for (book, _), prices in zip(marks, kept, strict=True):
            book.set_prices(prices)


def free_of(totals: Any) -> Any:
    """Return the free margin, of totals over arrays too."""
    head = totals.available_for("cross_orders")
    return np.where(head < 0.0, 0.0, head)


class BarEquity(NamedTuple):
    """The figures of a bar."""

    equity: float
    margin_used: float
    free_margin: float


class PrecomputedEquity:
    """The figures of so many bars of a calm, from one on."""

    def __init__(self, account: Account, currency: str, calm: Any, first: int, bars: int) -> None:
        self.calm, self.bars = calm, bars
        self._first = first
        self._marks: list[tuple[Book, list[float]]] = []
        self._told: list[BarEquity] = []
        marks = calm.marks_ahead(bars)
        count = min((len(values) for _, values in marks), default=0)
        if count < FEWEST:
            return
        marks = [(book, values[:count]) for book, values in marks]
        totals = totals_over(account, currency, marks)
        if totals is None:
            return
        columns = (totals.equity, totals.margin_used, free_of(totals))
        self._told = [
            *map(BarEquity._make, zip(*(np.broadcast_to(one, count).tolist() for one in columns), strict=True))
        ]
        self._marks = [(book, values.tolist()) for book, values in marks]

    @property
    def is_empty(self) -> bool:
        """Whether nothing could be worked out."""
        return not self._told

    def told(self, bar: int) -> BarEquity | None:
        """Return the figures of a bar, or None where it lies beyond, or its marks are not those that were expected."""
        at = bar - self._first
        if at >= len(self._told):
            return None
        for book, values in self._marks:
            if book.long_mark != values[at]:
                return None
        return self._told[at]
