# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker's place in backtrader: settings, several strategies, pickling, stock analyzers, odd feeds."""

import pickle

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from random_trader import RandomTrader, candles
from scripted import BTC, FLAT, Scripted, bars, run

import crossmargin_bt
from crossmargin_bt import CrossMarginBroker, Instrument, feeds
from crossmargin_bt.broker.analyzers import LiquidationDistance, Recorder
from crossmargin_bt.broker.sizers import MaximumSizer
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.errors import ConfigurationError, FeedError


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"mode": "croos"}, "unknown mode 'croos'; did you mean 'cross'"),
        ({"mode": "multi_currency"}, "multi_currency is no mode; use mode='cross', pooling='multi_currency'"),
        ({"venue": "okxx"}, "unknown venue 'okxx'; did you mean 'okx'"),
        ({"cash": -5.0}, "cash must be above 0"),
        ({"leverage": 0.5}, "leverage of the account must be 1 or more"),
        ({"leverage": {"BTC": "ten"}}, "leverage of BTC must be a number"),
        ({"position_mode": "both"}, "unknown position_mode 'both'"),
        ({"path": "zigzag"}, "unknown path 'zigzag'"),
        ({"levrage": 5}, "unknown broker setting 'levrage'; did you mean 'leverage'"),
    ],
)
def test_settings_are_checked_at_once(settings: dict, text: str) -> None:
    """With what was wrong and what to write instead."""
    with pytest.raises(ConfigurationError, match=text):
        CrossMarginBroker(**settings)


def test_leverage_above_the_maximum_is_an_error() -> None:
    """At the start of the run, and when it is set during it."""
    with pytest.raises(ConfigurationError, match="leverage 500 of BTC is above its maximum of 125"):
        run(CrossMarginBroker(leverage=500.0), bars(FLAT, FLAT))
    with pytest.raises(ConfigurationError, match="above its maximum"):
        run(CrossMarginBroker(), bars(FLAT, FLAT), scripts=[{1: lambda s: s.broker.set_leverage(s.data, 126)}])


def test_feeds_need_names_and_an_instrument() -> None:
    """A margin broker cannot trade what it knows no contract of."""
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=bars(FLAT)))
    cerebro.setbroker(CrossMarginBroker())
    with pytest.raises(FeedError, match="no feed has an instrument"):
        cerebro.run()
    feed = feeds.from_frame(bars(FLAT), name="BTC", instrument=BTC)
    feed._name = ""
    cerebro = bt.Cerebro()
    cerebro.adddata(feed)
    cerebro.setbroker(CrossMarginBroker())
    with pytest.raises(FeedError, match="feed of BTC has no name"):
        cerebro.run()


def test_any_feed_trades_with_an_instrument_given_to_the_broker() -> None:
    """PandasData stays PandasData; one line changes."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=bars(FLAT, FLAT, FLAT), name="BTC"))
    cerebro.setbroker(CrossMarginBroker(instruments={"BTC": BTC}))
    cerebro.addstrategy(Scripted, script={1: lambda s: s.buy(size=1.0)})
    assert cerebro.run()[0].position.size == 1.0


def test_settings_made_in_a_run_end_with_it() -> None:
    """What was set before holds for every run."""
    broker = CrossMarginBroker(leverage=10.0)
    broker.set_leverage("BTC", 20)
    seen = []
    script = {
        1: lambda s: (seen.append(s.broker.account.books["BTC"].leverage), s.broker.set_leverage(s.data, 5)),
        2: lambda s: seen.append(s.broker.account.books["BTC"].leverage),
    }
    for _ in range(2):
        run(broker, bars(FLAT, FLAT), scripts=[script])
    assert seen == [20.0, 5.0, 20.0, 5.0]


def test_a_forced_close_reaches_each_strategy_and_tradeid() -> None:
    """Two strategies share the position; each hears of its own part, and no trade stays open."""
    scripts = [
        {1: lambda s: (s.buy(size=30.0, tradeid=1), s.buy(size=20.0, tradeid=2))},
        {1: lambda s: s.buy(size=40.0)},
    ]
    first, second = run(
        CrossMarginBroker(cash=1000.0, leverage=10.0), bars(FLAT, FLAT, (99.0, 99.0, 80.0, 85.0), FLAT), scripts=scripts
    )
    forced = [event for event in first.broker.journal if isinstance(event, events.Filled) and event.forced]
    assert [event.lots for event in forced] == [-9000]
    assert ("Completed", -30.0, 1) in first.orders_heard
    assert ("Completed", -20.0, 2) in first.orders_heard
    assert ("Completed", -40.0, 0) in second.orders_heard
    assert len(first.trades_closed) == 2
    assert len(second.trades_closed) == 1
    total = sum(pnl for _, pnl in first.trades_closed + second.trades_closed)
    assert total == pytest.approx(forced[0].realised)


def test_trades_agree_with_the_account() -> None:
    """The sum of all trades' profit is what the account realised, fees apart."""
    strategy = run(
        CrossMarginBroker(cash=1e5),
        candles(3, 80),
        scripts=[{n: lambda s: s.buy(size=1) if len(s) % 8 else s.sell(size=3) for n in range(1, 76, 4)}],
    )[0]
    book = strategy.broker.account.books["BTC"]
    open_profit = sum(t.pnl for t in strategy._trades[strategy.data][0])
    assert open_profit == pytest.approx(sum(book.realised.values()), abs=1e-9)


