# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads: fetch the missing parts of each requested series, and report which data could not be fetched."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from crossmargin_bt.candles import contracts
from crossmargin_bt.candles.exchange import CCXT_METHODS, Exchange, ExchangeMarket
from crossmargin_bt.candles.manifest import inspect_folder
from crossmargin_bt.candles.pagination import FetchedPage, fetch_pages, fetch_pages_backwards
from crossmargin_bt.candles.series import Series, SeriesRow, format_time, is_series_kind
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.candles.time_ranges import TimeRange, intersect, subtract
from crossmargin_bt.errors import ConfigurationError, CrossMarginError, DownloadError, RuleError, StoreError, suggestion
from crossmargin_bt.time_units import MS_PER_HOUR

DOWNLOAD_KINDS = (*CCXT_METHODS, "tiers", "markets")
# Series fetched concurrently; the client applies the exchange's rate limit to all of them together.
CONCURRENT_SERIES = 4
PUBLICATION_DELAY_MS = 120_000
FUNDING_STEP_MS = 8 * MS_PER_HOUR
# Estimated storage per value: measured on recorded 1m candles of Binance.
BYTES_PER_VALUE = 13


class DownloadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The data to download: symbols, kinds of data, and a period in milliseconds since 1970-01-01 UTC; no end means up to now.

    Raises:
        ConfigurationError: no symbol or kind is given, a kind is unknown, or the period is empty.
    """

    symbols: tuple[str, ...]
    kinds: tuple[str, ...]
    timeframe: str
    since_ms: int
    until_ms: int | None = None

    def __post_init__(self) -> None:
        for word in self.kinds:
            if word not in DOWNLOAD_KINDS:
                raise ConfigurationError(f"unknown kind of data {word!r}{suggestion(word, DOWNLOAD_KINDS)}")
        if not self.symbols or not self.kinds:
            raise ConfigurationError("a download names at least one symbol and one kind of data")
        if self.until_ms is not None and self.until_ms <= self.since_ms:
            raise ConfigurationError("the end of the period is not after its start")


class FetchTask(NamedTuple):
    """One series of one market, the time range requested, and the parts of it that are not stored yet."""

    market: ExchangeMarket
    series: Series
    time_range: TimeRange
    missing: list[TimeRange]
    now: int
    """The exchange's time, minus the delay with which it publishes rows."""

    @property
    def rows(self) -> int:
        """Expected number of rows to fetch."""
        return self.rows_in(self.missing)

    def rows_in(self, ranges: Sequence[TimeRange]) -> int:
        """Return the expected number of rows in time ranges; funding is estimated as one settlement every eight hours."""
        step = self.series.step_ms or FUNDING_STEP_MS
        return sum((end - start) // step for start, end in ranges)


class FetchOutcome(NamedTuple):
    """Result of a fetch task: rows fetched and stored, gaps confirmed by the exchange, and parts still missing with the error.

    `notes` report broken files that were renamed.
    """

    task: FetchTask
    fetched: int
    stored: int
    gaps: list[TimeRange]
    missing: list[TimeRange]
    error: str | None
    notes: list[str]


class ProgressListener(Protocol):
    """Receives the progress of a download."""

    def on_start(self, tasks: Sequence[FetchTask]) -> None:
        """Called once with all tasks."""

    def on_fetched(self, task: FetchTask, time_range: TimeRange) -> None:
        """Called after each time range that was answered."""


class NoProgress:
    """Ignores all progress."""

    def on_start(self, tasks: Sequence[FetchTask]) -> None:
        """Do nothing."""

    def on_fetched(self, task: FetchTask, time_range: TimeRange) -> None:
        """Do nothing."""


class DownloadResult(NamedTuple):
    """Result of a download: the outcome of each series, and errors of contract facts and leverage tiers."""

    outcomes: list[FetchOutcome]
    failures: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether all requested data is stored."""
        return not self.failures and not any(outcome.missing or outcome.error for outcome in self.outcomes)


async def plan(exchange: Exchange, request: DownloadRequest, out: Path) -> list[FetchTask]:
    """Return the tasks of a download: for each requested series the parts that are not stored yet.

    Raises:
        ConfigurationError: the exchange does not have a symbol, timeframe or kind of data.
        DownloadError: the exchange does not return its time.
    """
    return _plan(exchange, request, out, await exchange.server_time())


def _plan(exchange: Exchange, request: DownloadRequest, out: Path, now: int) -> list[FetchTask]:
    markets = _markets(exchange, request)
    for kind in request.kinds:
        method = exchange.missing_method(kind)
        if method is not None:
            has = ", ".join(kind for kind in DOWNLOAD_KINDS if exchange.missing_method(kind) is None)
            raise ConfigurationError(f"{exchange.name} has no {kind} (ccxt: no {method}); it has {has}")
    alternatives = exchange.alternative_timeframes(request.timeframe)
    if alternatives is not None:
        raise ConfigurationError(f"{exchange.name} has no candles of {request.timeframe}; it has {alternatives}")
    tasks = []
    for market in markets:
        for kind in dict.fromkeys(request.kinds):
            if not is_series_kind(kind):
                continue
            series = Series(exchange.name, market.stored_symbol, kind, "" if kind == "funding" else request.timeframe)
            time_range = _closed_range(series, request, now)
            tasks.append(
                FetchTask(
                    market,
                    series,
                    time_range,
                    subtract(time_range, inspect_folder(series.folder(out), series).covered),
                    now - PUBLICATION_DELAY_MS,
                )
            )
    return tasks


def _markets(exchange: Exchange, request: DownloadRequest) -> list[ExchangeMarket]:
    """Return the requested markets without duplicates."""
    return list(dict.fromkeys(exchange.market(symbol) for symbol in request.symbols))


def _closed_range(series: Series, request: DownloadRequest, now: int) -> TimeRange:
    """Return the time range of the request, limited to rows that are final and published."""
    # Exchanges publish a finished row with some delay.
    now -= PUBLICATION_DELAY_MS
    until = now if request.until_ms is None else min(now, request.until_ms)
    start = series.align_up(request.since_ms)
    if not series.step_ms:
        return start, max(start, until)
    end = series.align_up(until)
    if end > now:
        end -= series.step_ms  # the last candle is still open
    return start, max(start, end)


async def download(
    exchange: Exchange, request: DownloadRequest, out: Path, progress: ProgressListener | None = None
) -> DownloadResult:
    """Fetch the missing parts of all requested data; a failure of one series does not stop the others.

    Raises:
        ConfigurationError, DownloadError: see `plan`.
        StoreError: the download folder cannot be written to.
    """
    now = await exchange.server_time()
    tasks = _plan(exchange, request, out, now)
    listener: ProgressListener = progress or NoProgress()
    listener.on_start(tasks)
    slots = asyncio.Semaphore(CONCURRENT_SERIES)
    outcomes = await asyncio.gather(*(_fetch(exchange, task, out, listener, slots) for task in tasks))
    day = f"{datetime.fromtimestamp(now / 1000, tz=UTC):%Y-%m-%d}"
    return DownloadResult(list(outcomes), await _store_contracts(exchange, request, out, day))


async def _store_contracts(exchange: Exchange, request: DownloadRequest, out: Path, day: str) -> list[str]:
    """Store today's contract facts and leverage tiers; return the errors."""
    markets = _markets(exchange, request)
    failures = []
    if "markets" in request.kinds:
        facts = {}
        for market in markets:
            try:
                facts[market.stored_symbol] = (exchange.instrument(market), exchange.listed_ms(market))
            except DownloadError as error:
                failures.append(str(error))
        try:
            contracts.store_contracts(out, exchange.name, day, facts)
        except StoreError as error:
            failures.append(str(error))
    if "tiers" in request.kinds:
        try:
            tables, invalid = await exchange.fetch_tiers(markets)
            failures += invalid
            failures += contracts.store_tiers(out, exchange.name, day, tables)
        except (DownloadError, StoreError, RuleError) as error:
            failures.append(str(error))
    return failures


async def _fetch(
    exchange: Exchange, task: FetchTask, out: Path, listener: ProgressListener, slots: asyncio.Semaphore
) -> FetchOutcome:
    series, market = task.series, task.market
    source = f"{exchange.name} {CCXT_METHODS[series.kind]} of {market.unified_symbol} through ccxt"
    fetched, error, end = 0, None, task.time_range[1]
    async with slots:
        with SeriesStore(out, series, source=source) as store:
            phase = store.phase
            try:
                for time_range in store.missing(task.time_range):
                    async with aclosing(_pages(exchange, task, time_range)) as pages:
                        async for page in pages:
                            if phase is None and page.rows:
                                phase = series.phase(page.rows[0].time)
                            end = _closed_end(task, phase)
                            answered, rows = _closed_part(page, end)
                            if page.outside is not None:
                                error = _outside_text(exchange, page.outside)
                                continue
                            store.add(answered, rows)
                            fetched += len(rows)
                            listener.on_fetched(task, page.time_range)
            except CrossMarginError as failed:
                error = str(failed)
            store.commit(requested=(task.time_range[0], end))
            return FetchOutcome(
                task,
                fetched,
                store.rows,
                intersect(task.time_range, store.gaps),
                intersect((task.time_range[0], end), store.missing(task.time_range)),
                error,
                store.notes,
            )


def _pages(exchange: Exchange, task: FetchTask, time_range: TimeRange) -> AsyncGenerator[FetchedPage, None]:
    """Yield the pages of a time range, in the way that the exchange's client can page."""
    series, market = task.series, task.market
    if series.kind == "funding" and exchange.paged_funding is not None:
        return fetch_pages_backwards(partial(exchange.fetch_funding_page, market), series, time_range)
    fetch_rows = partial(exchange.fetch_rows, market, series)
    return fetch_pages(
        fetch_rows, series, time_range, exchange.page_length_ms(series), listed=exchange.listed_ms(market)
    )


def _closed_end(task: FetchTask, phase: int | None) -> int:
    """Return the end of the requested range, before the first bar that is still open: bars of another phase close later."""
    end = task.time_range[1]
    if not phase:
        return end
    return min(end, task.series.align_up(task.now - task.series.step_ms + 1, phase))


def _closed_part(page: FetchedPage, end: int) -> tuple[TimeRange, list[SeriesRow]]:
    """Return the part of a page before `end`."""
    first, last = page.time_range
    return (first, max(first, min(last, end))), [row for row in page.rows if row.time < end]


def _outside_text(exchange: Exchange, first: int) -> str:
    return (
        f"{exchange.name} answers only with rows from {format_time(first)} on; it gives its latest rows only, or the market was "
        "listed then"
    )
