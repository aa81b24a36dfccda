# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer points of a curve, none of its extremes lost."""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS_MAX = 3_000
"""Points drawn of one curve; no screen shows more."""


def kept(values: ArrayLike, limit: int = POINTS_MAX) -> NDArray[np.int64]:
    """Return which points of a curve are drawn: all, or of each of `limit` / 5 stretches the first, last, lowest, highest and first missing.

    `values`: shape (points,), float64; NaN where there is none, which is neither lowest nor highest.

    >>> kept([1.0, 5.0, 2.0, 2.0, float("nan"), 0.0, 2.0, 3.0], limit=5).tolist()
    [0, 1, 4, 5, 7]
    """
    points = np.asarray(values, dtype=np.float64)
    if len(points) <= limit:
        return np.arange(len(points))
    ends = np.linspace(0, len(points), max(1, limit // 5) + 1).astype(np.int64)
    low, high = np.where(np.isnan(points), np.inf, points), np.where(np.isnan(points), -np.inf, points)
    found = set()
    for start, stop in pairwise(ends.tolist()):
        found |= {start, stop - 1, start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())}
        missing = np.flatnonzero(np.isnan(points[start:stop]))
        if len(missing):
            found.add(start + int(missing[0]))
    return np.array(sorted(found), dtype=np.int64)


def ranges(
    low: ArrayLike, high: ArrayLike, limit: int = POINTS_MAX
) -> tuple[NDArray[np.int64], list[float], list[float]]:
    """Return where stretches begin, with the lowest `low` and the highest `high` of each; at most `limit` of them.

    Both have shape (bars,), float64.

    >>> at, lows, highs = ranges([1.0, 0.5, 3.0, 2.0], [2.0, 9.0, 4.0, 3.0], limit=2)
    >>> at.tolist(), lows, highs
    ([0, 2], [0.5, 2.0], [9.0, 4.0])
    """
    lows, highs = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    starts = np.unique(np.linspace(0, len(lows), min(limit, len(lows)) + 1).astype(np.int64)[:-1])
    return starts, np.minimum.reduceat(lows, starts).tolist(), np.maximum.reduceat(highs, starts).tolist()


def largest(values: ArrayLike, limit: int) -> tuple[NDArray[np.int64], list[float]]:
    """Return where stretches begin, with the value of each that is furthest from 0; at most `limit` of them.

    >>> at, found = largest([1.0, -3.0, 0.0, 2.0], limit=2)
    >>> at.tolist(), found
    ([0, 2], [-3.0, 2.0])
    """
    given = np.asarray(values, dtype=np.float64)
    starts, lows, highs = ranges(given, given, limit)
    return starts, [a if abs(a) > abs(b) else b for a, b in zip(lows, highs, strict=True)]