def test_broker_survives_pickling() -> None:
    """Sweeps send it to other processes."""
    broker = pickle.loads(pickle.dumps(CrossMarginBroker(mode="isolated", leverage=7.0)))  # noqa: S301 - our own bytes
    assert broker.p.leverage == 7.0
    assert run(broker, bars(FLAT, FLAT))[0].broker.getvalue() == 10_000.0


@pytest.mark.parametrize("cpus", [1, 2])
def test_optimisation_runs_start_anew(cpus: int) -> None:
    """Every combination on one broker, in one process or two, gives what it gives alone."""

    def results(**parameters):
        cerebro = bt.Cerebro(stdstats=False, maxcpus=cpus)
        cerebro.adddata(feeds.from_frame(candles(4, 60), name="BTC", instrument=BTC))
        cerebro.setbroker(CrossMarginBroker(cash=5000.0))
        cerebro.addanalyzer(Recorder, _name="record")
        cerebro.optstrategy(RandomTrader, **parameters)
        return [run[0].analyzers.record.get_analysis() for run in cerebro.run()]

    together = results(seed=(1, 2, 3))
    alone = [results(seed=(seed,))[0] for seed in (1, 2, 3)]
    assert together == alone
    assert together[0]["journal"] != together[1]["journal"]


STOCK_ANALYZERS = (
    "Returns", "TimeReturn", "DrawDown", "TimeDrawDown", "SharpeRatio", "SQN", "TradeAnalyzer", "Transactions",
    "PositionsValue", "GrossLeverage", "PyFolio", "LogReturnsRolling", "VWR", "AnnualReturn", "Calmar",
    "PeriodStats",
)  # fmt: skip


def test_stock_analyzers_and_observers_survive_the_loss_of_everything() -> None:
    """Equity is 0 in the journal; getvalue() keeps a billionth, so logarithms and quotients have a value."""
    cerebro = bt.Cerebro()
    rows = [FLAT] * 30 + [(80.0, 80.0, 80.0, 80.0)] * 30
    cerebro.adddata(feeds.from_frame(bars(*rows, freq="D"), name="BTC", instrument=BTC))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0, leverage=10.0))
    for name in STOCK_ANALYZERS:
        cerebro.addanalyzer(getattr(bt.analyzers, name), _name=name)
    cerebro.addstrategy(Scripted, script={3: lambda s: s.buy(size=99.0)})
    strategy = cerebro.run()[0]
    assert strategy.broker.equity == 0.0
    assert strategy.broker.account.bad_debt > 0
    assert strategy.analyzers.DrawDown.get_analysis()["max"]["drawdown"] == pytest.approx(100.0)


def test_targets_and_sizers_speak_of_notional() -> None:
    """order_target_percent(2.0) is a long of twice the equity, in whole lots."""
    script = {
        1: lambda s: s.order_target_percent(target=2.0),
        3: lambda s: s.order_target_value(target=-5000.0),
        5: lambda s: s.order_target_size(target=7.0),
    }
    strategy = run(CrossMarginBroker(leverage=10.0), bars(*[FLAT] * 8), scripts=[script])[0]
    filled = [e.lots for e in strategy.broker.journal if isinstance(e, events.Filled)]
    assert filled[0] == 20_000
    assert sum(filled[:2]) == -5000
    assert strategy.position.size == 7.0


def test_orders_before_the_first_bar_are_refused() -> None:
    """The stock broker would date them with the last bar of the file."""

    class Early(Scripted):
        def start(self) -> None:
            self.early = self.buy(size=1.0)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(FLAT, FLAT), name="BTC", instrument=BTC))
    cerebro.setbroker(CrossMarginBroker())
    cerebro.addstrategy(Early)
    strategy = cerebro.run()[0]
    assert strategy.early.getstatusname() == "Rejected"
    assert "no bar yet" in strategy.early.info.reject.reason
    assert strategy.orders_heard[0][0] == "Rejected"


