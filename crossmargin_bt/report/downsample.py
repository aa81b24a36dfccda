# SPDX-License-Identifier: GPL-3.0-or-later
"""Downsampling of curves for charts that preserves their extremes."""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS_MAX = 3_000
"""Points drawn per curve, more than the pixel width of a screen."""


def select_points(values: ArrayLike, limit: int = POINTS_MAX) -> NDArray[np.int64]:
    """Return the indices of the points to draw: all, or per bin the first, last, lowest, highest and first NaN.

    `values`: shape (points,), float64; NaN marks a missing point, which is neither lowest nor highest. There are
    `limit` / 5 bins.

    >>> select_points([1.0, 5.0, 2.0, 2.0, float("nan"), 0.0, 2.0, 3.0], limit=5).tolist()
    [0, 1, 4, 5, 7]
    """
    points = np.asarray(values, dtype=np.float64)
    if len(points) <= limit:
        return np.arange(len(points))
    edges = np.linspace(0, len(points), max(1, limit // 5) + 1).astype(np.int64)
    low, high = np.where(np.isnan(points), np.inf, points), np.where(np.isnan(points), -np.inf, points)
    selected = set()
    for start, stop in pairwise(edges.tolist()):
        selected |= {start, stop - 1, start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())}
        missing = np.flatnonzero(np.isnan(points[start:stop]))
        if len(missing):
            selected.add(start + int(missing[0]))
    return np.array(sorted(selected), dtype=np.int64)


def bin_low_high(
    low: ArrayLike, high: ArrayLike, limit: int = POINTS_MAX
) -> tuple[NDArray[np.int64], list[float], list[float]]:
    """Return the first index, the lowest `low` and the highest `high` of each bin; at most `limit` bins.

    Both have shape (bars,), float64.

    >>> at, lows, highs = bin_low_high([1.0, 0.5, 3.0, 2.0], [2.0, 9.0, 4.0, 3.0], limit=2)
    >>> at.tolist(), lows, highs
    ([0, 2], [0.5, 2.0], [9.0, 4.0])
    """
    lows, highs = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    starts = np.unique(np.linspace(0, len(lows), min(limit, len(lows)) + 1).astype(np.int64)[:-1])
    return starts, np.minimum.reduceat(lows, starts).tolist(), np.maximum.reduceat(highs, starts).tolist()


def bin_max_abs(values: ArrayLike, limit: int) -> tuple[NDArray[np.int64], list[float]]:
    """Return the first index and the value of largest magnitude of each bin; at most `limit` bins.

    >>> at, largest = bin_max_abs([1.0, -3.0, 0.0, 2.0], limit=2)
    >>> at.tolist(), largest
    ([0, 2], [-3.0, 2.0])
    """
    given = np.asarray(values, dtype=np.float64)
    starts, lows, highs = bin_low_high(given, given, limit)
    return starts, [a if abs(a) > abs(b) else b for a, b in zip(lows, highs, strict=True)]
