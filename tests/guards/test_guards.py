# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards: each refuses, reduces, closes, withdraws or alerts as documented, and the journal records it."""

from __future__ import annotations

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from random_runs import INSTRUMENTS, check_books
from random_trader import RandomTrader, candles, seeds
from scripted import FLAT, PLAIN, bars, run

from crossmargin_bt import CrossMarginBroker, Instrument, Reserve, feeds
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.guards import (  # fmt: skip
    CorrelatedExposure,
    DailyLossLimit,
    DeRisk,
    EquityBuffer,
    MarginLevelAlert,
    MaximumLeverage,
    ProfitSweep,
    StopRequired,
)


def guarded(*guards, script, rows=(FLAT,) * 5, **settings):
    """Run a script on bars with guards; return the broker and what the guards did."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, guards=list(guards), **settings)
    run(broker, bars(*rows), scripts=(script,), instrument=PLAIN)
    return broker, [event for event in broker.journal if isinstance(event, events.GuardActed)]


def held(broker) -> int:
    return broker.account.books["BTC"].leg("net").lots


@pytest.mark.parametrize(
    ("guard", "fits"), [(EquityBuffer(0.25), 75), (MaximumLeverage(3.0), 30), (CorrelatedExposure(2.0), 20)]
)
def test_an_order_that_is_too_large_is_refused_or_reduced(guard, fits: int) -> None:
    """Equity 1,000 at 10x, price 100: three quarters as margin is 75 lots, three times equity 30, twice 20; one lot more is refused."""
    kind = type(guard)
    limit = getattr(guard, guard.__struct_fields__[0])
    broker, acted = guarded(guard, script={1: lambda s: s.buy(size=fits)})
    assert (held(broker), acted) == (fits, [])
    broker, acted = guarded(kind(limit), script={1: lambda s: s.buy(size=fits + 1)})
    assert held(broker) == 0
    assert [(event.action, event.guard) for event in acted] == [("refused", kind.__name__)]
    refused = next(event for event in broker.journal if isinstance(event, events.OrderRefused))
    assert refused.reason == f"{kind.__name__}: {acted[0].reason}"
    broker, acted = guarded(kind(limit, reduces=True), script={1: lambda s: s.sell(size=fits + 50)})
    assert held(broker) == -fits
    assert [(event.action, event.amount) for event in acted] == [("reduced", fits)]


def test_closing_orders_are_never_refused() -> None:
    """Closing orders pass beyond every limit; a reversal is reduced to the largest position allowed on the other side."""
    script = {1: lambda s: s.buy(size=30), 3: lambda s: s.sell(size=90)}
    broker, acted = guarded(MaximumLeverage(3.0, reduces=True), script=script)
    assert held(broker) == -30
    assert [event.amount for event in acted] == [60]
    broker, acted = guarded(StopRequired(), script={1: lambda s: s.sell(size=5, reduce_only=True)})
    assert not acted


def test_an_entry_carries_a_stop() -> None:
    """A bracket or an opposite stop of the same bar satisfies the guard; an order alone does not."""

    def bracket(strategy) -> None:
        strategy.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=90.0, limitprice=120.0)

    def beside(strategy) -> None:
        strategy.buy(size=10)
        strategy.sell(size=10, exectype=bt.Order.Stop, price=90.0)

    for script, size in ((bracket, 10), (beside, 10), (lambda s: s.buy(size=10), 0)):
        broker, acted = guarded(StopRequired(), script={1: script})
        assert held(broker) == size
        assert len(acted) == (size == 0)


def test_a_reduced_bracket_has_smaller_exits() -> None:
    """The exits for 100 lots are reduced to the 30 that were accepted, and open nothing."""

    def bracket(strategy) -> None:
        strategy.buy_bracket(size=100, exectype=bt.Order.Market, stopprice=90.0, limitprice=120.0)

    rows = [FLAT, FLAT, FLAT, (100.0, 100.0, 89.0, 89.0), (89.0,) * 4]
    broker, _ = guarded(MaximumLeverage(3.0, reduces=True), script={1: bracket}, rows=rows)
    fills = [event.lots for event in broker.journal if isinstance(event, events.Filled)]
    assert fills == [30, -30]
    assert not broker.account.books["BTC"].orders


class Holds(bt.Strategy):
    """Buys the same value of every feed after a hundred bars, one feed per bar."""

    params = (("signs", (1, 1, 1)),)

    def next(self) -> None:
        turn = len(self) - 110
        if 0 <= turn < len(self.datas):
            data = self.datas[turn]
            enter = self.buy if self.p.signs[turn] > 0 else self.sell
            enter(data=data, size=2000.0 / data.close[0])


@pytest.mark.parametrize(
    ("together", "signs", "taken"), [(True, (1, 1, 1), 1), (False, (1, 1, 1), 2), (True, (1, -1, 1), 3)]
)
def test_correlated_positions_count_together(together: bool, signs, taken: int) -> None:
    """Twice equity each, three times allowed: one position fits if correlated, two if independent (sqrt(8)), all as a hedge."""
    draw = np.random.default_rng(5)
    common = draw.normal(0, 0.01, 150)
    cerebro = bt.Cerebro(stdstats=False)
    for n in range(3):
        moves = common if together else draw.normal(0, 0.01, 150)
        close = 100 * np.exp(np.cumsum(moves * (1 + 0.001 * n)))
        index = pd.date_range("2025-01-01", periods=150, freq="h")
        frame = pd.DataFrame({"open": close, "high": close, "low": close, "close": close}, index=index)
        instrument = Instrument(symbol=f"C{n}", lot=0.001, maker=0.0, taker=0.0)
        cerebro.adddata(feeds.from_frame(frame, name=f"C{n}", instrument=instrument))
    broker = CrossMarginBroker(cash=1000.0, leverage=20.0, guards=[CorrelatedExposure(3.0, window=100)])
    cerebro.setbroker(broker)
    cerebro.addstrategy(Holds, signs=signs)
    cerebro.run()
    assert sum(bool(book.legs) for book in broker.account.books.values()) == taken


def test_high_volatility_closes_a_share_and_refuses_entries() -> None:
    """After bars of 10 % half of the position is closed for its owner; entries are accepted again when volatility has fallen."""
    wild = [(100.0, 110.0, 100.0, 110.0), (110.0, 110.0, 100.0, 100.0)] * 2
    rows = [FLAT] * 30 + wild + [FLAT] * 90
    script = {25: lambda s: s.buy(size=20, tradeid=3), 34: lambda s: s.buy(size=5), 120: lambda s: s.buy(size=7)}
    broker, acted = guarded(DeRisk(2.0, half_life_days=0.3), script=script, rows=rows)
    assert [(event.action, event.amount) for event in acted] == [("closed", 10), ("refused", 0)]
    assert held(broker) == 17
    closing = [order for order in broker.orders if not order.isbuy()]
    assert [(order.tradeid, order.executed.size) for order in closing] == [(3, -10)]


def test_profit_is_swept_into_the_reserve() -> None:
    """Equity 1,000 to 1,400: half of the gain is withdrawn into the reserve, and the fund value does not change."""
    rows = [FLAT, FLAT, (100.0, 140.0, 100.0, 140.0), (140.0,) * 4, (140.0,) * 4]
    reserve = Reserve(amount=50.0, at_level=1.5, to_level=3.0)
    broker, acted = guarded(ProfitSweep(0.3), script={1: lambda s: s.buy(size=10)}, rows=rows, reserve=reserve)
    assert [(event.action, event.amount) for event in acted] == [("swept", pytest.approx(200.0))]
    assert broker.equity == pytest.approx(1200.0)
    assert broker.bar_engine.monitor._reserve_left == pytest.approx(250.0)
    assert broker._fundval == pytest.approx(140.0)


def test_an_alert_calls_once() -> None:
    heard: list[float] = []
    rows = [FLAT, FLAT, *[(91.0,) * 4] * 3, *[(99.0,) * 4] * 2, (91.0,) * 4]
    guard = MarginLevelAlert(3.0, callback=lambda _broker, level: heard.append(level))
    _, acted = guarded(guard, script={1: lambda s: s.buy(size=100)}, rows=rows)
    assert [event.action for event in acted] == ["told", "told"]
    assert heard == [event.amount for event in acted]
    assert all(level < 3 for level in heard)


@pytest.mark.parametrize("closes", [False, True])
def test_a_daily_loss_limit_refuses_entries(closes: bool) -> None:
    """100 of 1,000 lost on the first day: no entries until midnight, and with `closes` all positions are closed."""
    rows = [FLAT, FLAT, (100.0, 100.0, 90.0, 90.0), *[(90.0,) * 4] * 30]
    script = {1: lambda s: s.buy(size=10), 5: lambda s: s.buy(size=1), 27: lambda s: s.buy(size=2)}
    broker, acted = guarded(DailyLossLimit(0.05, closes=closes), script=script, rows=rows)
    assert [event.action for event in acted] == (["stopped", "closed", "refused"] if closes else ["stopped", "refused"])
    assert held(broker) == (2 if closes else 12)


def test_a_stop_behind_a_limit_entry_is_its_exit() -> None:
    """Entry and stop of one bar are both accepted, and the stop closes the position. A stop for fewer lots does not suffice."""

    def entry(strategy) -> None:
        strategy.buy(size=50, exectype=bt.Order.Limit, price=99.0)
        strategy.sell(size=50, exectype=bt.Order.Stop, price=90.0)

    dip = [FLAT, FLAT, (100.0, 100.0, 98.0, 98.0), (98.0,) * 4, (98.0, 98.0, 85.0, 85.0), (85.0,) * 4]
    for guard in (StopRequired(), MaximumLeverage(5.0)):
        broker, acted = guarded(guard, script={1: entry}, rows=dip)
        assert (held(broker), acted) == (0, [])
        assert broker.equity == pytest.approx(550.0)

    def small(strategy) -> None:
        strategy.buy(size=50)
        strategy.sell(size=1, exectype=bt.Order.Stop, price=90.0)

    broker, acted = guarded(StopRequired(), script={1: small})
    assert acted[0].number == 1


def test_resting_orders_count_in_the_next_check() -> None:
    """Three limit orders of three times equity each: one is accepted."""

    def three(strategy) -> None:
        for _ in range(3):
            strategy.buy(size=30, exectype=bt.Order.Limit, price=99.0)

    dip = [FLAT, FLAT, (100.0, 100.0, 98.0, 98.0), (98.0,) * 4]
    for guard in (MaximumLeverage(3.0), CorrelatedExposure(3.0)):
        broker, acted = guarded(guard, script={1: three}, rows=dip)
        assert (held(broker), len(acted)) == (30, 2)


def test_a_forced_close_leaves_no_orders() -> None:
    """The daily loss limit closes a bracketed position and cancels its exits and a resting entry."""
    rows = [FLAT, FLAT, (100.0, 100.0, 90.0, 90.0), (90.0, 90.0, 80.0, 80.0), *[(80.0,) * 4] * 2]

    def enter(strategy) -> None:
        strategy.buy_bracket(size=20, exectype=bt.Order.Market, stopprice=85.0, limitprice=130.0)
        strategy.buy(size=20, exectype=bt.Order.Limit, price=86.0)

    broker, acted = guarded(DailyLossLimit(0.05, closes=True), script={1: enter}, rows=rows)
    assert [event.action for event in acted] == ["stopped", "closed"]
    assert (held(broker), broker.account.books["BTC"].orders) == (0, {})


def test_a_sweep_is_not_a_loss() -> None:
    """Withdrawn profit leaves the account at once; deposits and withdrawals are neither gains nor losses."""
    rows = [FLAT, FLAT, (100.0, 140.0, 100.0, 140.0), *[(140.0,) * 4] * 4]
    reserve = Reserve(amount=50.0, at_level=1.5, to_level=3.0)
    script = {1: lambda s: s.buy(size=10), 3: lambda s: s.buy(size=90)}
    broker, _ = guarded(ProfitSweep(0.3, share=1.0), DailyLossLimit(0.05), script=script, rows=rows, reserve=reserve)
    assert broker.equity == pytest.approx(1000.0)
    assert broker.bar_engine.monitor._reserve_left == pytest.approx(450.0)
    _, acted = guarded(ProfitSweep(0.2), script={2: lambda s: s.broker.add_cash(1000)})
    assert not acted
    _, acted = guarded(DailyLossLimit(0.05), script={2: lambda s: s.broker.add_cash(-100), 4: lambda s: s.buy(size=1)})
    assert not acted


def test_an_order_without_a_price_ends_no_run() -> None:
    """A trailing stop with a trigger of 0 is refused by the venue's rules, with guards or without."""
    coin = Instrument(symbol="BTC", lot=1.0, contract_size=100.0, inverse=True)
    broker = CrossMarginBroker(cash=1000.0, guards=[StopRequired()])
    trail = {1: lambda s: s.sell(size=5, exectype=bt.Order.StopTrail, trailamount=100.0)}
    run(broker, bars(*[FLAT] * 3), scripts=(trail,), instrument=coin)
    assert not broker.account.books["BTC"].orders
    for valid in (math.nan, -1, math.inf, 1e9):
        limit = {1: lambda s, v=valid: s.buy(size=1, exectype=bt.Order.Limit, price=50.0, valid=v)}
        run(CrossMarginBroker(cash=1000.0), bars(*[FLAT] * 3), scripts=(limit,), instrument=PLAIN)


