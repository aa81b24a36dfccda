# SPDX-License-Identifier: GPL-3.0-or-later
"""All that happens to a margin account in one bar, in its order; complete without any shortcut.

`BarEngine` is the interface that the broker drives. `ReferenceEngine` is the whole of it. `crossmargin_bt.broker.skip` has an
engine around it that proves most bars uneventful and passes them, with the same results to the last bit.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from crossmargin_bt.broker.bar.intrabar_sequence import IntrabarSimulator
from crossmargin_bt.broker.bar.risk_monitor import RiskMonitor
from crossmargin_bt.broker.bar.screen import EventScreen, NoScreen
from crossmargin_bt.broker.orders.execution import OrderExecutor
from crossmargin_bt.broker.orders.order_manager import OrderManager
from crossmargin_bt.broker.orders.pre_trade_checks import PreTradeChecks
from crossmargin_bt.broker.session.account_snapshot import VALUE_MIN, AccountSnapshot, EquityCurve
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.order_queue import OrderQueue
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission import settings_changes
from crossmargin_bt.engine.admission.order_admission import ExactAdmission
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.math.tolerances import fits
from crossmargin_bt.protocols import QuietBars


class BarEngine(Protocol):
    """What the broker asks of a margin account, bar by bar and between bars."""

    session: BrokerSession
    orders: OrderManager
    executor: OrderExecutor
    monitor: RiskMonitor
    checks: PreTradeChecks
    is_behind: bool
    """Whether bars have passed that the session has not seen; `sync` brings it up to the last."""
    unsettled_bars: int
    """How many bars passed whose snapshot has not been taken; 0 where every bar takes its own."""

    @property
    def bars(self) -> int:
        """The number of bars of this run so far."""
        ...

    @property
    def keeps_curve(self) -> bool:
        """Whether the snapshots of every bar are kept."""
        ...

    def start(self, deposits: Mapping[str, float]) -> None:
        """Begin the run once the feeds are listed and the cash is paid in.

        `deposits` are the coins paid in beside the cash, which count as paid in once their feeds have a price.
        """
        ...

    def process(self) -> None:
        """Process the bar that the feeds have just delivered."""
        ...

    def unseen(self) -> QuietBars | None:
        """Return the bars ahead that may pass without a call of `process`; None where there are none."""
        ...

    def count_run_through(self) -> None:
        """Count the bars that passed without a call of `process`."""
        ...

    def sync(self) -> None:
        """Bring the session up to the last bar delivered."""
        ...

    def settle(self) -> None:
        """Bring the session and the snapshot up to the last bar delivered."""
        ...

    def refresh(self) -> None:
        """Take in cash paid in or out, and take the snapshot of the bar anew."""
        ...

    def invalidate(self) -> None:
        """Process the next bar in full: something other than a journal entry has changed the run."""
        ...

    def account(self) -> Account:
        """Return the account for a caller who may keep it and read it at any later moment of the run."""
        ...

    def keep_curve(self) -> None:
        """Keep the snapshots of every bar from now on."""
        ...

    def curve(self) -> EquityCurve:
        """Return the snapshots since `keep_curve`; an instance that is kept goes on with the run."""
        ...


class ReferenceEngine:
    """Processes every bar in full."""

    is_behind = False
    """Whether bars have passed that the session has not seen; never here."""

    def __init__(
        self,
        host: BrokerHost,
        session: BrokerSession,
        queue: OrderQueue | None = None,
        new_admission: Callable[..., ExactAdmission] | None = None,
    ) -> None:
        """Begin a run; a queue that sorts its orders, and another way to admit them, may be given."""
        self._host, self.session = host, session
        self._new_admission = self._exact_admission if new_admission is None else new_admission
        host.pending = OrderQueue() if queue is None else queue
        self.orders = OrderManager(host, session, self._new_admission)
        self.executor = OrderExecutor(host, session, self.orders)
        self.screen: EventScreen = NoScreen()
        self.bars = 0
        self.unsettled_bars = 0
        self.kept_curve: EquityCurve | None = None
        self.is_new_bar = False
        """Whether the bar's snapshot has not been taken yet."""
        self.unvalued: dict[str, float] = {}
        """Coins paid in at the start whose feeds have no price yet."""

    @property
    def keeps_curve(self) -> bool:
        """Whether the snapshots of every bar are kept."""
        return self.kept_curve is not None

    def start(self, deposits: Mapping[str, float]) -> None:
        """Begin the run once the feeds are listed and the cash is paid in."""
        host, session = self._host, self.session
        self.unvalued = dict(deposits)
        self.monitor = RiskMonitor(host, session, self.orders, self.executor)
        session.is_preloaded = bool(host.cerebro._dopreload)
        session.on_rules_changed = self.monitor.adopt_rules
        self.executor.record_forced = self.monitor.record
        self.simulator = IntrabarSimulator(host, session, self.orders, self.executor, self.monitor)
        add_to_reserve = self.monitor.add_to_reserve
        self.checks = PreTradeChecks(host, session, self.orders, guards=host.p.guards, add_to_reserve=add_to_reserve)
        self.orders.checks = self.checks if host.p.guards else None

    def process(self) -> None:
        """Process the bar that the feeds have just delivered."""
        self.bars += 1
        bars = self.process_events()
        if bars is not None:
            self.close_bar(bars)

    def process_events(self) -> list[Bar] | None:
        """Process orders, funding, fills and liquidations of a bar; None where a liquidation ends the run instead."""
        session = self.session
        self.is_new_bar = True
        if session.closed_out and not self._goes_on_after_close_out():
            return None
        session.journal.pack()
        bars = session.new_bars()
        if self._host._toactivate:
            self.orders.activate_children()
        self.orders.admit_submitted()
        if self._host._userhist:
            self._host._process_order_history()
        self.simulator.process_bar(bars, self.screen, self._new_admission)
        session.scale_rates(bars)
        return bars

    def close_bar(self, bars: list[Bar]) -> None:
        """Take the bar's snapshot, let guards act on it, and notify the strategies."""
        self.refresh()
        self.checks.end_bar(bars)
        if self.session.pending_notifications:
            self._notify_strategies()

    def unseen(self) -> None:
        """Return None: every bar is processed."""

    def count_run_through(self) -> None:
        """Do nothing: every bar is processed."""

    def sync(self) -> None:
        """Do nothing: the session is never behind."""

    def settle(self) -> None:
        """Do nothing: every bar is settled."""

    def refresh(self) -> None:
        """Take in cash paid in or out, and take the snapshot of the bar anew."""
        session = self.session
        account, currency = session.account, session.currency
        additions = self._host._cash_addition
        while additions:
            self._transfer(float(additions.popleft()))
        balance = metrics.pool_balance(account, account.pool_of(currency))
        self._count_valued_deposits()
        version = account.version
        self.monitor.end_bar(balance)
        if account.version != version:  # risk control has cancelled orders
            balance = metrics.pool_balance(account, account.pool_of(currency))
        self.keep(self.snapshot_of(balance))

    def _transfer(self, amount: float) -> None:
        """Pay an amount of the account's currency in, or out where it is negative and withdrawable."""
        session = self.session
        account, currency = session.account, session.currency
        available = settings_changes.withdrawable(account, currency)
        if not fits(-amount, available):
            session.record(
                events.WithdrawalRefused(
                    time_ms=session.time_ms, currency=currency, amount=-amount, available=available
                )
            )
            return
        self._host.count_paid_in(amount)
        session.record(events.CashTransferred(time_ms=session.time_ms, currency=currency, amount=amount))

    def invalidate(self) -> None:
        """Do nothing: every bar is processed in full."""

    def account(self) -> Account:
        """Return the account."""
        return self.session.account

    def keep_curve(self) -> None:
        """Keep the snapshots of every bar from now on."""
        if self.kept_curve is None:
            self.kept_curve = EquityCurve(self.bars)

    def curve(self) -> EquityCurve:
        """Return the snapshots since `keep_curve`."""
        return EquityCurve() if self.kept_curve is None else self.kept_curve

    # Snapshots

    def snapshot_of(self, balance: metrics.PoolBalance) -> AccountSnapshot:
        """Return the snapshot of an account whose main pool has this balance."""
        session = self.session
        equity = balance.equity if session.is_one_pool else metrics.total_equity(session.account)
        used, free = balance.margin_used, balance.free_margin
        value = max(equity, VALUE_MIN)
        fund_value = value / self._host._fundshares
        return AccountSnapshot(session.account.version, balance, equity, used, free, value, fund_value)

    def keep(self, snapshot: AccountSnapshot) -> None:
        """Make a snapshot the bar's own, in the curve too."""
        self.session.snapshot = snapshot
        curve = self.kept_curve
        if curve is not None and self.is_new_bar:
            curve.append(snapshot)
        elif curve is not None and curve.equity:
            curve.replace_last(snapshot)
        self.is_new_bar = False

    # After a close-out, and notifications

    def _goes_on_after_close_out(self) -> bool:
        """Do what follows a close-out, once its bar has been seen by every listener; return whether the run goes on."""
        host = self._host
        self.session.closed_out = False
        if host.p.on_liquidation == "stop":
            host.cerebro.runstop()
            return False
        if host.p.on_liquidation == "refill":
            assert self.session.snapshot is not None
            missing = host.p.cash - self.session.snapshot.equity
            if missing > 0:
                host._cash_addition.append(missing)
                self.refresh()
        return True

    def _notify_strategies(self) -> None:
        """Notify the strategies of the venue's actions: `notify_margin(event)`, and the channel of store notifications."""
        cerebro = self._host.cerebro
        pending, self.session.pending_notifications = self.session.pending_notifications, []
        for event in pending:
            cerebro._notify_store("margin", event)
            for strategy in cerebro.runningstrats:
                strategy.notify_store("margin", event)
                if hasattr(strategy, "notify_margin"):
                    strategy.notify_margin(event)

    def _count_valued_deposits(self) -> None:
        """Count coins that were paid in at the start as paid in, once their feeds have a price."""
        for currency in list(self.unvalued):
            price = self.session.account.price(currency)
            if price:
                amount = self.unvalued.pop(currency) * price
                self._host.count_paid_in(amount)
                self._host.startingcash += amount

    # Admission

    def _exact_admission(self, *, at_close: bool) -> ExactAdmission:  # noqa: ARG002 - bounded admission needs to know
        return ExactAdmission(self.session.account)
