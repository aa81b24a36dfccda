# SPDX-License-Identifier: GPL-3.0-or-later
"""Mark prices within which an event is proven impossible, and the back-off of a bound that keeps failing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from crossmargin_bt.broker.session.bars import Bar

# The longest back-off, in bars.
BACKOFF_MAX = 16
# A range ends at this fraction of the distance at which its slack is used up.
RANGE_MARGIN = 0.95


class SafePriceRange(NamedTuple):
    """Mark prices by symbol within which an event cannot happen, valid for one version of the account; a symbol not listed may not move."""

    version: int
    ranges: dict[str, tuple[float, float]]

    def contains(self, bars: Sequence[Bar], *, at_open: bool = False) -> bool:
        """Return whether the marks of these bars stay within the range, or with `at_open` their opens do."""
        for bar in bars:
            low, high = self.ranges.get(bar.book.instrument.symbol, (math.inf, 0.0))
            opened, top, bottom, _ = bar.mark
            if at_open:
                top = bottom = opened
            if bottom < low or top > high:
                return False
        return True


NO_RANGE = SafePriceRange(-1, {})


class Backoff:
    """Exponential back-off (0, 1, 2, 4, ... 16 bars): after repeated new lows the margin level is followed along the path directly.

    Following the level costs no more than testing the bound that would rule a new low out.
    """

    def __init__(self) -> None:
        self._left = self._length = 0

    def should_skip(self) -> bool:
        """Return whether the bound is not to be tested in this bar, and count the bar."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def record(self, *, failed: bool) -> None:
        """Record whether the bound failed to rule a new low out."""
        self._left = self._length if failed else 0
        self._length = min(max(1, 2 * self._length), BACKOFF_MAX) if failed else 0