def test_a_feed_without_a_new_bar_neither_fills_nor_pays() -> None:
    """An hourly order on a daily feed waits for the next day; the stock broker fills it on the bar that has closed."""
    hourly, daily = candles(5, 72), bars(FLAT, (100.0, 120.0, 80.0, 100.0), FLAT, freq="D")
    script = {30: lambda s: s.buy(data=s.data1, size=1.0, exectype=bt.Order.Limit, price=90.0)}
    strategy = run(CrossMarginBroker(), hourly, daily, scripts=[script])[0]
    assert not [e for e in strategy.broker.journal if isinstance(e, events.Filled)]


def test_bars_without_prices_are_ignored() -> None:
    """A NaN from somebody else's feed neither fills, marks nor spoils the account; the journal says so."""
    frame = bars(FLAT, FLAT, FLAT, (110.0, 110.0, 110.0, 110.0))
    frame.iloc[2] = np.nan
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame, name="BTC"))
    cerebro.setbroker(CrossMarginBroker(instruments={"BTC": BTC}))
    cerebro.addstrategy(Scripted, script={1: lambda s: s.buy(size=1.0)})
    broker = cerebro.run()[0].broker
    assert [event.symbol for event in broker.journal if isinstance(event, events.BarIgnored)] == ["BTC"]
    assert broker.getvalue() == pytest.approx(10_010.0 - 0.05)


def test_an_order_history_is_replayed() -> None:
    """Orders of a history fill at their prices and are margined like any other."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 5), name="BTC", instrument=BTC))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0))
    cerebro.add_order_history([["2025-01-01T01:00:00", 2, 99.0], ["2025-01-01T03:00:00", -2, 101.0]], notify=True)
    cerebro.addstrategy(Scripted)
    strategy = cerebro.run()[0]
    filled = [(e.lots, e.price) for e in strategy.broker.journal if isinstance(e, events.Filled)]
    assert filled == [(200, 99.0), (-200, 101.0)]
    assert strategy.trades_closed == [(0, 4.0)]


def test_added_cash_is_collateral() -> None:
    """And buys fund shares, so the fund value does not jump."""
    strategy = run(
        CrossMarginBroker(cash=1000.0), bars(FLAT, FLAT, FLAT), scripts=[{1: lambda s: s.broker.add_cash(500.0)}]
    )[0]
    assert strategy.broker.getvalue() == 1500.0
    assert strategy.broker.fundvalue == pytest.approx(100.0)
    assert strategy.broker.getcash() == 1500.0


def test_the_position_a_strategy_gets_is_a_copy() -> None:
    """Writing into it does not reach the account."""

    def spoil(strategy) -> None:
        strategy.getposition().size = 1e9

    strategy = run(CrossMarginBroker(), bars(*[FLAT] * 4), scripts=[{1: lambda s: s.buy(size=1.0), 3: spoil}])[0]
    assert strategy.position.size == 1.0


def test_public_names_are_what_they_say() -> None:
    """Every name of __all__ loads, and nothing else is offered."""
    for name in crossmargin_bt.__all__:
        assert getattr(crossmargin_bt, name)
    with pytest.raises(AttributeError, match="no attribute 'Brokr'"):
        _ = crossmargin_bt.Brokr


class Both(bt.Strategy):
    """Buys 50 of each feed on its first bar."""

    def next(self) -> None:
        if len(self) == 1:
            for data in self.datas:
                self.buy(data=data, size=50.0)


def test_the_safe_band_knows_where_silent_feeds_stand() -> None:
    """The second feed sinks and then pauses; the first one's next dip must be judged with it where it stands."""
    quiet, dip = (100.0, 100.5, 99.5, 100.0), (100.0, 100.0, 90.6, 100.0)
    first = [quiet] * 3 + [dip] + [quiet] * 2 + [(100.0, 100.0, 93.6, 100.0)] + [quiet] * 5
    second = [quiet] * 3 + [dip, quiet, (100.0, 100.0, 87.0, 87.0)] + [(87.0, 87.0, 87.0, 87.0)] * 6
    cerebro = bt.Cerebro(stdstats=False)
    rule = flat_rate(0.005)
    for name, frame in (("AAA", bars(*first)), ("BBB", bars(*second).drop(pd.Timestamp("2025-01-01 06:00")))):
        contract = Instrument(symbol=name, lot=0.01, maker=0.0, taker=0.0, maintenance=rule)
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0))
    cerebro.addstrategy(Both)
    broker = cerebro.run()[0].broker
    # 1000 + 50 (a - 100) + 50 (87 - 100) = 0.5 % of 50 a + 50 x 87 at a = 93.90.
    (end,) = [event for event in broker.journal if isinstance(event, events.Liquidated)]
    assert end.marks["AAA:net"] == pytest.approx(4671.75 / 49.75)


