# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums and extremes of arrays, the same as Python's own to the last bit.

Arrays are of shape (bars,), float64; a window of `period` ends at each bar.
"""

import math
from typing import Any

import numpy as np

# A double-double sum of two is off by at most so many times 2**-104 of what is added; a window's is built of a few such sums.
STEP_ERROR = 4.0 * 2.0**-104
# Above this sums could overflow on the way.
LARGEST = 1e290


def rolling_fsum(values: Any, period: int) -> Any:
    """Return what `math.fsum` makes of every whole window, shape (bars - period + 1,).

    Sums are carried as pairs of doubles. Where the pair and its largest possible error leave no doubt how the exact sum
    rounds, that is the answer; elsewhere it is asked of `math.fsum`.
    """
    count = len(values) - period + 1
    if count <= 0:
        return np.empty(0)
    with np.errstate(all="ignore"):
        largest = np.max(np.abs(values), where=np.isfinite(values), initial=0.0)
        high, low = _pairs(values, period)
        doubt = STEP_ERROR * (2 * period.bit_length() + 2) * period * largest
        unsure = _unsure(high, low, doubt)
    for n in range(len(high)) if largest * period > LARGEST else unsure:
        high[n] = math.fsum(values[n : n + period].tolist())
    return high


def row_fsum(columns: list[Any]) -> Any:
    """Return what `math.fsum` makes of every row of columns of finite numbers, shape (bars,)."""
    total = columns[0], np.zeros_like(columns[0])
    for column in columns[1:]:
        total = _added(total, (column, np.zeros_like(column)))
    high, low = total
    doubt = STEP_ERROR * len(columns) * sum(np.abs(column) for column in columns)
    for n in _unsure(high, low, doubt):
        high[n] = math.fsum(column[n] for column in columns)
    return high


def _unsure(high: Any, low: Any, doubt: Any) -> Any:
    """Return where a pair, off by at most `doubt`, may round to another number than its first."""
    return np.flatnonzero(~((high + (low + doubt) == high) & (high + (low - doubt) == high)))


def _pairs(values: Any, period: int) -> tuple[Any, Any]:
    """Return the sums of all windows as pairs: windows of powers of two are doubled, and those of the period put together."""
    block = (values, np.zeros_like(values))
    width, taken, total = 1, 0, None
    while True:
        if period & width:
            # This block ends where the part taken so far begins.
            end = len(values) - taken
            part = _ending(block, width, len(values) - period + 1, end)
            total = part if total is None else _added(total, part)
            taken += width
        if taken == period:
            assert total is not None
            return total
        block = _added((block[0][:-width], block[1][:-width]), (block[0][width:], block[1][width:]))
        width *= 2


def _ending(block: tuple[Any, Any], width: int, count: int, end: int) -> tuple[Any, Any]:
    """Return the last `count` windows of a block (of `width` values each) that end before `end`."""
    stop = end - width + 1
    return block[0][stop - count : stop], block[1][stop - count : stop]


def _added(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the sums of two arrays of pairs."""
    a, b = one[0], other[0]
    total = a + b
    rest = total - a
    error = (a - (total - rest)) + (b - rest)
    error += one[1] + other[1]
    high = total + error
    return high, error - (high - total)


def rolling_extreme(values: Any, period: int, *, highest: bool) -> Any:
    """Return what `max` (`min`) makes of every whole window, the first of equals standing; shape (bars - period + 1,)."""
    count = len(values) - period + 1
    best = values[:count].copy()
    for n in range(1, period):
        after = values[n : n + count]
        np.copyto(best, after, where=(after > best) if highest else (after < best))
    return best
