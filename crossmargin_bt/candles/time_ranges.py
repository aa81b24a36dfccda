# SPDX-License-Identifier: GPL-3.0-or-later
"""Half-open time ranges `(start, end)` in milliseconds since 1970-01-01 UTC, and set operations on them."""

from collections.abc import Iterable, Sequence

TimeRange = tuple[int, int]


def union(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Return the union of time ranges as disjoint ranges in ascending order; empty ranges are dropped.

    >>> union([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)])
    [(0, 3), (5, 9)]
    """
    found: list[TimeRange] = []
    for start, end in sorted(time_range for time_range in ranges if time_range[0] < time_range[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def subtract(time_range: TimeRange, taken: Iterable[TimeRange]) -> list[TimeRange]:
    """Return the parts of a time range that no range of `taken` covers, in ascending order.

    >>> subtract((0, 10), [(2, 3), (8, 20)])
    [(0, 2), (3, 8)]
    """
    left: list[TimeRange] = []
    start, end = time_range
    for a, b in union(taken):
        if a >= end:
            break
        if start < a:
            left.append((start, a))
        start = max(start, b)
    return [*left, (start, end)] if start < end else left


def intersect(time_range: TimeRange, ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Return the parts of `ranges` that lie within `time_range`, in ascending order.

    >>> intersect((2, 6), [(0, 3), (5, 9)])
    [(2, 3), (5, 6)]
    """
    return union((max(a, time_range[0]), min(b, time_range[1])) for a, b in ranges)


def grid_gaps(time_range: TimeRange, times: Sequence[int], step: int) -> list[TimeRange]:
    """Return the gaps in a regular grid: ranges of `time_range` whose grid points are missing from `times`.

    The grid has a point every `step` milliseconds from the start of the range; `times` ascend.

    >>> grid_gaps((0, 50), [10, 20, 40], 10)
    [(0, 10), (30, 40)]
    """
    return subtract(time_range, ((time, time + step) for time in times))
