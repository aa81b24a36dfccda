# SPDX-License-Identifier: GPL-3.0-or-later
"""Risk control in backtrader: what strategies hear, what follows a liquidation, reserves and funds."""

import re
from collections import Counter

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from random_trader import RandomTrader, candles
from scripted import FLAT, PLAIN, Scripted, bars, run

from crossmargin_bt import CrossMarginBroker, Instrument, Reserve, feeds, venues
from crossmargin_bt.columns import PRICES
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import waterfall
from crossmargin_bt.engine.liquidation.forced_close import PoolCloser
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import flat_rate, tier_table
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.venues import Venue

FALL = [FLAT, FLAT, FLAT, (100.0, 100.0, 95.0, 96.0), (96.0, 96.0, 89.0, 90.0), FLAT, FLAT, FLAT]


class Listener(bt.Strategy):
    """Buys 100 of 1,000 at 10x, and closes half of it at the first warning where it is told to act."""

    params = (("acts", False), ("size", 100))

    def __init__(self) -> None:
        self.heard: list = []
        self.stored: list = []
        self.bars = 0

    def notify_margin(self, event) -> None:
        self.heard.append(event)
        if self.p.acts and getattr(event, "state", "") == "warning":
            self.sell(size=self.p.size / 2)

    def notify_store(self, msg, *args, **kwargs) -> None:
        self.stored.append((msg, *args))

    def next(self) -> None:
        self.bars += 1
        if len(self) == 1:
            self.buy(size=self.p.size)


