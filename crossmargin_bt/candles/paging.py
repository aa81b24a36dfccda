# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking for a span until it is answered: windows, holes asked for again, answers that do not agree.

Exchanges cut answers to a length of their own, from either end, and now and then leave rows out. So what is believed
is not a page but the grid: candles must be there one after another, and what is missing is asked for by itself until two
answers say that there is nothing. Funding has no grid, its interval may change; there two answers must be the same.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from crossmargin_bt.candles.series import Row, Series, date_text
from crossmargin_bt.candles.spans import Span, unfilled
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
    """Yield a span page by page: each begins where the one before ends, and together they are all of it.

    Args:
        ask: the exchange.
        series: what is asked for.
        span: what to fetch; for candles both ends on the grid.
        width: milliseconds that one answer may hold.

    Raises:
        DownloadError: rows stand beside the grid, or answers keep contradicting each other.
    """
    answer = _Candles(ask, series) if series.step else _Settlements(ask, series)
    position, wide = span[0], width
    while position < span[1]:
        window = (position, min(span[1], position + wide))
        rows = await answer.rows(window)
        if rows and wide > width:
            wide = max(width, wide // 2)  # where in the long window do they begin?
            continue
        # An answer may have been cut: only up to its last row is it complete.
        end = rows[-1].time + (series.step or 1) if rows else window[1]
        yield Page((position, end), rows)
        wide = width if rows else min(wide * 2, width * LONGEST)
        position = end


class _Candles:
    """Rows on a grid."""

    def __init__(self, ask: Ask, series: Series) -> None:
        self._ask, self._series = ask, series

    async def rows(self, window: Span) -> list[Row]:
        """Return the rows from the window's start to the last one of an answer, all that there are; none for none at all."""
        found = await self._asked_twice(window)
        if not found:
            return []
        step = self._series.step
        by_time = {row.time: row for row in found}
        holes = unfilled((window[0], max(by_time) + step), sorted(by_time), step)
        while holes:
            hole = holes.pop()
            more = await self._asked_twice(hole)
            by_time.update((row.time, row) for row in more)
            if more:
                holes += unfilled(hole, sorted(row.time for row in more), step)
        return [by_time[time] for time in sorted(by_time)]

    async def _asked_twice(self, window: Span) -> list[Row]:
        """Return the rows within a window; an empty answer is asked for once more."""
        for _ in range(2):
            rows = [row for row in await self._ask(window) if window[0] <= row.time < window[1]]
            for row in rows:
                if not self._series.on_grid(row.time):
                    raise DownloadError(
                        f"{self._series.symbol} {self._series.name}: a row at {date_text(row.time)} ({row.time}) is not on the grid of {self._series.timeframe}"
                    )
            if rows:
                return rows
        return []


class _Settlements:
    """Rows that come when they come."""

    def __init__(self, ask: Ask, series: Series) -> None:
        self._ask, self._series = ask, series

    async def rows(self, window: Span) -> list[Row]:
        """Return the rows from the window's start to the last one of an answer: what comes before its first is asked for too."""
        found = await self._agreed(window)
        while found and found[0].time > window[0]:
            before = await self._agreed((window[0], found[0].time))
            if not before:
                break
            found = before + found
        return found

    async def _agreed(self, window: Span) -> list[Row]:
        """Return an answer that was given twice."""
        seen: list[list[Row]] = []
        for _ in range(ASKED_MOST):
            by_time = {row.time: row for row in await self._ask(window) if window[0] <= row.time < window[1]}
            rows = [by_time[time] for time in sorted(by_time)]
            if rows in seen:
                return rows
            seen.append(rows)
        raise DownloadError(
            f"{self._series.symbol} {self._series.name}: {ASKED_MOST} answers from {date_text(window[0])} to {date_text(window[1])} all differ"
        )
