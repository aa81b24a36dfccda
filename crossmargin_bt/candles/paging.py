# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking for a span until it is answered: windows, holes asked for again, answers that do not agree.

Exchanges cut answers to a length of their own, from either end, and now and then leave rows out. So what is believed
is not a page but the grid: candles must be there one after another, and what is missing is asked for by itself until two
answers say that there is nothing. Funding has no grid, its interval may change; there two answers must be the same.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from crossmargin_bt.candles.series import Row, Series, date_text
from crossmargin_bt.candles.spans import Span, unfilled, without
from crossmargin_bt.errors import DownloadError

Ask = Callable[[Span], Awaitable[Sequence[Row]]]
"""Return the rows an exchange gives for a span, in any order, too few or too many."""

# The longest window of a stretch without rows, in windows of the usual length.
LONGEST = 64
# How often a window without a grid is asked for until two answers agree.
ASKED_MOST = 6


class Page(NamedTuple):
    """A span that was answered, and its rows."""

    span: Span
    rows: list[Row]


async def pages(ask: Ask, series: Series, span: Span, width: int) -> AsyncGenerator[Page, None]:
    """Yield a span page by page; together they are all of it, each part once.

    Args:
        ask: the exchange.
        series: what is asked for.
        span: what to fetch; for candles both ends on the grid.
        width: milliseconds that one answer may hold.

    Raises:
        DownloadError: rows stand beside the grid, or answers keep contradicting each other.
    """
    answered = _candles if series.step else _settlements
    position, wide = span[0], width
    while position < span[1]:
        window = (position, min(span[1], position + wide))
        rows = await _asked_twice(ask, series, window)
        if rows and wide > width:
            wide = max(width, wide // 2)  # where in the long window do they begin?
            continue
        if not rows:
            yield Page(window, [])
        async for page in answered(ask, series, window, rows):
            yield page
        wide = width if rows else min(wide * 2, width * LONGEST)
        position = window[1]


async def _candles(ask: Ask, series: Series, window: Span, rows: list[Row]) -> AsyncGenerator[Page, None]:
    """Yield what stands in an answer without a break; ask for what is between by itself, until there is nothing in it."""
    left = [(window, rows)] if rows else []
    while left:
        around, found = left.pop()
        holes = unfilled(around, [row.time for row in found], series.step)
        for run in without(around, holes):
            yield Page(run, [row for row in found if run[0] <= row.time < run[1]])
        for hole in holes:
            inside = await _asked_twice(ask, series, hole)
            if inside:
                left.append((hole, inside))
            else:
                yield Page(hole, [])


async def _settlements(ask: Ask, series: Series, window: Span, rows: list[Row]) -> AsyncGenerator[Page, None]:
    """Yield a window once two answers for it were the same; what is before and behind their rows is asked for by itself."""
    left = [window] if rows else []
    while left:
        around = left.pop()
        found = await _agreed(ask, series, around)
        if not found:
            yield Page(around, [])
            continue
        inner = (found[0].time, found[-1].time + 1)
        yield Page(inner, found)
        left += without(around, [inner])


async def _asked_twice(ask: Ask, series: Series, window: Span) -> list[Row]:
    """Return the rows within a window, in order; an empty answer is asked for once more.

    Raises:
        DownloadError: one stands beside the grid.
    """
    for _ in range(2):
        rows = _within(window, await ask(window))
        for row in rows:
            if not series.on_grid(row.time):
                raise DownloadError(
                    f"{series.symbol} {series.name}: a row at {date_text(row.time)} ({row.time}) is not on the grid of {series.timeframe}"
                )
        if rows:
            return rows
    return []


async def _agreed(ask: Ask, series: Series, window: Span) -> list[Row]:
    """Return an answer that was given twice.

    Raises:
        DownloadError: they all differ.
    """
    seen: list[list[Row]] = []
    for _ in range(ASKED_MOST):
        rows = _within(window, await ask(window))
        if rows in seen:
            return rows
        seen.append(rows)
    raise DownloadError(
        f"{series.symbol} {series.name}: {ASKED_MOST} answers from {date_text(window[0])} to {date_text(window[1])} all differ"
    )


def _within(window: Span, rows: Sequence[Row]) -> list[Row]:
    by_time = {row.time: row for row in rows if window[0] <= row.time < window[1]}
    return [by_time[time] for time in sorted(by_time)]
