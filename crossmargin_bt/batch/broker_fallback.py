# SPDX-License-Identifier: GPL-3.0-or-later
"""Fallback of the compiled loop: a short run of backtrader and the broker that continues from an account's state."""

import math
from collections.abc import Sequence
from typing import Any

import backtrader as bt
import numpy as np

from crossmargin_bt import feeds
from crossmargin_bt.batch.layout import UNCHANGED, OrderSchedule, PositionArrays, RestingOrder
from crossmargin_bt.broker import CrossMarginBroker
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.position_lots import PositionLot
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.cerebro import Cerebro
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.position import LegId
from crossmargin_bt.engine.margin.modes import MODES


class AccountState:
    """State of an account at the end of a bar, and the counts of the run that led to it.

    Args:
        balance: balance in the settle currency.
        held: positions, and thresholds that have acted.
        sums: running totals of fees, funding and bad debt, in the settle currency.
        orders: resting limit orders in order of arrival.
        step: the shortest interval between two bars so far, in days and in milliseconds.
    """

    def __init__(
        self,
        balance: float,
        held: PositionArrays,
        sums: dict[str, float],
        *,
        orders: Sequence[RestingOrder] = (),
        step: tuple[float, int] = (math.inf, 0),
    ) -> None:
        self.step = step
        self.balance, self.held, self.sums, self.orders = balance, held, sums, orders
        self.fills = self.refused = self.warnings = self.liquidations = 0
        self.curve: list[float] = []
        self.is_at_rest = True
        """Whether no action of the venue is pending, and all resting orders are plain limit orders of the schedule."""


class TargetStrategy(bt.Strategy):
    """Sends market orders towards target positions, and places limit orders, as an `OrderSchedule` says."""

    params = (("schedule", None), ("state", None), ("is_last", True))

    def start(self) -> None:
        """Make the broker record the equity of every bar."""
        self.broker.keep_curve()
        self.placed: dict[tuple[int, int], Any] = {}
        """Resting limit orders by (instrument, slot)."""

    def next(self) -> None:
        """Send the orders of the bar.

        The first bar restores the account's state. The last bar sends no orders unless it is the last of the data: the next run
        begins with it.
        """
        at = len(self) - 1
        if not at and self.p.state is not None:
            restore(self.broker, self, self.p.state)
        if at + 1 == len(self.p.schedule.targets) and not self.p.is_last:
            return
        limits = self.p.schedule.limit_orders
        changed = [] if limits is None else np.argwhere(limits.lots[at] != UNCHANGED).tolist()
        for instrument, slot in changed:
            if (instrument, slot) in self.placed:
                self.cancel(self.placed.pop((instrument, slot)))
        for data, target in zip(self.datas, self.p.schedule.targets[at].tolist(), strict=True):
            if not math.isnan(target):
                self.order_target_size(data=data, target=target)
        for instrument, slot in changed:
            lots, price = int(limits.lots[at, instrument, slot]), float(limits.prices[at, instrument, slot])
            if lots:
                self.placed[instrument, slot] = self._place(self.datas[instrument], lots, price)

    def _place(self, data: Any, lots: int, price: float) -> Any:
        """Place a limit order of signed lots."""
        size = self.broker.bar_engine.session.books[data].instrument.size(abs(lots))
        order = self.buy if lots > 0 else self.sell
        return order(data=data, size=size, exectype=bt.Order.Limit, price=price)

    def resting(self) -> list[RestingOrder]:
        """Return the resting limit orders in order of arrival."""
        run = self.broker.bar_engine.session
        place_of = {order.ref: place for place, order in self.placed.items()}
        orders = []
        for order in self.broker.pending:
            if order.alive() and order.ref in place_of:
                open_order = run.books[order.data].orders[run.number(order)]
                orders.append(RestingOrder(*place_of[order.ref], open_order.lots, open_order.covered, open_order.price))
        return orders


