# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that change nothing: what an order would do, what other prices would do; and legs that are named."""

from __future__ import annotations

import random

import backtrader as bt
import msgspec
import pytest
from random_trader import candles
from scripted import FLAT, PLAIN, bars, run

from crossmargin_bt import CrossMarginBroker, HedgeStrategy, Instrument, feeds
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.terms.rates import Tier, TierTable
from crossmargin_bt.errors import ConfigurationError


def test_a_preview_is_what_then_happens() -> None:
    """50 of 1,000 at 10x: 500 in use, 250 required at 0.5 %, liquidated at 80.4; asked before, read after the fill."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0)
    asked: dict = {}

    def ask(strategy) -> None:
        before = msgspec.json.encode(list(broker.journal))
        asked["one"] = broker.preview(data="BTC", size=50)
        asked["many"] = broker.preview(data=strategy.data, size=200)
        asked["limit"] = broker.preview(data="BTC", size=50, price=90.0)
        assert msgspec.json.encode(list(broker.journal)) == before
        order = strategy.buy(size=50)
        asked["order"] = broker.preview(order)

    run(broker, bars(*[FLAT] * 4), scripts=({1: ask},), instrument=PLAIN)
    one = asked["one"]
    assert one == asked["order"]._replace(locked=one.locked)
    assert one.refusal is None
    assert (one.after.free_margin, one.after.margin_used, one.after.requirement) == (500.0, 500.0, 25.0)
    assert (one.after.margin_level, one.after.leverage) == (40.0, 5.0)
    assert one.after.liquidation_prices["BTC"] == pytest.approx(4000 / 50 / 0.995)
    now = broker.what_if({})
    assert now == one.after
    assert asked["many"].refusal.needed == pytest.approx(2000.0)
    limit = asked["limit"]
    assert limit.locked == pytest.approx(450.0)
    assert limit.after.equity == pytest.approx(1500.0)


def test_the_highest_leverage_is_what_the_tiers_allow_a_stake() -> None:
    """To 10,000 at 20x, to 100,000 at 10x, beyond at 5x: where stake x leverage meets the end of a tier, it ends."""
    tiers = (
        Tier(0.0, 0.01, leverage_max=20.0),
        Tier(10_000.0, 0.02, leverage_max=10.0),
        Tier(100_000.0, 0.05, leverage_max=5.0),
    )
    contract = Instrument(symbol="BTC", lot=0.1, leverage_max=25.0, maintenance=TierTable(tiers=tiers))
    broker = CrossMarginBroker(cash=1000.0, leverage=5.0)
    asked: dict = {}

    def ask(strategy) -> None:
        for stake in (400.0, 1000.0, 15_000.0, 50_000.0):
            asked[stake] = broker.maximum_leverage(strategy.data, stake)
        for wrong, text in ((0, "stake must be above 0"), ("x", "stake must be a number")):
            with pytest.raises(ConfigurationError, match=text):
                broker.maximum_leverage("BTC", wrong)

    run(broker, bars(*[FLAT] * 4), scripts=({1: ask},), instrument=contract)
    assert asked == pytest.approx({400.0: 20.0, 1000.0: 10.0, 15_000.0: 100_000 / 15_000, 50_000.0: 5.0})
    cash = CrossMarginBroker(mode="cash", cash=1000.0)
    run(cash, bars(FLAT), scripts=({1: lambda strategy: asked.update(cash=cash.maximum_leverage(strategy.data, 1))},))
    assert asked["cash"] == 1.0


def test_what_if_prices_were_others() -> None:
    """At 90 half of the equity is gone, at 81 it is at its end; nothing of it has happened."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0)
    run(broker, bars(*[FLAT] * 4), scripts=({1: lambda s: s.buy(size=50)},), instrument=PLAIN)
    then = broker.what_if({"BTC": 90.0})
    assert (then.equity, then.requirement) == (500.0, pytest.approx(22.5))
    assert then.free_margin == pytest.approx(500.0 - 450.0)
    assert broker.what_if({"BTC": 80.0}).margin_level == 0.0
    assert broker.equity == 1000.0
    assert broker.account.books["BTC"].long_mark == 100.0
    with pytest.raises(ConfigurationError, match="no feed with an instrument; did you mean 'BTC'"):
        broker.what_if({"BTV": 1.0})
    with pytest.raises(ConfigurationError, match="must be above 0"):
        broker.what_if({"BTC": 0.0})
    with pytest.raises(ConfigurationError, match="less than one lot"):
        broker.preview(data="BTC", size=0.1)
    with pytest.raises(ConfigurationError, match="cash mode knows no margin"):
        CrossMarginBroker(mode="cash").what_if({})