def test_a_copy_of_an_order_cancels_the_order_and_only_while_it_lives() -> None:
    """Strategies keep the copies that notify_order hands them."""

    class Keeper(Scripted):
        def notify_order(self, order) -> None:
            super().notify_order(order)
            if order.getstatusname() == "Accepted":
                self.kept = order

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 8), name="BTC", instrument=BTC))
    cerebro.setbroker(CrossMarginBroker())
    script = {
        1: lambda s: s.buy(size=1.0),
        3: lambda s: s.cancel(s.kept),
        4: lambda s: s.buy(size=1.0, exectype=bt.Order.Limit, price=50.0),
        6: lambda s: (s.cancel(s.kept), s.cancel(s.kept)),
    }
    cerebro.addstrategy(Keeper, script=script)
    strategy = cerebro.run()[0]
    ends = [status for status, *_ in strategy.orders_heard if status in ("Completed", "Canceled")]
    assert ends == ["Completed", "Canceled"]
    assert not strategy.broker.get_orders_open()


def test_cancelling_a_group_in_its_own_bar_takes_every_member() -> None:
    """Also those that the venue has not seen yet."""

    def group(strategy) -> None:
        leader = strategy.buy(size=1.0, exectype=bt.Order.Limit, price=90.0)
        strategy.buy(size=1.0, exectype=bt.Order.Limit, price=80.0, oco=leader)
        strategy.cancel(leader)

    strategy = run(CrossMarginBroker(), bars(*[FLAT] * 4), scripts=[{1: group}])[0]
    assert [status for status, *_ in strategy.orders_heard].count("Canceled") == 2
    assert not strategy.broker.get_orders_open()


def test_no_more_can_be_withdrawn_than_is_available() -> None:
    """A withdrawal never becomes bad debt; the journal says what was asked for."""
    script = {
        1: lambda s: s.buy(size=50.0),
        3: lambda s: s.broker.add_cash(-800.0),
        4: lambda s: s.broker.add_cash(-300.0),
    }
    strategy = run(CrossMarginBroker(cash=1000.0), bars(*[FLAT] * 6), scripts=[script])[0]
    refused = [event.amount for event in strategy.broker.journal if isinstance(event, events.WithdrawalRefused)]
    assert refused == [800.0]
    assert strategy.broker.getvalue() == pytest.approx(700.0 - 2.5)


def test_set_cash_twice_in_a_bar_sets_it() -> None:
    """The second call counts what the first has on its way."""
    script = {1: lambda s: (s.broker.set_cash(2000.0), s.broker.set_cash(2000.0))}
    strategy = run(CrossMarginBroker(cash=1000.0), bars(*[FLAT] * 4), scripts=[script])[0]
    assert strategy.broker.getvalue() == 2000.0


def test_leverage_set_between_runs_holds_for_the_next() -> None:
    """The position that the run before ended with has no say."""
    broker = CrossMarginBroker(mode="isolated")
    run(broker, bars(*[FLAT] * 4), scripts=[{1: lambda s: s.buy(size=1.0)}])
    assert broker.set_leverage("BTC", 3) is None
    strategy = run(broker, bars(*[FLAT] * 4))[0]
    assert strategy.broker.account.books["BTC"].leverage == 3.0


def test_a_margin_account_checks_every_order() -> None:
    """Switching the check off belongs to cash mode."""
    with pytest.raises(ConfigurationError, match="checksubmit=False needs mode='cash'"):
        CrossMarginBroker(checksubmit=False)
    with pytest.raises(ConfigurationError, match="checksubmit=False needs mode='cash'"):
        CrossMarginBroker().set_checksubmit(False)
    CrossMarginBroker(mode="cash", checksubmit=False).set_checksubmit(True)


def test_a_filler_without_volume_fills_nothing() -> None:
    """A missing volume is no reason to stop."""
    frame = bars(*[FLAT] * 4).assign(volume=np.nan)
    filler = bt.broker.fillers.BarPointPerc()
    strategy = run(CrossMarginBroker(filler=filler), frame, scripts=[{1: lambda s: s.buy(size=1.0)}])[0]
    assert strategy.position.size == 0


def test_a_resampled_feed_with_marks_or_funding_is_refused() -> None:
    """Backtrader keeps only open, high, low, close and volume of what it puts together."""
    cerebro = bt.Cerebro()
    cerebro.resampledata(feeds.from_frame(candles(1, 30), name="BTC", instrument=BTC), timeframe=bt.TimeFrame.Days)
    cerebro.setbroker(CrossMarginBroker())
    with pytest.raises(FeedError, match="drops mark and funding"):
        cerebro.run()


