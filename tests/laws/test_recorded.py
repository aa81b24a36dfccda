# SPDX-License-Identifier: GPL-3.0-or-later
"""On recorded candles, where they are at hand: three years, and the wicks that tell mark from last."""

import importlib.util
import sys
from itertools import product
from pathlib import Path

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from budget import in_rotation
from places import PROJECT

from crossmargin_bt import CrossMarginBroker, Instrument, compare, feeds
from crossmargin_bt.candles import folder
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import replay
from crossmargin_bt.venues import load, tiers

STRATEGIES = PROJECT / "strategies"
BENCHMARKS = PROJECT / "benchmarks"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")


def benchmark(name: str):
    """Return a benchmark's module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# Of nine runs of three years two in every run of the tests, the others in a soak.
RECORDED = {("hedging.py:Hedging", "isolated"), ("long_short.py", "cross")}


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        pytest.param(file, mode, marks=() if (file, mode) in RECORDED else pytest.mark.slow)
        for file, mode in product(("scalping.py", "hedging.py:Hedging", "long_short.py"), ("cash", "isolated", "cross"))
    ],
)
def test_three_years_of_perpetuals(recorded: Path, file: str, mode: str) -> None:
    """2020 to 2022 with mark and funding: the run ends, the journal replays, nothing is owed."""
    candles = folder.read(recorded / "binance_um_perp_1h_2020_2022", symbols=SYMBOLS)
    spec = compare.load(f"{STRATEGIES}/{file}")
    result = compare.run(spec, candles, venue="binance", mode=mode, settings=compare.Settings())
    assert len(result.equity) > 26_000
    assert result.fills > 0
    if mode == "cash":
        return
    assert min(result.equity) >= 0
    assert result.funding != 0
    journal = [msgspec.convert(entry, events.JournalEntry) for entry in result.journal]
    position_mode = getattr(spec.strategy, "position_mode", "one_way")
    instruments = {one.symbol: one.instrument for one in candles}
    account = replay(journal, load("binance").rules, instruments, position_mode=position_mode)
    floating = result.equity[-1] - account.balances["USDT"]
    held = [leg for book in account.books.values() for leg in book.legs.values()]
    assert held or floating == pytest.approx(0, abs=1e-9)
    assert account.fees == pytest.approx(result.fees)


class Short(bt.Strategy):
    """Sells on the first bar and holds."""

    def next(self) -> None:
        if len(self) == 1:
            self.sell(size=0.9 * self.broker.getvalue() * 5 / self.data.close[0])


def held_through(candles: pd.DataFrame, *, with_mark: bool) -> CrossMarginBroker:
    """Return the broker after holding a 4.5x short through the candles."""
    frame = candles if with_mark else candles[["open", "high", "low", "close", "volume"]]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame, name="PERP", instrument=Instrument(symbol="PERP", lot=0.001)))
    cerebro.setbroker(CrossMarginBroker(venue="binance", leverage=5.0))
    cerebro.addstrategy(Short)
    return cerebro.run()[0].broker


@pytest.mark.parametrize(
    ("symbol", "start", "wick"),
    [
        # Last price 48 168.6 while the mark stays at 39 744.8; the short is from about 35 000.
        ("BTCUSDT", "2021-07-25 12:00", "2021-07-26 01:00"),
        # Last price 323.00 while the mark stays at 119.47.
        ("ETHUSDT", "2020-03-13 00:00", "2020-03-13 02:00"),
    ],
)
def test_a_wick_of_the_last_price_kills_only_without_the_mark(
    recorded: Path, symbol: str, start: str, wick: str
) -> None:
    """The same short on the same candles, liquidated on last and alive on mark."""
    (candles,) = folder.read(
        recorded / "binance_um_perp_1h_2020_2022",
        symbols=[symbol],
        start=start,
        end=str(pd.Timestamp(wick) + pd.Timedelta("1h")),
    )
    dead = held_through(candles.frame, with_mark=False)
    ends = [event for event in dead.journal if isinstance(event, events.Liquidated)]
    assert [pd.to_datetime(event.time_ms, unit="ms") for event in ends] == [pd.Timestamp(wick)]
    alive = held_through(candles.frame, with_mark=True)
    assert not [event for event in alive.journal if isinstance(event, events.Liquidated)]
    assert alive.equity > 0


def test_the_path_is_nearest_to_the_minutes(recorded: Path) -> None:
    """A crash week in 1m candles: of the three readings of coarser candles the default errs least, at every length."""
    candle_error = benchmark("candle_error")
    errors = candle_error.measure([str(recorded / "binance_spot_1m_2021-05")], candle_error.Plan(every="72h"))
    for timeframe in candle_error.TIMEFRAMES:
        money = {policy: errors["all", timeframe, policy].money for policy in candle_error.POLICIES}
        assert money["path"] < min(money["adverse"], money["close"])
        assert money["finer"] < 1e-9
    assert "| all | 60min | path | 36 |" in candle_error.table(errors)
    assert candle_error.chart(errors).count("<rect") == 1 + 12 + 4


def test_recorded_tiers_change_with_the_date(recorded: Path) -> None:
    """The tables of Binance by date: those of a bar's day are in force, each change is journaled with its source."""
    file = recorded / "tiers" / "binance_usdm_tiers_by_date.json"
    candles = folder.read(
        recorded / "binance_um_perp_1h_2020_2022", symbols=["XRPUSDT"], start="2022-04-10", end="2022-10-01"
    )
    broker = CrossMarginBroker(venue="binance", tiers=str(file))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(
        feeds.from_frame(candles[0].frame, name="XRPUSDT", instrument=Instrument(symbol="XRPUSDT", lot=0.1))
    )
    cerebro.setbroker(broker)
    cerebro.addstrategy(bt.Strategy)
    cerebro.run()
    changes = [event for event in broker.journal if isinstance(event, events.MaintenanceChanged)]
    days = [pd.Timestamp(event.time_ms, unit="ms") for event in changes]
    assert days == [pd.Timestamp("2022-04-16"), pd.Timestamp("2022-09-27")]
    asked = {str(terms.since): terms.maintenance for terms in tiers.read(file) if "XRPUSDT" in terms.symbols}
    assert [event.maintenance for event in changes] == [asked["2022-04-16"], asked["2022-09-27"]]
    assert broker.account.books["XRPUSDT"].maintenance == asked["2022-09-27"]


