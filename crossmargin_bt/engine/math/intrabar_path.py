# SPDX-License-Identifier: GPL-3.0-or-later
"""Intrabar price path: the order in which the prices of a candle are visited.

A candle gives four prices but not their order. A path is a piecewise linear curve through them,
parametrised by a moment of the bar: 0 is the open, 1 and 2 the extremes, 3 the close. All
instruments of the account move in step, so one moment fixes the price of each.

Assumption: price visits the extreme nearer to the open first. docs/concepts.md describes the
path policies.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, Self

from crossmargin_bt.engine.math.tolerances import ROOT_TOL, SEGMENT_EDGE

# Moments of a path: before the bar (fills at the previous close), the open, and the close.
BEFORE, OPEN, CLOSE = -1.0, 0.0, 3.0

POLICIES = ("path", "adverse", "close")


class Candle(NamedTuple):
    """Open, high, low and close of one bar."""

    open: float
    high: float
    low: float
    close: float


class PricePath(tuple[float, ...]):
    """Prices in the order of the visit, evenly spaced over the bar: four from one candle, more from several.

    >>> PricePath(100.0, 90.0, 110.0, 105.0)[1]
    90.0
    """

    __slots__ = ()

    def __new__(cls, *prices: float) -> Self:
        """Return the path through two or more prices."""
        return super().__new__(cls, prices)

    def _index(self, moment: float) -> float:
        """Return the fractional index of a moment in the sequence of prices."""
        segments = len(self) - 1
        return moment if segments == CLOSE else moment * segments / CLOSE

    def _moment(self, index: float) -> float:
        segments = len(self) - 1
        return index if segments == CLOSE else index * CLOSE / segments

    @property
    def corners(self) -> list[float]:
        """Interior vertices: the moments between open and close at which the path may change direction."""
        return [self._moment(float(n)) for n in range(1, len(self) - 1)]

    def at(self, moment: float) -> float:
        """Return the price at a moment in [0, 3], by linear interpolation.

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
        """Return the first moment, not before `since`, at which the price equals `level`, or None.

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
        """Return every moment strictly inside a segment at which the price crosses `level`.

        >>> PricePath(100.0, 90.0, 110.0, 105.0).crossings(95.0)
        [0.5, 1.25]
        """
        segments = enumerate(pairwise(self))
        return [self._moment(n + (level - a) / (b - a)) for n, (a, b) in segments if (a - level) * (b - level) < 0]

    def first_beyond(self, level: float, *, below: bool, since: float = OPEN) -> float | None:
        """Return the first moment, not before `since`, at which the price is at or below (above) `level`, or None."""
        now = self.at(since)
        if now <= level if below else now >= level:
            return since
        return self.reaches(level, since)


def low_comes_first(candle: Candle) -> bool:
    """Return whether the low is visited before the high.

    The extreme nearer to the open comes first; on a tie, the one farther from the close.

    >>> low_comes_first(Candle(100.0, 110.0, 95.0, 105.0))
    True
    """
    down, up = candle.open - candle.low, candle.high - candle.open
    return down < up or (down == up and candle.close >= candle.open)


def path_through_candles(candles: Iterable[Candle], *, low_first: bool | None = None) -> PricePath:
    """Return the concatenated path through consecutive candles.

    With `low_first` None each candle visits the extreme nearer to its open first.

    >>> path_through_candles([Candle(100.0, 110.0, 95.0, 105.0), Candle(105.0, 105.0, 90.0, 92.0)])
    (100.0, 95.0, 110.0, 105.0, 105.0, 105.0, 90.0, 92.0)
    """
    prices: list[float] = []
    for candle in candles:
        prices.extend(candle_path(candle, low_first=low_comes_first(candle) if low_first is None else low_first))
    return PricePath(*prices)


def candle_path(candle: Candle, *, low_first: bool) -> PricePath:
    """Return the path through one candle."""
    if low_first:
        return PricePath(candle.open, candle.low, candle.high, candle.close)
    return PricePath(candle.open, candle.high, candle.low, candle.close)


def first_breach(gap: Callable[[float], float], start: float, end: float, breakpoints: Iterable[float]) -> float | None:
    """Return the first moment in [start, end] at which `gap` <= 0, or None: a piecewise root search.

    Between consecutive `breakpoints` the gap must be smooth: linear for linear contracts under every rule but
    the power rule, slightly curved otherwise. At a breakpoint its slope may change or it may jump. Each
    segment is sampled at interior points, so a jump belongs to the segment that follows it. If the secant
    through two samples does not hit the root, bisection does. A curve that dips below zero and recovers
    between the samples is not detected.
    """
    if gap(start) <= 0:
        return start
    edges = sorted({start, end, *(point for point in breakpoints if start < point < end)})
    for left, right in pairwise(edges):
        width = right - left
        near, far = gap(left + width / 3), gap(right - width / 3)
        slope = (far - near) / (width - 2 * width / 3)
        at_left = near - slope * width / 3
        at_right = near + slope * (width - width / 3)
        if min(at_left, at_right, near, far) > 0 and gap(right) > 0:
            continue
        inside = left + SEGMENT_EDGE * width
        if gap(inside) <= 0:
            # Rounding may place the breakpoint slightly before the jump.
            return left if gap(left) <= 0 else inside
        below = next(
            (at for at in (left + width / 3, right - width / 3, right - SEGMENT_EDGE * width) if gap(at) <= 0), None
        )
        if below is not None:
            return _bisect(gap, inside, below, guess=left - at_left / slope if slope < 0 else below)
        if gap(right) <= 0:
            return right
    return end if gap(end) <= 0 else None


BISECTIONS = 60


def _bisect(gap: Callable[[float], float], left: float, right: float, *, guess: float) -> float:
    """Return the root of the gap between `left`, where it is positive, and `right`: the guess, else bisection."""
    if left <= guess <= right and abs(gap(guess)) <= ROOT_TOL * abs(gap(left)):
        return guess
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        if gap(middle) > 0:
            left = middle
        else:
            right = middle
    return right
