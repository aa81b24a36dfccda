# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin_bt.Cerebro` against backtrader's own: identical results, bit for bit, for every feature of a run."""

import datetime as dt
import io
import logging
import math
import struct
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from budget import examples, in_rotation
from compared import frame_of
from hypothesis import given
from hypothesis import strategies as st

import crossmargin_bt as cm
from crossmargin_bt.rolling import rolling_extreme, rolling_fsum


def bits(values: Any) -> list[bytes]:
    """Return the bytes of floats, so that NaN equals itself and -0.0 does not equal 0.0."""
    return [struct.pack("<d", value) for value in values]


INDICATORS = {
    "sma": lambda d: bt.ind.SMA(d, period=7),
    "ema": lambda d: bt.ind.EMA(d, period=9),
    "smma": lambda d: bt.ind.SmoothedMovingAverage(d, period=5),
    "wma": lambda d: bt.ind.WMA(d, period=6),
    "rsi": lambda d: bt.ind.RSI(d, period=6),
    "rsi safe": lambda d: bt.ind.RSI(d, period=6, safediv=True),
    "atr": lambda d: bt.ind.ATR(d, period=8),
    "bollinger": lambda d: bt.ind.BollingerBands(d, period=10),
    "highest": lambda d: bt.ind.Highest(d.high, period=11),
    "lowest": lambda d: bt.ind.Lowest(d.low, period=12),
    "crossover": lambda d: bt.ind.CrossOver(bt.ind.SMA(d, period=3), bt.ind.SMA(d, period=8)),
    "macd": lambda d: bt.ind.MACDHisto(d, period_me1=3, period_me2=6, period_signal=4),
    "stochastic": lambda d: bt.ind.Stochastic(d, period=6, safediv=True),
    "operations": lambda d: bt.ind.SMA(abs(d.close(-2) - d.open) * 2.0 + 100.0 / d.close, period=4),
    "logic": lambda d: bt.And(d.close > d.open, d.high - d.low > 0.1, bt.Or(d.close > 100.0, d.volume > 1.0)),
    "extremes": lambda d: bt.Max(d.close, d.open, d.close(-1)) - bt.Min(d.close, d.open),
    "sum": lambda d: bt.ind.SumN(d.close - d.open, period=5),
    "delayed": lambda d: bt.ind.EMA(d.close(-3), period=4)(-1),
    "nested": lambda d: bt.ind.SMA(bt.ind.EMA(bt.ind.RSI(d, period=4), period=3), period=5),
}


class Watcher(bt.Strategy):
    """Records the values of an indicator in every bar."""

    params = (("make", None),)

    def __init__(self) -> None:
        self.one = self.p.make(self.data)
        self.seen: list[tuple[float, ...]] = []

    def next(self) -> None:
        lines = self.one.lines if isinstance(self.one, bt.linebuffer.LineBuffer) else self.one.lines.lines
        self.seen.append((float(len(self)), *(line[0] for line in lines)))


