# SPDX-License-Identifier: GPL-3.0-or-later
"""A bar engine that passes uneventful bars: the reference engine's results, to the last bit, in a fraction of the time.

Four shortcuts, each provably without effect: bars that a screen rules events out of are not simulated; quiet intervals pass
their bars one by one, or unseen where the loaded lines show they stay quiet; snapshots are evaluated when they are read; and
orders far from the limit are admitted by an upper bound of their cost.
"""

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np

from crossmargin_bt.broker.bar.reference_engine import ReferenceEngine
from crossmargin_bt.broker.session.account_snapshot import VALUE_MIN, AccountSnapshot, EquityCurve
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.admission_bound import BoundedAdmission, CostRates
from crossmargin_bt.broker.skip.lookahead import BARS_MAX, BARS_MIN, Lookahead
from crossmargin_bt.broker.skip.precomputed import BarEquity, PrecomputedEquity, balance_over
from crossmargin_bt.broker.skip.price_sorted_queue import PriceSortedQueue
from crossmargin_bt.broker.skip.quiet_interval import (
    CONSECUTIVE_READS_MAX,
    SINGLE_BARS,
    Parts,
    QuietInterval,
    find_quiet_interval,
)
from crossmargin_bt.broker.skip.screen import ORDER_ENTRIES, BoundScreen
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import metrics

# Up to this many bars are summed one by one faster than as arrays.
FEW_BARS = 3


