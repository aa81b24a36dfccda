# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars to come that surely pass a calm, looked for in the lines that are loaded.

What is foreseen decides when the broker looks again, and nothing else: nobody is told of a bar before it comes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crossmargin_bt.broker.session.bars import Feed

# So many bars to come are looked at first, and at most: each time twice as many as before.
FEWEST, MOST = 16, 1024


class Loaded:
    """Which of a feed's bars are whole, one byte a bar: prices in order, marks too, and no step shorter than the shortest so far."""

    def __init__(self, feed: Feed, step_days: float) -> None:
        self.step_days = step_days
        columns = [[_values(line) for line in (feed.open, feed.high, feed.low, feed.close)]]
        if feed.mark:
            columns.append([_values(line) for line in feed.mark])
        times = _values(feed.clock)
        whole = np.append(False, times[1:] - times[:-1] >= step_days)
        for opened, high, low, close in columns:  # a comparison with NaN is false
            whole &= (low <= close) & (close <= high) & (low <= opened) & (opened <= high)
        self.whole = self.unfunded = whole.tobytes()
        """Of the second kind are those in which no funding is due on a position besides."""
        if feed.funding is not None:
            rate = _values(feed.funding)
            self.unfunded = (whole & (np.isnan(rate) | (rate == 0))).tobytes()


def are_in_step(feeds: Sequence[Feed]) -> bool:
    """Return whether all feeds have bars at the same times, from the first to the last."""
    first, *others = [_values(feed.clock) for feed in feeds]
    return all(np.array_equal(first, times) for times in others)


def passing(
    feed: Feed, first: int, last: int, step_days: float, ranges: Iterable[tuple[Any, Any, float, float]]
) -> int:
    """Return the end of the bars from index `first` on, up to but not including `last`, that surely pass one after the other.

    `ranges` are lines of lows and highs, and the bounds between which they have to lie.
    """
    loaded = feed.loaded
    if loaded is None or loaded.step_days != step_days:
        loaded = feed.loaded = Loaded(feed, step_days)
    whole = loaded.unfunded if feed.book.legs else loaded.whole
    last = min(last, len(whole))
    broken = whole.find(0, first, last)
    if broken >= 0:
        last = broken
    for lows, highs, lowest, highest in ranges:
        low, high = lows.array, highs.array
        for at in range(first, last):
            if not (lowest < low[at] and high[at] < highest):
                last = at
                break
    return last


def _values(line: Any) -> Any:
    return np.frombuffer(line.array)
