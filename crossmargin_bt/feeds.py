# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds: OHLCV frames with their instrument, mark price and funding, as backtrader data."""

import math
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from crossmargin_bt.arrays import exact_totals
from crossmargin_bt.broker.bars import EPOCH_DAY
from crossmargin_bt.columns import MARKS, PRICES, TIMES
from crossmargin_bt.engine.instrument import Instrument
from crossmargin_bt.errors import FeedError


def _tick(name: str) -> property:
    """Return what backtrader keeps as tick_NAME: the bar's value once it is delivered, read where stock feeds copy it."""
    stored = f"_tick_{name}"

    def read(self: Any) -> float | None:
        if not self._is_block:
            kept: float | None = self.__dict__.get(stored)
            return kept
        if not self._is_delivered:
            return None
        line = self._line_of[name]
        return float(line.array[line._idx])

    def write(self: Any, value: float | None) -> None:
        self.__dict__[stored] = value

    return property(read, write)


class FrameFeed(bt.feed.DataBase):
    """A feed over arrays; build it with `from_frame`.

    Beside the OHLCV lines it carries `mark_open` ... `mark_close` and `funding_rate` (a fraction,
    due at the bar's open; NaN where nothing is due). Lines that it has no column for share one buffer of NaN: read them,
    but do not write into them.
    """

    lines = (*MARKS, "funding_rate")
    params = (("instrument", None), ("rows", ()), ("again", None))

    def __init__(self) -> None:
        super().__init__()
        lines: Any = self.lines
        self._head = lines.lines[0]
        """The buffer whose length is the feed's, as a stock feed finds it through three others."""
        self.instrument: Instrument | None = self.p.instrument
        columns = self.p.rows
        self.has_mark: bool = "mark_open" in columns
        self.has_funding: bool = "funding_rate" in columns
        self.has_index: bool = "index_price" in columns
        self._row = -1
        self._is_handed_over = False
        """Whether the lines were made of the rows themselves, which may have been changed since."""
        self._is_block = False
        """Whether all bars were loaded in one block, so that nothing but `advance` moves."""
        self._is_delivered = False

    def __len__(self) -> int:
        length: int = self._head.lencount
        return length

    def start(self) -> None:
        """Go back to the first row."""
        super().start()
        if self._is_handed_over:
            self.p.rows, _ = self.p.again()
            self._is_handed_over = False
        self._row = -1
        self._is_block = False

    def preload(self) -> None:
        """Load every bar: in one block where nothing has to look at single bars, else as backtrader does."""
        looked_at = self._filters or self._ffilters or self._tzinput or self._barstack
        if looked_at or math.isfinite(self.fromdate) or math.isfinite(self.todate):
            super().preload()
            return
        columns = self.p.rows
        rows = len(columns["datetime"])
        empty = array("d", [math.nan]) * rows
        for name in self.getlinealiases():
            line = getattr(self.lines, name)
            line.array = columns.get(name, empty)
            line.lencount, line.idx = rows, rows - 1
        self._is_handed_over = True
        self._row = rows
        self._is_block = True
        lines: Any = self.lines
        self._buffers = list(lines.lines)
        self._line_of = {name: getattr(lines, name) for name in self.getlinealiases()}
        self.home()

    def advance_peek(self) -> float:
        """Return the time of the next bar, infinity without one."""
        if not self._is_block:
            return float(super().advance_peek())
        lines: Any = self.lines
        clock = lines.datetime
        ahead = clock._idx + 1
        return float(clock.array[ahead]) if self._head.lencount < self._head.buflen() else math.inf

    def advance(self, size: int = 1, datamaster: Any = None, ticks: bool = True) -> None:  # noqa: FBT001, FBT002 - backtrader's signature
        """Go on by `size` bars, as a stock feed does: no further than the master's time, and no tick at the very last bar."""
        if not self._is_block:
            super().advance(size, datamaster, ticks)
            return
        if ticks:
            self._is_delivered = False
        # What every buffer's own advance comes to where nothing is bounded.
        for buffer in self._buffers:
            buffer._idx += size
            buffer.lencount += size
        length, bars = self._buffers[0].lencount, self._buffers[0].buflen()
        lines: Any = self.lines
        if datamaster is None:
            self._is_delivered = self._is_delivered or (ticks and length < bars)
        elif length > bars:
            # Stock's way with a feed that has ended.
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
        columns = self.p.rows
        if self._row >= len(columns["datetime"]):
            return False
        for name, values in columns.items():
            getattr(self.lines, name)[0] = values[self._row]
        return True


for _name in ("last", *PRICES, "volume", "openinterest", *MARKS, "funding_rate"):
    setattr(FrameFeed, f"tick_{_name}", _tick("close" if _name == "last" else _name))