@pytest.mark.parametrize("position_mode", ["one_way", "hedge"])
@pytest.mark.parametrize("seed", seeds(4, 40))
def test_guards_break_no_law(seed: int, position_mode: str) -> None:
    """The random strategy under all guards: books balance, the journal replays, and several guards acted."""
    cerebro = bt.Cerebro(stdstats=False)
    for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
        frame = candles(seed + number, 150, start=100.0 * (number + 1))
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    guards = [
        EquityBuffer(0.3, reduces=True), MaximumLeverage(6.0, reduces=True), CorrelatedExposure(5.0, window=20),
        DeRisk(8.0, half_life_days=0.2), ProfitSweep(0.1), MarginLevelAlert(2.0), DailyLossLimit(0.2, closes=True),
    ]  # fmt: skip
    broker = CrossMarginBroker(cash=1000.0, leverage=20.0, position_mode=position_mode, guards=guards, check=True)
    cerebro.setbroker(broker)
    cerebro.addstrategy(RandomTrader, seed=seed, hedged=position_mode == "hedge", reduces=True, size=40.0)
    first = list(cerebro.run()[0].broker.journal)
    (strategy,) = cerebro.run()
    assert strategy.broker.journal == first
    check_books(strategy, INSTRUMENTS, position_mode)
    acted = {event.guard for event in first if isinstance(event, events.GuardActed)}
    assert len(acted) >= 2
    assert math.isfinite(broker.equity)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: EquityBuffer(1.5), "share of EquityBuffer must be above 0"),
        (lambda: EquityBuffer(1.0), "above 0 and below 1"),
        (lambda: DailyLossLimit(1.0), "above 0 and below 1"),
        (lambda: DeRisk(share=2.0), "above 0 and at most 1"),
        (lambda: MaximumLeverage(0), "limit of MaximumLeverage must be above 0"),
        (lambda: MarginLevelAlert(0.5), "must be a margin level above 1"),
        (lambda: CrossMarginBroker(guards=[EquityBuffer]), r"such as \[EquityBuffer\(\)\]"),
        (lambda: CrossMarginBroker(guards=["x"]), "guards must be a list of guards"),
        (
            lambda: CrossMarginBroker(guards=EquityBuffer(0.25)),
            r"such as \[EquityBuffer\(share=0.25\)\], got EquityBuffer",
        ),
        (lambda: CrossMarginBroker(guards="EquityBuffer"), "guards must be a list of guards"),
        (lambda: CrossMarginBroker(mode="cash", guards=[StopRequired()]), "guards look at a margin account"),
    ],
)
def test_settings_of_guards_are_checked(make, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make()
