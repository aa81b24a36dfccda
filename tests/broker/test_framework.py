# SPDX-License-Identifier: GPL-3.0-or-later
"""At home in backtrader: strict cash mode, every run mode, random strategies, and what the framework offers around a broker."""

from __future__ import annotations

import collections
import datetime as dt
import pickle

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from budget import in_rotation
from random_runs import INSTRUMENTS, check_books
from random_trader import RandomTrader, candles
from scripted import FLAT, PLAIN, bars, run

from crossmargin_bt import CrossMarginBroker, FreeMarginSizer, feeds
from crossmargin_bt.engine.ledger import events


def cash_run(script, rows=(FLAT,) * 6, *, strict: bool = True, **settings):
    """Run a script on the stock broker, mended or not."""
    broker = CrossMarginBroker(mode="cash", cash=1000.0, strict=strict, **settings)
    (strategy,) = run(broker, bars(*rows), scripts=(script,), instrument=PLAIN)
    return strategy, [status for status, *_ in strategy.orders_heard if status not in ("Submitted", "Accepted")]


def batch(strategy) -> None:
    strategy.buy(size=1000)
    strategy.buy(size=1)


def in_time(strategy) -> None:
    strategy.cancel(strategy.buy(size=1))


def for_the_day(strategy) -> None:
    strategy.buy(size=1, exectype=bt.Order.Limit, price=50.0, valid=0)


def for_two_hours(strategy) -> None:
    strategy.buy(size=1, exectype=bt.Order.Limit, price=50.0, valid=2.5 / 24)


MENDED = [
    ("a refusal leaves the others", batch, ["Margin", "Margin"], ["Margin", "Completed"]),
    ("cancelled in its own bar", in_time, ["Completed"], ["Canceled"]),
    ("price 0 is no price", lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=0.0), ["Completed"], ["Rejected"]),
    ("a size that is no number", lambda s: s.buy(size=float("nan")), ["Margin"], ["Rejected"]),
    ("valid=0 is the day", for_the_day, [], ["Expired"]),
    ("valid in days", for_two_hours, ["Expired"], ["Expired"]),
]


@pytest.mark.parametrize(("script", "stock", "strict"), [row[1:] for row in MENDED], ids=[row[0] for row in MENDED])
def test_strict_cash_mends_the_stock_broker(script, stock: list, strict: list) -> None:
    """What the stock broker makes of it, and what it should."""
    rows = [FLAT] * 30
    assert cash_run({1: script}, rows, strict=False)[1] == stock
    assert cash_run({1: script}, rows)[1] == strict


def test_strict_cash_closes_whatever_was_lost() -> None:
    """A futures position that lost more than the cash: the stock broker refuses to close it."""
    statuses = {}
    for strict in (False, True):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 3, *[(40.0,) * 4] * 4), name="BTC"))
        broker = CrossMarginBroker(mode="cash", cash=1000.0, strict=strict)
        broker.setcommission(margin=50.0, mult=10.0)
        cerebro.setbroker(broker)

        class Loser(bt.Strategy):
            heard: list

            def __init__(self) -> None:
                self.heard = []

            def notify_order(self, order) -> None:
                self.heard.append(order.getstatusname())

            def next(self) -> None:
                if len(self) == 1:
                    self.buy(size=10)
                elif len(self) == 4:
                    self.close()

        cerebro.addstrategy(Loser)
        (strategy,) = cerebro.run()
        statuses[strict] = (strategy.heard[-1], strategy.position.size)
    assert statuses == {False: ("Margin", 10), True: ("Completed", 0)}


def test_strict_cash_reads_change_nothing() -> None:
    """The value of two feeds is no value of the account, and a position that is read is a copy."""
    seen = {}
    for strict in (False, True):

        def read(strategy, strict=strict) -> None:
            strategy.broker.getvalue([strategy.data, strategy.data])
            strategy.getposition().update(5, 100.0)
            seen[strict] = (strategy.broker.getvalue(), strategy.getposition().size)

        cash_run({1: lambda s: s.buy(size=2), 3: read}, strict=strict)
    assert seen[True] == (1000.0, 2)
    assert seen[False] != seen[True]


def test_strict_cash_never_fills_in_the_past() -> None:
    """A day's bar that has closed fills no order of this morning: only the next day's does."""
    hours = bars(*[FLAT] * 60)
    days = hours.resample("1D").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    fills = {}
    for strict in (False, True):
        cerebro = bt.Cerebro(stdstats=False)
        for name, frame in (("hours", hours), ("days", days)):
            cerebro.adddata(feeds.from_frame(frame, name=name, instrument=PLAIN if name == "hours" else None))
        cerebro.setbroker(CrossMarginBroker(mode="cash", strict=strict))

        class Daily(bt.Strategy):
            filled: list

            def __init__(self) -> None:
                self.filled = []

            def notify_order(self, order) -> None:
                if order.status == order.Completed:
                    self.filled.append(len(self))

            def next(self) -> None:
                if len(self) == 5:
                    self.buy(data=self.datas[1], size=1, exectype=bt.Order.Limit, price=100.0)

        cerebro.addstrategy(Daily)
        fills[strict] = cerebro.run()[0].filled
    assert fills == {False: [6], True: [25]}