def listen(broker, rows=FALL, instrument=PLAIN, **params) -> Listener:
    """Run the listener on bars."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*rows), name="BTC", instrument=instrument))
    cerebro.setbroker(broker)
    cerebro.addstrategy(Listener, **params)
    cerebro.addanalyzer(bt.analyzers.TimeReturn, _name="returns")
    cerebro.addanalyzer(bt.analyzers.DrawDown, _name="drawdown")
    cerebro.addanalyzer(bt.analyzers.SharpeRatio, _name="sharpe")
    return cerebro.run()[0]


def test_a_strategy_hears_what_the_venue_does() -> None:
    """In order, as `notify_margin` and as a store's notification; both carry the journal's own entries."""
    strategy = listen(CrossMarginBroker(cash=1000.0, leverage=10.0, warning_levels=(11.0, 1.5)))
    names = [getattr(event, "state", type(event).__name__) for event in strategy.heard]
    assert names == ["margin_call", "warning", "warning", "warning", "Liquidated", "LiquidationStepTaken", "closed_out"]
    assert [event.threshold for event in strategy.heard[:4]] == [0.0, 11.0, 11.0, 1.5]
    assert strategy.stored == [("margin", event) for event in strategy.heard]
    assert all(event in strategy.broker.journal for event in strategy.heard)


def test_a_warning_can_be_acted_on() -> None:
    """Half of the position goes at the next open, and the rest lives through the same fall."""
    strategy = listen(CrossMarginBroker(cash=1000.0, leverage=10.0, warning_levels=(11.0,)), acts=True)
    assert [event.state for event in strategy.heard] == ["margin_call", "warning"]
    assert strategy.broker.getposition(strategy.data).size == 50
    assert strategy.broker.equity == pytest.approx(1000 - 50 * 4)


@pytest.mark.parametrize(("then", "seen", "equity"), [("continue", 8, 0.0), ("stop", 5, 0.0), ("refill", 8, 1000.0)])
def test_what_follows_a_liquidation(then: str, seen: int, equity: float) -> None:
    """The run goes on, ends after the bar everyone has seen, or starts again with what it had; analyzers bear all of it."""
    rows = [*FALL[:3], (80.0, 80.0, 80.0, 80.0), *FALL[5:], FLAT]
    strategy = listen(CrossMarginBroker(cash=1000.0, leverage=10.0, on_liquidation=then), rows)
    assert strategy.bars == {5: 4, 8: 8}[seen]
    assert strategy.broker.equity == pytest.approx(equity)
    assert strategy.broker.account.bad_debt == pytest.approx(1000.0)
    assert strategy.analyzers.drawdown.get_analysis().max.drawdown > 99


def test_a_reserve_comes_as_far_as_it_reaches() -> None:
    """At 300 % what brings the pool back to 500 %, at most 150 at a time, until 200 are used up; none of it is profit."""
    reserve = Reserve(amount=200.0, at_level=3.0, to_level=5.0, each=150.0)
    strategy = listen(CrossMarginBroker(cash=1000.0, leverage=10.0, reserve=reserve))
    came = [event for event in strategy.heard if isinstance(event, events.CollateralToppedUp)]
    # 1,000 + 100 (p - 100) is three times 0.5 % of 100 p at 91.37; there 91.37 are missing to five times.
    assert came[0].amount == pytest.approx(2 * 0.5 * 9000 / 98.5, rel=1e-6)
    assert came[0].left == pytest.approx(200 - came[0].amount)
    assert sum(event.amount for event in came) == pytest.approx(200 - came[-1].left)
    assert not [event for event in strategy.broker.journal if isinstance(event, events.Liquidated)]
    journal, account = strategy.broker.journal, strategy.broker.account
    assert replay(journal, account.rules, {"BTC": PLAIN}).balances == account.balances
    assert strategy.broker._fundval == pytest.approx(strategy.broker.equity / strategy.broker._fundshares)
    with pytest.raises(ConfigurationError, match="1 < at_level < to_level"):
        Reserve(amount=1.0, at_level=3.0, to_level=2.0)
    with pytest.raises(ConfigurationError, match="amount above 0"):
        Reserve(amount=0.0, at_level=2.0, to_level=3.0)


def test_a_reserve_replenishes_an_isolated_position() -> None:
    """Its margin grows by what came; the shared balance does not move."""
    reserve = Reserve(amount=500.0, at_level=2.0, to_level=4.0)
    strategy = listen(CrossMarginBroker(cash=2000.0, leverage=10.0, mode="isolated", reserve=reserve))
    came = [event for event in strategy.heard if isinstance(event, events.CollateralToppedUp)]
    assert {event.pool for event in came} == {"BTC:net"}
    margin = strategy.broker.account.books["BTC"].legs["net"].margin
    assert margin == pytest.approx(1000.0 + sum(event.amount for event in came))
    assert strategy.broker.account.balances["USDT"] == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("fund", "protected", "by_fund", "equity"), [(1e9, True, 1000, 0), (300, True, 300, 0), (300, False, 300, -700)]
)
def test_the_fund_pays_as_far_as_it_reaches(fund: float, protected: bool, by_fund: float, equity: float) -> None:
    """A gap to 80 loses 1,000 beyond the collateral; the rest is the venue's, or stays a debt."""
    rows = [*FALL[:3], (80.0, 80.0, 80.0, 80.0), FLAT]
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, insurance_fund=fund, negative_balance_protection=protected)
    strategy = listen(broker, rows)
    (taken,) = [event for event in strategy.heard if isinstance(event, events.InsuranceFundTakeover)]
    assert (taken.by_fund, broker.account.insurance_fund) == (by_fund, fund - by_fund)
    assert (taken.left, taken.markets) == (-1000.0, {"BTC:net": 80.0})
    assert taken.takeovers == {"BTC:net": pytest.approx(90.0 if protected else 83.0)}
    assert f"= -1000.0 USDT\n\nLoss covered: {taken.amount!r}; {taken.by_fund!r} by" in broker.explain(taken)
    (trade,) = strategy._trades[strategy.data][0]
    assert trade.pnl == pytest.approx(equity - 1000.0)
    assert broker.equity == pytest.approx(equity)
    assert broker.getvalue() > 0
    assert strategy.bars == 5


