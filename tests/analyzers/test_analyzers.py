# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers: figures by hand and against another library, plain data, and every mode."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
import warnings

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from random_runs import INSTRUMENTS
from random_trader import RandomTrader, candles
from scripted import FLAT, PLAIN, bars, run

from crossmargin_bt import CrossMarginBroker, Instrument, analyzers, feeds, observers, performance
from crossmargin_bt.engine.ledger import events

ALL = [getattr(analyzers, name) for name in analyzers.__all__]


def analysed(mode: str, *, cpus: int | None = None, **settings):
    """Run the random strategy with all analyzers; return the analyses by name, and the broker."""
    cerebro = bt.Cerebro(stdstats=False, **({"maxcpus": cpus} if cpus else {}))
    for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
        frame = candles(number + 3, 150, start=100.0 * (number + 1))
        frame["funding_rate"] = np.where(np.arange(len(frame)) % 8 == 0, 0.001, np.nan)
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    broker = CrossMarginBroker(mode=mode, cash=1000.0, leverage=20.0, **settings)
    cerebro.setbroker(broker)
    if cpus:
        cerebro.optstrategy(RandomTrader, seed=[2, 3], size=40.0)
    else:
        cerebro.addstrategy(RandomTrader, seed=2, size=40.0)
    for kind in ALL:
        cerebro.addanalyzer(kind, _name=kind.__name__)
    ran = cerebro.run()
    strategy = ran[0][0] if cpus else ran[0]
    return {kind.__name__: getattr(strategy.analyzers, kind.__name__).get_analysis() for kind in ALL}, broker


@pytest.mark.parametrize("mode", ["cash", "isolated", "cross"])
def test_every_analysis_is_plain_data(mode: str) -> None:
    """It can be written as JSON and pickled, and is the same from two processes."""
    found, broker = analysed(mode)
    assert json.loads(json.dumps(found)).keys() == found.keys()
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own
    apart, _ = analysed(mode, cpus=2)
    assert json.dumps(apart) == json.dumps(found)
    use = found["MarginUse"]
    assert len({len(values) for values in use.values()}) == 1
    assert use["equity"][-1] == broker.equity
    if mode == "cash":
        return
    fees = found["FundingAndFees"]
    assert fees["fees"] == pytest.approx(broker.account.fees)
    assert fees["funding"] == pytest.approx(broker.account.funding)
    assert sum(own["settlements"] for own in fees["by_symbol"].values()) == fees["settlements"] > 0
    assert len(found["Journal"]) == len(broker.journal)
    liquidated = [event for event in broker.journal if isinstance(event, events.Liquidated)]
    assert [one["time_ms"] for one in found["Liquidations"]] == [event.time_ms for event in liquidated]
    forced = [event for event in broker.journal if isinstance(event, events.Filled) and event.forced]
    assert sum(len(one["fills"]) for one in found["Liquidations"]) == len(forced) > 0
    assert sum(one["borne"] for one in found["Liquidations"]) == pytest.approx(
        sum(e.amount for e in broker.journal if isinstance(e, events.InsuranceFundTakeover))
    )
    refused = [event for event in broker.journal if isinstance(event, events.OrderRefused)]
    assert [one["reason"] for one in found["Rejections"]] == [event.reason for event in refused]
    assert all(one["reason"] for one in found["Rejections"])
    trades = found["TradeJournal"]
    assert any(one["forced"] for one in trades)
    assert all(one["result"] == pytest.approx(one["profit"] - one["fees"]) for one in trades)


def test_a_settlement_at_expiry_is_no_liquidation() -> None:
    """A settlement after a liquidation is not one of its fills, and its cause is "expiry"."""
    index = pd.date_range("2025-06-26", periods=48, freq="h")
    falls, stays = ([100.0] * 5 + [80.0] * 43, [100.0] * 48)
    expiry = dt.datetime(2025, 6, 27, 12, tzinfo=dt.UTC)
    contracts = {
        "ETHP": Instrument(symbol="ETHP", lot=0.01, underlying="ETH"),
        "BTCF": Instrument(symbol="BTCF", kind="future", underlying="BTC", lot=0.01, expiry=expiry),
    }

    class BuysBoth(bt.Strategy):
        def next(self):
            if len(self) == 2:
                for data in self.datas:
                    self.buy(data=data, size=1.0)

    cerebro = bt.Cerebro(stdstats=False)
    for (name, contract), close in zip(contracts.items(), (falls, stays), strict=True):
        opens = [close[0], *close[:-1]]
        frame = pd.DataFrame(
            {"open": opens, "high": np.maximum(opens, close), "low": np.minimum(opens, close), "close": close}, index
        )
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
    broker = CrossMarginBroker(cash=1000.0, mode="isolated", leverage=10.0)
    cerebro.setbroker(broker)
    cerebro.addstrategy(BuysBoth)
    cerebro.addanalyzer(analyzers.Liquidations)
    cerebro.addobservermulti(observers.VenueMarks)
    (strategy,) = cerebro.run()
    (liquidation,) = strategy.analyzers[0].get_analysis()
    assert {fill["symbol"] for fill in liquidation["fills"]} == {"ETHP"}
    causes = {
        event.symbol: event.cause for event in broker.journal if isinstance(event, events.Filled) and event.forced
    }
    assert causes == {"ETHP": "liquidation", "BTCF": "expiry"}
    drawn = strategy._lineiterators[bt.LineIterator.ObsType]
    marks = {one.data._name: np.isfinite(one.lines.liquidation.array).sum() for one in drawn}
    assert marks == {"ETHP": 1, "BTCF": 0}


