# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars that the broker works through for an account of a batch: a short run of backtrader from where the account stands."""

from typing import Any

import backtrader as bt

from crossmargin_bt import feeds
from crossmargin_bt.batch.layout import LEAVE, Held
from crossmargin_bt.broker import CrossMarginBroker, execution
from crossmargin_bt.broker.run import Owned
from crossmargin_bt.cerebro import Cerebro
from crossmargin_bt.engine import events
from crossmargin_bt.engine.modes import MODES
from crossmargin_bt.engine.position import Position


class State:
    """Where an account stands at the end of a bar, and what has happened on the way."""

    def __init__(self, balance: float, held: Held, sums: dict[str, float]) -> None:
        self.balance, self.held, self.sums = balance, held, sums
        self.fills = self.refused = self.warnings = self.liquidations = 0
        self.curve: list[float] = []
        self.is_at_rest = True


class Follower(bt.Strategy):
    """Trades towards targets in lots, at market, whenever they differ from what is held."""

    params = (("wanted", None), ("state", None))

    def start(self) -> None:
        """Let the broker keep the equity of every bar."""
        self.broker.keep_curve()

    def next(self) -> None:
        """Order what is missing; the last bar is left to whoever goes on from it."""
        at = len(self) - 1
        if not at and self.p.state is not None:
            resume(self.broker, self, self.p.state)
        if at + 1 == len(self.p.wanted):
            return
        for data, wanted in zip(self.datas, self.p.wanted[at], strict=True):
            book = self.broker.account.books[data._name]
            lots = 0 if wanted == LEAVE else int(wanted) - book.leg("net").lots
            if lots:
                order = self.buy if lots > 0 else self.sell
                order(data=data, size=book.instrument.size(abs(lots)))


def resume(broker: Any, owner: Any, state: State) -> None:
    """Put an account where a state says it stands."""
    run = broker._run
    account = run.account
    account.balances[run.currency] = state.balance
    for kind, amount in state.sums.items():
        account.sums[kind, run.currency] = amount
    for n, (data, book) in enumerate(run.books.items()):
        if state.held.lots[n]:
            lots, entry = int(state.held.lots[n]), float(state.held.entry[n])
            book.legs["net"] = Position(lots, entry, float(state.held.margin[n]))
            run.attribution.add(data, "net", Owned(owner, 0, lots, entry), book.instrument)
            execution.mirror(broker, run, data)
    run.watch.resume(dict(zip(pool_names(run), map(int, state.held.acted), strict=False)))
    # No entry tells of this: what was found out about the account before is about another one.
    account.version += 1
    account.risk_version += 1
    run.calm = None


def pool_names(run: Any) -> list[str]:
    """Return the names of the pools as `Held` counts them."""
    isolated = [f"{book.instrument.symbol}:net" for book in run.books.values() if MODES[book.margin_mode].ISOLATED]
    return isolated or [run.currency]


def work_through(frames: list[Any], wanted: Any, state: State | None, settings: dict[str, Any]) -> State:
    """Return where the account stands after the last of these bars, the first of which it has already seen.

    Args:
        frames: (symbol, frame, instrument) of every feed, frames with mark and `funding_rate` columns where there are any.
        wanted: shape (bars, instruments), lots.
        state: where it stands at the end of the first bar; None for an account that begins.
        settings: of the broker.
    """
    cerebro = Cerebro(stdstats=False)
    for symbol, frame, instrument in frames:
        cerebro.adddata(feeds.from_frame(frame, name=symbol, instrument=instrument))
    broker = CrossMarginBroker(**settings)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Follower, wanted=wanted, state=state)
    cerebro.run()
    run: Any = broker._run
    account = run.account
    legs = [book.leg("net") for book in run.books.values()]
    sums = {kind: account.sums.get((kind, run.currency), 0.0) for kind in ("fees", "funding", "bad_debt")}
    acted = [run.watch.acted(name) for name in pool_names(run)]
    held = Held(
        [leg.lots for leg in legs],
        [leg.entry for leg in legs],
        [leg.margin for leg in legs],
        acted + [0] * (len(legs) - len(acted)),
    )
    ended = State(account.balances[run.currency], held, sums)
    ended.fills, ended.refused = broker.fills, broker.refused
    ended.warnings = sum(isinstance(event, events.RiskState) and event.state == "warning" for event in broker.journal)
    ended.liquidations = sum(isinstance(event, events.Liquidated) for event in broker.journal)
    ended.curve = list(broker.curve.equity)
    ended.is_at_rest = run.watch.is_settled and not any(order.alive() for order in broker.pending)
    return ended