def test_hedge_mode_asks_for_a_leg() -> None:
    """Backtrader's close() knows one position; on two it would trade the wrong amount, so it is stopped."""
    script = {
        1: lambda s: (s.buy(size=2.0, position_side="long"), s.sell(size=3.0, position_side="short")),
        3: lambda s: s.close(position_side="long"),
    }
    with pytest.raises(ConfigurationError, match="hedge mode has two positions"):
        run(CrossMarginBroker(position_mode="hedge"), bars(*[FLAT] * 5), scripts=[script])
    broker = run(CrossMarginBroker(position_mode="hedge"), bars(*[FLAT] * 5), scripts=[{1: script[1]}])[0].broker
    data = broker.cerebro.datas[0]
    assert broker.getposition(data, "long").size == 2.0
    assert broker.getposition(data, "short").size == -3.0
    assert broker.positions[data].size == -1.0
    with pytest.raises(ConfigurationError, match="unknown position side 'lng'; did you mean 'long'"):
        broker.getposition(data, "lng")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"leverage": {"BTCC": 5.0}}, "names 'BTCC', which is no feed; did you mean 'BTC'"),
        ({"instruments": {"BTCC": BTC}}, "names 'BTCC', which is no feed"),
    ],
)
def test_settings_name_feeds_that_exist(settings: dict, text: str) -> None:
    """A typo in a name is no setting."""
    with pytest.raises(ConfigurationError, match=text):
        run(CrossMarginBroker(**settings), bars(FLAT, FLAT))


@pytest.mark.parametrize("wrong", [["BTC"], {"BTC": "BTC"}])
def test_instruments_are_a_dict_of_instruments(wrong) -> None:
    """Said at once."""
    with pytest.raises(ConfigurationError, match="dict of Instrument by feed name"):
        CrossMarginBroker(instruments=wrong)


def test_a_setting_for_no_feed_during_a_run_is_an_error() -> None:
    """It would change nothing and look like success."""
    with pytest.raises(ConfigurationError, match="'BTCUSD' is no feed with an instrument; did you mean 'BTC'"):
        run(CrossMarginBroker(), bars(FLAT, FLAT), scripts=[{1: lambda s: s.broker.set_leverage("BTCUSD", 5)}])


def test_the_liquidation_price_can_be_read() -> None:
    """9 lots' worth of 100 at 10x: 1 000 + 90 (p - 100) = 0.5 % of 90 p."""
    contract = Instrument(symbol="BTC", lot=0.01, maker=0.0, taker=0.0)
    script = {1: lambda s: s.buy(size=90.0)}
    broker = run(CrossMarginBroker(cash=1000.0), bars(*[FLAT] * 4), scripts=[script], instrument=contract)[0].broker
    assert broker.liquidation_price(broker.cerebro.datas[0]).price == pytest.approx(8000 / 89.55)
    cash = run(CrossMarginBroker(mode="cash"), bars(FLAT, FLAT))[0].broker
    assert cash.liquidation_price(cash.cerebro.datas[0]).reason == "cash mode never liquidates"


def test_a_refusal_in_cash_mode_has_a_reason_too() -> None:
    """So a strategy that reads it runs in every mode."""
    heard = []

    class Reader(Scripted):
        def notify_order(self, order) -> None:
            if order.status == order.Margin:
                heard.append(order.info.reject.reason)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 3), name="BTC", instrument=BTC))
    cerebro.setbroker(CrossMarginBroker(mode="cash"))
    cerebro.addstrategy(Reader, script={1: lambda s: s.buy(size=1e6)})
    cerebro.run()
    assert heard == ["the stock broker's cash does not cover the order"]


def test_a_paused_feed_is_closed_where_it_last_traded() -> None:
    """Its mark may stand elsewhere: here 2 % above the last price."""
    fall = [FLAT] * 4 + [(100.0, 100.0, 60.0, 60.0)] + [(60.0, 60.0, 60.0, 60.0)] * 3
    paused = bars(*[FLAT] * 8).drop(pd.date_range("2025-01-01 04:00", periods=3, freq="h"))
    for price in ("open", "high", "low", "close"):
        paused[f"mark_{price}"] = 102.0
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in (("AAA", bars(*fall)), ("BBB", paused)):
        contract = Instrument(symbol=name, lot=0.01, maker=0.0, taker=0.0)
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
    cerebro.setbroker(CrossMarginBroker(cash=1200.0, check=True))
    cerebro.addstrategy(Both)
    broker = cerebro.run()[0].broker
    forced = {e.symbol: e.price for e in broker.journal if isinstance(e, events.Filled) and e.forced}
    (taken,) = [event for event in broker.journal if isinstance(event, events.InsuranceFundTakeover)]
    assert taken.markets["BBB:net"] == 100.0
    assert forced == pytest.approx({"AAA": taken.takeovers["AAA:net"], "BBB": taken.takeovers["BBB:net"]})
    assert 60.0 < taken.markets["AAA:net"] < 80.0


