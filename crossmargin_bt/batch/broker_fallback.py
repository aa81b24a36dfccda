# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars that the broker works through for an account of a batch: a short run of backtrader from where the account stands."""

import math
from collections.abc import Sequence
from typing import Any

import backtrader as bt
import numpy as np

from crossmargin_bt import feeds
from crossmargin_bt.batch.layout import LEAVE, Held, LimitOrder, Wanted
from crossmargin_bt.broker import CrossMarginBroker
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.position_lots import PositionLot
from crossmargin_bt.cerebro import Cerebro
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.position import LegId
from crossmargin_bt.engine.margin.modes import MODES


class State:
    """Where an account stands at the end of a bar, and what has happened on the way."""

    def __init__(
        self,
        balance: float,
        held: Held,
        sums: dict[str, float],
        resting: Sequence[LimitOrder] = (),
        step: tuple[float, int] = (math.inf, 0),
    ) -> None:
        self.step = step
        self.balance, self.held, self.sums, self.orders = balance, held, sums, resting
        self.fills = self.refused = self.warnings = self.liquidations = 0
        self.curve: list[float] = []
        self.is_at_rest = True


class Follower(bt.Strategy):
    """Trades towards targets, at market, whenever they differ from what is held, and places limit orders."""

    params = (("wanted", None), ("state", None), ("is_last", True))

    def start(self) -> None:
        """Let the broker keep the equity of every bar."""
        self.broker.keep_curve()
        self.placed: dict[tuple[int, int], Any] = {}
        """By (instrument, slot)."""

    def next(self) -> None:
        """Order what is missing; unless it is the last of all, the last bar is left to whoever goes on from it."""
        at = len(self) - 1
        if not at and self.p.state is not None:
            resume(self.broker, self, self.p.state)
        if at + 1 == len(self.p.wanted.sizes) and not self.p.is_last:
            return
        quotes = self.p.wanted.quotes
        said = [] if quotes is None else np.argwhere(quotes.lots[at] != LEAVE).tolist()
        for instrument, slot in said:
            if (instrument, slot) in self.placed:
                self.cancel(self.placed.pop((instrument, slot)))
        for data, wanted in zip(self.datas, self.p.wanted.sizes[at].tolist(), strict=True):
            if not math.isnan(wanted):
                self.order_target_size(data=data, target=wanted)
        for instrument, slot in said:
            lots, price = int(quotes.lots[at, instrument, slot]), float(quotes.prices[at, instrument, slot])
            if lots:
                self.placed[instrument, slot] = self._place(self.datas[instrument], lots, price)

    def _place(self, data: Any, lots: int, price: float) -> Any:
        """Place a limit order of signed lots."""
        size = self.broker.bar_engine.session.books[data].instrument.size(abs(lots))
        order = self.buy if lots > 0 else self.sell
        return order(data=data, size=size, exectype=bt.Order.Limit, price=price)

    def resting(self) -> list[LimitOrder]:
        """Return the limit orders that are in the market, first come first."""
        run = self.broker.bar_engine.session
        by_ref = {order.ref: at for at, order in self.placed.items()}
        found = []
        for order in self.broker.pending:
            if order.alive() and order.ref in by_ref:
                kept = run.books[order.data].orders[run.number(order)]
                found.append(LimitOrder(*by_ref[order.ref], kept.lots, kept.covered, kept.price))
        return found


def resume(broker: CrossMarginBroker, owner: Follower, state: State) -> None:
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


def _let_rest(broker: CrossMarginBroker, owner: Follower, order: LimitOrder) -> Any:
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


def pool_names(run: Any) -> list[str]:
    """Return the names of the pools as `Held` counts them."""
    isolated = [f"{book.instrument.symbol}:net" for book in run.books.values() if MODES[book.margin_mode].ISOLATED]
    return isolated or [run.currency]


def work_through(
    frames: list[Any], wanted: Wanted, state: State | None, settings: dict[str, Any], *, is_last: bool = True
) -> State:
    """Return where the account stands after the last of these bars, the first of which it has already seen.

    Args:
        frames: (symbol, frame, instrument) of every feed, frames with mark and `funding_rate` columns where there are any.
        wanted: what it does at the end of these bars.
        state: where it stands at the end of the first bar; None for an account that begins.
        settings: of the broker.
        is_last: whether no bars follow.
    """
    cerebro = Cerebro(stdstats=False)
    for symbol, frame, instrument in frames:
        cerebro.adddata(feeds.from_frame(frame, name=symbol, instrument=instrument))
    broker = CrossMarginBroker(**settings)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Follower, wanted=wanted, state=state, is_last=is_last)
    (follower,) = cerebro.run()
    engine = broker.bar_engine
    run = engine.session
    account = run.account
    legs = [book.leg("net") for book in run.books.values()]
    sums = {kind: account.sums.get((kind, run.currency), 0.0) for kind in ("fees", "funding", "bad_debt")}
    acted = [engine.monitor.acted(name) for name in pool_names(run)]
    held = Held(
        [leg.lots for leg in legs],
        [leg.entry for leg in legs],
        [leg.margin for leg in legs],
        acted + [0] * (len(legs) - len(acted)),
    )
    ended = State(account.balances[run.currency], held, sums, follower.resting())
    ended.fills, ended.refused = broker.fills, broker.refused
    ended.warnings = sum(isinstance(event, events.RiskState) and event.state == "warning" for event in broker.journal)
    ended.liquidations = sum(isinstance(event, events.Liquidated) for event in broker.journal)
    ended.curve = list(broker.curve.equity)
    alive = [order for order in broker.pending if order.alive()]
    is_known = len(alive) == len(ended.orders) and not any(map(bt_orders.reduces_only, alive))
    ended.is_at_rest = engine.monitor.is_settled and is_known
    return ended