def harmed(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return candles with values that are numerically difficult to sum and compare."""
    if kind == "plateaus":
        return frame.round(0)
    if kind == "far apart":
        frame = frame.copy()
        frame.loc[frame.index[30:60]] *= 1e9
    return frame


@pytest.mark.parametrize("kind", ["plain", "plateaus", "far apart"])
@pytest.mark.parametrize("name", INDICATORS)
def test_indicators_come_out_the_same(name: str, kind: str) -> None:
    """Every value of every line, to the last bit."""
    found = []
    for kindof in (bt.Cerebro, cm.Cerebro):
        cerebro = kindof(stdstats=False)
        cerebro.adddata(cm.feeds.from_frame(harmed(frame_of(3, 150), kind), name="A"))
        cerebro.addstrategy(Watcher, make=INDICATORS[name])
        (ran,) = cerebro.run()
        found.append([bits(row) for row in ran.seen])
    assert len(found[0]) > 100
    assert found[0] == found[1]


def test_turbo_differs_in_last_digits_at_most() -> None:
    """NumPy's powers equal Python's up to rounding."""
    found = []
    for turbo in (False, True):
        cerebro = cm.Cerebro(stdstats=False, turbo=turbo)
        cerebro.adddata(cm.feeds.from_frame(frame_of(3, 400), name="A"))
        cerebro.addstrategy(Watcher, make=INDICATORS["bollinger"])
        (ran,) = cerebro.run()
        found.append(np.array(ran.seen))
    assert np.allclose(found[0], found[1], rtol=1e-9)


wide = (
    st.floats(-1e12, 1e12, allow_nan=False)
    | st.integers(-9, 9).map(float)
    | st.sampled_from([1e300, -1e300, 5e-324, math.nan])
)


@examples(100)
@given(st.lists(wide, min_size=1, max_size=60), st.integers(1, 40))
def test_sums_over_windows_are_those_of_fsum(values: list[float], period: int) -> None:
    """With ties, cancellation, intermediate overflow and missing values."""
    whole = [values[n : n + period] for n in range(len(values) - period + 1)]
    try:
        expected = [math.fsum(window) for window in whole]
    except OverflowError:
        with pytest.raises(OverflowError):
            rolling_fsum(np.array(values), period)
        return
    assert bits(rolling_fsum(np.array(values), period)) == bits(expected)


@examples(100)
@given(st.lists(wide | st.sampled_from([0.0, -0.0]), min_size=1, max_size=40), st.integers(1, 20), st.booleans())
def test_extremes_of_windows_are_those_of_max(values: list[float], period: int, highest: bool) -> None:
    """Zeros of both signs and NaN are treated as by Python's own functions."""
    pick = max if highest else min
    expected = [pick(values[n : n + period]) for n in range(len(values) - period + 1)]
    if expected:
        assert bits(rolling_extreme(np.array(values), period, highest=highest)) == bits(expected)


def test_sums_round_ties_as_fsum_does() -> None:
    """1 + 2**-53 is halfway between two doubles; the smallest addend decides."""
    values = np.array([1.0, 2.0**-53, 2.0**-106, 1.0, 2.0**-53, -(2.0**-107), 3.0, -3.0, 2.0**-53])
    for period in range(1, 10):
        expected = [math.fsum(values[n : n + period]) for n in range(len(values) - period + 1)]
        assert bits(rolling_fsum(values, period)) == bits(expected)


class Busy(bt.Strategy):
    """Uses every feature of a strategy: indicators on every feed, orders of all kinds, timers, own lines, notifications."""

    lines = ("mine",)
    params = (("timed", False), ("open", False))

    def __init__(self) -> None:
        self.cross = [bt.ind.CrossOver(data.close, bt.ind.SMA(data, period=9)) for data in self.datas]
        self.mean = bt.ind.SMA(self.data.close + self.data.open, period=5)
        self.far = bt.ind.EMA(self.datas[-1], period=4)
        self.told: list[Any] = []
        if self.p.timed:
            self.add_timer(when=dt.time(6), cheat=self.p.open)

    def notify_order(self, order: Any) -> None:
        self.told.append((len(self), order.status, order.executed.size, order.executed.price, order.executed.comm))

    def notify_trade(self, trade: Any) -> None:
        self.told.append((len(self), trade.size, trade.pnl, trade.pnlcomm, trade.barlen, trade.isclosed))

    def notify_cashvalue(self, cash: float, value: float) -> None:
        self.told.append((cash, value))

    def notify_fund(self, cash: float, value: float, fundvalue: float, shares: float) -> None:
        self.told.append((fundvalue, shares))

    def notify_timer(self, timer: Any, when: Any, *args: Any, **kwargs: Any) -> None:
        self.told.append(("timer", when, len(self), self.data.close[0], self.mean[0]))

    def next_open(self) -> None:
        self.told.append(("open", len(self), self.data.open[0], len(self.mean)))

    def prenext(self) -> None:
        self.told.append(("prenext", [len(data) for data in self.datas]))

    def nextstart(self) -> None:
        self.told.append(("nextstart", len(self)))
        self.next()

    def next(self) -> None:
        self.lines.mine[0] = self.mean[0]
        self.told.append(
            (len(self), self.datetime[0], self.mean[0], [data.close[0] for data in self.datas], self.broker.getvalue())
        )
        for data, cross in zip(self.datas, self.cross, strict=True):
            if cross[0] > 0:
                self.order_target_percent(data, 0.5)
                self.sell(data=data, size=0.5, exectype=bt.Order.StopTrail, trailpercent=0.01)
            elif cross[0] < 0:
                self.close(data=data)
                self.buy(
                    data=data,
                    size=0.3,
                    exectype=bt.Order.Limit,
                    price=data.close[0] * 0.99,
                    valid=dt.timedelta(hours=5),
                )
        if len(self) % 40 == 0:
            self.buy_bracket(
                size=0.4,
                price=self.data.close[0] * 0.999,
                stopprice=self.data.close[0] * 0.97,
                limitprice=self.data.close[0] * 1.02,
            )


def ran(kind: Any, prepare: Any, *, runs: int = 1, **settings_: Any) -> list[Any]:
    """Return everything that a run delivers: notifications, lines, values and analyzers."""
    cerebro = kind(**settings_)
    prepare(cerebro)
    told: list[Any] = []
    for _ in range(runs):
        for strategy in cerebro.run():
            lines = [bits(line.array) for line in strategy.lines.lines]
            watched = [bits(line.array) for one in strategy.observers for line in one.lines.lines]
            analyses = [one.get_analysis() for one in strategy.analyzers]
            ends = [(len(data), data.buflen(), data.close[0], data.tick_close) for data in strategy.datas]
            told.append(
                (strategy.told, len(strategy), lines, watched, repr(analyses), ends, strategy.broker.getvalue())
            )
            told.append([repr(event) for event in getattr(strategy.broker, "journal", ())])
    return told


def prepare(
    cerebro: Any, *, feeds: str = "block", steps: tuple[int, ...] = (1, 1), broker: str = "ours", strategies: int = 1, extras: bool = True,
    resampled: str = "", **params: Any,
) -> None:  # fmt: skip
    """Fill a Cerebro."""
    instruments = {name: cm.Instrument(symbol=name, lot=0.001) for name in "ABC"}
    for n, step in enumerate(steps):
        name, frame = "ABC"[n], frame_of(n, 300).iloc[n * 3 :: step]
        if feeds == "block":
            cerebro.adddata(cm.feeds.from_frame(frame, name=name, instrument=instruments[name]))
        else:
            cerebro.adddata(
                bt.feeds.PandasData(dataname=frame, name=name, timeframe=bt.TimeFrame.Minutes, compression=60)
            )
    if resampled:
        data = bt.feeds.PandasData(dataname=frame_of(9, 200), name="X", timeframe=bt.TimeFrame.Minutes, compression=60)
        getattr(cerebro, resampled)(data, timeframe=bt.TimeFrame.Minutes, compression=180, name="R")
    if broker == "ours":
        used = {name: instruments[name] for name in "ABC"[: len(steps)]}
        cerebro.setbroker(cm.CrossMarginBroker(cash=1000.0, leverage=5.0, instruments=used))
    else:
        cerebro.broker.setcash(10_000.0)
    for _ in range(strategies):
        cerebro.addstrategy(Busy, **params)
    if extras:
        cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Days)
        cerebro.addanalyzer(bt.analyzers.DrawDown)
        cerebro.addanalyzer(bt.analyzers.TradeAnalyzer)