class SkippingEngine:
    """Passes the bars in which nothing can happen, and leaves the others to the reference engine."""

    def __init__(self, host: BrokerHost, session: BrokerSession) -> None:
        queue = PriceSortedQueue()
        self._host, self.session = host, session
        self.inner = ReferenceEngine(host, session, queue, self._bounded_admission)
        self.orders, self.executor = self.inner.orders, self.inner.executor
        self._queue = queue
        self._cost_rates: CostRates = {}
        self._interval: QuietInterval | None = None
        self.is_behind = False
        """Whether bars have passed unseen: feeds and marks are behind."""
        self.unsettled_bars = 0
        self._orders_raise_risk = session.account.rules.orders_raise_risk
        self._curve_is_exposed = False
        """Whether a caller may hold the curve in mid-run, and read it at any moment."""
        self._account_is_exposed = False
        """Whether a caller may hold the account, and read it at any moment."""
        self._consecutive_reads = 0
        """How often in a row the account was read after a single bar had passed unseen."""
        self._no_skip_until_bar = 0
        self._precomputed: PrecomputedEquity | None = None
        self._read_at = 0
        """The quiet bar whose snapshot was read last."""

    @property
    def keeps_curve(self) -> bool:
        """Whether the snapshots of every bar are kept."""
        return self.inner.kept_curve is not None

    def start(self, deposits: Mapping[str, float]) -> None:
        """Begin the run once the feeds are listed and the cash is paid in."""
        self.inner.start(deposits)
        self.monitor, self.checks = self.inner.monitor, self.inner.checks
        self._screen = BoundScreen(self.session, self.monitor)
        self.inner.screen = self._screen
        self.session.before_record = self._before_record
        self.session.on_rules_changed = self._adopt_rules
        parts = (self._host, self.session, self.inner, self._queue, self._screen, Lookahead())
        self._parts = Parts(*parts)

    # The bar

    def process(self) -> None:
        """Process the bar that the feeds have just delivered, or pass it."""
        interval, host = self._interval, self._host
        if self.is_behind:
            if not host._cash_addition and interval is not None and interval.passes_unseen():
                self.inner.bars += 1
                self.unsettled_bars += 1
                return
            self.sync()
        self.inner.bars += 1
        if interval is not None and self.try_skip(interval):
            return
        if self.unsettled_bars:
            self.settle()
        bars = self.inner.process_events()
        if bars is None or self._begins_quietly():
            return
        self.inner.close_bar(bars)
        self._interval = self._find_interval(self.session.snapshot)

    def try_skip(self, interval: QuietInterval) -> bool:
        """Pass the new bar if it lies in a quiet interval and no order or cash waits for it; return whether it did."""
        host = self._host
        if host.submitted or host._toactivate or host._cash_addition:
            return False
        if interval.may_pass_unseen():
            self.unsettled_bars += 1
            self.inner.is_new_bar = False
            self.is_behind = True
            return True
        if interval.passes():
            self.unsettled_bars += 1
            self.inner.is_new_bar = False
            if self.inner.kept_curve is not None:
                self._keep_exposed_curve(interval)
            return True
        return False

    def _begins_quietly(self) -> bool:
        """Return whether a quiet interval begins after this bar that lets even the bar's own snapshot wait."""
        host, inner = self._host, self.inner
        was_refilled = not inner.is_new_bar  # the snapshot has been taken, and is to be replaced
        if was_refilled or self.session.pending_notifications or host._cash_addition:
            return False
        self._interval = interval = self._find_interval(None)
        if interval is None:
            return False
        interval.note_marks()
        self.unsettled_bars += 1
        self.inner.is_new_bar = False
        if self.inner.kept_curve is not None:
            self._keep_exposed_curve(interval)
        return True

    def _find_interval(self, snapshot: AccountSnapshot | None) -> QuietInterval | None:
        if self._host._userhist or self.inner.unvalued:
            return None
        waits = self._no_skip_until_bar - self.inner.bars
        single_bars = float("inf") if self._account_is_exposed else max(0, waits)
        balance = None if snapshot is None else snapshot.balance
        return find_quiet_interval(self._parts, single_bars=single_bars, balance=balance)

    def invalidate(self) -> None:
        """Drop every proof: the next bar is processed in full."""
        self.settle()
        self._interval = None
        self._screen.reset()

    # Between bars

    @property
    def bars(self) -> int:
        """The number of bars of this run so far."""
        if self.is_behind:
            self.count_run_through()
        return self.inner.bars

    def unseen(self) -> QuietInterval | None:
        """Return the interval whose bars may pass without a call of the broker; None where it has to be called."""
        return self._interval if self.is_behind else None

    def count_run_through(self) -> None:
        """Count the bars that the run loop has passed without calling the broker."""
        bars = 0 if self._interval is None else self._interval.count_run_through()
        self.inner.bars += bars
        self.unsettled_bars += bars

    def sync(self) -> None:
        """Bring feeds and marks up to the last bar that passed unseen."""
        if not self.is_behind:
            return
        self.is_behind = False
        interval = self._interval
        assert interval is not None
        self.count_run_through()
        behind = interval.catch_up()
        self._consecutive_reads = self._consecutive_reads + 1 if behind == 1 else 0
        if self._consecutive_reads >= CONSECUTIVE_READS_MAX:
            self._consecutive_reads, self._no_skip_until_bar = 0, self.inner.bars + SINGLE_BARS
            interval.pass_bars_one_by_one(SINGLE_BARS)

    def settle(self) -> None:
        """Bring the session and the snapshot up to the last bar delivered."""
        if self.is_behind:
            self.sync()
        waiting, self.unsettled_bars = self.unsettled_bars, 0
        if not waiting:
            return
        interval, inner, session = self._interval, self.inner, self.session
        assert interval is not None
        curve = inner.kept_curve
        if curve is not None:
            marks = interval.take_marks()
            if waiting > 1:
                session.snapshot = inner.snapshot_of(self._extend_curve(curve, marks, waiting))
                return
            inner.is_new_bar = True
        known = self._precomputed_equity(interval)
        if known is None:
            account = session.account
            inner.keep(inner.snapshot_of(metrics.pool_balance(account, account.pool_of(session.currency))))
        else:
            value = max(known.equity, VALUE_MIN)
            fund_value = value / self._host._fundshares
            inner.keep(AccountSnapshot(session.account.version, None, *known, value, fund_value))

    def refresh(self) -> None:
        """Take in cash paid in or out, and take the snapshot of the bar anew."""
        self.settle()
        self.inner.refresh()

    def account(self) -> Account:
        """Return the account for a caller who may keep it: from now on no bar passes unseen."""
        self.sync()
        self._account_is_exposed = True
        if self._interval is not None:
            self._interval.pass_bars_one_by_one(float("inf"))
        return self.session.account

    def keep_curve(self) -> None:
        """Keep the snapshots of every bar from now on."""
        if self.inner.kept_curve is None:
            self.settle()
            self.inner.keep_curve()
            self._interval = None  # the next one keeps the marks of its bars

    def curve(self) -> EquityCurve:
        """Return the snapshots since `keep_curve`; an instance that is kept goes on with the run."""
        self.settle()
        self.account()
        self._curve_is_exposed = True
        return self.inner.curve()

    # Deferred snapshots

    def _before_record(self, entry: events.JournalEntry) -> None:
        if self.unsettled_bars:
            self.settle()
        if self._orders_raise_risk or entry.__class__ not in ORDER_ENTRIES:
            self._screen.risk_version += 1

    def _adopt_rules(self) -> None:
        self.monitor.adopt_rules()
        self._orders_raise_risk = self.session.account.rules.orders_raise_risk

    def _keep_exposed_curve(self, interval: QuietInterval) -> None:
        """Do not defer a snapshot of a curve that a caller holds, or that cannot be computed over arrays."""
        if self._curve_is_exposed or not interval.is_computable:
            self.settle()

    def _precomputed_equity(self, interval: QuietInterval) -> BarEquity | None:
        """Return the figures of this quiet bar where they were precomputed; precompute where they are read in every bar."""
        bar = self.inner.bars
        precomputed = self._precomputed
        is_read_on, self._read_at = self._read_at == bar - 1, bar
        if not (is_read_on and interval.is_computable and bar > interval.since + 1):
            return None
        bars = BARS_MIN
        if precomputed is not None and precomputed.interval is interval:
            figures = precomputed.of_bar(bar)
            if figures is not None or precomputed.is_empty:
                return figures
            bars = min(2 * precomputed.bars, BARS_MAX)
        account = self.session.account
        currency = account.pool_of(self.session.currency)
        self._precomputed = PrecomputedEquity(account, currency, interval, bar, bars)
        return self._precomputed.of_bar(bar)

    def _extend_curve(self, curve: EquityCurve, marks: "list[tuple[Book, Any]]", bars: int) -> metrics.PoolBalance:
        """Add the figures of several quiet bars to the curve, as sums over arrays of marks; return the last bar's."""
        account = self.session.account
        currency = account.pool_of(self.session.currency)
        whole = balance_over(account, currency, marks) if bars > FEW_BARS else None
        if whole is not None:
            for values, added in (
                (curve.equity, whole.equity),
                (curve.margin_used, whole.margin_used),
                (curve.free_margin, whole.free_margin),
            ):
                if added.__class__ is np.ndarray:
                    values.frombytes(added.tobytes())
                else:
                    values.extend(repeat(added, bars))
            last: Any = [float(one[-1]) if one.__class__ is np.ndarray else one for one in whole]
            return metrics.PoolBalance(*last)
        for number in range(bars):
            for book, values in marks:
                book.set_mark(values[number])
            balance = metrics.pool_balance(account, currency)
            curve.append(balance)
        return balance  # the marks are at the last bar's again

    # Admission

    def _bounded_admission(self, *, at_close: bool) -> BoundedAdmission:
        """Return admission by bounds at the present marks; at the close of a bar its snapshot tells what is free."""
        account, latest = self.session.account, self.session.snapshot
        is_known = (
            at_close and latest is not None and latest.version == account.version and self.session.is_one_currency
        )
        return BoundedAdmission(account, self._cost_rates, latest.balance if is_known and latest is not None else None)