def test_settings_of_risk_are_checked() -> None:
    """As all others, at once."""
    with pytest.raises(ConfigurationError, match="unknown on_liquidation 'halt'"):
        CrossMarginBroker(on_liquidation="halt")
    with pytest.raises(ConfigurationError, match="warning_levels are margin levels above 1"):
        CrossMarginBroker(warning_levels=(0.5,))
    with pytest.raises(ConfigurationError, match="liquidation_slippage lies from 0"):
        CrossMarginBroker(liquidation_slippage=1.5)
    with pytest.raises(ConfigurationError, match="reserve is a Reserve"):
        CrossMarginBroker(reserve=100.0)


def lot_by_lot() -> Venue:
    """Return OKX's rules with a liquidation that closes the fewest lots."""
    okx = venues.load("okx")
    return msgspec.structs.replace(okx, rules=okx.rules.changed({"liquidation": [{"step": "reduce"}]}))


def test_a_partial_close_reaches_the_oldest_trade_first() -> None:
    """A venue that takes as few lots as needed: they come out of the strategy and tradeid that opened first."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=lot_by_lot())

    def enter(strategy) -> None:
        strategy.buy(size=40, tradeid=1)
        strategy.buy(size=60, tradeid=2)

    rows = [FLAT, FLAT, (100.0, 100.0, 90.35, 92.0), (92.0, 92.0, 92.0, 92.0)]
    (strategy,) = run(broker, bars(*rows), scripts=({1: enter},), instrument=PLAIN)
    forced = [event for event in broker.journal if isinstance(event, events.Filled) and event.forced]
    assert 1 < len(forced) < 60  # a second between two looks
    closed = sum(event.lots for event in forced)
    assert -40 < closed < 0
    heard = [entry for entry in strategy.orders_heard if entry[0] == "Completed" and entry[1] < 0]
    assert sum(size for _, size, _ in heard) == closed
    assert {tradeid for _, _, tradeid in heard} == {1}
    assert broker.getposition(strategy.data).size == 100 + closed
    assert len([event for event in broker.journal if isinstance(event, events.Liquidated)]) == 1


def test_the_broker_explains_an_event_of_its_journal() -> None:
    """Every position and price, summing up to the entry's own figures; anything else is refused with a reason."""
    strategy = listen(CrossMarginBroker(cash=1000.0, leverage=10.0, warning_levels=(11.0,)))
    broker = strategy.broker
    warned = next(event for event in broker.journal if getattr(event, "state", "") == "warning")
    text = broker.explain(warned)
    assert "BTC:net +100 from 100.0, mark" in text
    assert f"= {warned.collateral!r} USDT" in text
    assert f"= {warned.requirement!r} USDT" in text
    with pytest.raises(ConfigurationError, match="explain takes an OrderRefused"):
        broker.explain(broker.journal[0])


def test_a_replenishment_is_explained() -> None:
    """What would have been needed, and why it was less that came."""
    reserve = Reserve(amount=200.0, at_level=3.0, to_level=5.0, each=50.0)
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, reserve=reserve)
    came = next(event for event in listen(broker).heard if isinstance(event, events.CollateralToppedUp))
    text = broker.explain(came)
    assert f"Needed: 5.0 x {came.requirement!r} - {came.collateral!r} = {came.wanted!r}" in text
    assert "Transferred: 50.0 USDT, the maximum of one transfer; the reserve has 150.0 left" in text


def hedged(strategy) -> None:
    """100 long, and as many short."""
    strategy.buy(size=100, position_side="long")
    strategy.sell(size=100, position_side="short")


