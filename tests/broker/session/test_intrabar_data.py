# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles of a smaller timeframe that tell what happened inside the bars."""

from itertools import pairwise
from typing import Any

import backtrader as bt
import msgspec
import numpy as np
import pandas as pd
import pytest
from compared import frame_of
from engines import both_engines
from random_trader import seeds
from scripted import PLAIN, run

from crossmargin_bt import Cerebro, CrossMarginBroker, Instrument, feeds
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.errors import ConfigurationError, FeedError

COARSE = {"open": "first", "high": "max", "low": "min", "close": "last"}


def minutes(*closes: float) -> pd.DataFrame:
    """Return candles of 20 minutes that go in straight lines from one price to the next."""
    index = pd.date_range("2025-01-01", periods=len(closes) - 1, freq="20min")
    rows = [(a, max(a, b), min(a, b), b) for a, b in pairwise(closes)]
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index)


def test_finer_candles_tell_what_came_first() -> None:
    """A long bought by a limit at 97 after the low of 90: the hour's own path would put the low behind the high.

    Inside the third hour price falls to 90, rises to 104 and closes at 100: the buy stop at 103 came after the low.
    """
    fine = minutes(100, 100, 100, 100, 100, 100, 100, 90, 104, 100, 100, 100, 100)
    hours = fine.resample("1h").agg(COARSE)

    def enter(strategy) -> None:
        strategy.buy(size=90, price=103.0, exectype=bt.Order.Stop)

    outcomes = {}
    for name, finer in (("hour", None), ("minutes", {"BTC": fine})):
        broker = CrossMarginBroker(cash=1000.0, leverage=10.0, finer=finer)
        run(broker, hours, scripts=({2: enter},), instrument=PLAIN)
        outcomes[name] = [event.pool for event in broker.journal if isinstance(event, events.Liquidated)]
    # The hour's nearer extreme is the high: there the stop fills first, and the low behind it takes the position.
    assert outcomes == {"hour": ["USDT"], "minutes": []}


def test_finer_candles_may_have_a_hole_at_the_start_of_a_bar() -> None:
    """What the journal holds can be written down all the same."""
    fine = minutes(*[100.0] * 7, *[80.0] * 6)
    fine.iloc[6] = 80.0
    hours = fine.resample("1h").agg(COARSE)
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, finer={"BTC": fine.drop(fine.index[6])})
    run(broker, hours, scripts=({1: lambda s: s.buy(size=90)},), instrument=PLAIN)
    assert b"Liquidated" in msgspec.json.encode(list(broker.journal))


def test_finer_candles_are_the_bars_own() -> None:
    """Others, unsorted ones, or a name that is no feed are refused with what is wrong."""
    fine = minutes(100, 100, 100, 100, 101, 100, 100)
    hours = minutes(100, 100, 100, 100, 100, 100, 100).resample("1h").agg(COARSE)
    for finer, text in (
        ({"BTC": fine}, "reach 100 to 101 in the bar of 2025-01-01 01:00, the bar 100 to 100"),
        ({"BTC": fine.iloc[::-1]}, "must be at least two, sorted"),
        ({"BTC": fine[["open", "close"]]}, "no column high, low"),
        ({"BTC": [1, 2]}, "must be a DataFrame"),
    ):
        broker = CrossMarginBroker(cash=1000.0, leverage=10.0, finer=finer)
        with pytest.raises(FeedError, match=text):
            run(broker, hours, scripts=({1: lambda s: s.buy(size=90)},), instrument=PLAIN)
    with pytest.raises(ConfigurationError, match="finer names 'BTCC', which is no feed; did you mean 'BTC'"):
        run(CrossMarginBroker(finer={"BTCC": fine}), hours, instrument=PLAIN)


class Holder(bt.Strategy):
    """Holds from the second bar on, keeps what it is worth at every bar's end, and trades back and forth where it is asked to."""

    params = (("size", 90.0), ("turns", 0))

    def __init__(self) -> None:
        self.worth: list[float] = []

    def next(self) -> None:
        self.worth.append(self.broker.getvalue())
        if len(self) == 1:
            self.buy(size=self.p.size)
        elif self.p.turns and len(self) % self.p.turns == 0:
            direction = self.sell if self.position.size > 0 else self.buy
            direction(size=abs(self.position.size) + self.p.size)


def held(
    candles: dict[str, pd.DataFrame], finer: Any, kind: type = bt.Cerebro, *, turns: int = 0, **settings: Any
) -> Any:
    """Return a strategy that held the first of the feeds."""
    cerebro = kind(stdstats=False)
    for name, frame in candles.items():
        contract = Instrument(symbol=name, lot=0.1, maintenance=flat_rate(0.01))
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
    cerebro.setbroker(CrossMarginBroker(**{"cash": 1000.0, "leverage": 10.0, "finer": finer, **settings}))
    cerebro.addstrategy(Holder, turns=turns)
    return cerebro.run()[0]


def told(strategy: Any) -> tuple[Any, ...]:
    broker = strategy.broker
    return list(broker.journal), strategy.worth, broker.lowest_margin_level