TIERS = """{"snapshots": [
  {"as_of": "2025-01-01", "source": "first", "tiers": {"BTC/USDT:USDT": [{"notional_min": 0, "maintenance_rate": 0.005}]}},
  {"as_of": "2025-01-02", "source": "second", "tiers": {"BTC/USDT:USDT": [{"notional_min": 0, "maintenance_rate": 0.08}]}}
]}"""


def test_tiers_of_the_day_are_in_force(tmp_path) -> None:
    """A higher rate from midnight on liquidates a position whose price has not moved; the journal says why."""
    file = tmp_path / "tiers.json"
    file.write_text(TIERS, encoding="utf-8")
    instrument = Instrument(symbol="BTCUSDT", lot=0.01, maker=0.0, taker=0.0)
    broker = CrossMarginBroker(cash=1000.0, leverage=20.0, tiers=str(file))
    seen = {}
    note = {23: lambda s: seen.update(before=s.broker.margin_level), 25: lambda s: seen.update(after=s.broker.equity)}
    script = {20: lambda s: s.buy(size=130.0), **note}
    run(broker, bars(*[FLAT] * 30), scripts=(script,), instrument=instrument)
    assert seen["before"] == pytest.approx(1000 / 65)
    changes = [event for event in broker.journal if isinstance(event, events.MaintenanceChanged)]
    assert [(event.source, event.time_ms) for event in changes] == [("second", 1_735_776_000_000)]
    (liquidated,) = [event for event in broker.journal if isinstance(event, events.Liquidated)]
    assert (liquidated.requirement, liquidated.time_ms) == (pytest.approx(1040.0), 1_735_776_000_000)
    assert seen["after"] == pytest.approx(1000.0)


def test_an_instruments_own_rule_outlasts_dates(tmp_path) -> None:
    """What the user wrote into the instrument is not replaced."""
    file = tmp_path / "tiers.json"
    file.write_text(TIERS, encoding="utf-8")
    instrument = Instrument(symbol="BTCUSDT", lot=0.01, maintenance=flat_rate(0.005))
    broker = CrossMarginBroker(cash=1000.0, leverage=20.0, tiers=str(file))
    run(broker, bars(*[FLAT] * 30), scripts=({20: lambda s: s.buy(size=130.0)},), instrument=instrument)
    assert not [e for e in broker.journal if isinstance(e, events.MaintenanceChanged | events.Liquidated)]


@pytest.mark.parametrize("venue", ["generic", "kucoin", "binance", "bybit", "paradex", "orderly", "okx"])
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_the_maximum_order_fits_and_one_lot_more_does_not(venue: str, mode: str) -> None:
    """Whatever the venue counts: the size asked for is filled, a lot more is refused."""
    fills = []
    for more in (0.0, 0.01):
        broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=venue, mode=mode)
        sizes: list[float] = []

        def order(strategy, sizes=sizes, more=more, broker=broker) -> None:
            sizes.append(broker.maximum_order_size(strategy.data))
            strategy.buy(size=sizes[0] + more)

        run(broker, bars(*[FLAT] * 5), scripts=({2: order},))
        assert 70 < sizes[0] <= 100
        fills.append(len([event for event in broker.journal if isinstance(event, events.Filled)]))
    # Orderly leaves a little room in its maximum, so a lot more still fits there.
    assert fills == [1, 1 if venue == "orderly" else 0]


