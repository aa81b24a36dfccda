# SPDX-License-Identifier: GPL-3.0-or-later
"""The path inside a bar.

A candle says where price was, not when. A path is the order in which the engine visits the four
prices: position 0 is the open, 1 and 2 the extremes, 3 the close, with a straight line between.
Every instrument of the account moves in step, so a position on the path is a moment of the bar.

Assumption: price visits the extreme nearer to the open first. docs/concepts.md says what each
policy reads into a candle.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, Self

# The moments of a path: before the bar (fills at the previous close), the open, and the close.
BEFORE, OPEN, CLOSE = -1.0, 0.0, 3.0

POLICIES = ("path", "adverse", "close")


class Candle(NamedTuple):
    """Open, high, low and close of one bar."""

    open: float
    high: float
    low: float
    close: float


class PricePath(tuple[float, ...]):
    """Prices in the order in which they are visited, evenly spread over the bar; four of them from a single candle.

    >>> PricePath(100.0, 90.0, 110.0, 105.0)[1]
    90.0
    """

    __slots__ = ()

    def __new__(cls, *prices: float) -> Self:
        """Return the path through two prices or more."""
        return super().__new__(cls, prices)

    def _index(self, moment: float) -> float:
        """Return where between the prices a moment lies."""
        stretches = len(self) - 1
        return moment if stretches == CLOSE else moment * stretches / CLOSE

    def _moment(self, index: float) -> float:
        stretches = len(self) - 1
        return index if stretches == CLOSE else index * CLOSE / stretches

    @property
    def corners(self) -> list[float]:
        """The moments between start and end at which the path may turn."""
        return [self._moment(float(n)) for n in range(1, len(self) - 1)]

    def at(self, moment: float) -> float:
        """Return the price at a moment between 0 and 3.

        >>> PricePath(100.0, 90.0, 110.0, 105.0).at(0.5)
        95.0
        """
        if moment <= OPEN:
            return self[0]
        if moment >= CLOSE:
            return self[-1]
        index = self._index(moment)
        n = int(index)
        if n == index:
            return self[n]
        return self[n] + (self[n + 1] - self[n]) * (index - n)

    def reaches(self, level: float, since: float = OPEN) -> float | None:
        """Return the first moment from `since` on at which the price is at `level`, or None.

        >>> PricePath(100.0, 90.0, 110.0, 105.0).reaches(105.0)
        1.75
        """
        before = self.at(since)
        for n in range(max(int(self._index(since)), 0), len(self) - 1):
            after = self[n + 1]
            if before == level:
                return max(since, self._moment(float(n)))
            if (before - level) * (after - level) <= 0:
                return self._moment(n + (level - self[n]) / (after - self[n]))
            before = after
        return since if before == level else None

    def crossings(self, level: float) -> list[float]:
        """Return every moment inside a stretch at which the price is at `level`.

        >>> PricePath(100.0, 90.0, 110.0, 105.0).crossings(95.0)
        [0.5, 1.25]
        """
        stretches = enumerate(pairwise(self))
        return [self._moment(n + (level - a) / (b - a)) for n, (a, b) in stretches if (a - level) * (b - level) < 0]

    def first_beyond(self, level: float, *, below: bool, since: float = OPEN) -> float | None:
        """Return the first moment from `since` on at which the price is at or below (above) `level`, or None."""
        now = self.at(since)
        if now <= level if below else now >= level:
            return since
        return self.reaches(level, since)


def low_comes_first(candle: Candle) -> bool:
    """Return whether the low is visited before the high: the nearer to the open, on a tie the one away from the close.

    >>> low_comes_first(Candle(100.0, 110.0, 95.0, 105.0))
    True
    """
    down, up = candle.open - candle.low, candle.high - candle.open
    return down < up or (down == up and candle.close >= candle.open)


def path_through_candles(candles: Iterable[Candle], *, low_first: bool | None = None) -> PricePath:
    """Return the path through candles one after the other; without `low_first` each visits its nearer extreme first.

    >>> path_through_candles([Candle(100.0, 110.0, 95.0, 105.0), Candle(105.0, 105.0, 90.0, 92.0)])
    (100.0, 95.0, 110.0, 105.0, 105.0, 105.0, 90.0, 92.0)
    """
    prices: list[float] = []
    for candle in candles:
        prices.extend(candle_path(candle, low_first=low_comes_first(candle) if low_first is None else low_first))
    return PricePath(*prices)


def candle_path(candle: Candle, *, low_first: bool) -> PricePath:
    """Return the path through a candle."""
    if low_first:
        return PricePath(candle.open, candle.low, candle.high, candle.close)
    return PricePath(candle.open, candle.high, candle.low, candle.close)


def first_breach(gap: Callable[[float], float], start: float, end: float, breakpoints: Iterable[float]) -> float | None:
    """Return the first moment in [start, end] at which `gap` is at or below zero, or None.

    Between `breakpoints` the gap must be smooth: a straight line for linear contracts under all rules but
    powers, a gentle curve otherwise; at a bend it may turn or jump. Each stretch is read from points
    inside it, so a jump belongs to the stretch behind it. Where the line through two of them misses, the
    stretch is halved until the moment is exact. A curve is not searched for a dip between these points.
    """
    if gap(start) <= 0:
        return start
    edges = sorted({start, end, *(bend for bend in breakpoints if start < bend < end)})
    for left, right in pairwise(edges):
        width = right - left
        near, far = gap(left + width / 3), gap(right - width / 3)
        slope = (far - near) / (width - 2 * width / 3)
        at_left = near - slope * width / 3
        at_right = near + slope * (width - width / 3)
        if min(at_left, at_right, near, far) > 0 and gap(right) > 0:
            continue
        inside = left + EDGE_OFFSET * width
        if gap(inside) <= 0:
            # Rounding may put the bend itself a hair before the jump.
            return left if gap(left) <= 0 else inside
        below = next(
            (at for at in (left + width / 3, right - width / 3, right - EDGE_OFFSET * width) if gap(at) <= 0), None
        )
        if below is not None:
            return _bisect(gap, inside, below, guess=left - at_left / slope if slope < 0 else below)
        if gap(right) <= 0:
            return right
    return end if gap(end) <= 0 else None


# A stretch is looked into this part of its width behind its edges.
EDGE_OFFSET = 1e-9
# A gap is at zero when it is this part of what it was where the stretch began.
ROOT_TOLERANCE = 1e-9
BISECTIONS = 60


def _bisect(gap: Callable[[float], float], left: float, right: float, *, guess: float) -> float:
    """Return where the gap reaches zero between `left`, where it is above, and `right`."""
    if left <= guess <= right and abs(gap(guess)) <= ROOT_TOLERANCE * abs(gap(left)):
        return guess
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        if gap(middle) > 0:
            left = middle
        else:
            right = middle
    return right