@pytest.mark.parametrize("size", ["looked at", "walked"])
def test_a_bar_begins_and_ends_where_it_does_though_finer_candles_are_missing(size: str) -> None:
    """The last candle of an hour that closes at 102 is missing: 90 bought at 100 are worth 180 more, not what 104 would bring."""
    fine = minutes(*[100.0] * 13, 104, 103, 102, 102, 102, 102)
    hours = fine.resample("1h").agg(COARSE)
    cash = 1e6 if size == "looked at" else 1000.0
    strategy = held({"BTC": hours}, {"BTC": fine.drop(fine.index[14])}, cash=cash)
    entry = 90 * 100 * 0.0005  # its fee
    assert strategy.worth[4] == pytest.approx(cash + 180 - entry)


def test_a_gap_at_a_bars_open_is_one_though_its_first_candle_is_missing() -> None:
    """An hour that opens at 88 takes a long that goes at 89.8 at once, with nothing left."""
    fine = minutes(*[100.0] * 10, *[100.0] * 6)
    fine.iloc[9:] = 88.0
    hours = fine.resample("1h").agg(COARSE)
    whole, holed = (held({"BTC": hours}, {"BTC": one}) for one in (fine, fine.drop(fine.index[9])))
    assert told(whole) == told(holed)
    assert any(isinstance(event, events.Liquidated) for event in whole.broker.journal)
    assert whole.broker.equity == 0


def test_every_feeds_turns_are_looked_at() -> None:
    """A low between two of another feed's candles: what stands still beside it, and how finely, changes nothing."""
    fall = minutes(*[100.0] * 9)
    fall.index = pd.date_range("2025-01-01", periods=8, freq="30min")
    fall.iloc[6, 1:3] = 110.0, 89.6
    still = minutes(*[50.0] * 13)
    hours = {"BTC": fall.resample("1h").agg(COARSE), "ETH": still.resample("1h").agg(COARSE)}
    runs = [held(hours, finer) for finer in (None, {"BTC": fall}, {"ETH": still}, {"BTC": fall, "ETH": still})]
    for strategy in runs:
        assert any(isinstance(event, events.Liquidated) for event in strategy.broker.journal)
        assert strategy.broker.equity == pytest.approx(runs[0].broker.equity)


def test_bars_of_several_lengths_and_holes_between_them() -> None:
    """A slow feed beside a fast one, and bars after a hole, take the candles of their own length."""
    fine = frame_of(1, 96, "20min")
    hours, slow = fine.resample("1h").agg(COARSE), fine.resample("4h").agg(COARSE)
    held({"BTC": hours, "ETH": slow}, {"ETH": fine, "BTC": fine})
    held({"BTC": hours.drop(hours.index[1])}, {"BTC": fine})


def test_marks_of_finer_candles_count_where_the_feed_has_marks() -> None:
    """A feed without marks of its own is marked at its last prices, there too."""
    fine = frame_of(1, 96, "20min")
    hours = fine.resample("1h").agg(COARSE)
    marked = fine.assign(**{mark: fine[price] * 1.01 for mark, price in zip(MARKS, PRICES, strict=True)})
    assert told(held({"BTC": hours}, {"BTC": marked}, turns=3)) == told(held({"BTC": hours}, {"BTC": fine}, turns=3))


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("close", np.nan, "finer candles of BTC: close is nan at 2025-01-01 01:40:00; prices must be above 0"),
        ("mark_low", -1.0, "finer candles of BTC: mark_low is -1 at"),
        ("open", np.inf, "finer candles of BTC: open is inf at"),
        ("high", 1.0, "finer candles of BTC: the high is below the low at 2025-01-01 01:40:00"),
    ],
)
def test_prices_of_finer_candles_are_checked(column: str, value: float, text: str) -> None:
    """Before the run, whether or not a bar comes to be walked."""
    fine = frame_of(1, 96, "20min")
    hours = fine.resample("1h").agg(COARSE)
    spoiled = fine.assign(**{mark: fine[price] for mark, price in zip(MARKS, PRICES, strict=True)})
    spoiled.iloc[5, spoiled.columns.get_loc(column)] = value
    with pytest.raises(FeedError, match=text):
        held({"BTC": hours}, {"BTC": spoiled}, cash=1e6)


@pytest.mark.parametrize("seed", seeds(8, 200))
def test_with_finer_candles_a_run_is_the_same_with_every_bar_walked(seed: int) -> None:
    """Holes in them, steps that differ, and under both loops."""
    dice = np.random.default_rng(seed)
    bars, finer = {}, {}
    for n, (name, freq) in enumerate((("BTC", "20min"), ("ETH", "15min" if seed % 2 else "30min"))):
        fine = frame_of(seed * 2 + n, 600, freq)
        bars[name] = fine.resample("1h").agg(COARSE)
        kept = dice.random(len(fine)) < 0.9
        extremes = fine.groupby(fine.index.floor("1h"))
        kept |= fine.index.isin(extremes["high"].idxmax()) | fine.index.isin(extremes["low"].idxmin())
        finer[name] = fine[kept]

    def run_as(kind: type, engine: str) -> Any:
        return told(held(bars, finer, kind, turns=7, cash=950.0 + 100 * (seed % 5), engine=engine))

    (lean, stock), walked = both_engines(lambda engine: (run_as(Cerebro, engine), run_as(bt.Cerebro, engine)))
    assert lean == stock == walked[0] == walked[1]
    assert lean[2] < 30
