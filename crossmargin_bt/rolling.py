# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling sums and extremes of arrays, bit for bit equal to Python's `math.fsum`, `max` and `min`.

Arrays have shape (bars,), float64; a window of `period` bars ends at each bar.
"""

import math
from typing import Any

import numpy as np

# Relative error bound of one double-double addition.
ADDITION_ERROR = 4.0 * 2.0**-104
# Magnitude above which intermediate sums could overflow.
MAGNITUDE_MAX = 1e290


def rolling_fsum(values: Any, period: int) -> Any:
    """Return `math.fsum` of every full window, shape (bars - period + 1,).

    Sums are computed in double-double arithmetic with an error bound. Where the bound leaves the rounding of the exact sum
    ambiguous, the window is computed with `math.fsum` itself.
    """
    count = len(values) - period + 1
    if count <= 0:
        return np.empty(0)
    with np.errstate(all="ignore"):
        largest = np.max(np.abs(values), where=np.isfinite(values), initial=0.0)
        high, low = _window_sums(values, period)
        error_bound = ADDITION_ERROR * (2 * period.bit_length() + 2) * period * largest
        ambiguous = _ambiguous_rounding(high, low, error_bound)
    for n in range(len(high)) if largest * period > MAGNITUDE_MAX else ambiguous:
        high[n] = math.fsum(values[n : n + period].tolist())
    return high


def row_fsum(columns: list[Any]) -> Any:
    """Return `math.fsum` of every row of a list of columns with finite numbers, shape (bars,)."""
    total = columns[0], np.zeros_like(columns[0])
    for column in columns[1:]:
        total = _add(total, (column, np.zeros_like(column)))
    high, low = total
    error_bound = ADDITION_ERROR * len(columns) * sum(np.abs(column) for column in columns)
    for n in _ambiguous_rounding(high, low, error_bound):
        high[n] = math.fsum(column[n] for column in columns)
    return high


def _ambiguous_rounding(high: Any, low: Any, error_bound: Any) -> Any:
    """Return the indices where a double-double sum with an error of at most `error_bound` may round differently from its high part."""
    return np.flatnonzero(~((high + (low + error_bound) == high) & (high + (low - error_bound) == high)))


def _window_sums(values: Any, period: int) -> tuple[Any, Any]:
    """Return the double-double sums of all windows: sums of power-of-two widths are doubled, and combined to the width of the period."""
    block = (values, np.zeros_like(values))
    width, taken, total = 1, 0, None
    while True:
        if period & width:
            # The block ends where the part combined so far begins.
            end = len(values) - taken
            part = _last_windows(block, width, len(values) - period + 1, end)
            total = part if total is None else _add(total, part)
            taken += width
        if taken == period:
            assert total is not None
            return total
        block = _add((block[0][:-width], block[1][:-width]), (block[0][width:], block[1][width:]))
        width *= 2


def _last_windows(block: tuple[Any, Any], width: int, count: int, end: int) -> tuple[Any, Any]:
    """Return the last `count` windows of a block (of `width` values each) that end before `end`."""
    stop = end - width + 1
    return block[0][stop - count : stop], block[1][stop - count : stop]


def _add(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the sum of two arrays of double-double numbers."""
    a, b = one[0], other[0]
    total = a + b
    rest = total - a
    error = (a - (total - rest)) + (b - rest)
    error += one[1] + other[1]
    high = total + error
    return high, error - (high - total)


def rolling_extreme(values: Any, period: int, *, highest: bool) -> Any:
    """Return `max` (or `min`) of every full window, the first of equal values; shape (bars - period + 1,)."""
    count = len(values) - period + 1
    best = values[:count].copy()
    for n in range(1, period):
        candidate = values[n : n + count]
        np.copyto(best, candidate, where=(candidate > best) if highest else (candidate < best))
    return best
