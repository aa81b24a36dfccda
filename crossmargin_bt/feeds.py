# SPDX-License-Identifier: GPL-3.0-or-later
"""backtrader feeds over OHLCV frames, with their instrument, mark price and funding."""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd

from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import FeedError
from crossmargin_bt.frames import feed_arrays
from crossmargin_bt.readers.options import TimeOptions


def _tick_property(name: str) -> property:
    """Return the attribute tick_NAME of a feed: the value of the bar once it is delivered, read lazily where stock feeds copy it."""
    stored = f"_tick_{name}"

    def read(self: Any) -> float | None:
        if not self._is_block:
            value: float | None = self.__dict__.get(stored)
            return value
        if not self._is_delivered:
            return None
        line = self._line_by_name[name]
        return float(line.array[line._idx])

    def write(self: Any, value: float | None) -> None:
        self.__dict__[stored] = value

    return property(read, write)


class FrameFeed(bt.feed.DataBase):
    """A feed over arrays; created by `from_frame`.

    Besides the OHLCV lines it has `mark_open` ... `mark_close` and `funding_rate` (a fraction due at the bar's open, NaN if
    nothing is due). Lines without a column share one buffer of NaN: they must not be written to.
    """

    lines = (*MARKS, "funding_rate")
    params = (("instrument", None), ("columns", ()), ("reload", None))

    def __init__(self) -> None:
        super().__init__()
        lines: Any = self.lines
        self._length_line = lines.lines[0]
        """The line whose length is the feed's length; stored to skip backtrader's chain of delegation."""
        # Instance attributes make `data.close` a plain lookup; backtrader's own goes through __getattr__ and a descriptor.
        kind = type(self)
        self.__dict__.update({name: getattr(lines, name) for name in self.getlinealiases() if not hasattr(kind, name)})
        self.instrument: Instrument | None = self.p.instrument
        columns = self.p.columns
        self.has_mark: bool = "mark_open" in columns
        self.has_funding: bool = "funding_rate" in columns
        self.has_volume: bool = "volume" in columns and any(volume > 0 for volume in columns["volume"])
        self.has_index: bool = "index_price" in columns
        self._row = -1
        self._lines_share_arrays = False
        """Whether the lines use the arrays themselves, which a strategy may therefore have modified."""
        self._is_block = False
        """Whether all bars were preloaded in one block, so that only `advance` moves the lines."""
        self._is_delivered = False

    def __len__(self) -> int:
        length: int = self._length_line.lencount
        return length

    def start(self) -> None:
        """Rewind to the first row."""
        super().start()
        if self._lines_share_arrays:
            self.p.columns, _ = self.p.reload()
            self._lines_share_arrays = False
        self._row = -1
        self._is_block = False

    def bar_days(self) -> Sequence[float]:
        """Return the times of all bars that the feed will deliver, in backtrader's day numbers."""
        days: Sequence[float] = self.p.columns["datetime"]
        first = bisect_left(days, self.fromdate) if math.isfinite(self.fromdate) else 0
        end = bisect_right(days, self.todate) if math.isfinite(self.todate) else len(days)
        return days[first:end] if end - first < len(days) else days

    def preload(self) -> None:
        """Preload all bars: in one block if no filter or date limit applies, otherwise by backtrader's own method."""
        needs_each_bar = self._filters or self._ffilters or self._tzinput or self._barstack
        if needs_each_bar or math.isfinite(self.fromdate) or math.isfinite(self.todate):
            super().preload()
            return
        columns = self.p.columns
        rows = len(columns["datetime"])
        empty = array("d", [math.nan]) * rows
        for name in self.getlinealiases():
            line = getattr(self.lines, name)
            line.array = columns.get(name, empty)
            line.lencount, line.idx = rows, rows - 1
        self._lines_share_arrays = True
        self._row = rows
        self._is_block = True
        lines: Any = self.lines
        self._buffers = list(lines.lines)
        self._line_by_name = {name: getattr(lines, name) for name in self.getlinealiases()}
        self.home()

    def advance_peek(self) -> float:
        """Return the time of the next bar; infinity if there is none."""
        if not self._is_block:
            return float(super().advance_peek())
        lines: Any = self.lines
        clock = lines.datetime
        ahead = clock._idx + 1
        return float(clock.array[ahead]) if self._length_line.lencount < self._length_line.buflen() else math.inf

    def advance(self, size: int = 1, datamaster: Any = None, ticks: bool = True) -> None:  # noqa: FBT001, FBT002 - backtrader's signature
        """Advance by `size` bars with the semantics of stock feeds: not past the master's time, and no tick on the very last bar."""
        if not self._is_block:
            super().advance(size, datamaster, ticks)
            return
        if ticks:
            self._is_delivered = False
        # Equals each buffer's own advance() as long as buffers are unbounded (no exactbars).
        for buffer in self._buffers:
            buffer._idx += size
            buffer.lencount += size
        length, bars = self._buffers[0].lencount, self._buffers[0].buflen()
        lines: Any = self.lines
        if datamaster is None:
            self._is_delivered = self._is_delivered or (ticks and length < bars)
        elif length > bars:
            # Stock feeds do the same once a feed has ended.
            self.rewind()
            lines.forward()
        elif lines.datetime[0] > datamaster.lines.datetime[0]:
            lines.rewind()
        elif ticks:
            self._is_delivered = True

    def _tick_nullify(self) -> None:
        if self._is_block:
            self._is_delivered = False
        else:
            super()._tick_nullify()

    def _tick_fill(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - backtrader's signature
        if self._is_block:
            self._is_delivered = True
        else:
            super()._tick_fill(force)

    def _load(self) -> bool:
        self._row += 1
        columns = self.p.columns
        if self._row >= len(columns["datetime"]):
            return False
        for name, values in columns.items():
            getattr(self.lines, name)[0] = values[self._row]
        return True


for _name in ("last", *PRICES, "volume", "openinterest", *MARKS, "funding_rate"):
    setattr(FrameFeed, f"tick_{_name}", _tick_property("close" if _name == "last" else _name))


class OptionFeed(FrameFeed):
    """The feed of an option, with the additional lines `volatility`, `interest_rate` (both annual) and `index_price` of the underlying."""

    lines = ("volatility", "index_price", "interest_rate")


for _name in ("volatility", "index_price", "interest_rate"):
    setattr(OptionFeed, f"tick_{_name}", _tick_property(_name))


def from_frame(
    frame: Any,
    *,
    name: str,
    instrument: Instrument | None = None,
    funding: pd.Series | None = None,
    time_format: str | None = None,
    allow_unusual_times: bool = False,
) -> Any:
    """Return a backtrader feed over a frame of candles.

    Args:
        frame: one row per bar, with `open high low close` and optionally `volume`, `mark_open mark_high mark_low mark_close`
            and `funding_rate`; for an option also `volatility` (annual, 0.6 is 60 %), `index_price` and `interest_rate`
            (annual, the discount rate of portfolio margin). A data frame of pandas, Polars, pyarrow or another library, or the
            list of rows that ccxt's `fetch_ohlcv` returns. Column names are case-insensitive; numbers may be text. The index (or
            a column `date`, `datetime`, `timestamp` or `time`) is the open time of the bar; times with a time zone are converted
            to UTC, others are taken as UTC. A number is a day (20240131) or counts from 1970-01-01 UTC in seconds, milliseconds,
            microseconds or nanoseconds, depending on its magnitude; text is ISO 8601. Rows are sorted by time.
        name: the feed's name; strategies and settings refer to it.
        instrument: the contract traded. Without one a margin broker accepts no orders on the feed.
        funding: rates (fractions, positive when longs pay) by settlement time, in place of the column. A rate is due at the
            first bar that opens at or after it; rates outside the candles are ignored.
        time_format: the format of times that are text, as for `strptime` (`"%d/%m/%Y %H:%M"`).
        allow_unusual_times: accept times before 2009 and after tomorrow.

    Raises:
        FeedError: the frame is empty, a column is missing or occurs twice, rows of one time differ, a time is not one for
            certain, a price is missing, zero or negative, or a candle contradicts itself; the message names the feed, the
            column and the time.
    """
    if not name:
        raise FeedError("a feed needs a name; pass name='BTCUSDT'")
    is_option = instrument is not None and instrument.kind == "option"
    times = TimeOptions(time_format, allow_unusual_times)
    read = partial(feed_arrays, frame, name, funding, is_option=is_option, times=times)
    columns, stamps = read()
    timeframe, compression = _timeframe(stamps)
    feed: Any = OptionFeed if is_option else FrameFeed
    return feed(
        columns=columns,
        reload=read,
        instrument=instrument,
        name=name,
        timeframe=timeframe,
        compression=compression,
    )


def load(
    directory: Path | str,
    symbols: Sequence[str] | None = None,
    timeframe: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> list[Any]:
    """Return the feeds of the markets in a folder, on one grid of times, named by symbol, with mark price, funding and contract.

    Args:
        directory: a folder of downloads, the folder of one exchange in it, or a folder of files as for
            `crossmargin compare --data`.
        symbols: the markets to load, in this order; None loads all.
        timeframe: which of the downloaded timeframes, if there are several.
        start: first date, UTC.
        end: end date (exclusive), UTC.

    Raises:
        FeedError: the folder, a symbol or the timeframe does not exist, or the candles are invalid.
        StoreError: a downloaded file cannot be read.
    """
    from crossmargin_bt.candles import folder  # noqa: PLC0415 - feeds over frames do not need Parquet

    markets = folder.read(Path(directory), symbols=symbols, timeframe=timeframe, start=start, end=end)
    return [
        from_frame(market.frame, name=market.symbol, instrument=market.instrument, funding=market.funding)
        for market in markets
    ]


def _timeframe(times: pd.DatetimeIndex) -> tuple[int, int]:
    """Return backtrader's timeframe and compression for the median interval between bars."""
    if len(times) < 2:
        return bt.TimeFrame.Minutes, 1
    seconds = int(pd.Series(times).diff().median().total_seconds())
    if seconds % 86_400 == 0:
        return bt.TimeFrame.Days, seconds // 86_400
    if seconds % 60 == 0:
        return bt.TimeFrame.Minutes, seconds // 60
    return bt.TimeFrame.Seconds, max(seconds, 1)
