# SPDX-License-Identifier: GPL-3.0-or-later
"""Half-open spans of time in milliseconds, and sets of them in order."""

from collections.abc import Iterable, Sequence

Span = tuple[int, int]


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same times as few spans in order.

    >>> union([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)])
    [(0, 3), (5, 9)]
    """
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def without(span: Span, taken: Iterable[Span]) -> list[Span]:
    """Return what is left of a span.

    >>> without((0, 10), [(2, 3), (8, 20)])
    [(0, 2), (3, 8)]
    """
    left: list[Span] = []
    start, end = span
    for a, b in union(taken):
        if a >= end:
            break
        if start < a:
            left.append((start, a))
        start = max(start, b)
    return [*left, (start, end)] if start < end else left


def within(span: Span, spans: Iterable[Span]) -> list[Span]:
    """Return the parts of spans that lie in one.

    >>> within((2, 6), [(0, 3), (5, 9)])
    [(2, 3), (5, 6)]
    """
    return union((max(a, span[0]), min(b, span[1])) for a, b in spans)


def unfilled(span: Span, times: Sequence[int], step: int) -> list[Span]:
    """Return where a grid from the span's start, a point every `step`, has no point among sorted `times`.

    >>> unfilled((0, 50), [10, 20, 40], 10)
    [(0, 10), (30, 40)]
    """
    return without(span, ((time, time + step) for time in times))
