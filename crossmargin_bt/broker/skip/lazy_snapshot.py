# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of the last bar's end, where backtrader reads them; after a calm bar they are worked out when they are asked for."""

from array import array
from typing import Any, NamedTuple

import numpy as np

from crossmargin_bt.broker.session.session import BrokerSession, nothing
from crossmargin_bt.broker.skip.lookahead import FEWEST, MOST
from crossmargin_bt.broker.skip.order_bound import OrderBound
from crossmargin_bt.broker.skip.precomputed import BarEquity, PrecomputedEquity, free_of, totals_over
from crossmargin_bt.broker.skip.quiet_interval import QuietInterval
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import metrics

# What getvalue() says of an account that lost everything. Stock analyzers take logarithms and
# quotients of it and stop the run at 0; the journal and `equity` keep the exact 0.
VALUE_FLOOR = 1e-9
# So many bars are summed one by one sooner than as arrays.
FEW = 3


class Figures(NamedTuple):
    """What an account came to when a bar had ended."""

    version: int
    """Of the account."""
    totals: metrics.PoolBalance | None
    """None of a calm bar whose figures were worked out ahead."""
    equity: float
    margin_used: float
    free_margin: float
    value: float
    fund_value: float


def _stock(name: str, answer: str) -> property:
    """Return an attribute of the stock broker's that a margin account answers from its figures."""
    stored = f"_stock_{name}"
    place = Figures._fields.index(answer)

    def read(self: Any) -> float:
        if self._waiting:
            self._settle_figures()
        figures: Figures | None = self._kept
        if figures is None:
            kept: float = self.__dict__[stored]
            return kept
        answered: Any = figures[place]
        return float(answered)

    def write(self: Any, value: float) -> None:
        self.__dict__[stored] = value

    return property(read, write)


class Curve:
    """Equity, margin used and free margin at the end of every bar, as arrays of doubles."""

    def __init__(self, since: int = 0) -> None:
        self.since = since
        """How many bars there were before its first."""
        self.equity, self.margin_used, self.free_margin = array("d"), array("d"), array("d")

    def append(self, figures: Figures | metrics.PoolBalance) -> None:
        """Add a bar."""
        self.equity.append(figures.equity)
        self.margin_used.append(figures.margin_used)
        self.free_margin.append(figures.free_margin)

    def replace(self, figures: Figures) -> None:
        """Put other figures in the place of the last bar's."""
        self.equity[-1], self.margin_used[-1] = figures.equity, figures.margin_used
        self.free_margin[-1] = figures.free_margin

    def extend(self, totals: metrics.PoolBalance, bars: int) -> None:
        """Add so many bars, each figure of the totals an array or the same throughout."""
        for values, added in (
            (self.equity, totals.equity),
            (self.margin_used, totals.margin_used),
            (self.free_margin, free_of(totals)),
        ):
            if isinstance(added, np.ndarray) and added.ndim:
                values.frombytes(added.tobytes())
            else:
                values.extend(array("d", [float(added)]) * bars)


class Door:
    """Stands for `broker._run` while calm bars pass unseen: who looks at the run takes them in first.

    An attribute of the broker itself hides it; it is asked where that has been taken away.
    """

    def __get__(self, broker: Any, kind: type) -> Any:
        if broker is None:
            return self
        run = broker._left_alone
        broker.__dict__["_run"], broker._left_alone = run, None
        run.calm.catch_up()
        return run


