# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles of a smaller timeframe that tell what happened inside the bars of a feed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.math.intrabar_path import Candle
from crossmargin_bt.errors import FeedError

# The extremes of the finer candles are those of the bar, but for this part of them.
AGREES = 1e-6


class IntrabarDetail(NamedTuple):
    """What happened inside one bar: candles of the last price and of the mark, evenly spread."""

    last: Sequence[Candle]
    mark: Sequence[Candle]


class IntrabarCandles:
    """The finer candles of one feed, labelled by their opens as the feed's bars are; one of its bars takes `bar_ms`, where that is known.

    Raises:
        FeedError: the frame has no prices or times that can be used.
    """

    def __init__(self, name: str, frame: Any, bar_ms: int | None = None) -> None:
        self._name, self._bar_ms = name, bar_ms
        if not isinstance(frame, pd.DataFrame) or not isinstance(frame.index, pd.DatetimeIndex):
            raise FeedError(f"finer candles of {name} must be a DataFrame with a DatetimeIndex")
        missing = [column for column in PRICES if column not in frame]
        if missing:
            raise FeedError(f"finer candles of {name} have no column {', '.join(missing)}")
        index = frame.index if frame.index.tz is None else frame.index.tz_convert("UTC").tz_localize(None)
        if len(index) < 2 or not index.is_monotonic_increasing or not index.is_unique:
            raise FeedError(f"finer candles of {name} must be at least two, sorted, without duplicate times")
        self._times = index.as_unit("ms").asi8
        self._step = int(np.diff(self._times).min())
        self._last = self._prices(frame[list(PRICES)])
        self.has_mark = all(column in frame for column in MARKS)
        self._mark = self._prices(frame[list(MARKS)]) if self.has_mark else self._last

    def _prices(self, columns: pd.DataFrame) -> Any:
        """Return open, high, low and close, checked; shape (candles, 4)."""
        prices = columns.to_numpy(float)
        bad = np.argwhere(~(np.isfinite(prices) & (prices > 0)))
        if len(bad):
            row, column = bad[0]
            raise FeedError(
                f"finer candles of {self._name}: {columns.columns[column]} is {prices[row, column]:g} at {columns.index[row]}; "
                "prices must be above 0, drop or mend these rows"
            )
        crossed = np.flatnonzero(prices[:, 1] < prices[:, 2])
        if len(crossed):
            raise FeedError(f"finer candles of {self._name}: the high is below the low at {columns.index[crossed[0]]}")
        return prices

    def inside(self, start_ms: int, shortest_ms: int, bar: Candle, mark: Candle) -> IntrabarDetail | None:
        """Return the candles within a bar, from its open to its close, a flat one for every hole; None where there are none at all.

        A bar takes as long as is known of its feed, else as the shortest step so far. Marks are those of the last price
        where the feed has none of its own.

        Raises:
            FeedError: they are not this bar's: their extremes are not its extremes.
        """
        bar_ms = self._bar_ms or shortest_ms
        marks = self._last if mark is bar else self._mark
        first, end = np.searchsorted(self._times, (start_ms, start_ms + bar_ms))
        slots = bar_ms // self._step
        if first == end or slots < 2:
            return None
        for coarse, fine in ((bar, self._last[first:end]), (mark, marks[first:end])):
            high, low = fine[:, 1].max(), fine[:, 2].min()
            if abs(high - coarse.high) > AGREES * coarse.high or abs(low - coarse.low) > AGREES * coarse.low:
                when = pd.Timestamp(start_ms, unit="ms")
                raise FeedError(
                    f"finer candles of {self._name} reach {low:g} to {high:g} in the bar of {when:%Y-%m-%d %H:%M}, the bar "
                    f"{coarse.low:g} to {coarse.high:g}; make both from the same candles"
                )
        places = (self._times[first:end] - start_ms) // self._step
        last = _filled(bar, self._last[first:end], places, slots)
        return IntrabarDetail(last, last if mark is bar else _filled(mark, marks[first:end], places, slots))


def _filled(bar: Candle, rows: Any, places: Any, slots: int) -> list[Candle]:
    """Return a candle a slot, from the bar's open to its close; a slot without one repeats the previous close."""
    found = dict(zip(places.tolist(), rows.tolist(), strict=True))
    price = bar.open
    candles = []
    for slot in range(slots):
        candle = Candle(*found[slot]) if slot in found else Candle(price, price, price, price)
        price = candle.close
        candles.append(candle)
    for slot, name, price in ((0, "open", bar.open), (-1, "close", bar.close)):
        candle = candles[slot]
        candles[slot] = candle._replace(**{name: price, "high": max(candle.high, price), "low": min(candle.low, price)})
    return candles
