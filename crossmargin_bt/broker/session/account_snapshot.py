# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of a margin account at the close of a bar, and the curve they make."""

from array import array
from typing import NamedTuple

from crossmargin_bt.engine.margin import metrics

# `getvalue()` of an account that lost everything. Stock analyzers take logarithms and quotients of it, and end the run at 0; the
# journal and `equity` keep the exact 0.
VALUE_MIN = 1e-9


class AccountSnapshot(NamedTuple):
    """The account at the close of a bar. Amounts are in its currency."""

    version: int
    """`Account.version` the figures were taken at."""
    balance: metrics.PoolBalance | None
    """The sums behind them; None where the figures were computed in advance."""
    equity: float
    margin_used: float
    free_margin: float
    value: float
    """Equity as backtrader is shown it, never 0."""
    fund_value: float


class EquityCurve:
    """Equity, margin used and free margin at the close of every bar, as arrays of doubles."""

    def __init__(self, since: int = 0) -> None:
        self.since = since
        """The number of bars before the first one here."""
        self.equity, self.margin_used, self.free_margin = array("d"), array("d"), array("d")

    def append(self, figures: AccountSnapshot | metrics.PoolBalance) -> None:
        """Add a bar."""
        self.equity.append(figures.equity)
        self.margin_used.append(figures.margin_used)
        self.free_margin.append(figures.free_margin)

    def replace_last(self, figures: AccountSnapshot) -> None:
        """Replace the figures of the last bar."""
        self.equity[-1], self.margin_used[-1] = figures.equity, figures.margin_used
        self.free_margin[-1] = figures.free_margin
