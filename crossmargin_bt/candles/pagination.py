# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching a time range in pages until it is complete: request windows, repeated requests for gaps, inconsistent answers.

Exchanges truncate answers at either end and occasionally omit rows, so a page alone proves nothing. Candles are checked
against the grid of their timeframe: each gap is requested again by itself, until two answers in a row are empty. Funding has
no fixed grid, because its interval may change; an answer is accepted once it has been received twice.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from crossmargin_bt.candles.series import Series, SeriesRow, format_time
from crossmargin_bt.candles.time_ranges import TimeRange, grid_gaps, subtract
from crossmargin_bt.errors import DownloadError

FetchRows = Callable[[TimeRange], Awaitable[Sequence[SeriesRow]]]
"""Coroutine that returns the rows of an exchange for a time range: in any order, possibly truncated or outside the range."""

# While answers are empty the window doubles, up to this multiple of its usual length.
WINDOW_GROWTH_MAX = 64
# Requests for one funding window before two answers must have agreed.
ATTEMPTS_MAX = 6


class FetchedPage(NamedTuple):
    """A time range that was answered, and its rows."""

    time_range: TimeRange
    rows: list[SeriesRow]


async def fetch_pages(
    fetch_rows: FetchRows, series: Series, time_range: TimeRange, width: int
) -> AsyncGenerator[FetchedPage, None]:
    """Yield the rows of a time range page by page; the pages are disjoint and cover all of it.

    Args:
        fetch_rows: sends one request to the exchange.
        series: the series to fetch.
        time_range: the range to fetch; for candles both ends lie on the grid.
        width: the length of a request window that fits into one answer, in milliseconds.

    Raises:
        DownloadError: a row is not on the grid, or answers stay inconsistent.
    """
    split = _candle_pages if series.step_ms else _funding_pages
    position, wide = time_range[0], width
    while position < time_range[1]:
        window = (position, min(time_range[1], position + wide))
        rows = await _fetch_confirmed(fetch_rows, series, window)
        if rows and wide > width:
            wide = max(width, wide // 2)  # narrow the window down to where the rows begin
            continue
        if not rows:
            yield FetchedPage(window, [])
        async for page in split(fetch_rows, series, window, rows):
            yield page
        wide = width if rows else min(wide * 2, width * WINDOW_GROWTH_MAX)
        position = window[1]


async def _candle_pages(
    fetch_rows: FetchRows, series: Series, window: TimeRange, rows: list[SeriesRow]
) -> AsyncGenerator[FetchedPage, None]:
    """Yield the contiguous runs of candles in an answer; request each gap between them separately, until it is filled or confirmed empty."""
    pending = [(window, rows)] if rows else []
    while pending:
        outer, received = pending.pop()
        gaps = grid_gaps(outer, [row.time for row in received], series.step_ms)
        for run in subtract(outer, gaps):
            yield FetchedPage(run, [row for row in received if run[0] <= row.time < run[1]])
        for gap in gaps:
            filling = await _fetch_confirmed(fetch_rows, series, gap)
            if filling:
                pending.append((gap, filling))
            else:
                yield FetchedPage(gap, [])


async def _funding_pages(
    fetch_rows: FetchRows, series: Series, window: TimeRange, rows: list[SeriesRow]
) -> AsyncGenerator[FetchedPage, None]:
    """Yield a window once two of its answers agree; the parts before its first and after its last row are requested separately."""
    pending = [window] if rows else []
    while pending:
        outer = pending.pop()
        received = await _fetch_consistent(fetch_rows, series, outer)
        if not received:
            yield FetchedPage(outer, [])
            continue
        inner = (received[0].time, received[-1].time + 1)
        yield FetchedPage(inner, received)
        pending += subtract(outer, [inner])


async def _fetch_confirmed(fetch_rows: FetchRows, series: Series, window: TimeRange) -> list[SeriesRow]:
    """Return the rows within a window in ascending order; an empty answer is requested a second time.

    Raises:
        DownloadError: a row is not on the grid.
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
    """Return the first answer that is received twice.

    Raises:
        DownloadError: all answers differ.
    """
    seen: list[list[SeriesRow]] = []
    for _ in range(ATTEMPTS_MAX):
        rows = _rows_in(window, await fetch_rows(window))
        if rows in seen:
            return rows
        seen.append(rows)
    raise DownloadError(
        f"{series.symbol} {series.name}: {ATTEMPTS_MAX} answers for {format_time(window[0])} to {format_time(window[1])} all differ"
    )


def _rows_in(window: TimeRange, rows: Sequence[SeriesRow]) -> list[SeriesRow]:
    by_time = {row.time: row for row in rows if window[0] <= row.time < window[1]}
    return [by_time[time] for time in sorted(by_time)]