def restore(broker: CrossMarginBroker, owner: TargetStrategy, state: AccountState) -> None:
    """Restore an account's state in a new broker."""
    engine = broker.bar_engine
    session = engine.session
    session.step_days, session.bar_ms = state.step
    held = {
        data: (int(lots), float(entry), float(margin))
        for data, lots, entry, margin in zip(session.books, *state.held[:3], strict=False)
        if lots
    }
    session.record(
        events.AccountRestored(
            time_ms=session.time_ms,
            currency=session.currency,
            balance=state.balance,
            sums=state.sums,
            legs={str(LegId(session.books[data].instrument.symbol, "net")): leg for data, leg in held.items()},
        )
    )
    for data, (lots, entry, _) in held.items():
        session.position_lots.add(data, "net", PositionLot(owner, 0, lots, entry), session.books[data].instrument)
        engine.executor.sync_backtrader_position(data)
    for order in state.orders:
        owner.placed[order.instrument, order.slot] = _let_rest(broker, owner, order)
    engine.monitor.restore(dict(zip(pool_names(session), map(int, state.held.acted), strict=False)))
    engine.invalidate()


def _let_rest(broker: CrossMarginBroker, owner: TargetStrategy, order: RestingOrder) -> Any:
    """Restore a limit order as one that has already rested for a bar; return backtrader's order."""
    engine, data = broker.bar_engine, owner.datas[order.instrument]
    session = engine.session
    given = {"price": order.price, "exectype": bt.Order.Limit}
    size = session.books[data].instrument.size(abs(order.lots))
    entered = bt_orders.new_order(owner, data, size, given, buys=order.lots > 0)
    entered.addinfo(covered=order.covered)
    broker._ocoize(entered, None)
    for step in (entered.submit, entered.accept):
        step(broker)
    broker.pending.append(entered)
    broker.pending.let_rest(entered, session.feeds[data])
    engine.orders.place(entered)
    return entered


def pool_names(run: BrokerSession) -> list[str]:
    """Return the names of the pools in the order of `PositionArrays.acted`."""
    isolated = [f"{book.instrument.symbol}:net" for book in run.books.values() if MODES[book.margin_mode].ISOLATED]
    return isolated or [run.currency]


def run_with_broker(
    frames: list[Any],
    schedule: OrderSchedule,
    state: AccountState | None,
    settings: dict[str, Any],
    *,
    is_last: bool = True,
) -> AccountState:
    """Run the broker over a range of bars and return the account's state after the last one.

    Args:
        frames: (symbol, frame, instrument) of every feed; frames may have mark price and `funding_rate` columns. The first bar has
            already been processed for an account with a state.
        schedule: orders at the end of these bars.
        state: the account's state at the end of the first bar; None for a new account.
        settings: keyword arguments of the broker.
        is_last: whether the data end with these bars.
    """
    cerebro = Cerebro(stdstats=False)
    for symbol, frame, instrument in frames:
        cerebro.adddata(feeds.from_frame(frame, name=symbol, instrument=instrument))
    broker = CrossMarginBroker(**settings)
    cerebro.setbroker(broker)
    cerebro.addstrategy(TargetStrategy, schedule=schedule, state=state, is_last=is_last)
    (strategy,) = cerebro.run()
    return _state_after(broker, strategy)


def _state_after(broker: CrossMarginBroker, strategy: TargetStrategy) -> AccountState:
    """Return the state of the account at the end of a run, with the run's counts and equity curve."""
    engine = broker.bar_engine
    run = engine.session
    account = run.account
    legs = [book.leg("net") for book in run.books.values()]
    sums = {kind: account.sums.get((kind, run.currency), 0.0) for kind in ("fees", "funding", "bad_debt")}
    acted = [engine.monitor.acted(name) for name in pool_names(run)]
    held = PositionArrays(
        [leg.lots for leg in legs],
        [leg.entry for leg in legs],
        [leg.margin for leg in legs],
        acted + [0] * (len(legs) - len(acted)),
    )
    ended = AccountState(account.balances[run.currency], held, sums, orders=strategy.resting())
    ended.fills, ended.refused = broker.fills, broker.refused
    ended.warnings = sum(isinstance(event, events.RiskState) and event.state == "warning" for event in broker.journal)
    ended.liquidations = sum(isinstance(event, events.Liquidated) for event in broker.journal)
    ended.curve = list(broker.curve.equity)
    alive = [order for order in broker.pending if order.alive()]
    is_known = len(alive) == len(ended.orders) and not any(map(bt_orders.reduces_only, alive))
    ended.is_at_rest = engine.monitor.is_settled and is_known
    return ended