CASES = {
    "plain": {},
    "one feed": {"steps": (1,)},
    "unequal clocks": {"steps": (1, 4, 7)},
    "PandasData": {"feeds": "pandas", "steps": (1, 3)},
    "stock broker": {"broker": "stock"},
    "stock everything": {"broker": "stock", "feeds": "pandas"},
    "three strategies": {"strategies": 3},
    "timers": {"timed": True},
    "timers that cheat": {"timed": True, "open": True},
    "nothing added": {"extras": False},
    "resampled": {"steps": (1,), "resampled": "resampledata"},
    "replayed": {"steps": (1,), "resampled": "replaydata", "broker": "stock", "feeds": "pandas"},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "observers": {"stdstats": True},
    "no observers": {"stdstats": False},
    "cheat on open": {"stdstats": False, "cheat_on_open": True},
    "quicknotify": {"stdstats": False, "quicknotify": True},
    "lookahead": {"stdstats": False, "lookahead": 3},
    "trade history": {"stdstats": False, "tradehistory": True},
}


@pytest.mark.parametrize(("case", "setting"), in_rotation(CASES, list(SETTINGS), each=2))
def test_a_run_is_the_same_as_backtraders(case: str, setting: str, caplog: Any) -> None:
    """Every notification, line, observer, analyzer and journal entry, with our loop in use."""
    fill = lambda cerebro: prepare(cerebro, **CASES[case])  # noqa: E731
    with caplog.at_level(logging.INFO, "crossmargin_bt.cerebro"):
        assert ran(cm.Cerebro, fill, **SETTINGS[setting]) == ran(bt.Cerebro, fill, **SETTINGS[setting])
    fed_one_by_one = "resampled" in CASES[case]
    assert [record.getMessage()[:26] for record in caplog.records] == ["backtrader's own run loop:"] * fed_one_by_one


