# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds: the lines of backtrader's own feeds, additional lines for mark price and funding, and clear errors."""

from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_trader import candles

from crossmargin_bt import Cerebro, Instrument, feeds, frames
from crossmargin_bt.candles import folder
from crossmargin_bt.errors import FeedError

LINES = ("datetime", "open", "high", "low", "close", "volume")


class Watcher(bt.Strategy):
    """Records every line."""

    def __init__(self) -> None:
        self.seen: dict[str, list] = {}

    def next(self) -> None:
        for name in self.data.getlinealiases():
            self.seen.setdefault(name, []).append(getattr(self.data.lines, name)[0])


def watched(feed, **settings) -> dict[str, list]:
    """Return the values of a feed as a strategy sees them."""
    cerebro = bt.Cerebro(stdstats=False, **settings)
    cerebro.adddata(feed)
    cerebro.addstrategy(Watcher)
    return cerebro.run()[0].seen


@pytest.mark.parametrize("settings", [{}, {"preload": False}, {"runonce": False}, {"exactbars": 1}], ids=str)
def test_lines_are_those_of_pandas_data(settings: dict) -> None:
    """Bit for bit, times included, loaded in one block or bar by bar."""
    frame = candles(1, 300)
    ours = watched(feeds.from_frame(frame, name="AAA"), **settings)
    stock = watched(bt.feeds.PandasData(dataname=frame, name="AAA"), **settings)
    assert {name: ours[name] for name in LINES} == {name: stock[name] for name in LINES}
    assert ours["mark_low"] == frame["mark_low"].tolist()


TICKS = ("open", "high", "low", "close", "volume", "last")


class TickWatcher(bt.Strategy):
    """Records length, time and ticks of every feed at every bar."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        for data in self.datas:
            times = data.datetime[0] if len(data) else None
            ticks = [getattr(data, f"tick_{name}", None) for name in TICKS]
            self.seen.append((len(self), data._name, len(data), times, ticks))


@pytest.mark.parametrize("settings", [{}, {"preload": False}, {"runonce": False}], ids=str)
def test_ticks_and_clocks_are_those_of_pandas_data(settings: dict) -> None:
    """With feeds that start late, end early and have gaps, at every bar and in a second run."""
    whole = candles(1, 120)
    frames = {
        "whole": whole,
        "late": whole.iloc[30:],
        "early": whole.iloc[:80],
        "holed": whole.drop(whole.index[40:50]),
    }

    def seen(make) -> list[list[tuple]]:
        cerebro = bt.Cerebro(stdstats=False, **settings)
        for name, frame in frames.items():
            cerebro.adddata(make(frame, name))
        cerebro.addstrategy(TickWatcher)
        return [cerebro.run()[0].seen for _ in range(2)]

    stock = seen(lambda frame, name: bt.feeds.PandasData(dataname=frame, name=name, timeframe=bt.TimeFrame.Minutes))
    ours = seen(lambda frame, name: feeds.from_frame(frame, name=name))
    assert len(ours[0]) > 400
    assert ours == stock


def test_dates_of_a_feed_can_be_cut() -> None:
    """A feed with filters or date limits uses backtrader's own loading."""
    frame = candles(1, 100)
    feed = feeds.from_frame(frame, name="AAA")
    feed.p.todate = frame.index[49].to_pydatetime()
    assert watched(feed)["close"] == frame["close"].iloc[:50].tolist()