def test_the_maximum_counts_what_closes() -> None:
    """A long of 50 may be sold and turned; limits are priced at their own price; wrong questions have answers."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue="okx")
    instrument = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0)
    seen = {}

    def ask(strategy) -> None:
        seen["sell"] = broker.maximum_order_size(strategy.data, isbuy=False)
        seen["cheap"] = broker.maximum_order_size(strategy.data, price=50.0)
        for wrong in ({"price": -1.0}, {"side": "long"}):
            with pytest.raises(ConfigurationError):
                broker.maximum_order_size(strategy.data, **wrong)

    run(broker, bars(*[FLAT] * 6), scripts=({1: lambda s: s.buy(size=50), 3: ask},), instrument=instrument)
    assert seen == {"sell": 150.0, "cheap": 100.0}


def test_the_sizer_takes_a_share_of_the_maximum() -> None:
    """Half of what fits, in whole lots, in margin and cash mode; a share of nothing is refused."""
    for mode, expected in (("cross", 47.0), ("isolated", 47.0), ("cash", 5.0)):
        cerebro = bt.Cerebro(stdstats=False)
        instrument = Instrument(symbol="BTC", lot=1.0)
        cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 5), name="BTC", instrument=instrument))
        cerebro.setbroker(CrossMarginBroker(cash=1000.0, leverage=9.5, mode=mode))
        cerebro.addsizer(MaximumSizer, share=0.5)
        cerebro.addstrategy(Scripted, script={2: lambda s: s.buy()})
        (strategy,) = cerebro.run()
        assert strategy.broker.getposition(strategy.data).size == expected, mode
    with pytest.raises(ConfigurationError, match="share lies above 0"):
        MaximumSizer(share=0.0)


def test_margin_moves_to_an_isolated_position_and_back() -> None:
    """Up to the available balance, and back down to the initial margin; everything else is refused with a reason."""
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, mode="isolated")
    instrument = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0, maintenance=flat_rate(0.005))
    seen = []

    def move(strategy) -> None:
        data = strategy.data
        seen.append(broker.liquidation_price(data).price)
        seen.append(str(broker.add_margin(data, 5000.0)))
        seen.append(broker.add_margin(data, 200.0))
        seen.append(broker.liquidation_price(data).price)
        seen.append(str(broker.add_margin(data, -201.0)))
        seen.append(broker.add_margin(data, -200.0))
        with pytest.raises(ConfigurationError, match="has no side 'long'"):
            broker.add_margin(data, 1.0, side="long")
        seen.append(broker.account.balances["USDT"])
        with pytest.raises(ConfigurationError, match="must be a number"):
            broker.add_margin(data, float("nan"))

    run(broker, bars(*[FLAT] * 6), scripts=({1: lambda s: s.buy(size=20), 3: move},), instrument=instrument)
    assert seen == [
        pytest.approx(90.0 / 0.995),
        "5000.00 USDT are to be added, available balance is 800.00 USDT",
        None,
        pytest.approx(80.0 / 0.995),
        "201.00 USDT are to be taken back, 200.00 USDT are above the initial margin",
        None,
        800.0,
    ]


def test_margin_taken_back_leaves_what_is_required() -> None:
    """Short 100 from 100 at a mark of 300: the initial margin at the entry is not all that has to stay."""
    broker = CrossMarginBroker(cash=50_000.0, leverage=100.0, mode="isolated", venue="okx")
    instrument = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0, maintenance=flat_rate(0.004))
    levels = []

    def take_back(strategy) -> None:
        refusal = broker.add_margin(strategy.data, -39_999.0)
        assert broker.add_margin(strategy.data, -refusal.available * 0.999) is None
        levels.append(broker.margin_level)

    rows = [FLAT] * 3 + [(300.0,) * 4] * 3
    script = {1: lambda s: s.sell(size=100), 3: lambda s: broker.add_margin(s.data, 40_000.0), 5: take_back}
    run(broker, bars(*rows), scripts=(script,), instrument=instrument)
    assert levels[0] > 1


def test_distance_to_liquidation_is_recorded() -> None:
    """Long 80 of 100 behind 1,000: at -12.06 %; nothing before the fill; betas by feed name."""
    cerebro = bt.Cerebro(stdstats=False)
    instrument = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0, maintenance=flat_rate(0.005))
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 5), name="BTC", instrument=instrument))
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0)
    cerebro.setbroker(broker)
    cerebro.addanalyzer(LiquidationDistance, _name="plain")
    cerebro.addanalyzer(LiquidationDistance, _name="beta", betas={"BTC": 2.0})
    cerebro.addstrategy(Scripted, script={2: lambda s: s.buy(size=80)})
    (strategy,) = cerebro.run()
    plain, beta = strategy.analyzers.plain.get_analysis(), strategy.analyzers.beta.get_analysis()
    fall = (1000 - 40) / (8000 * 0.995)
    assert plain["fall"] == [None, None, *[pytest.approx(-fall)] * 3]
    assert beta["fall"][-1] == pytest.approx(-fall / 2)
    assert plain["rise"] == [None] * 5
    assert plain["prices"] == {"BTC": [None, None, *[pytest.approx(100 * (1 - fall))] * 3]}
    assert len(plain["times_ms"]) == 5
    with pytest.raises(ConfigurationError, match="betas names 'ETH', which is no feed"):
        broker.aggregate_distance({"ETH": 1.0})
    with pytest.raises(ConfigurationError, match="beta of BTC must be a number"):
        broker.aggregate_distance({"BTC": float("nan")})


def test_a_feed_that_is_only_looked_at_is_in_no_record() -> None:
    """It has no instrument, hence no side, no exposure and no liquidation price."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 5), name="BTC", instrument=Instrument(symbol="BTC", lot=1.0)))
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 5), name="INDEX"))
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0)
    cerebro.setbroker(broker)
    cerebro.addanalyzer(LiquidationDistance, _name="distance")
    cerebro.addanalyzer(Recorder, _name="record")
    cerebro.addstrategy(Scripted, script={2: lambda s: s.buy(size=80)})
    (strategy,) = cerebro.run()
    record = strategy.analyzers.record.get_analysis()
    assert broker.sides(strategy.datas[1]) == ()
    assert set(strategy.analyzers.distance.get_analysis()["prices"]) == {"BTC"}
    assert set(record["exposure"]) == set(record["liquidation_prices"]["prices"]) == {"BTC"}
    with pytest.raises(ConfigurationError, match="'INDEX' is no feed with an instrument"):
        broker.liquidation_price("INDEX")