def test_a_second_run_and_a_writer_are_the_same() -> None:
    """Lines are restored after a run, and a writer's output is byte for byte the same."""
    texts = []
    for kind in (bt.Cerebro, cm.Cerebro):
        out = io.StringIO()

        def fill(cerebro: Any, out: Any = out) -> None:
            prepare(cerebro)
            cerebro.addwriter(bt.WriterFile, out=out, csv=True)

        told = ran(kind, fill, runs=2, stdstats=True)
        texts.append((told, out.getvalue()))
    assert texts[0] == texts[1]
    assert len(texts[0][1]) > 10_000


def test_an_optimisation_is_the_same() -> None:
    """`optstrategy` uses the same loop."""
    found = []
    for kind in (bt.Cerebro, cm.Cerebro):
        cerebro = kind(stdstats=False, maxcpus=1, optreturn=False)
        prepare(cerebro, strategies=0)
        cerebro.optstrategy(Busy, timed=[False, True])
        found.append([repr([one.told for one in runs]) for runs in cerebro.run()])
    assert found[0] == found[1]


class Stopper(bt.Strategy):
    """Orders in every bar, and stops the run in the middle or at the start."""

    params = (("where", "next"),)

    def __init__(self) -> None:
        self.told: list[Any] = []
        if "timer" in self.p.where:
            self.add_timer(when=dt.time(6), cheat=self.p.where == "cheating timer")

    def start(self) -> None:
        self.stop_in("start", 0)

    def next_open(self) -> None:
        self.stop_in("open", 50)

    def notify_timer(self, timer: Any, when: Any, *args: Any, **kwargs: Any) -> None:
        self.stop_in(self.p.where, 40)

    def notify_order(self, order: Any) -> None:
        self.told.append((len(self), order.getstatusname()))
        self.stop_in("order", 50)

    def next(self) -> None:
        self.told.append(len(self))
        self.buy(size=0.01)
        self.stop_in("next", 50)

    def stop_in(self, where: str, bar: int) -> None:
        if where == self.p.where and len(self) >= bar:
            self.cerebro.runstop()


@pytest.mark.parametrize("where", ["next", "order", "timer", "cheating timer", "open", "start"])
def test_a_run_stops_where_it_is_asked_to(where: str) -> None:
    """In the same bar, with the lines at the same index; if a timer or a start stops it, the broker still processes the bar."""

    def fill(cerebro: Any) -> None:
        prepare(cerebro, strategies=0)
        cerebro.addstrategy(Stopper, where=where)

    told = ran(cm.Cerebro, fill, cheat_on_open=where == "open")
    assert told == ran(bt.Cerebro, fill, cheat_on_open=where == "open")
    assert told[0][1] < 70


class Odd(bt.Strategy):
    """Overrides a method that the loop replaces."""

    def _notify(self, *args: Any, **kwargs: Any) -> None:
        super()._notify(*args, **kwargs)


def test_unsupported_strategies_run_in_backtraders_loop_with_a_logged_reason(caplog: Any) -> None:
    """The reason names the overridden method."""
    cerebro = cm.Cerebro(stdstats=False)
    cerebro.adddata(cm.feeds.from_frame(frame_of(1, 60), name="A"))
    cerebro.addstrategy(Odd)
    with caplog.at_level(logging.INFO, "crossmargin_bt.cerebro"):
        cerebro.run()
    assert "backtrader's own run loop: Odd overrides _notify" in caplog.text


class Second(bt.Strategy):
    """Records the length of its own and the other strategy's indicators in every bar and at the end."""

    params = (("stops", False),)

    def __init__(self) -> None:
        self.mean = bt.ind.SMA(self.data, period=3)
        self.told: list[Any] = []

    def next(self) -> None:
        self.told.append([(len(one), len(one.mean), one.mean[0]) for one in self.cerebro.runningstrats])
        if self.p.stops and len(self) == 60:
            self.cerebro.runstop()

    def stop(self) -> None:
        self.told.append((len(self), len(self.data), len(self.mean), self.mean[0]))