@pytest.mark.parametrize(
    ("fund", "asked", "left"),
    [(0.0, True, 0), (250.0, True, -25), (700.0, True, -70), (1e9, True, -100), (0.0, False, -100)],
)
def test_an_empty_fund_deleverages_the_winning_leg(fund: float, asked: bool, left: int) -> None:
    """Isolated legs of 1,000 and a gap to 80: the long is taken over at 90, the short is closed there for what is unpaid.

    At 80 the short would have made 2,000; deleveraged it makes 1,000, which is what the venue was spared.
    """
    broker = CrossMarginBroker(
        cash=3000.0, leverage=10.0, mode="isolated", position_mode="hedge", insurance_fund=fund, auto_deleveraging=asked,
    )  # fmt: skip
    rows = [FLAT, FLAT, FLAT, *[(80.0,) * 4] * 2]
    (strategy,) = run(broker, bars(*rows), scripts=({1: hedged},), instrument=PLAIN)
    journal = broker.journal
    assert broker.account.books["BTC"].leg("short").lots == left
    closed = [event for event in journal if isinstance(event, events.Filled) and event.forced]
    assert [event.price for event in closed] == [pytest.approx(90.0)] * (1 if left == -100 else 2)
    unpaid = sum(event.amount - event.by_fund for event in journal if isinstance(event, events.InsuranceFundTakeover))
    spared = sum(event.amount for event in journal if isinstance(event, events.Deleveraged))
    assert spared == pytest.approx(unpaid if asked else 0.0)
    assert broker.equity == pytest.approx(3000 - 1000 + (100 + left) * 10 - left * 20)
    instruments = {"BTC": PLAIN}
    assert replay(journal, broker.account.rules, instruments, position_mode="hedge").balances == broker.account.balances
    assert sum(trade.size for trade in open_trades(strategy)) == left


def open_trades(strategy) -> list:
    """Return the last trade of every tradeid."""
    return [trades[-1] for trades in strategy._trades[strategy.data].values()]


def test_several_legs_are_taken_over_alike() -> None:
    """Balance 1,000; A loses 900, B 600, C gains 200: 300 are short of 16,900 in value, so every price moves by that part."""
    account = Account(venues.load("generic").rules)
    sizes = {"A": (90, 90.0), "B": (-60, 110.0), "C": (20, 110.0)}
    account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=1000.0))
    for symbol, (lots, mark) in sizes.items():
        account.list_instrument(msgspec.structs.replace(PLAIN, symbol=symbol))
        account.set_mark(symbol, 100.0)
        account.apply(fills.order_fill(account, 0, symbol, "net", number=1, lots=lots, price=100.0, maker=True))
        account.set_mark(symbol, mark)
    (pool,) = metrics.pools(account)
    work = PoolCloser(account, 0, pool, lambda close: sizes[close.symbol][1])
    entries = []
    for entry in waterfall.liquidate(work):
        account.apply(entry)
        entries.append(entry)
    _, taken, *closed = entries
    part = 300 / 16_900
    prices = {"A:net": 90 * (1 + part), "B:net": 110 * (1 - part), "C:net": 110 * (1 + part)}
    assert taken.takeovers == pytest.approx(prices)
    assert [fill.price for fill in closed] == list(taken.takeovers.values())
    assert (account.balances["USDT"], account.bad_debt) == (0.0, pytest.approx(300.0))


def test_nobody_is_deleveraged_to_his_gain() -> None:
    """Forced closes that slip put the takeover price between the mark and what the short could get: it stays."""
    broker = CrossMarginBroker(
        cash=5000.0, leverage=10.0, mode="isolated", position_mode="hedge", insurance_fund=0.0, auto_deleveraging=True,
        liquidation_slippage=0.03,
    )  # fmt: skip
    rows = [FLAT, FLAT, (100.0, 100.0, 90.4, 90.4), (90.4,) * 4]
    run(broker, bars(*rows), scripts=({1: hedged},), instrument=PLAIN)
    assert broker.account.books["BTC"].leg("short").lots == -100
    assert any(isinstance(event, events.InsuranceFundTakeover) for event in broker.journal)


