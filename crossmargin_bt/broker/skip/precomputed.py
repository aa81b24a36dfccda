# SPDX-License-Identifier: GPL-3.0-or-later
"""Equity of quiet bars ahead, for runs that read it in every bar: the engine's own sums over arrays of marks.

A precomputed figure is used for a bar only if its marks are the expected ones; nothing is visible before its bar.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from crossmargin_bt.broker.skip.lookahead import BARS_MIN
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import metrics

Marks = Sequence[tuple[Book, Any]]
"""Marks over several bars, by book."""


def balance_over(account: Account, currency: str, marks: Marks) -> Any:
    """Return the pool balance over arrays of marks; None where a figure is compared or used as a single number on the way.

    The marks of the account are left as they were.
    """
    kept = [book.prices() for book, _ in marks]
    try:
        for book, values in marks:
            book.set_mark(np.asarray(values))  # type: ignore[arg-type]  # the sums work on arrays as on floats
        return metrics.pool_balance(account, currency)
    except (TypeError, ValueError):
        return None
    finally:
        for (book, _), prices in zip(marks, kept, strict=True):
            book.set_prices(prices)


class BarEquity(NamedTuple):
    """The figures of a bar."""

    equity: float
    margin_used: float
    free_margin: float


class PrecomputedEquity:
    """The figures of up to `bars` bars of a quiet interval, from bar number `first` on."""

    def __init__(self, account: Account, currency: str, interval: Any, first: int, bars: int) -> None:
        self.interval, self.bars = interval, bars
        self._first = first
        self._marks: list[tuple[Book, list[float]]] = []
        self._figures: list[BarEquity] = []
        marks = interval.marks_ahead(bars)
        count = min((len(values) for _, values in marks), default=0)
        if count < BARS_MIN:
            return
        marks = [(book, values[:count]) for book, values in marks]
        balance = balance_over(account, currency, marks)
        if balance is None:
            return
        columns = (balance.equity, balance.margin_used, balance.free_margin)
        rows = zip(*(np.broadcast_to(one, count).tolist() for one in columns), strict=True)
        self._figures = [*map(BarEquity._make, rows)]
        self._marks = [(book, values.tolist()) for book, values in marks]

    @property
    def is_empty(self) -> bool:
        """Whether nothing could be computed."""
        return not self._figures

    def of_bar(self, bar: int) -> BarEquity | None:
        """Return the figures of a bar; None beyond the last, or where its marks are not the expected ones."""
        at = bar - self._first
        if at >= len(self._figures):
            return None
        for book, values in self._marks:
            if book.long_mark != values[at]:
                return None
        return self._figures[at]