class OptionFeed(FrameFeed):
    """The feed of an option: it carries its `volatility` and `interest_rate` a year and the `index_price` of its underlying too."""

    lines = ("volatility", "index_price", "interest_rate")


for _name in ("volatility", "index_price", "interest_rate"):
    setattr(OptionFeed, f"tick_{_name}", _tick(_name))


def from_frame(
    frame: pd.DataFrame,
    *,
    name: str,
    instrument: Instrument | None = None,
    funding: pd.Series | None = None,
) -> Any:
    """Return a backtrader feed over a frame of candles.

    Args:
        frame: one row a bar, with `open high low close` and optionally `volume`, `mark_open
            mark_high mark_low mark_close` and `funding_rate`, of an option also `volatility` (a year, 0.6 is 60 %),
            `index_price` and `interest_rate` (a year, at which a portfolio discounts), under any capitalisation. The index
            (or a column `date`, `datetime`, `timestamp` or `time`) is the time the bar opens;
            with a time zone it is converted to UTC, without one it is taken as UTC.
        name: the feed's name; strategies and settings refer to it.
        instrument: the contract traded. Without one a margin broker takes no orders on the feed.
        funding: rates (fractions, positive when longs pay) by settlement time, in place of the
            column. A rate is due at the first bar that opens at or after it; rates outside the
            candles are left out.

    Raises:
        FeedError: the frame is empty, a column is missing, times are unordered or repeated, or a
            price is missing, zero or negative; the text names the feed, the column and the time.
    """
    if not name:
        raise FeedError("a feed needs a name; pass name='BTCUSDT'")
    is_option = instrument is not None and instrument.kind == "option"
    read = partial(_read, frame, name, funding, is_option=is_option)
    columns, times = read()
    timeframe, compression = _timeframe(times)
    feed: Any = OptionFeed if is_option else FrameFeed
    return feed(
        rows=columns,
        again=read,
        instrument=instrument,
        name=name,
        timeframe=timeframe,
        compression=compression,
    )


def _read(
    frame: pd.DataFrame, name: str, funding: pd.Series | None, *, is_option: bool
) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the columns of a frame, checked, with what backtrader makes of its times, and its times."""
    columns, times = columns_of(frame, name, funding, is_option=is_option)
    return {"datetime": _doubles(_day_numbers(times)), **columns}, times


def columns_of(
    frame: pd.DataFrame, name: str, funding: pd.Series | None = None, *, is_option: bool = False
) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return what a feed over a frame loads beside its times, as arrays of doubles by name, and its times in UTC; see `from_frame`.

    Raises:
        FeedError: as `from_frame` raises it.
    """
    if not isinstance(frame, pd.DataFrame):
        raise FeedError(f"feed {name}: from_frame takes a pandas DataFrame, got {type(frame).__name__}")
    candles = _with_times(frame.rename(columns=lambda column: str(column).lower()), name)
    missing = [price for price in PRICES if price not in candles]
    if missing:
        raise FeedError(f"feed {name}: column {missing[0]!r} is missing; it has {', '.join(map(str, candles.columns))}")
    marks = [mark for mark in MARKS if mark in candles]
    if marks and len(marks) < len(MARKS):
        raise FeedError(f"feed {name}: mark prices need {', '.join(MARKS)}; there is only {', '.join(marks)}")
    crossed = candles.index[candles["high"] < candles["low"]]
    if len(crossed):
        raise FeedError(f"feed {name}: the high is below the low at {crossed[0]}; mend or drop that row")
    columns = _columns(candles, marks, name, is_option=is_option)
    times = pd.DatetimeIndex(candles.index)
    if funding is not None:
        columns["funding_rate"] = _doubles(_due(funding, times, name))
    return columns, times


def _columns(candles: pd.DataFrame, marks: Sequence[str], name: str, *, is_option: bool) -> dict[str, Any]:
    """Return the columns a feed loads, checked."""
    columns = {price: _doubles(_prices(candles, price, name)) for price in (*PRICES, *marks)}
    for number in ("volume", "openinterest"):
        columns[number] = _numbers(candles[number]) if number in candles else array("d", [0.0]) * len(candles)
    if "funding_rate" in candles:
        columns["funding_rate"] = _doubles(candles["funding_rate"].to_numpy(dtype=np.float64))
    for number in ("volatility", "index_price", "interest_rate"):
        if is_option and number in candles:
            columns[number] = _numbers(candles[number])
    return columns


def _numbers(values: pd.Series) -> Any:
    return _doubles(pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64))