class Cross(bt.SignalStrategy):
    def __init__(self) -> None:
        self.signal_add(bt.SIGNAL_LONGSHORT, bt.indicators.CrossOver(self.data.close, bt.indicators.SMA(period=10)))


class Brackets(bt.Strategy):
    """Always one bracket alive."""

    def next(self) -> None:
        if not self.position and not self.broker.get_orders_open():
            price = self.data.close[0]
            self.buy_bracket(size=3, price=price * 0.999, stopprice=price * 0.97, limitprice=price * 1.03)


class Ladder(bt.Strategy):
    """Limit orders on both sides, requoted every ten bars."""

    def next(self) -> None:
        if len(self) % 10 == 1:
            for order in list(self.broker.get_orders_open()):
                self.cancel(order)
            for step in (0.99, 0.98, 1.01, 1.02):
                enter = self.buy if step < 1 else self.sell
                enter(size=2, exectype=bt.Order.Limit, price=self.data.close[0] * step)


class Trails(bt.Strategy):
    """A position with a trailing stop, in both feeds."""

    def next(self) -> None:
        for data in self.datas:
            if len(self) % 15 == 2 and not self.getposition(data).size:
                self.buy(data=data, size=3)
                self.sell(data=data, size=3, exectype=bt.Order.StopTrail, trailpercent=0.02)


class Targets(bt.Strategy):
    """Turns with the sign of the last move, by targets."""

    def __init__(self) -> None:
        self.moves = [data.close - data.close(-1) for data in self.datas]

    def next(self) -> None:
        for data, move in zip(self.datas, self.moves, strict=True):
            if len(self) % 4 == 0:
                self.order_target_percent(data, 0.4 if move[0] > 0 else -0.4)


RUN_MODES = {
    "stock": {},
    "next": {"runonce": False},
    "no preload": {"preload": False},
    "no preload, next": {"preload": False, "runonce": False},
    "exactbars 1": {"exactbars": 1},
    "exactbars -1": {"exactbars": -1},
    "exactbars -2": {"exactbars": -2},
    "coc": {"cheat_on_open": False, "runonce": True, "quicknotify": True},
}


def framework_run(strategy, mode: str, settings: dict):
    cerebro = bt.Cerebro(stdstats=False, **settings)
    for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
        frame = candles(number + 7, 120, start=100.0 * (number + 1))
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(mode=mode, cash=2000.0, leverage=10.0, check=True))
    cerebro.addstrategy(strategy)
    (ran,) = cerebro.run()
    return ran


@pytest.mark.parametrize("mode", ["cash", "isolated", "cross"])
@pytest.mark.parametrize("strategy", [Cross, Brackets, Ladder, Trails, Targets], ids=lambda one: one.__name__)
def test_a_run_is_the_same_in_every_run_mode(strategy, mode: str) -> None:
    """Eight of backtrader's ways to run: the same journal, fills and value, bit for bit."""
    found = {}
    for name, settings in RUN_MODES.items():
        ran = framework_run(strategy, mode, settings)
        fills = [
            (order.executed.dt, order.executed.price, order.executed.size)
            for order in ran.broker.orders
            if order.executed.size
        ]
        found[name] = (ran.broker.journal, ran.broker.getvalue(), fills if mode == "cash" else None)
    assert all(one == found["stock"] for one in found.values()), [
        name for name, one in found.items() if one != found["stock"]
    ]
    assert found["stock"][1] != 2000.0