@pytest.mark.parametrize(
    ("mode", "cash", "gap"), [("isolated", 2000.0, 103.0), ("isolated", 2000.0, 99.0), ("cross", 1000.0, 101.0)]
)
def test_what_funding_used_up_is_taken_over_too(mode: str, cash: float, gap: float) -> None:
    """1,000 of margin less 1,440 of funding: used up at 104.4, whatever the entry was."""
    frame = bars(FLAT, FLAT, (120.0,) * 4, (120.0,) * 4, (gap,) * 4, FLAT)
    frame["funding_rate"] = [0, 0, 0, 0.12, 0, 0]
    broker = CrossMarginBroker(cash=cash, leverage=10.0, mode=mode)
    run(broker, frame, scripts=({1: lambda s: s.buy(size=100)},), instrument=PLAIN)
    (taken,) = [event for event in broker.journal if isinstance(event, events.InsuranceFundTakeover)]
    assert taken.takeovers == {"BTC:net": pytest.approx(104.4)}
    assert broker.account.bad_debt == pytest.approx(100 * (104.4 - gap))
    assert not [event for event in broker.journal if isinstance(event, events.DebtCovered)]


JUMP = msgspec.structs.replace(
    PLAIN, lot=0.1, maintenance=tier_table([(0.0, 0.01, 50.0), (3434.0, 0.02, 25.0)], marginal=False)
)


def test_a_jump_of_the_rate_is_met_behind_it() -> None:
    """A short of 33.2 comes to 20 % more than it must hold where its rate doubles, at 103.43; it is warned there, with the new rate."""
    rows = [FLAT, FLAT, (100.0, 105.2, 99.5, 105.2), (105.2,) * 4]
    for reserve in (None, Reserve(amount=1000.0, at_level=1.2, to_level=1.5)):
        broker = CrossMarginBroker(cash=158.64, leverage=25.0, reserve=reserve, warning_levels=(1.25,))
        run(broker, bars(*rows), scripts=({1: lambda s: s.sell(size=33.2)},), instrument=JUMP)
        for event in broker.journal:
            if isinstance(event, events.Liquidated):
                assert event.collateral <= event.requirement * (1 + 1e-9)
            elif getattr(event, "state", "") == "warning":
                assert event.collateral <= 1.25 * event.requirement * (1 + 1e-9)
        came = [event for event in broker.journal if isinstance(event, events.CollateralToppedUp)]
        assert bool(came) == (reserve is not None)
        assert len(came) < 5
        assert bool(reserve) != any(isinstance(event, events.Liquidated) for event in broker.journal)


TIERED = msgspec.structs.replace(
    PLAIN,
    maintenance=tier_table(
        [(0.0, 0.005, None), (1e5, 0.01, None), (5e5, 0.02, None), (1e6, 0.03, None)], marginal=True
    ),
)


@pytest.mark.parametrize("venue", ["generic", "hyperliquid", "kucoin", "bitget", "okx", "bybit", "dydx"])
def test_a_leg_closed_in_parts_is_short_once(venue: str) -> None:
    """An isolated loss of 300,000 on a margin of 200,000: the fund pays 100,000, whatever the steps."""
    broker = CrossMarginBroker(cash=1e6, leverage=10.0, mode="isolated", venue=venue)
    rows = [FLAT, FLAT, *[(85.0,) * 4] * 3]
    run(broker, bars(*rows), scripts=({1: lambda s: s.buy(size=20_000)},), instrument=TIERED)
    assert broker.equity == pytest.approx(800_000.0)
    assert broker.account.bad_debt == pytest.approx(100_000.0)


def grid(strategy) -> None:
    """50 held, and three buys of 20 far below."""
    strategy.buy(size=50)
    for price in (60.0, 59.0, 58.0):
        strategy.buy(size=20, price=price, exectype=bt.Order.Limit)