def test_pre_trade_checks_that_are_kept_see_every_bar() -> None:
    """Its last closes are those of now, also where quiet bars would pass unseen."""
    frame = bars(*[(100.0 + n / 100,) * 4 for n in range(60)])
    cerebro = crossmargin_bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame, name="BTC", instrument=Instrument(symbol="BTC", lot=1.0)))
    broker = CrossMarginBroker(cash=1000.0)
    cerebro.setbroker(broker)
    closes = []
    script = {1: lambda s: setattr(s, "kept", broker.pre_trade_checks)}
    script |= {n: lambda s: closes.append(s.kept.last_closes["BTC"] - s.data.close[0]) for n in (20, 40, 57)}
    cerebro.addstrategy(Scripted, script=script)
    cerebro.run()
    assert closes == [0.0] * 3


def test_an_inverse_contract_is_not_paid_for_in_full() -> None:
    """The stock broker's cash cannot buy one."""
    inverse = Instrument(symbol="BTC", lot=1.0, inverse=True, settle="USDT", contract_size=100.0)
    with pytest.raises(FeedError, match="BTC is an inverse contract"):
        run(CrossMarginBroker(mode="cash"), bars(FLAT, FLAT), instrument=inverse)


def test_rates_in_coin_are_for_coin() -> None:
    """A venue's brackets in coin are no brackets in dollars, nor the other way round; an instrument's own rule is."""
    inverse = Instrument(symbol="BTC", lot=1.0, inverse=True, contract_size=100.0)
    with pytest.raises(FeedError, match="BTC is linear, the rates of venue 'binance_coinm' are for inverse contracts"):
        run(CrossMarginBroker(venue="binance_coinm"), bars(FLAT, FLAT))
    with pytest.raises(FeedError, match="BTC is inverse, the rates of venue 'binance' are for linear contracts"):
        run(CrossMarginBroker(venue="binance"), bars(FLAT, FLAT), instrument=inverse)
    own = Instrument(symbol="BTC", lot=1.0, inverse=True, contract_size=100.0, maintenance=flat_rate(0.01))
    run(CrossMarginBroker(venue="binance"), bars(FLAT, FLAT), instrument=own)


def test_inverse_trades_agree_with_the_account() -> None:
    """Profit, fee and value of backtrader's own trade are those in coin."""
    inverse = Instrument(symbol="BTC", lot=1.0, inverse=True, settle="BTC", contract_size=100.0, maker=0.0, taker=0.001)
    broker = CrossMarginBroker(cash=1.0, currency="BTC", leverage=10.0, venue="binance_coinm")
    script = {1: lambda s: s.buy(size=100), 3: lambda s: s.close()}
    prices = (50_000.0, 50_000.0, 62_500.0, 62_500.0, 62_500.0)
    (strategy,) = run(broker, bars(*[(p, p, p, p) for p in prices]), scripts=(script,), instrument=inverse)
    gain, fees = 10_000 / 50_000 - 10_000 / 62_500, 10.0 / 50_000 + 10.0 / 62_500
    assert strategy.trades_closed == [(0, pytest.approx(gain))]
    assert broker.getvalue() == pytest.approx(1 + gain - fees)


def test_a_price_below_a_tick_is_refused_and_dust_is_no_order() -> None:
    """Rounded to its tick a limit would be at nothing, which backtrader reads as no limit at all."""
    candle = (100.0, 101.0, 99.0, 100.0)
    answers: list = []
    script = {
        1: lambda s: answers.append(s.buy(size=1, exectype=bt.Order.Limit, price=0.2)),
        2: lambda s: answers.append(s.order_target_size(target=0.1 + 0.2)),
        4: lambda s: answers.append(s.order_target_size(target=0.3)),
    }
    instrument = Instrument(symbol="BTC", lot=0.01, tick=0.5)
    broker = CrossMarginBroker(cash=1000.0)
    (strategy,) = run(broker, bars(*[candle] * 6), scripts=[script], instrument=instrument)
    refused, filled, dust = answers
    assert refused.info.reject.reason == "price 0.2 is less than a tick of BTC (0.5)"
    assert filled.status == filled.Completed
    assert dust is None, "0.1 + 0.2 and 0.3 are one size"
    assert (broker.fills, broker.refused) == (1, 1)
    assert strategy.position.size == 0.3
