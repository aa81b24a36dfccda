# SPDX-License-Identifier: GPL-3.0-or-later
"""Attribution of differences between venues: events of one venue evaluated under the rules of another."""

import backtrader as bt
import pandas as pd
import pytest

from crossmargin_bt import Instrument, compare, venues
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare.strategies import StrategySpec

BTC = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0)


class Grid(bt.Strategy):
    """A long of 50, then a sell of 95 above it: 50 would close, 45 open."""

    def next(self) -> None:
        if len(self) == 1:
            self.buy(size=50)
        if len(self) == 3:
            self.sell(size=95, price=120.0, exectype=bt.Order.Limit)


class Long(bt.Strategy):
    """A long of 90."""

    def next(self) -> None:
        if len(self) == 1:
            self.buy(size=90)


def run(
    strategy: type, closes: list[float], names: list[str], *, mode: str = "cross", cash: float = 1000.0, instrument=BTC
):
    """Run a strategy under venues with 1,000 at 10x and return the results and where the venues differ."""
    index = pd.date_range("2025-01-01", periods=len(closes), freq="h", tz="UTC")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), closes), index=index)
    candles = [Candles("BTC", frame, None, instrument)]
    spec = StrategySpec(strategy.__name__, strategy)
    settings = compare.Settings(cash=cash, leverage=10.0)
    results = [compare.run(spec, candles, venue=name, mode=mode, settings=settings) for name in names]
    return results, compare.differences(results, {name: venues.load(name) for name in names})


def test_a_refusal_is_explained_by_the_offset_rule() -> None:
    """The long uses 500; the 45 opening lots at 120 need 540 more if orders are summed, 40 if they are offset."""
    results, found = run(Grid, [100.0] * 6, ["okx", "kucoin"])
    assert [result.refused for result in results] == [1, 0]
    (one,) = found
    assert (one.venue, one.other, one.reasons) == ("okx", "kucoin", ("order_offset",))
    assert one.verdict.needed == pytest.approx(540.0)
    assert one.verdict.available == pytest.approx(500.0)
    assert one.other_verdict.passes


def test_a_liquidation_is_explained_by_the_rates() -> None:
    """90 lots at 90 require 1.25 % = 101.25 at half of the initial rate at 40x, and 40.5 at 0.5 %; equity is 100."""
    results, found = run(Long, [100.0, 100.0, 100.0, 90.0, 90.0], ["hyperliquid", "generic"])
    assert [result.liquidations for result in results] == [1, 0]
    (one,) = found
    assert (one.venue, one.other, one.reasons) == ("hyperliquid", "generic", ("maintenance",))
    assert one.verdict.needed == pytest.approx(101.25)
    assert one.verdict.available == pytest.approx(100.0)
    assert one.other_verdict.needed == pytest.approx(40.5)


class Reversal(bt.Strategy):
    """A long of 5 that turns into a short of 9 after a fall."""

    def next(self) -> None:
        if len(self) == 1:
            self.buy(size=5)
        if len(self) == 3:
            self.sell(size=14)


def test_a_refused_reversal_is_judged_by_what_opens() -> None:
    """After the closing part has filled, 9 lots are evaluated; the requirement equals that of the journal."""
    paying = Instrument(symbol="BTC", lot=1.0)
    results, found = run(
        Reversal, [100.0, 100.0, 100.0, 80.0, 80.0, 80.0], ["bybit", "binance"], cash=172.8, instrument=paying
    )
    refused = [event for event in results[0].journal if event["event"] == "OrderRefused"]
    assert [(event["lots"], event["at_fill"]) for event in refused] == [(-9, True)]
    (one,) = found
    assert one.verdict.needed == pytest.approx(refused[0]["needed"])
    assert one.other_verdict.available > 0


def test_an_order_refused_by_both_venues_is_no_difference() -> None:
    """An order that no venue accepts is not attributed to a rule."""
    results, found = run(Long, [1000.0] * 5, ["okx", "kucoin"])
    assert [result.refused for result in results] == [1, 1]
    assert found == []


def test_a_single_venue_has_no_differences() -> None:
    """Nor has cash mode, which has no engine journal."""
    assert run(Grid, [100.0] * 6, ["okx"])[1] == []
    assert run(Grid, [100.0] * 6, ["okx", "kucoin"], mode="cash")[1] == []
