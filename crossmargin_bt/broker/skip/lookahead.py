# SPDX-License-Identifier: GPL-3.0-or-later
"""How many of the loaded bars ahead stay within price ranges, found in the line buffers.

The answer only decides when the engine examines a bar again; nothing is reported of a bar before it is delivered.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crossmargin_bt.broker.session.bars import Feed
from crossmargin_bt.protocols import shared_cursor

# The bars examined at first and at most; the number doubles each time.
BARS_MIN, BARS_MAX = 16, 1024


class LineIndex:
    """The index of the current bar of a line that keeps an index of its own."""

    __slots__ = ("_line",)

    def __init__(self, line: Any) -> None:
        self._line = line

    @property
    def at(self) -> int:
        """The index of its current bar."""
        at: int = self._line._idx
        return at


def cursor_of(line: Any) -> Any:
    """Return an object whose `at` is the index of a line's current bar: the cursor it shares with other lines, if any."""
    return shared_cursor(line) or LineIndex(line)


class ValidBars:
    """Which of a feed's bars are valid, one byte per bar: prices and marks in order, and no step shorter than the shortest so far."""

    def __init__(self, feed: Feed, step_days: float) -> None:
        self.step_days = step_days
        columns = [[_values(line) for line in (feed.open, feed.high, feed.low, feed.close)]]
        if feed.mark_lines:
            columns.append([_values(line) for line in feed.mark_lines])
        times = _values(feed.clock)
        is_valid = np.append(False, times[1:] - times[:-1] >= step_days)
        for opened, high, low, close in columns:  # a comparison with NaN is false
            is_valid &= (low <= close) & (close <= high) & (low <= opened) & (opened <= high)
        self.is_valid = self.is_unfunded = is_valid.tobytes()
        """`is_unfunded` also requires that no funding is due on a position."""
        if feed.funding is not None:
            rate = _values(feed.funding)
            self.is_unfunded = (is_valid & (np.isnan(rate) | (rate == 0))).tobytes()


class Lookahead:
    """Finds the end of the quiet bars ahead; remembers which bars of each feed are valid."""

    def __init__(self) -> None:
        self._valid: dict[int, ValidBars] = {}
        self._is_in_step: bool | None = None

    def are_in_step(self, feeds: Sequence[Feed]) -> bool:
        """Return whether all feeds of a run have bars at the same times, from the first to the last."""
        if self._is_in_step is None:
            first, *others = [_values(feed.clock) for feed in feeds]
            self._is_in_step = all(np.array_equal(first, times) for times in others)
        return self._is_in_step

    def last_safe_bar(
        self,
        feed: Feed,
        first: int,
        last: int,
        step_days: float,
        ranges: Iterable[tuple[Any, Any, float, float]],
    ) -> int:
        """Return the end (exclusive) of the valid bars from index `first` that stay within ranges, at most `last`.

        `ranges` holds a line of lows, a line of highs, and the bounds they must lie between.
        """
        valid = self._valid.get(id(feed))
        if valid is None or valid.step_days != step_days:
            valid = self._valid[id(feed)] = ValidBars(feed, step_days)
        flags = valid.is_unfunded if feed.book.legs else valid.is_valid
        last = min(last, len(flags))
        broken = flags.find(0, first, last)
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
