# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin download`: fetch what is missing of every series asked for, and say what could not be had."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from crossmargin_bt.candles import contracts
from crossmargin_bt.candles.exchange import CCXT_METHODS, Exchange, ExchangeMarket
from crossmargin_bt.candles.manifest import inspect_folder
from crossmargin_bt.candles.pagination import fetch_pages
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.candles.time_ranges import TimeRange, intersect, subtract
from crossmargin_bt.errors import ConfigurationError, CrossMarginError, DownloadError, RuleError, StoreError, suggestion
from crossmargin_bt.time_units import MS_PER_HOUR

DOWNLOAD_KINDS = (*CCXT_METHODS, "tiers", "markets")
# Series that are fetched at once; the client keeps the exchange's rate for all of them together.
CONCURRENT_SERIES = 4
PUBLICATION_DELAY_MS = 120_000
FUNDING_STEP_MS = 8 * MS_PER_HOUR
# What a stored row takes, for the plan: recorded minutes of Binance take 13 bytes a row and column.
BYTES_PER_VALUE = 13


class DownloadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a download is to fetch. Times are milliseconds; without an end all there is.

    Raises:
        ConfigurationError: nothing is asked for, or something that there is not.
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
    """One series of one market, and the ranges of it that are to be fetched."""

    market: ExchangeMarket
    series: Series
    time_range: TimeRange
    missing: list[TimeRange]

    @property
    def rows(self) -> int:
        """How many rows are expected."""
        return self.rows_in(self.missing)

    def rows_in(self, ranges: Sequence[TimeRange]) -> int:
        """Return how many rows ranges are expected to hold; funding is counted every eight hours."""
        step = self.series.step_ms or FUNDING_STEP_MS
        return sum((end - start) // step for start, end in ranges)


class FetchOutcome(NamedTuple):
    """What became of a series: rows fetched and stored, ranges the exchange has no rows for, ranges not had and why.

    `notes` say what was found broken and set aside.
    """

    task: FetchTask
    fetched: int
    stored: int
    gaps: list[TimeRange]
    missing: list[TimeRange]
    error: str | None
    notes: list[str]


class ProgressListener(Protocol):
    """Who is listener how a download comes along."""

    def on_start(self, tasks: Sequence[FetchTask]) -> None:
        """Take what is to be fetched."""

    def on_fetched(self, task: FetchTask, time_range: TimeRange) -> None:
        """Take that a time_range was answered."""


class NoProgress:
    """Nobody is listener."""

    def on_start(self, tasks: Sequence[FetchTask]) -> None:
        """Take what is to be fetched."""

    def on_fetched(self, task: FetchTask, time_range: TimeRange) -> None:
        """Take that a time_range was answered."""


class DownloadResult(NamedTuple):
    """What became of a download: of its series, and why contract facts or tiers could not be had."""

    outcomes: list[FetchOutcome]
    failures: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for is stored."""
        return not self.failures and not any(one.missing or one.error for one in self.outcomes)


async def plan(exchange: Exchange, request: DownloadRequest, out: Path) -> list[FetchTask]:
    """Return what a download would fetch: of every series what is not stored yet.

    Raises:
        ConfigurationError: a symbol, a timeframe or a kind of data is not to be had there.
        DownloadError: the exchange does not tell the time.
    """
    return _plan(exchange, request, out, await exchange.server_time())


def _plan(exchange: Exchange, request: DownloadRequest, out: Path, now: int) -> list[FetchTask]:
    markets = _markets(exchange, request)
    for kind in request.kinds:
        lacking = exchange.missing_method(kind)
        if lacking is not None:
            has = ", ".join(kind for kind in DOWNLOAD_KINDS if exchange.missing_method(kind) is None)
            raise ConfigurationError(f"{exchange.name} has no {kind} (ccxt: no {lacking}); it has {has}")
    others = exchange.alternative_timeframes(request.timeframe)
    if others is not None:
        raise ConfigurationError(f"{exchange.name} has no candles of {request.timeframe}; it has {others}")
    tasks = []
    for market in markets:
        for kind in dict.fromkeys(request.kinds):
            if kind not in CCXT_METHODS:
                continue
            series = Series(exchange.name, market.stored_symbol, kind, "" if kind == "funding" else request.timeframe)
            time_range = _closed_range(series, request, now)
            tasks.append(
                FetchTask(
                    market, series, time_range, subtract(time_range, inspect_folder(series.folder(out), series).covered)
                )
            )
    return tasks


def _markets(exchange: Exchange, request: DownloadRequest) -> list[ExchangeMarket]:
    """Return the markets that are meant, each once."""
    return list(dict.fromkeys(exchange.market(symbol) for symbol in request.symbols))


def _closed_range(series: Series, request: DownloadRequest, now: int) -> TimeRange:
    """Return the time_range of rows that are asked for and whose time is over."""
    # An exchange may take a moment to publish what is over.
    now -= PUBLICATION_DELAY_MS
    until = now if request.until_ms is None else min(now, request.until_ms)
    start = series.align_up(request.since_ms)
    if not series.step_ms:
        return start, max(start, until)
    end = series.align_up(until)
    if end > now:
        end -= series.step_ms  # the last candle is not finished
    return start, max(start, end)


async def download(
    exchange: Exchange, request: DownloadRequest, out: Path, progress: ProgressListener | None = None
) -> DownloadResult:
    """Fetch what is missing of everything request; what could be had is stored, whatever else fails.

    Raises:
        ConfigurationError, DownloadError: see `plan`.
        StoreError: the disk does not take it.
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
    """Keep contract facts and tiers as they are today; return what could not be had."""
    markets = _markets(exchange, request)
    failures = []
    if "markets" in request.kinds:
        facts = {}
        for market in markets:
            try:
                facts[market.stored_symbol] = exchange.instrument(market)
            except DownloadError as error:
                failures.append(str(error))
        try:
            contracts.store_contracts(out, exchange.name, day, facts)
        except StoreError as error:
            failures.append(str(error))
    if "tiers" in request.kinds:
        try:
            contracts.store_tiers(out, exchange.name, day, await exchange.fetch_tiers(markets))
        except (DownloadError, StoreError, RuleError) as error:
            failures.append(str(error))
    return failures


async def _fetch(
    exchange: Exchange, task: FetchTask, out: Path, listener: ProgressListener, slots: asyncio.Semaphore
) -> FetchOutcome:
    series, market = task.series, task.market
    source = f"{exchange.name} {CCXT_METHODS[series.kind]} of {market.unified_symbol} through ccxt"
    fetched, error = 0, None
    async with slots:
        with SeriesStore(out, series, source=source) as store:

            async def fetch_rows(time_range: TimeRange) -> Sequence[SeriesRow]:
                return await exchange.fetch_rows(market, series, time_range)

            try:
                for time_range in store.missing(task.time_range):
                    async with aclosing(
                        fetch_pages(fetch_rows, series, time_range, exchange.page_length_ms(series))
                    ) as answered:
                        async for page in answered:
                            store.add(page.time_range, page.rows)
                            fetched += len(page.rows)
                            listener.on_fetched(task, page.time_range)
            except CrossMarginError as failed:
                error = str(failed)
            store.commit()
            return FetchOutcome(
                task,
                fetched,
                store.rows,
                intersect(task.time_range, store.gaps),
                store.missing(task.time_range),
                error,
                store.notes,
            )