@pytest.mark.parametrize("venue", ["okx", "gate"])
def test_risk_control_cancels_as_long_as_the_pool_falls(venue: str) -> None:
    """One long bar and the same line in eighteen short ones end alike: every order has gone, nothing is overdrawn."""
    one = [FLAT, FLAT, (100.0, 100.0, 91.0, 91.0), *[(91.0,) * 4] * 3]
    steps = [(100 - i / 2, 100 - i / 2, 99.5 - i / 2, 99.5 - i / 2) for i in range(18)]
    for rows in (one, [FLAT, FLAT, *steps, (91.0,) * 4]):
        broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=venue)
        run(broker, bars(*rows), scripts=({1: grid},), instrument=PLAIN)
        assert not broker.account.books["BTC"].orders
        assert broker.equity == pytest.approx(550.0)


@pytest.mark.parametrize("venue", ["generic", "dydx", "bybit", "okx"])
def test_exits_go_with_the_position(venue: str) -> None:
    """Whichever step closed the last lot, the stop of the dead position never opens another."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=venue, on_liquidation="refill")
    rows = [*[FLAT] * 3, *[(89.0,) * 4] * 3, *[(40.0,) * 4] * 2]
    script = {1: lambda s: s.buy(size=100), 2: lambda s: s.sell(size=100, price=50.0, exectype=bt.Order.Stop)}
    run(broker, bars(*rows), scripts=(script,), instrument=PLAIN)
    assert not broker.account.books["BTC"].legs
    assert [event.state for event in broker.journal if isinstance(event, events.RiskState)][-1] == "closed_out"


def test_exits_shrink_with_the_position() -> None:
    """A few lots of 100 were taken: the stop for all of them stays, closes the rest and opens nothing."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue="dydx")
    script = {1: lambda s: s.buy(size=100), 2: lambda s: s.sell(size=100, price=85.0, exectype=bt.Order.Stop)}
    rows = [FLAT, FLAT, FLAT, (100.0, 100.0, 90.44, 92.0), (92.0, 92.0, 80.0, 80.0), (80.0,) * 4]
    run(broker, bars(*rows), scripts=(script,), instrument=PLAIN)
    assert [event for event in broker.journal if isinstance(event, events.LiquidationStepTaken)]
    stop = [event for event in broker.journal if isinstance(event, events.Filled) and event.number == 2]
    assert not broker.account.books["BTC"].legs
    assert all(event.lots < 0 for event in stop)