class ClosingFigures:
    """Keeps what the account came to; mixed into the broker."""

    _run: BrokerSession | None = Door()  # type: ignore[assignment]  # answers with a run
    _left_alone: BrokerSession | None = None
    """The run, while it is behind its door."""
    _fundshares: float

    _bars = 0
    _kept: Figures | None = None
    _curve: Curve | None = None
    _waiting = 0
    """How many calm bars' figures have not been worked out."""
    _is_new_bar = False
    _curve_is_held = False
    """Whether somebody may have kept the curve in mid-run, and look at it at any moment."""
    _ahead: PrecomputedEquity | None = None
    _read_at = 0
    """The bar whose figures were last read after it had been calm."""

    cash = _stock("cash", "free_margin")
    _value = _stock("_value", "value")
    _fundval = _stock("_fundval", "fund_value")

    @property
    def bars(self) -> int:
        """How many bars a margin account has worked through in this run."""
        if self._left_alone is not None:
            self._left_alone.calm.count_run_through()
        return self._bars

    @property
    def figures(self) -> Figures | None:
        """The figures of the last bar's end; None in cash mode and before a run."""
        if self._waiting:
            self._settle_figures()
        return self._kept

    def keep_curve(self) -> None:
        """Keep the figures of every bar of this run from now on."""
        if self._curve is None:
            self._settle_figures()
            self._curve = Curve(self.bars)
            if self._run is not None:
                self._run.calm = None  # the next one keeps the marks of its bars

    @property
    def keeps_curve(self) -> bool:
        """Whether figures of every bar are kept."""
        return self._curve is not None

    @property
    def curve(self) -> Curve:
        """The figures of every bar since `keep_curve`; one that is kept in mid-run goes on with the run."""
        self._settle_figures()
        if self._run is not None:
            self._run.hand_out()
            self._curve_is_held = True
        return Curve() if self._curve is None else self._curve

    def _room(self, run: BrokerSession) -> OrderBound:
        """Return what is free for orders before the bar's prices are looked at."""
        figures = self.figures
        known = figures is not None and figures.version == run.account.version and run.is_one_currency
        return OrderBound(run.account, figures.totals if figures is not None and known else None)

    def _forget_figures(self) -> None:
        self._kept, self._curve, self._ahead, self._left_alone = None, None, None, None
        self._curve_is_held = False
        self._waiting = self._bars = self._read_at = 0

    def _leave_alone(self, run: BrokerSession) -> None:
        """Let a bar that is known to change nothing pass unseen, and those that follow it, until somebody looks."""
        self._waiting += 1
        self._is_new_bar = False
        run.before_change = self._settle_figures
        del self.__dict__["_run"]
        self._left_alone = run

    def unseen(self) -> QuietInterval | None:
        """Return the calm whose bars may be run through without asking the broker for each; None where it has to be asked."""
        return None if self._left_alone is None else self._left_alone.calm

    def count_unseen(self, bars: int) -> None:
        """Count calm bars that have passed."""
        self._bars += bars
        self._waiting += bars

    def _put_off_figures(self, run: BrokerSession, calm: QuietInterval) -> None:
        """Leave the figures of a calm bar for later: until somebody asks, or the account is about to change."""
        self._waiting += 1
        self._is_new_bar = False
        run.before_change = self._settle_figures
        if self._curve is not None and (self._curve_is_held or not calm.marks_are_kept):
            self._settle_figures()

    def _settle_figures(self) -> None:
        run = self._run  # behind its door there may be bars that are not counted
        waiting, self._waiting = self._waiting, 0
        if run is None or not waiting:
            return
        run.before_change = nothing
        account = run.account
        if self._curve is not None:
            marks = run.calm.take_marks()
            if waiting > 1:
                self._kept = self._figures_of(run, self._added_to_curve(run, self._curve, marks, waiting))
                return
            self._is_new_bar = True
        told = self._told_ahead(run)
        if told is None:
            self._keep_figures(run, metrics.pool_balance(account, account.pool_of(run.currency)))
        else:
            self._keep(Figures(account.version, None, *told, *self._valued(told.equity)))

    def _told_ahead(self, run: BrokerSession) -> BarEquity | None:
        """Return the figures of this calm bar where they were worked out ahead; where they are read in every bar, look ahead."""
        calm, ahead = run.calm, self._ahead
        is_read_on, self._read_at = self._read_at == self._bars - 1, self._bars
        if not (is_read_on and calm.marks_are_kept and self._bars > calm.since + 1):
            return None
        bars = FEWEST
        if ahead is not None and ahead.calm is calm:
            told = ahead.told(self._bars)
            if told is not None or ahead.is_empty:
                return told
            bars = min(2 * ahead.bars, MOST)
        account = run.account
        self._ahead = PrecomputedEquity(account, account.pool_of(run.currency), calm, self._bars, bars)
        return self._ahead.told(self._bars)

    def _added_to_curve(
        self, run: BrokerSession, curve: Curve, marks: list[tuple[Book, list[float]]], bars: int
    ) -> metrics.PoolBalance:
        """Work the figures of calm bars out at once: the engine's own sums, over arrays of marks. Return the last bar's."""
        account = run.account
        currency = account.pool_of(run.currency)
        whole = totals_over(account, currency, marks) if bars > FEW else None
        if whole is not None:
            curve.extend(whole, bars)
            last: Any = [float(one[-1]) if isinstance(one, np.ndarray) else one for one in whole]
            return metrics.PoolBalance(*last)
        for n in range(bars):
            for book, values in marks:
                book.set_mark(values[n])
            totals = metrics.pool_balance(account, currency)
            curve.append(totals)
        return totals  # the marks stand at the last bar's again

    def _keep_figures(self, run: BrokerSession, totals: metrics.PoolBalance) -> None:
        self._keep(self._figures_of(run, totals))

    def _figures_of(self, run: BrokerSession, totals: metrics.PoolBalance) -> Figures:
        equity = totals.equity if run.is_one_pool else metrics.total_equity(run.account)
        version, used, free = run.account.version, totals.margin_used, totals.free_margin
        return Figures(version, totals, equity, used, free, *self._valued(equity))

    def _valued(self, equity: float) -> tuple[float, float]:
        """Return what the account is worth to backtrader, and a share of its fund."""
        value = max(equity, VALUE_FLOOR)
        return value, value / self._fundshares

    def _keep(self, figures: Figures) -> None:
        self._kept = figures
        if self._curve is not None and self._is_new_bar:
            self._curve.append(figures)
        elif self._curve is not None and self._curve.equity:
            self._curve.replace(figures)
        self._is_new_bar = False