def _doubles(values: Any) -> Any:
    """Return an array of doubles of a NumPy one, at once."""
    made = array("d")
    made.frombytes(np.ascontiguousarray(values, dtype=np.float64).view(np.uint8))  # type: ignore[arg-type]  # it has a buffer
    return made


def load(
    directory: Path | str,
    symbols: Sequence[str] | None = None,
    timeframe: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> list[Any]:
    """Return feeds of the markets in a folder, on one grid, named by their symbols, with mark price, funding and contract.

    Args:
        directory: a folder of downloads, one exchange's folder in it, or a folder of files as `crossmargin compare --data`
            takes it.
        symbols: which of them, in this order; without it all.
        timeframe: which of the downloaded ones, where there are several.
        start: first date, UTC.
        end: date to stop before, UTC.

    Raises:
        FeedError: there is no such folder, symbol or timeframe, or the candles cannot be traded on.
        StoreError: a downloaded file cannot be read.
    """
    from crossmargin_bt.candles import folder  # noqa: PLC0415 - feeds over frames do without Parquet

    markets = folder.read(Path(directory), symbols=symbols, timeframe=timeframe, start=start, end=end)
    return [from_frame(one.frame, name=one.symbol, instrument=one.instrument, funding=one.funding) for one in markets]


def _utc(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return times if times.tz is None else times.tz_convert("UTC").tz_localize(None)


def _with_times(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    candles = frame
    if not isinstance(candles.index, pd.DatetimeIndex):
        column = next((column for column in TIMES if column in candles), None)
        if column is None:
            raise FeedError(f"feed {name}: no times; give a DatetimeIndex or a column named {TIMES[0]!r}")
        times = candles[column]
        stamps = pd.to_datetime(times, unit="ms") if pd.api.types.is_numeric_dtype(times) else pd.to_datetime(times)
        candles = candles.drop(columns=column).set_index(pd.DatetimeIndex(stamps))
    if not len(candles):
        raise FeedError(f"feed {name}: the frame has no rows")
    index = _utc(pd.DatetimeIndex(candles.index))
    late = np.flatnonzero(index[1:] <= index[:-1])
    if index.hasnans or len(late):
        where = "a time is missing" if index.hasnans else f"the bar after {index[late[0]]} is not later"
        raise FeedError(f"feed {name}: {where}; sort by time and drop duplicates")
    return candles.set_axis(index, axis=0)


def _prices(candles: pd.DataFrame, column: str, name: str) -> Any:
    values = pd.to_numeric(candles[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise FeedError(
            f"feed {name}: {column} is {values[bad[0]]:g} at {candles.index[bad[0]]}"
            f"{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}; prices must be above 0, drop or mend these rows"
        )
    return values


def _due(funding: pd.Series, opens: pd.DatetimeIndex, name: str) -> Any:
    """Return the summed rate due at each bar's open; stamps a fraction of a second late belong to their second."""
    if not isinstance(funding.index, pd.DatetimeIndex):
        raise FeedError(f"feed {name}: funding needs a DatetimeIndex of settlement times")
    stamps = _utc(funding.index).floor("s")
    due = np.full(len(opens), np.nan)
    rows = np.searchsorted(opens.to_numpy(), stamps.to_numpy(), side="left")
    for row, stamp, rate in zip(rows, stamps, funding.to_numpy(dtype=np.float64), strict=True):
        if row < len(opens) and stamp >= opens[0]:
            due[row] = rate if np.isnan(due[row]) else due[row] + rate
    return due


def _day_numbers(times: pd.DatetimeIndex) -> Any:
    """Return what `bt.date2num` makes of every time, shape (bars,), float64."""
    stamps = times.as_unit("us").asi8
    days, rest = np.divmod(stamps, 86_400_000_000)
    hours, rest = np.divmod(rest, 3_600_000_000)
    minutes, rest = np.divmod(rest, 60_000_000)
    seconds, microseconds = np.divmod(rest, 1_000_000)
    parts = ((days + EPOCH_DAY, 1.0), (hours, 24.0), (minutes, 1440.0), (seconds, 86_400.0), (microseconds, 86_400e6))
    return exact_totals([part / whole for part, whole in parts])


def _timeframe(times: pd.DatetimeIndex) -> tuple[int, int]:
    """Return backtrader's timeframe and compression of the usual step between bars."""
    if len(times) < 2:
        return bt.TimeFrame.Minutes, 1
    seconds = int(pd.Series(times).diff().median().total_seconds())
    if seconds % 86_400 == 0:
        return bt.TimeFrame.Days, seconds // 86_400
    if seconds % 60 == 0:
        return bt.TimeFrame.Minutes, seconds // 60
    return bt.TimeFrame.Seconds, max(seconds, 1)