@pytest.mark.parametrize(
    ("plan", "mode"),
    in_rotation(["carry", "hedging 2020", "hedging 2021"], ["cross", "multi_currency", "portfolio"]),
)
def test_a_coin_and_its_perpetual(recorded: Path, plan: str, mode: str) -> None:
    """Recorded spot and perpetual in one account: what docs/whole-account.md says of the crashes and of three years."""
    whole_account = benchmark("whole_account")
    planned = whole_account.PLANS[plan]
    candles = whole_account.candles(recorded, planned.start, planned.end)
    result = compare.run(
        whole_account.strategy(planned), candles, venue="okx", mode=mode, settings=compare.Settings(leverage=5.0)
    )
    final = {"hedging 2020": 10_323, "hedging 2021": 9_255, "carry": 18_925 if mode == "cross" else 19_701}[plan]
    assert round(result.equity[-1]) == final
    assert result.liquidations == (4 if (plan, mode) == ("carry", "cross") else 0)
    journal = [msgspec.convert(entry, events.JournalEntry) for entry in result.journal]
    account = replay(journal, load("okx").rules, {one.symbol: one.instrument for one in candles}, **result.setup)
    coins = account.balances["BTC"] * candles[0].frame["close"].iloc[-1]
    floating = sum(leg.lots for leg in account.books["BTCUSDT"].legs.values())
    assert floating or result.equity[-1] == pytest.approx(account.balances["USDT"] + coins)
