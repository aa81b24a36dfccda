# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking for a time_range until it is answered: windows, holes asked for again, answers that do not agree.

Exchanges cut answers to a length of their own, from either end, and now and then leave rows out. So what is believed
is not a page but the grid: candles must be there one after another, and what is missing is asked for by itself until two
answers say that there is nothing. Funding has no grid, its interval may change; there two answers must be the same.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from crossmargin_bt.candles.series import Series, SeriesRow, format_time
from crossmargin_bt.candles.time_ranges import TimeRange, grid_gaps, subtract
from crossmargin_bt.errors import DownloadError

FetchRows = Callable[[TimeRange], Awaitable[Sequence[SeriesRow]]]
"""Return the rows an exchange gives for a time_range, in any order, too few or too many."""

# The longest window of a stretch without rows, in windows of the usual length.
WINDOW_GROWTH_MAX = 64
# How often a window without a grid is asked for until two answers agree.
ATTEMPTS_MAX = 6


class FetchedPage(NamedTuple):
    """A time_range that was answered, and its rows."""

    time_range: TimeRange
    rows: list[SeriesRow]


async def fetch_pages(
    fetch_rows: FetchRows, series: Series, time_range: TimeRange, width: int
) -> AsyncGenerator[FetchedPage, None]:
    """Yield a time_range page by page; together they are all of it, each part once.

    Args:
        fetch_rows: the exchange.
        series: what is asked for.
        time_range: what to fetch; for candles both ends on the grid.
        width: milliseconds that one answer may hold.

    Raises:
        DownloadError: rows stand beside the grid, or answers keep contradicting each other.
    """
    answered = _candle_pages if series.step_ms else _funding_pages
    position, wide = time_range[0], width
    while position < time_range[1]:
        window = (position, min(time_range[1], position + wide))
        rows = await _fetch_confirmed(fetch_rows, series, window)
        if rows and wide > width:
            wide = max(width, wide // 2)  # where in the long window do they begin?
            continue
        if not rows:
            yield FetchedPage(window, [])
        async for page in answered(fetch_rows, series, window, rows):
            yield page
        wide = width if rows else min(wide * 2, width * WINDOW_GROWTH_MAX)
        position = window[1]


async def _candle_pages(
    fetch_rows: FetchRows, series: Series, window: TimeRange, rows: list[SeriesRow]
) -> AsyncGenerator[FetchedPage, None]:
    """Yield what stands in an answer without a break; fetch_rows for what is between by itself, until there is nothing in it."""
    left = [(window, rows)] if rows else []
    while left:
        around, found = left.pop()
        holes = grid_gaps(around, [row.time for row in found], series.step_ms)
        for run in subtract(around, holes):
            yield FetchedPage(run, [row for row in found if run[0] <= row.time < run[1]])
        for hole in holes:
            inside = await _fetch_confirmed(fetch_rows, series, hole)
            if inside:
                left.append((hole, inside))
            else:
                yield FetchedPage(hole, [])


async def _funding_pages(
    fetch_rows: FetchRows, series: Series, window: TimeRange, rows: list[SeriesRow]
) -> AsyncGenerator[FetchedPage, None]:
    """Yield a window once two answers for it were the same; what is before and behind their rows is asked for by itself."""
    left = [window] if rows else []
    while left:
        around = left.pop()
        found = await _fetch_consistent(fetch_rows, series, around)
        if not found:
            yield FetchedPage(around, [])
            continue
        inner = (found[0].time, found[-1].time + 1)
        yield FetchedPage(inner, found)
        left += subtract(around, [inner])


async def _fetch_confirmed(fetch_rows: FetchRows, series: Series, window: TimeRange) -> list[SeriesRow]:
    """Return the rows within a window, in order; an empty answer is asked for once more.

    Raises:
        DownloadError: one stands beside the grid.
    """
    for _ in range(2):
        rows = _rows_in(window, await fetch_rows(window))
        for row in rows:
            if not series.is_aligned(row.time):
                raise DownloadError(
                    f"{series.symbol} {series.name}: a row at {format_time(row.time)} ({row.time}) is not on the grid of {series.timeframe}"
                )
        if rows:
            return rows
    return []


async def _fetch_consistent(fetch_rows: FetchRows, series: Series, window: TimeRange) -> list[SeriesRow]:
    """Return an answer that was given twice.

    Raises:
        DownloadError: they all differ.
    """
    seen: list[list[SeriesRow]] = []
    for _ in range(ATTEMPTS_MAX):
        rows = _rows_in(window, await fetch_rows(window))
        if rows in seen:
            return rows
        seen.append(rows)
    raise DownloadError(
        f"{series.symbol} {series.name}: {ATTEMPTS_MAX} answers from {format_time(window[0])} to {format_time(window[1])} all differ"
    )


def _rows_in(window: TimeRange, rows: Sequence[SeriesRow]) -> list[SeriesRow]:
    by_time = {row.time: row for row in rows if window[0] <= row.time < window[1]}
    return [by_time[time] for time in sorted(by_time)]
