# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of the last bar's end, where backtrader reads them; after a calm bar they are worked out when they are asked for."""

from typing import Any, NamedTuple

from crossmargin_bt.broker.run import Run
from crossmargin_bt.engine import reading

# What getvalue() says of an account that lost everything. Stock analyzers take logarithms and
# quotients of it and stop the run at 0; the journal and `equity` keep the exact 0.
VALUE_FLOOR = 1e-9


class Figures(NamedTuple):
    """What an account came to when a bar had ended."""

    totals: reading.Totals
    equity: float
    value: float
    fund_value: float


def _stock(name: str) -> property:
    """Return an attribute of the stock broker's that a margin account answers from its figures."""
    stored = f"_stock_{name}"

    def read(self: Any) -> float:
        figures: Figures | None = self.figures
        if figures is None:
            kept: float = self.__dict__[stored]
            return kept
        if name == "cash":
            return figures.totals.free_margin
        return figures.value if name == "_value" else figures.fund_value

    def write(self: Any, value: float) -> None:
        self.__dict__[stored] = value

    return property(read, write)


class ClosingFigures:
    """Keeps what the account came to; mixed into the broker."""

    _run: Run | None
    _fundshares: float

    _kept: Figures | None = None
    _is_put_off = False

    cash = _stock("cash")
    _value = _stock("_value")
    _fundval = _stock("_fundval")

    @property
    def figures(self) -> Figures | None:
        """The figures of the last bar's end; None in cash mode and before a run."""
        if self._is_put_off:
            self._take_figures()
        return self._kept

    def _forget_figures(self) -> None:
        self._kept, self._is_put_off = None, False

    def _put_off_figures(self, run: Run) -> None:
        """Leave the figures for later: until somebody asks, or the account is about to change."""
        self._is_put_off = True
        run.before_change = self._take_figures

    def _take_figures(self) -> None:
        if self._is_put_off:
            assert self._run is not None
            account = self._run.account
            self._keep_figures(self._run, reading.totals(account, account.pool_of(self._run.currency)))

    def _keep_figures(self, run: Run, totals: reading.Totals) -> None:
        account = run.account
        alone = account.pooled or len(account.balances) == 1
        equity = totals.equity if alone else reading.total_equity(account)
        value = max(equity, VALUE_FLOOR)
        self._kept, self._is_put_off = Figures(totals, equity, value, value / self._fundshares), False
