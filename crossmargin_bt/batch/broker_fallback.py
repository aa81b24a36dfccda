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
from crossmargin_bt.broker.orders import execution
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.session import PositionLot
from crossmargin_bt.cerebro import Cerebro
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.position import Position
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
        size = self.broker._run.books[data].instrument.size(abs(lots))
        order = self.buy if lots > 0 else self.sell
        return order(data=data, size=size, exectype=bt.Order.Limit, price=price)

    def resting(self) -> list[RestingOrder]:
        """Return the resting limit orders in order of arrival."""
        run = self.broker._run
        place_of = {order.ref: place for place, order in self.placed.items()}
        orders = []
        for order in self.broker.pending:
            if order.alive() and order.ref in place_of:
                open_order = run.books[order.data].orders[run.number(order)]
                orders.append(RestingOrder(*place_of[order.ref], open_order.lots, open_order.covered, open_order.price))
        return orders


def restore(broker: Any, owner: TargetStrategy, state: AccountState) -> None:
    """Restore an account's state in a new broker."""
    run = broker._run
    account = run.account
    run.before_change()
    run.step_days, run.bar_ms = state.step
    account.balances[run.currency] = state.balance
    for kind, amount in state.sums.items():
        account.sums[kind, run.currency] = amount
    for n, (data, book) in enumerate(run.books.items()):
        if state.held.lots[n]:
            lots, entry = int(state.held.lots[n]), float(state.held.entry[n])
            book.legs["net"] = Position(lots, entry, float(state.held.margin[n]))
            run.attribution.add(data, "net", PositionLot(owner, 0, lots, entry), book.instrument)
            execution.mirror(broker, run, data)
    for order in state.orders:
        owner.placed[order.instrument, order.slot] = _let_rest(broker, owner, order)
    run.watch.resume(dict(zip(pool_names(run), map(int, state.held.acted), strict=False)))
    # No entry tells of this: what was found out about the account before is about another one.
    account.version += 1
    account.risk_version += 1
    run.calm = None


def _let_rest(broker: Any, owner: TargetStrategy, order: RestingOrder) -> Any:
    """Restore a limit order as one that has already rested for a bar; return backtrader's order."""
    run, data = broker._run, owner.datas[order.instrument]
    book = run.books[data]
    given = {"price": order.price, "exectype": bt.Order.Limit}
    entered = bt_orders.entered(owner, data, book.instrument.size(abs(order.lots)), given, buys=order.lots > 0)
    entered.addinfo(covered=order.covered)
    broker._ocoize(entered, None)
    for step in (entered.submit, entered.accept):
        step(broker)
    broker.pending.append(entered)
    broker.pending.let_rest(entered, run.feeds[data])
    resting = broker._as_resting(run, entered)
    book.orders[resting.number] = resting
    return entered


def pool_names(run: Any) -> list[str]:
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


def _state_after(broker: Any, strategy: TargetStrategy) -> AccountState:
    """Return the state of the account at the end of a run, with the run's counts and equity curve."""
    run = broker._run
    account = run.account
    legs = [book.leg("net") for book in run.books.values()]
    sums = {kind: account.sums.get((kind, run.currency), 0.0) for kind in ("fees", "funding", "bad_debt")}
    acted = [run.watch.acted(name) for name in pool_names(run)]
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
    is_known = len(alive) == len(ended.orders) and not any(map(execution.reduces_only, alive))
    ended.is_at_rest = run.watch.is_settled and is_known
    return ended