def test_isolated_orders_that_count_go_before_the_position() -> None:
    """OKX: what an isolated order locks is missing in the shared pool; it is cancelled, the position lives."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue="okx")
    broker.set_margin_mode("BTC1", "isolated")

    def enter(strategy) -> None:
        strategy.buy(data=strategy.datas[0], size=50)
        strategy.buy(data=strategy.datas[1], size=40, price=50.0, exectype=bt.Order.Limit)

    falls = [FLAT, FLAT, (100.0, 100.0, 83.5, 83.5), (83.5,) * 4, FLAT]
    other = bars(*[FLAT] * 5)
    run(broker, bars(*falls), other, scripts=({1: enter},), instrument=PLAIN)
    assert broker.account.books["BTC"].legs["net"].lots == 50
    assert not broker.account.books["BTC1"].orders


def test_impact_does_not_close_more_than_needed() -> None:
    """Where closing all would cost too much, one lot is still enough."""
    frame = bars(FLAT, FLAT, (100.0, 100.0, 90.0, 95.0), (95.0,) * 4)
    frame["volume"] = 100.0
    dear = msgspec.structs.replace(PLAIN, maintenance=flat_rate(0.01))
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=lot_by_lot(), liquidation_impact=0.02)
    run(broker, frame, scripts=({1: lambda s: s.buy(size=100)},), instrument=dear)
    first = next(event for event in broker.journal if isinstance(event, events.LiquidationStepTaken))
    assert first.closes == {"BTC:net": -1}


def test_a_reserve_finds_a_unified_symbol() -> None:
    """A pool is named symbol:side, and a symbol may hold a colon."""
    unified = msgspec.structs.replace(PLAIN, symbol="BTC/USDT:USDT")
    reserve = Reserve(amount=500.0, at_level=2.0, to_level=4.0)
    broker = CrossMarginBroker(cash=2000.0, leverage=10.0, mode="isolated", reserve=reserve)
    rows = [FLAT, FLAT, (100.0, 100.0, 91.0, 91.0), (91.0, 91.0, 90.0, 90.0)]
    run(broker, bars(*rows), scripts=({1: lambda s: s.buy(size=100)},), instrument=unified)
    assert broker.account.books["BTC/USDT:USDT"].legs["net"].margin > 1000.0


class Sized(bt.Strategy):
    """Buys once, and notes what it lived through."""

    params = (("size", 1), ("seen", None))

    def next(self) -> None:
        if len(self) == 1:
            self.buy(size=self.p.size)

    def stop(self) -> None:
        self.p.seen.append((self.p.size, len(self), round(self.broker.getvalue(), 6)))


def test_a_stopped_run_stops_no_other() -> None:
    """In an optimisation every run has its own end, whatever their order."""
    rows = [FLAT, FLAT, (80.0,) * 4, FLAT, FLAT, (110.0,) * 4]
    found = []
    for sizes in ([100, 10, 5], [10, 5, 100]):
        seen: list = []
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feeds.from_frame(bars(*rows), name="BTC", instrument=PLAIN))
        cerebro.setbroker(CrossMarginBroker(cash=1000.0, leverage=10.0, on_liquidation="stop"))
        cerebro.optstrategy(Sized, size=sizes, seen=[seen])
        cerebro.run(maxcpus=1)
        found.append(sorted(seen))
    assert found[0] == found[1]
    assert [bars_seen for _, bars_seen, _ in found[0]] == [6, 6, 3]


def test_crossings_inside_a_bar_count() -> None:
    """Down, up and down again: two warnings, in one bar as in two; a reserve's help is a recovery too."""

    def states(*rows, **settings) -> list[str]:
        broker = CrossMarginBroker(cash=1000.0, leverage=10.0, **settings)
        run(broker, bars(*rows), scripts=({1: lambda s: s.buy(size=100)},), instrument=PLAIN)
        told = [e for e in broker.journal if isinstance(e, events.RiskState | events.CollateralToppedUp)]
        names = [getattr(event, "state", "replenished") for event in told]
        return [name for name in names if name != "margin_call"]  # which is looked for when a bar ends

    once = states(FLAT, FLAT, (96.0, 105.0, 91.5, 91.6), (91.6,) * 4, warning_levels=(5.0,))
    twice = states(
        FLAT,
        FLAT,
        (96.0, 96.0, 91.5, 91.5),
        (91.5, 105.0, 91.5, 105.0),
        (105.0, 105.0, 91.6, 91.6),
        warning_levels=(5.0,),
    )
    assert once == twice == ["warning", "warning"]
    helped = {"warning_levels": (3.0,), "reserve": Reserve(amount=1000.0, at_level=2.0, to_level=6.0)}
    steps = [(100.0 - i, 100.0 - i, 99.0 - i, 99.0 - i) for i in range(13)]
    in_one = states(FLAT, FLAT, (100.0, 100.0, 87.0, 87.0), (87.0,) * 4, **helped)
    assert in_one == states(FLAT, FLAT, *steps, (87.0,) * 4, **helped)
    assert in_one.count("replenished") == in_one.count("warning") > 1


def test_a_long_bar_tells_nothing_of_its_seconds() -> None:
    """Small lots that fall through a day are reduced 600 times at most, not in each of its 86,400 seconds."""
    closes = [30_000.0, 30_000.0, *(30_000.0 * 0.97**n for n in range(5))]
    opens = [closes[0], *closes[:-1]]
    rows = [(a, max(a, b), min(a, b), b) for a, b in zip(opens, closes, strict=True)]
    index = pd.date_range("2025-01-01", periods=len(rows), freq="D")
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index)
    broker = CrossMarginBroker(venue=lot_by_lot(), cash=60_000.0, leverage=20.0)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame, name="BTC", instrument=Instrument(symbol="BTC", lot=1e-4)))
    cerebro.setbroker(broker)
    cerebro.addstrategy(Scripted, script={1: lambda s: s.buy(size=20.0)})
    cerebro.run()
    forced = [entry for entry in broker.journal if isinstance(entry, events.Filled) and entry.forced]
    by_bar = Counter(entry.time_ms for entry in forced)
    assert 100 < max(by_bar.values()) <= 600  # of 17,895 second by second