def test_columns_and_times_come_in_any_spelling() -> None:
    """Capitalised columns, a time column, milliseconds, a time zone: the same bars."""
    frame = candles(2, 20)
    plain = watched(feeds.from_frame(frame, name="A"))
    zoned = frame.tz_localize("UTC").tz_convert("Asia/Tokyo").rename(columns=str.title)
    assert watched(feeds.from_frame(zoned, name="A"))["datetime"] == plain["datetime"]
    stamps = frame.reset_index(drop=True).assign(timestamp=frame.index.as_unit("ms").asi8)
    assert watched(feeds.from_frame(stamps, name="A"))["datetime"] == plain["datetime"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_numbers_say_their_unit_by_their_size(unit: str, tmp_path: Path) -> None:
    """Frames and files of a folder are parsed alike."""
    frame = candles(1, 50)
    numbered = frame.reset_index(drop=True).assign(date=frame.index.as_unit(unit).asi8)
    found, expected = (watched(feeds.from_frame(one, name="A"))["datetime"] for one in (numbered, frame))
    assert found == expected
    numbered.to_csv(tmp_path / "A.csv", index=False)
    (market,) = folder.read(tmp_path)
    assert list(market.frame.index.tz_localize(None)) == list(frame.index)


def test_funding_is_due_at_the_first_bar_that_opens_at_or_after_it() -> None:
    """Times a few milliseconds late are truncated to seconds; two rates in one bar are added; rates outside the candles are ignored."""
    index = pd.date_range("2025-01-01", periods=4, freq="h")
    frame = pd.DataFrame({"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0}, index=index)
    stamps = pd.to_datetime(
        ["2024-12-31 16:00", "2025-01-01 01:00:00.007", "2025-01-01 01:30", "2025-01-01 02:00", "2025-01-01 09:00"],
        format="ISO8601",
    )
    funding = pd.Series([0.9, 0.1, 0.2, 0.3, 0.9], index=stamps)
    rates = watched(feeds.from_frame(frame, name="A", funding=funding))["funding_rate"]
    assert np.isnan(rates[0])
    assert rates[1] == 0.1
    assert rates[2] == pytest.approx(0.5)
    assert np.isnan(rates[3])


def test_timeframe_is_read_off_the_times() -> None:
    """Sorting and resampling depend on it."""
    feed = feeds.from_frame(candles(1, 10), name="A")
    assert (feed.p.timeframe, feed.p.compression) == (bt.TimeFrame.Minutes, 60)
    daily = candles(1, 10).set_axis(pd.date_range("2025-01-01", periods=10, freq="D"), axis=0)
    assert feeds.from_frame(daily, name="A").p.timeframe == bt.TimeFrame.Days


def spoiled(**changes) -> pd.DataFrame:
    """Return candles with one value replaced."""
    frame = candles(1, 10)
    for column, value in changes.items():
        frame.iloc[4, frame.columns.get_loc(column)] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (spoiled(close=np.nan), "feed A: close is nan at 2025-01-01 04:00; prices must be above 0"),
        (spoiled(low=0.0), "feed A: low is 0 at"),
        (spoiled(mark_high=-1.0), "feed A: mark_high is -1 at"),
        (candles(1, 10).drop(columns="open"), "column 'open' is missing"),
        (candles(1, 10).drop(columns="mark_open"), "mark prices need mark_open"),
        (spoiled(high=1.0), "the high is below the low at 2025-01-01 04:00"),
        ("candles.csv", "candles are a data frame .* not str"),
        (pd.concat([candles(1, 10), candles(2, 3)]), "3 times have rows with different values: 2025-01-01 00:00"),
        (candles(1, 10).iloc[:0], "no rows"),
        (candles(1, 10).reset_index(drop=True), "no times"),
    ],
)
def test_broken_frames_are_refused(frame: pd.DataFrame, text: str) -> None:
    """The message names the feed, the column and the time."""
    with pytest.raises(FeedError, match=text):
        feeds.from_frame(frame, name="A")


def test_a_feed_needs_a_name() -> None:
    """Settings and strategies refer to it."""
    with pytest.raises(FeedError, match="needs a name"):
        feeds.from_frame(candles(1, 10), name="", instrument=Instrument(symbol="A"))


@given(st.lists(st.integers(0, 7_000_000_000_000_000), min_size=1, max_size=50, unique=True))
def test_times_are_backtraders_own_numbers(microseconds: list[int]) -> None:
    """Bit for bit equal to `bt.date2num`."""
    index = pd.DatetimeIndex(pd.to_datetime(sorted(microseconds), unit="us"))
    assert frames._backtrader_dates(index).tolist() == [bt.date2num(time) for time in index.to_pydatetime()]


class Scribbler(bt.Strategy):
    """Records the closes and overwrites them."""

    def __init__(self):
        self.seen = []

    def next(self):
        self.seen.append(self.data.close[0])
        self.data.close[0] = 1.0


@pytest.mark.parametrize("kind", [bt.Cerebro, Cerebro])
def test_a_second_run_reads_the_frame_anew(kind: type) -> None:
    """Values that a strategy writes into a line last only for its run, as with a stock feed."""
    index = pd.date_range("2024-01-01", periods=6, freq="h")
    closes = [10.0, 11.0, 12.0, 11.0, 10.0, 9.0]
    frame = pd.DataFrame({"open": closes, "high": 20.0, "low": 5.0, "close": closes}, index=index)
    cerebro = kind(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame, name="COIN"))
    cerebro.addstrategy(Scribbler)
    assert [cerebro.run()[0].seen for _ in range(3)] == [closes] * 3
    assert frame["close"].tolist() == closes