class Listener(RandomTrader):
    """The random strategy, which keeps the last word about every order and every trade."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[int, list[str]] = collections.defaultdict(list)

    def notify_order(self, order) -> None:
        super().notify_order(order)
        self.heard[order.ref].append(order.getstatusname())


ENDS = {"Completed", "Canceled", "Expired", "Margin", "Rejected"}


@pytest.mark.parametrize(("block", "mode"), in_rotation(range(10), ["cash", "isolated", "cross"]))
def test_two_hundred_random_strategies(mode: str, block: int) -> None:
    """Twenty a block: no exception, books add up, every order has an end unless it still rests, trades agree with positions."""
    for seed in range(20 * block, 20 * block + 20):
        position_mode = "hedge" if seed % 3 == 0 and mode != "cash" else "one_way"
        cerebro = bt.Cerebro(stdstats=False)
        for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
            frame = candles(seed + number, 60, start=100.0 * (number + 1))
            frame = frame.iloc[number * 3 :].drop(frame.index[30 : 30 + 3 * number])
            cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
        cerebro.setbroker(CrossMarginBroker(mode=mode, position_mode=position_mode, cash=800.0, leverage=20.0))
        cerebro.addstrategy(Listener, seed=seed, hedged=position_mode == "hedge", reduces=True, size=20.0)
        (strategy,) = cerebro.run()
        broker = strategy.broker
        alive = {order.ref for order in (*broker.pending, *broker.submitted)}
        alive |= {child.ref for children in broker._pchildren.values() for child in children if child.alive()}
        for ref, statuses in strategy.heard.items():
            assert statuses[-1] in ENDS or ref in alive, (seed, ref, statuses)
            assert not any(status in ENDS for status in statuses[:-1]), (seed, ref, statuses)
        if mode == "cash":
            for data in strategy.datas:
                sizes = sum(trades[-1].size for trades in strategy._trades[data].values())
                assert sizes == pytest.approx(broker.getposition(data).size, abs=1e-9)
        elif any(isinstance(event, events.Filled) for event in broker.journal):
            check_books(strategy, INSTRUMENTS, position_mode)


@pytest.mark.parametrize("mode", ["cash", "isolated", "cross"])
def test_what_stands_around_a_broker(mode: str, tmp_path) -> None:
    """Writers, timers, calendars, a sizer, fund mode and stock analyzers, all in one run; the broker survives pickling."""
    heard: list = []

    class Timed(Targets):
        def notify_timer(self, timer, when, *args, **kwargs) -> None:
            heard.append(when)

        def notify_fund(self, cash, value, fundvalue, shares) -> None:
            assert value == pytest.approx(fundvalue * shares)

    cerebro = bt.Cerebro(writer=False)
    cerebro.addcalendar(bt.TradingCalendar(open=dt.time(0, 0), close=dt.time(23, 59, 59)))
    cerebro.addwriter(bt.WriterFile, out=str(tmp_path / "out.csv"), csv=True)
    cerebro.add_timer(when=dt.time(12, 0), strats=True)
    for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
        frame = candles(number + 7, 120, start=100.0 * (number + 1))
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(mode=mode, cash=2000.0, fundmode=True))
    cerebro.addsizer(FreeMarginSizer, share=0.05)
    for analyzer in (
        bt.analyzers.SQN,
        bt.analyzers.TradeAnalyzer,
        bt.analyzers.DrawDown,
        bt.analyzers.TimeReturn,
        bt.analyzers.Transactions,
    ):
        cerebro.addanalyzer(analyzer)
    cerebro.addstrategy(Timed)
    (strategy,) = cerebro.run()
    assert heard
    assert (tmp_path / "out.csv").read_text().count("\n") > 100
    assert strategy.analyzers.tradeanalyzer.get_analysis().total.total > 0
    fresh = pickle.loads(pickle.dumps(CrossMarginBroker(mode=mode)))  # noqa: S301 - our own
    assert fresh.p.mode == mode


def test_feeds_that_deliver_irregularly() -> None:
    """Bars at odd times, two in a minute and none for an hour, as a live feed gives them; each trades on its own."""
    draw = np.random.default_rng(3)
    cerebro = bt.Cerebro(stdstats=False, preload=False, runonce=False)
    for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
        frame = candles(number + 7, 120, start=100.0 * (number + 1))
        offsets = np.cumsum(draw.choice([30, 60, 600, 3600], 120))
        frame.index = pd.Timestamp("2025-01-01") + pd.to_timedelta(offsets, unit="s")
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0, leverage=20.0, check=True))
    cerebro.addstrategy(RandomTrader, seed=9, size=20.0)
    (strategy,) = cerebro.run()
    check_books(strategy, INSTRUMENTS, "one_way")


def test_orders_that_ended_are_let_go() -> None:
    """The broker and the strategy under backtrader's own loop keep the latest thousand; stock keeps all, for ever."""
    index = pd.date_range("2024-01-01", periods=1_200, freq="h")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 100.0), index=index)

    class Turner(bt.Strategy):
        def next(self):
            self.order_target_size(target=len(self) % 2)

    cerebro = bt.Cerebro()
    cerebro.adddata(feeds.from_frame(frame, name="BTC", instrument=PLAIN))
    cerebro.setbroker(CrossMarginBroker(cash=1e6))
    cerebro.addstrategy(Turner)
    (ran,) = cerebro.run()
    assert (len(ran.broker.orders), len(ran._orders), ran.broker.fills) == (1000, 1000, 1199)