@pytest.mark.parametrize("column", ["open", "close"])
def test_a_range_that_leaves_a_price_out_reaches_to_it(column: str) -> None:
    """A candle of a stock feed, which nobody validates, whose open or close lies 40 % below its low falls there, and liquidates."""
    frame = pd.DataFrame(dict.fromkeys(PRICES, [100.0] * 12), index=pd.date_range("2025-01-01", periods=12, freq="h"))
    frame.loc[frame.index[6], column] = 60.0
    found = []
    for engine in ("skipping", "reference"):
        instruments = {"BTC": Instrument(symbol="BTC", lot=1.0)}
        broker = CrossMarginBroker(engine=engine, cash=1_000.0, leverage=10.0, instruments=instruments)
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame), name="BTC")
        cerebro.setbroker(broker)
        cerebro.addstrategy(Scripted, script={2: lambda s: s.buy(size=90.0)})
        cerebro.run()
        found.append(list(broker.journal))
    assert found[0] == found[1]
    assert any(isinstance(entry, events.Liquidated) for entry in found[0])


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("venue", ["okx", "generic", "bybit"])
def test_a_refusal_adds_up(venue: str, mode: str) -> None:
    """What is left before an order, after it, needed and available agree, also where it closes something first."""
    cerebro = bt.Cerebro(stdstats=False)
    for n, symbol in enumerate("AB"):
        frame = candles(7 + n, 400)[["open", "high", "low", "close", "volume"]]
        cerebro.adddata(feeds.from_frame(frame, name=symbol, instrument=Instrument(symbol=symbol, lot=0.1)))
    broker = CrossMarginBroker(cash=1_000.0, leverage=5.0, mode=mode, venue=venue)
    cerebro.setbroker(broker)
    cerebro.addstrategy(RandomTrader, seed=7, rate=0.6, size=30.0)
    cerebro.run()
    told = [entry for entry in broker.journal if isinstance(entry, events.OrderRefused) and entry.kind == "margin"]
    texts = [broker.explain(entry) for entry in told]
    for entry, text in zip(told, texts, strict=True):
        heads = (r"Available for \w+ orders", r"Available (?:after the fill \(.*\)|with the order)")
        left, after = (float(re.search(rf"{head}: ([-\d.e+]+)", text)[1]) for head in heads)
        unreserved = re.search(r"fee ([-\d.e+]+), which the venue does not reserve", text)
        assert max(left, 0.0) == pytest.approx(entry.available, abs=1e-6)
        assert left - after - (float(unreserved[1]) if unreserved else 0.0) == pytest.approx(entry.needed, abs=1e-6)
    assert len(texts) > 10
    assert any("Assumed closed before it opens" in text for text in texts)


def test_a_refusal_names_what_counts_as_filled_before_it() -> None:
    """Of 1,000 at 10x a market order for 60 takes 600 first: one for 50 in the same bar finds 400."""
    broker = CrossMarginBroker(cash=1_000.0, leverage=10.0)
    script = {1: lambda s: (s.buy(size=60), s.buy(size=50))}
    run(broker, bars(*[FLAT] * 4), scripts=(script,), instrument=PLAIN)
    (refused,) = [entry for entry in broker.journal if isinstance(entry, events.OrderRefused)]
    text = broker.explain(refused)
    assert refused.available == pytest.approx(400.0)
    assert "Assumed filled before it: order 1, +60 BTC at 100.0" in text
    assert "Available for cross orders: 400.0" in text
    assert ": -100.0\n" in text