def test_several_strategies_advance_their_indicators_in_turn() -> None:
    """A strategy that stops the run leaves the later ones at the same bar as under backtrader."""

    def fill(cerebro: Any) -> None:
        prepare(cerebro, strategies=0)
        cerebro.addstrategy(Second, stops=True)
        cerebro.addstrategy(Second)

    assert ran(cm.Cerebro, fill) == ran(bt.Cerebro, fill)


class Changing(bt.Strategy):
    """Replaces its `next` in the middle of the run, and has no lines of its own."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def next(self) -> None:
        self.told.append((len(self), self.datetime[0]))
        if len(self) == 20:
            self.next = self.later

    def later(self) -> None:
        self.told.append(("later", len(self), self.datetime.get(ago=-1, size=3).tolist()))
        if len(self) == 40:
            del self.next


def test_a_strategy_may_replace_its_next() -> None:
    """The replacement is called from the following bar on."""

    def fill(cerebro: Any) -> None:
        prepare(cerebro, strategies=0)
        cerebro.addstrategy(Changing)

    (told, _), (others, _) = ran(cm.Cerebro, fill), ran(bt.Cerebro, fill)
    assert told == others
    assert sum(entry[0] == "later" for entry in told[0]) == 20


class ChangingWatch(bt.Analyzer):
    """Replaces its `next` in the middle of the run."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def next(self) -> None:
        self.rows.append(len(self.strategy))
        if len(self.strategy) == 30:
            self.next = self.later

    def later(self) -> None:
        self.rows.append(("later", len(self.strategy)))

    def get_analysis(self) -> list[Any]:
        return self.rows


class Awaking(bt.Strategy):
    """Assigns a notification method in the middle of the run, in a bar in which it also orders."""

    params = (("to", "notify_order"),)

    def __init__(self) -> None:
        self.told: list[Any] = []

    def next(self) -> None:
        if len(self) == 20:
            setattr(self, self.p.to, lambda *heard: self.told.append([getattr(one, "status", one) for one in heard]))
        if len(self) % 3 == 2:
            (self.buy if len(self) % 2 else self.sell)(size=0.01)


@pytest.mark.parametrize("to", ["notify_order", "notify_cashvalue", "notify_fund", "notify_trade"])
def test_a_handler_assigned_during_the_run_receives_all_later_notifications(to: str) -> None:
    """The handlers found at the start of the run are not the only ones."""

    def fill(cerebro: Any) -> None:
        prepare(cerebro, strategies=0, extras=False)
        cerebro.addstrategy(Awaking, to=to)
        cerebro.addanalyzer(ChangingWatch)

    (found, _), (others, _) = ran(cm.Cerebro, fill), ran(bt.Cerebro, fill)
    assert found == others
    assert len(found[0]) > 50


@pytest.mark.parametrize("first", [0, 37, 10_000])
@pytest.mark.parametrize("frames", [(80,), (80, 60)])
def test_a_recorder_that_reads_at_the_end_equals_one_that_reads_every_bar(first: int, frames: tuple[int, ...]) -> None:
    """Also with a start in the middle or after the end, and with feeds of unequal length."""
    found = []
    for kind in (bt.Cerebro, cm.Cerebro):
        cerebro = kind(stdstats=False)
        for n, bars in enumerate(frames):
            frame = frame_of(n, bars)
            cerebro.adddata(cm.feeds.from_frame(frame, name=f"D{n}", instrument=cm.Instrument(symbol=f"D{n}", lot=0.1)))
        cerebro.setbroker(cm.CrossMarginBroker(cash=10_000.0))
        since = int(frame_of(0, 80).index.as_unit("ms").asi8[min(first, 79)]) + (first > 79)
        cerebro.addanalyzer(cm.Recorder, detail=False, since_ms=since if first else None)
        cerebro.addstrategy(Turning)
        (strategy,) = cerebro.run()
        found.append(strategy.analyzers[0].get_analysis())
    assert found[0] == found[1]
    assert len(found[0]["times_ms"]) == max(0, 80 - first)
    assert found[0]["fills"] > 5


class Turning(bt.Strategy):
    """Reverses its position every ten bars."""

    def next(self) -> None:
        if len(self) % 10 == 0:
            self.order_target_size(target=1.0 if len(self) % 20 else -1.0)
