# SPDX-License-Identifier: GPL-3.0-or-later
"""Quiet bars that the loop runs without calling the broker: a strategy's actions in them have the same effect as under backtrader."""

import contextlib
import random
from typing import Any

import backtrader as bt
import pytest
from compared import frame_of
from random_trader import seeds

import crossmargin_bt as cm

BARS = 400


class OnPurposeError(Exception):
    """Raised on purpose to end a run."""


class Fidgeting(bt.Strategy):
    """Trades twice, and performs the given actions in the given bars."""

    params = (("does", {}),)

    def __init__(self) -> None:
        self.told: list[Any] = []

    def next(self) -> None:
        self.told.append((len(self), self.data.close[0], self.data1.datetime[0]))
        if len(self) in (10, 200):
            self.buy(size=0.01)
        if len(self) in self.p.does:
            self.told.append(ACTIONS[self.p.does[len(self)]](self))

    def later(self) -> None:
        self.told.append(("later", len(self), self.broker.bars))
        if len(self) % 50 == 0:
            del self.next

    def notify_order(self, order: Any) -> None:
        self.told.append((len(self), order.ref - self.first_ref(order), order.status))

    def first_ref(self, order: Any) -> int:
        """Return the reference of the first order: references count over all runs of a process."""
        self.__dict__.setdefault("first", order.ref)
        return int(self.first)


def hears(name: str) -> Any:
    """Return an action that assigns a notification method."""
    return lambda self: setattr(self, name, lambda *heard: self.told.append((name, *heard)))


def raises(self: Any) -> None:
    """End the run."""
    raise OnPurposeError


ACTIONS: dict[str, Any] = {
    "counts bars": lambda self: self.broker.bars,
    "reads the value": lambda self: (self.broker.getvalue(), self.broker.getcash(), self.broker.margin_level),
    "holds the account": lambda self: sorted(self.broker.account.books),
    "orders": lambda self: self.sell(data=self.data1, size=0.02).size,
    "rests an order": lambda self: self.buy(size=0.01, exectype=bt.Order.Limit, price=self.data.close[0] * 0.99).size,
    "pays in": lambda self: self.broker.add_cash(5.0),
    "takes out": lambda self: self.broker.add_cash(-5.0),
    "sets leverage": lambda self: self.broker.set_leverage(self.data, 3.0),
    "another next": lambda self: setattr(self, "next", self.later),
    "hears of cash": hears("notify_cashvalue"),
    "hears of the fund": hears("notify_fund"),
    "stops": lambda self: self.env.runstop(),
    "raises": raises,
}


def ran(kind: Any, does: dict[int, str]) -> Any:
    """Return the record of a strategy, and the journal, curve and figures of its run."""
    cerebro = kind(stdstats=False)
    for n, name in enumerate("AB"):
        contract = cm.Instrument(symbol=name, lot=0.001)
        cerebro.adddata(cm.feeds.from_frame(frame_of(n, BARS), name=name, instrument=contract))
    broker = cm.CrossMarginBroker(cash=1000.0, leverage=5.0)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Fidgeting, does=does)
    cerebro.addanalyzer(cm.Recorder, detail=False)
    with contextlib.suppress(OnPurposeError):
        cerebro.run()
    (strategy,) = cerebro.runningstrats
    curve = broker.curve
    lists = (curve.equity.tobytes(), curve.margin_used.tobytes(), curve.free_margin.tobytes())
    return (
        strategy.told,
        [repr(entry) for entry in broker.journal],
        lists,
        broker.bars,
        broker.getvalue(),
        len(strategy),
    )


def compare(does: dict[int, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Assert that a run equals the one under backtrader's loop; return the number of bars without a call of the broker."""
    asked = [0]
    step = cm.CrossMarginBroker.next

    def counted(self: Any) -> None:
        asked[0] += 1
        step(self)

    theirs = ran(bt.Cerebro, does)
    with monkeypatch.context() as patch:
        patch.setattr(cm.CrossMarginBroker, "next", counted)
        ours = ran(cm.Cerebro, does)
    assert ours == theirs
    return int(ours[3]) - asked[0]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_in_a_quiet_bar_has_the_same_effect(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every action, the bars before it are run without calling the broker."""
    assert compare({150: action}, monkeypatch) > 80


@pytest.mark.parametrize("seed", seeds(15, 40))
def test_many_actions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several actions, in bars close together and far apart."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    bars = dice.sample(range(1, BARS + 1), 12) + [at + step for at in dice.sample(range(20, 380), 3) for step in (0, 1)]
    names = [name for name in ACTIONS if name not in ("stops", "raises")]
    does = {bar: dice.choice(names) for bar in sorted(bars)}
    does[dice.randrange(300, 420)] = dice.choice(("stops", "raises", "orders"))
    assert compare(does, monkeypatch) > 0


def test_the_last_bars() -> None:
    """The last bar is delivered as backtrader delivers it."""
    for bar in (BARS - 2, BARS - 1, BARS):
        assert ran(cm.Cerebro, {bar: "orders"}) == ran(bt.Cerebro, {bar: "orders"})


def test_a_brokers_own_next_is_called_in_every_bar() -> None:
    """For a subclass, and for an instance with an assigned `next`."""

    class Counting(cm.CrossMarginBroker):
        asked = 0

        def next(self) -> None:
            self.asked += 1
            super().next()

    def given_another() -> Any:
        broker = cm.CrossMarginBroker(cash=1000.0)
        broker.asked, its_own = 0, broker.next

        def counted() -> None:
            broker.asked += 1
            its_own()

        broker.next = counted
        return broker

    for broker in (Counting(cash=1000.0), given_another()):
        cerebro = cm.Cerebro(stdstats=False)
        cerebro.adddata(cm.feeds.from_frame(frame_of(1, 60), name="A", instrument=cm.Instrument(symbol="A", lot=0.001)))
        cerebro.setbroker(broker)
        cerebro.addstrategy(bt.Strategy)
        cerebro.run()
        assert broker.asked == broker.bars == 60


@pytest.mark.parametrize("since", [0, 30])
@pytest.mark.parametrize("kind", [bt.Cerebro, cm.Cerebro])
def test_a_curve_held_by_a_strategy_grows_with_the_run(kind: Any, since: int) -> None:
    """A reference to the curve or one of its arrays is extended at the end of each bar."""
    lengths: list[tuple[int, int]] = []

    class Keeper(bt.Strategy):
        def start(self) -> None:
            self.broker.keep_curve()
            self.curve = None

        def prenext(self) -> None:
            self.next()

        def next(self) -> None:
            if len(self) == max(since, 1):
                self.curve = self.broker.curve
                self.equity = self.curve.equity
            if self.curve is not None:
                lengths.append((len(self.curve.equity), len(self.equity)))

    cerebro = kind(stdstats=False)
    cerebro.adddata(cm.feeds.from_frame(frame_of(1, 60), name="A", instrument=cm.Instrument(symbol="A", lot=0.001)))
    cerebro.setbroker(cm.CrossMarginBroker(cash=1000.0))
    cerebro.addstrategy(Keeper)
    cerebro.run()
    assert lengths == [(bar, bar) for bar in range(max(since, 1), 61)]
