# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching a time range in pages until it is complete: request windows, repeated requests for gaps, inconsistent answers.

Exchanges truncate answers at either end and occasionally omit rows, so a page alone proves nothing. Candles are checked
against the grid of their timeframe: each gap is requested again by itself, until two answers in a row are empty. Funding has
no fixed grid, because its interval may change; an answer is accepted once it has been received twice. An exchange that knows
no times is paged by number or by cursor, from the newest rows back.
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


class Page(NamedTuple):
    """One page of a history without times: its rows, and the token of the next older page; None after the last."""

    rows: Sequence[SeriesRow]
    next_token: str | int | None


FetchPage = Callable[[str | int | None], Awaitable[Page]]
"""Coroutine that returns the page of a token, the newest rows for None."""


class FetchedPage(NamedTuple):
    """A time range that was requested, and its rows.

    `outside` is None if the range was answered; otherwise the answer had only later rows, and `outside` is the first of them.
    """

    time_range: TimeRange
    rows: list[SeriesRow]
    outside: int | None = None


class _Answer(NamedTuple):
    """The rows of an answer within a window, in ascending order, and the time of the first row after the window."""

    rows: list[SeriesRow]
    outside: int | None


NOTHING = _Answer([], None)


async def fetch_pages(
    fetch_rows: FetchRows, series: Series, time_range: TimeRange, width: int, *, listed: int = 0
) -> AsyncGenerator[FetchedPage, None]:
    """Yield the rows of a time range page by page; the pages are disjoint and cover all of it.

    A window whose answer has only later rows is not known to be empty, unless the exchange has answered an earlier one or the
    market was listed later: an exchange that gives only its latest rows answers every window with them.

    Args:
        fetch_rows: sends one request to the exchange.
        series: the series to fetch.
        time_range: the range to fetch; for candles both ends lie on the grid.
        width: the length of a request window that fits into one answer, in milliseconds.
        listed: when the market was listed, in milliseconds; 0 if unknown.

    Raises:
        DownloadError: a row is not on the grid of the others, or answers stay inconsistent.
    """
    grid = _Grid(series)
    split = _candle_pages if series.step_ms else _funding_pages
    position, wide, has_rows = time_range[0], width, False
    while position < time_range[1]:
        window = (position, min(time_range[1], position + wide))
        rows, outside = await _fetch_confirmed(fetch_rows, grid, window)
        if rows and wide > width:
            wide = max(width, wide // 2)  # narrow the window down to where the rows begin
            continue
        if not rows:
            yield FetchedPage(window, [], None if has_rows or window[1] <= listed else outside)
        async for page in split(fetch_rows, grid, window, rows):
            leads = not has_rows and page.time_range[0] == window[0] and page.time_range[1] > listed
            yield page if leads else page._replace(outside=None)
        has_rows = has_rows or bool(rows)
        wide = width if rows else min(wide * 2, width * WINDOW_GROWTH_MAX)
        position = window[1]


async def fetch_pages_backwards(
    fetch_page: FetchPage, series: Series, time_range: TimeRange
) -> AsyncGenerator[FetchedPage, None]:
    """Yield the rows of a time range from a history that is paged from its newest row back, as one page.

    The whole range is answered if the history reaches back before its start, or ends; else its beginning is not.

    Raises:
        DownloadError: answers stay inconsistent.
    """
    start, end = time_range
    found: dict[int, SeriesRow] = {}
    token: str | int | None = None
    while True:
        page = await _fetch_equal_page(fetch_page, series, token)
        known = len(found)
        found.update((row.time, row) for row in page.rows)
        oldest = min(found, default=end)
        if oldest < start or page.next_token is None or not page.rows:
            answered_from = start
            break
        if len(found) == known:  # the same rows again: there are no older pages to be had
            answered_from = min(end, oldest)
            break
        token = page.next_token
    rows = [found[time] for time in sorted(found) if answered_from <= time < end]
    yield FetchedPage((answered_from, end), rows)
    if start < answered_from:
        yield FetchedPage((start, answered_from), [], answered_from)


class _Grid:
    """The grid of a series: its timeframe, and the phase of the first row received. Funding has none."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self._phase: int | None = None

    def check(self, rows: Sequence[SeriesRow]) -> None:
        """Raise DownloadError if a row is off the grid of the rows before it."""
        for row in rows:
            phase = self.series.phase(row.time)
            self._phase = phase if self._phase is None else self._phase
            if phase != self._phase:
                raise DownloadError(
                    f"{self.series.symbol} {self.series.name}: a row at {format_time(row.time)} ({row.time}) is not on the grid of "
                    f"{self.series.timeframe} of the rows before it"
                )

    def has_point(self, time_range: TimeRange) -> bool:
        """Return whether a bar may open within a time range."""
        return self.series.align_up(time_range[0], self._phase or 0) < time_range[1]


async def _candle_pages(
    fetch_rows: FetchRows, grid: _Grid, window: TimeRange, rows: list[SeriesRow]
) -> AsyncGenerator[FetchedPage, None]:
    """Yield the contiguous runs of candles in an answer; request each gap between them separately, until it is filled or confirmed empty."""
    pending = [(window, rows)] if rows else []
    while pending:
        outer, received = pending.pop()
        gaps = grid_gaps(outer, [row.time for row in received], grid.series.step_ms)
        for run in subtract(outer, gaps):
            yield FetchedPage(run, [row for row in received if run[0] <= row.time < run[1]])
        for gap in gaps:
            answer = await _fetch_confirmed(fetch_rows, grid, gap) if grid.has_point(gap) else NOTHING
            if answer.rows:
                pending.append((gap, answer.rows))
            else:
                yield FetchedPage(gap, [], answer.outside)


async def _funding_pages(
    fetch_rows: FetchRows, grid: _Grid, window: TimeRange, rows: list[SeriesRow]
) -> AsyncGenerator[FetchedPage, None]:
    """Yield a window once two of its answers agree; the parts before its first and after its last row are requested separately."""
    pending = [window] if rows else []
    while pending:
        outer = pending.pop()
        received = await _fetch_consistent(fetch_rows, grid.series, outer)
        if not received:
            yield FetchedPage(outer, [])
            continue
        inner = (received[0].time, received[-1].time + 1)
        yield FetchedPage(inner, received)
        pending += subtract(outer, [inner])


async def _fetch_confirmed(fetch_rows: FetchRows, grid: _Grid, window: TimeRange) -> _Answer:
    """Return the rows within a window in ascending order; an answer without any is requested a second time.

    Raises:
        DownloadError: a row is not on the grid.
    """
    outside = None
    for _ in range(2):
        answer = await fetch_rows(window)
        rows = _rows_in(window, answer)
        grid.check(rows)
        if rows:
            return _Answer(rows, None)
        outside = min((row.time for row in answer if row.time >= window[1]), default=outside)
    return _Answer([], outside)


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


async def _fetch_equal_page(fetch_page: FetchPage, series: Series, token: str | int | None) -> Page:
    """Return the first page of a token that is received twice.

    Raises:
        DownloadError: all answers differ.
    """
    seen: list[Page] = []
    for _ in range(ATTEMPTS_MAX):
        page = await fetch_page(token)
        page = page._replace(rows=sorted(set(page.rows)))
        if page in seen:
            return page
        seen.append(page)
    raise DownloadError(f"{series.symbol} {series.name}: {ATTEMPTS_MAX} answers for page {token} all differ")


def _rows_in(window: TimeRange, rows: Sequence[SeriesRow]) -> list[SeriesRow]:
    by_time = {row.time: row for row in rows if window[0] <= row.time < window[1]}
    return [by_time[time] for time in sorted(by_time)]
