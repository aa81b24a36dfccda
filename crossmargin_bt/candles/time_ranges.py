# SPDX-License-Identifier: GPL-3.0-or-later
"""Half-open time ranges `(start, end)` in milliseconds since 1970-01-01 UTC, and set operations on them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

TimeRange = tuple[int, int]

# Exchanges stamp settlements up to this late.
SETTLEMENT_TOLERANCE_MS = 60_000
# Settlements on either side whose interval tells whether one is missing.
NEIGHBOURS = 12


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


def late_intervals(times: Sequence[int]) -> list[tuple[TimeRange, int]]:
    """Return the gaps between settlements that are longer than the intervals around them, each with the usual interval.

    Exchanges settle every 1, 2, 4, 8 or 24 hours and change the interval, so the neighbours decide: a gap is late if it is longer
    than the median of them, and than the two intervals before and after it. `times` ascend, in milliseconds.

    >>> late_intervals([0, 8, 16, 40, 48, 56, 57, 58, 59])  # one missing, then a change from 8 to 1
    []
    >>> hour = 3_600_000
    >>> [(start // hour, end // hour, usual // hour) for (start, end), usual in late_intervals([n * hour for n in (0, 8, 16, 40, 48, 56, 57, 58, 59)])]
    [(16, 40, 8)]
    """
    steps = [after - before for before, after in pairwise(times)]
    found = []
    for n, step in enumerate(steps):
        around = steps[max(0, n - NEIGHBOURS) : n] + steps[n + 1 : n + NEIGHBOURS + 1]
        if around:
            usual = round(max(median(around), *steps[max(0, n - 2) : n], *steps[n + 1 : n + 3]))
            if step > usual + SETTLEMENT_TOLERANCE_MS:
                found.append(((times[n], times[n + 1]), usual))
    return found
