# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles of a smaller timeframe that tell what happened inside the bars of a feed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.path import Candle
from crossmargin_bt.errors import FeedError

# The extremes of the finer candles are those of the bar, but for this part of them.
AGREES = 1e-6


class Inside(NamedTuple):
    """What happened inside one bar: candles of the last price and of the mark, evenly spread."""

    last: Sequence[Candle]
    mark: Sequence[Candle]


class Finer:
    """The finer candles of one feed, labelled by their opens as the feed's bars are.

    Raises:
        FeedError: the frame has no prices or times that can be used.
    """

    def __init__(self, name: str, frame: Any) -> None:
        self._name = name
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
        self._last = frame[list(PRICES)].to_numpy(float)
        self.has_mark = all(column in frame for column in MARKS)
        self._mark = frame[list(MARKS)].to_numpy(float) if self.has_mark else self._last

    def inside(self, start_ms: int, bar_ms: int, bar: Candle, mark: Candle) -> Inside | None:
        """Return the candles within a bar, a flat one for every hole; None where there are none at all.

        Raises:
            FeedError: they are not this bar's: their extremes are not its extremes.
        """
        first, end = np.searchsorted(self._times, (start_ms, start_ms + bar_ms))
        slots = bar_ms // self._step
        if first == end or slots < 2:
            return None
        for coarse, fine in ((bar, self._last[first:end]), (mark, self._mark[first:end])):
            high, low = fine[:, 1].max(), fine[:, 2].min()
            if abs(high - coarse.high) > AGREES * coarse.high or abs(low - coarse.low) > AGREES * coarse.low:
                when = pd.Timestamp(start_ms, unit="ms")
                raise FeedError(
                    f"finer candles of {self._name} reach {low:g} to {high:g} in the bar of {when:%Y-%m-%d %H:%M}, the bar "
                    f"{coarse.low:g} to {coarse.high:g}; make both from the same candles"
                )
        places = (self._times[first:end] - start_ms) // self._step
        return Inside(_filled(self._last[first:end], places, slots), _filled(self._mark[first:end], places, slots))


def _filled(rows: Any, places: Any, slots: int) -> list[Candle]:
    """Return a candle a slot; a slot without one stands at the close before (the first open at the start)."""
    found = dict(zip(places.tolist(), rows.tolist(), strict=True))
    price = float(rows[0][0])
    candles = []
    for slot in range(slots):
        candle = Candle(*found[slot]) if slot in found else Candle(price, price, price, price)
        price = candle.close
        candles.append(candle)
    return candles
