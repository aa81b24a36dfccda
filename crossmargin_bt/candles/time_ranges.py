# SPDX-License-Identifier: GPL-3.0-or-later
"""Half-open ranges of time in milliseconds, and sets of them in order."""

from collections.abc import Iterable, Sequence

TimeRange = tuple[int, int]


def union(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Return the same times as few ranges in order.

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
    """Return what is left of a time_range.

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
    """Return the parts of ranges that lie in one.

    >>> intersect((2, 6), [(0, 3), (5, 9)])
    [(2, 3), (5, 6)]
    """
    return union((max(a, time_range[0]), min(b, time_range[1])) for a, b in ranges)


def grid_gaps(time_range: TimeRange, times: Sequence[int], step: int) -> list[TimeRange]:
    """Return where a grid from the time_range's start, a point every `step`, has no point among sorted `times`.

    >>> grid_gaps((0, 50), [10, 20, 40], 10)
    [(0, 10), (30, 40)]
    """
    return subtract(time_range, ((time, time + step) for time in times))