class Asker(bt.Strategy):
    """Trades at random, and asks before every market order what it will do."""

    params = (("seed", 0),)

    def __init__(self) -> None:
        self.draw = random.Random(self.p.seed)  # noqa: S311 - a seeded test
        self.answers: dict[int, object] = {}
        self.refused: set[int] = set()

    def notify_order(self, order) -> None:
        if order.status in (order.Margin, order.Rejected):
            self.refused.add(order.ref)

    def next(self) -> None:
        data = self.draw.choice(self.datas)
        size = self.draw.choice([-1, 1]) * self.draw.uniform(1, 60)
        answer = self.broker.preview(data=data, size=size)
        order = (self.buy if size > 0 else self.sell)(data=data, size=abs(size))
        self.answers[order.ref] = answer


@pytest.mark.parametrize("venue", ["generic", "okx", "kucoin", "binance"])
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_refusals_are_foreseen(venue: str, mode: str) -> None:
    """One market order a bar, entered at the close it is judged by: refused when the preview said so (the fill may refuse more)."""
    cerebro = bt.Cerebro(stdstats=False)
    for n in range(2):
        instrument = Instrument(symbol=f"C{n}", lot=0.01)
        cerebro.adddata(feeds.from_frame(candles(n, 150, start=100.0), name=f"C{n}", instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(venue=venue, mode=mode, cash=800.0, check=True))
    cerebro.addstrategy(Asker, seed=5)
    (strategy,) = cerebro.run()
    previewed = {ref for ref, answer in strategy.answers.items() if answer.refusal is not None}
    last = max(strategy.answers)
    assert previewed - {last} <= strategy.refused
    assert len(previewed) > 3
    surprised = strategy.refused - previewed
    assert len(surprised) < len(strategy.answers) / 10


class Legs(HedgeStrategy):
    """Opens, targets and closes legs by name."""

    params = (("hedged", True),)

    def __init__(self) -> None:
        self.seen: list = []
        self.closed: list = []

    def notify_trade(self, trade) -> None:
        if trade.isclosed:
            self.closed.append((trade.tradeid, round(trade.pnl, 6)))

    def side(self, side: str) -> dict:
        return {"position_side": side} if self.p.hedged else {}

    def next(self) -> None:
        step = len(self)
        if step == 1:
            self.buy(size=10, **self.side("long"))
            if self.p.hedged:
                self.sell(self.data, size=4, position_side="short")
        elif step == 3:
            self.seen.append(
                [self.getposition(side=side).size for side in ("long", "short")] if self.p.hedged else None
            )
            self.order_target_size(target=6, **self.side("long"))
            if self.p.hedged:
                self.order_target_value(target=-800.0, position_side="short")
        elif step == 5:
            self.seen.append(
                [self.getposition(side=side).size for side in ("long", "short")] if self.p.hedged else None
            )
            self.order_target_percent(target=0.05, **self.side("long"))
            if self.p.hedged:
                self.close(self.data, position_side="short")
        elif step == 7:
            self.seen.append(
                [self.getposition(side=side).size for side in ("long", "short")] if self.p.hedged else None
            )
            self.close(**self.side("long"))


def legs(*, hedged: bool) -> Legs:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 5, *[(110.0,) * 4] * 5), name="BTC", instrument=PLAIN))
    cerebro.setbroker(CrossMarginBroker(cash=10_000.0, position_mode="hedge" if hedged else "one_way"))
    cerebro.addstrategy(Legs, hedged=hedged)
    return cerebro.run()[0]


def test_legs_are_named_in_every_call() -> None:
    """10 long and 4 short, to 6 and 8, to 5 % of equity and none, to nothing; a trade a leg."""
    strategy = legs(hedged=True)
    assert strategy.seen == [[10, -4], [6, -8], [5, 0]]
    assert not strategy.broker.account.books["BTC"].legs
    assert sorted(tradeid[0] for tradeid, _ in strategy.closed) == ["long", "short"]
    assert not [event for event in strategy.broker.journal if isinstance(event, events.OrderRefused)]


def test_without_a_side_it_is_backtraders_own() -> None:
    """The same strategy, one way."""
    strategy = legs(hedged=False)
    assert not strategy.broker.account.books["BTC"].legs
    assert len(strategy.closed) == 1


def test_a_target_on_the_other_side_is_an_error() -> None:
    class Wrong(HedgeStrategy):
        def next(self) -> None:
            self.order_target_size(target=5, position_side="short")

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(FLAT, FLAT), name="BTC", instrument=PLAIN))
    cerebro.setbroker(CrossMarginBroker(position_mode="hedge"))
    cerebro.addstrategy(Wrong)
    with pytest.raises(ConfigurationError, match="on the other side of the short leg"):
        cerebro.run()