def test_figures_agree_with_another_library() -> None:
    """Empyrical with 365 periods per year, on two hundred random curves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empyrical = pytest.importorskip("empyrical")
    draw = np.random.default_rng(1)
    for _ in range(200):
        days = int(draw.integers(3, 400))
        moves = draw.normal(0.001, 0.03, days)
        equity = (1000.0 * np.cumprod(1 + moves)).tolist()
        found = performance.performance_metrics([n * performance.MS_PER_DAY for n in range(days)], equity, 1000.0)
        series = pd.Series(moves, index=pd.date_range("2024-01-01", periods=days, freq="D"))
        assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(series, annualization=365))
        assert found.sortino == pytest.approx(empyrical.sortino_ratio(series, annualization=365))
        assert found.drawdown_max == pytest.approx(-empyrical.max_drawdown(series))
        assert found.annual_return == pytest.approx(empyrical.annual_return(series, annualization=365))
        assert found.calmar == pytest.approx(empyrical.calmar_ratio(series, annualization=365))
        assert found.volatility == pytest.approx(empyrical.annual_volatility(series, annualization=365))


def test_figures_are_defined_at_zero_equity() -> None:
    """Equity 0 for the rest of the run: a return of -100 %, no exception, zero returns afterwards."""
    found = performance.performance_metrics(
        [n * performance.MS_PER_DAY for n in range(4)], [1100.0, 0.0, 0.0, 0.0], 1000.0
    )
    assert (found.total_return, found.annual_return, found.drawdown_max) == (-1.0, -1.0, 1.0)
    assert math.isfinite(found.sharpe)
    assert performance.performance_metrics([], [], 1000.0).sharpe is None
    assert (
        performance.performance_metrics([0, 3_600_000], [1000.0, 9000.0], 1000.0).annual_return is None
    )  # 9 to the power of 365


def test_capital_efficiency_by_hand() -> None:
    """50 lots at 100 and 10x use a margin of 500 for three hours and earn 100: 100 over 1,500 margin-hours."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0)
    rows = [FLAT, FLAT, FLAT, FLAT, (100.0, 102.0, 100.0, 102.0)]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*rows), name="BTC", instrument=PLAIN))
    cerebro.setbroker(broker)

    class Once(bt.Strategy):
        def next(self) -> None:
            if len(self) == 1:
                self.buy(size=50)

    cerebro.addstrategy(Once)
    cerebro.addanalyzer(analyzers.CapitalEfficiency, _name="use")
    found = cerebro.run()[0].analyzers.use.get_analysis()
    assert found["profit"] == pytest.approx(100.0)
    assert found["margin_hours"] == pytest.approx(3 * 500.0)
    assert found["margin_mean"] == pytest.approx((0 + 3 * 500 + 510) / 5)
    assert found["profit_per_margin_hour"] == pytest.approx(100 / 1500)
    assert found["return_on_peak"] == pytest.approx(100 / 510)


class Planned(bt.Strategy):
    """One bracket with a plan."""

    def next(self) -> None:
        if len(self) == 1:
            self.buy_bracket(
                size=10, exectype=bt.Order.Market, stopprice=95.0, limitprice=110.0, oargs={"plan": "the trend"}
            )


@pytest.mark.parametrize(("last", "exit_price", "multiple"), [(112.0, 110.0, 2.0), (90.0, 95.0, -1.0)])
def test_a_trade_journal_row(last: float, exit_price: float, multiple: float) -> None:
    """Bought at 100 with a stop at 95 and a target at 110: an R multiple of 2 or -1."""
    rows = [FLAT, FLAT, FLAT, (100.0, max(100.0, last), min(100.0, last), last), FLAT]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*rows), name="BTC", instrument=PLAIN))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0, leverage=10.0))
    cerebro.addstrategy(Planned)
    cerebro.addanalyzer(analyzers.TradeJournal, _name="trades")
    (row,) = cerebro.run()[0].analyzers.trades.get_analysis()
    assert (row["plan"], row["entry"], row["stop"], row["target"]) == ("the trend", 100.0, 95.0, 110.0)
    assert (row["exit"], row["size"], row["side"]) == (exit_price, 10.0, "long")
    assert row["multiple"] == pytest.approx(multiple)
    assert not row["forced"]


def test_pyfolio_reads_the_account() -> None:
    """The PyFolio analyzer of backtrader: its daily returns compound to the return of the account."""
    cerebro = bt.Cerebro(stdstats=False)
    instrument = Instrument(symbol="AAA", lot=0.01)
    cerebro.adddata(feeds.from_frame(candles(4, 300, start=100.0), name="AAA", instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0))
    cerebro.addstrategy(RandomTrader, seed=1, size=5.0)
    cerebro.addanalyzer(bt.analyzers.PyFolio, _name="pyfolio")
    cerebro.addanalyzer(analyzers.CryptoReturns, _name="ours")
    (strategy,) = cerebro.run()
    daily, *_ = strategy.analyzers.pyfolio.get_pf_items()
    found = strategy.analyzers.ours.get_analysis()
    assert (1 + daily).prod() - 1 == pytest.approx(found["total_return"], abs=1e-9)
    assert len(daily) == found["days"] == len(found["daily"])


def test_a_plan_may_be_given_to_any_order() -> None:
    """The keyword `plan` is accepted without a bracket."""
    broker = CrossMarginBroker(cash=1000.0)
    run(broker, bars(FLAT, FLAT, FLAT), scripts=({1: lambda s: s.buy(size=1, plan="why not")},), instrument=PLAIN)
    assert broker.account.books["BTC"].legs
