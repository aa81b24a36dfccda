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
from crossmargin_bt.candles.exchange import METHODS, Exchange, Market
from crossmargin_bt.candles.manifest import inspect
from crossmargin_bt.candles.paging import pages
from crossmargin_bt.candles.series import Row, Series
from crossmargin_bt.candles.spans import Span, within, without
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.errors import ConfigurationError, CrossMarginError, DownloadError, RuleError, StoreError, suggestion
from crossmargin_bt.time_units import MS_PER_HOUR

WHAT = (*METHODS, "tiers", "markets")
# Series that are fetched at once; the client keeps the exchange's rate for all of them together.
AT_ONCE = 4
PUBLISHED_AFTER_MS = 120_000
FUNDING_STEP_MS = 8 * MS_PER_HOUR
# What a stored row takes, for the plan: recorded minutes of Binance take 13 bytes a row and column.
BYTES_PER_VALUE = 13


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a download is to fetch. Times are milliseconds; without an end all there is.

    Raises:
        ConfigurationError: nothing is asked for, or something that there is not.
    """

    symbols: tuple[str, ...]
    what: tuple[str, ...]
    timeframe: str
    since: int
    until: int | None = None

    def __post_init__(self) -> None:
        for word in self.what:
            if word not in WHAT:
                raise ConfigurationError(f"unknown kind of data {word!r}{suggestion(word, WHAT)}")
        if not self.symbols or not self.what:
            raise ConfigurationError("a download names at least one symbol and one kind of data")
        if self.until is not None and self.until <= self.since:
            raise ConfigurationError("the end of the period is not after its start")


class Task(NamedTuple):
    """One series of one market, and the spans of it that are to be fetched."""

    market: Market
    series: Series
    span: Span
    missing: list[Span]

    @property
    def rows(self) -> int:
        """How many rows are expected."""
        return self.rows_in(self.missing)

    def rows_in(self, spans: Sequence[Span]) -> int:
        """Return how many rows spans are expected to hold; funding is counted every eight hours."""
        step = self.series.step or FUNDING_STEP_MS
        return sum((end - start) // step for start, end in spans)


class Outcome(NamedTuple):
    """What became of a series: rows fetched and stored, spans the exchange has no rows for, spans not had and why.

    `notes` say what was found broken and set aside.
    """

    task: Task
    fetched: int
    stored: int
    gaps: list[Span]
    missing: list[Span]
    error: str | None
    notes: list[str]


class Watcher(Protocol):
    """Who is told how a download comes along."""

    def begins(self, tasks: Sequence[Task]) -> None:
        """Take what is to be fetched."""

    def fetched(self, task: Task, span: Span) -> None:
        """Take that a span was answered."""


class Quiet:
    """Nobody is told."""

    def begins(self, tasks: Sequence[Task]) -> None:
        """Take what is to be fetched."""

    def fetched(self, task: Task, span: Span) -> None:
        """Take that a span was answered."""


class Result(NamedTuple):
    """What became of a download: of its series, and why contract facts or tiers could not be had."""

    outcomes: list[Outcome]
    failures: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for is stored."""
        return not self.failures and not any(one.missing or one.error for one in self.outcomes)


async def plan(exchange: Exchange, wanted: Wanted, out: Path) -> list[Task]:
    """Return what a download would fetch: of every series what is not stored yet.

    Raises:
        ConfigurationError: a symbol, a timeframe or a kind of data is not to be had there.
        DownloadError: the exchange does not tell the time.
    """
    return _plan(exchange, wanted, out, await exchange.now())


def _plan(exchange: Exchange, wanted: Wanted, out: Path, now: int) -> list[Task]:
    markets = _markets(exchange, wanted)
    for kind in wanted.what:
        lacking = exchange.lacks(kind)
        if lacking is not None:
            has = ", ".join(kind for kind in WHAT if exchange.lacks(kind) is None)
            raise ConfigurationError(f"{exchange.name} has no {kind} (ccxt: no {lacking}); it has {has}")
    others = exchange.lacks_timeframe(wanted.timeframe)
    if others is not None:
        raise ConfigurationError(f"{exchange.name} has no candles of {wanted.timeframe}; it has {others}")
    tasks = []
    for market in markets:
        for kind in dict.fromkeys(wanted.what):
            if kind not in METHODS:
                continue
            series = Series(exchange.name, market.name, kind, "" if kind == "funding" else wanted.timeframe)
            span = _finished(series, wanted, now)
            tasks.append(Task(market, series, span, without(span, inspect(series.folder(out), series).covered)))
    return tasks


def _markets(exchange: Exchange, wanted: Wanted) -> list[Market]:
    """Return the markets that are meant, each once."""
    return list(dict.fromkeys(exchange.market(symbol) for symbol in wanted.symbols))


def _finished(series: Series, wanted: Wanted, now: int) -> Span:
    """Return the span of rows that are asked for and whose time is over."""
    # An exchange may take a moment to publish what is over.
    now -= PUBLISHED_AFTER_MS
    until = now if wanted.until is None else min(now, wanted.until)
    start = series.aligned(wanted.since)
    if not series.step:
        return start, max(start, until)
    end = series.aligned(until)
    if end > now:
        end -= series.step  # the last candle is not finished
    return start, max(start, end)


async def download(exchange: Exchange, wanted: Wanted, out: Path, watcher: Watcher | None = None) -> Result:
    """Fetch what is missing of everything wanted; what could be had is stored, whatever else fails.

    Raises:
        ConfigurationError, DownloadError: see `plan`.
        StoreError: the disk does not take it.
    """
    now = await exchange.now()
    tasks = _plan(exchange, wanted, out, now)
    told: Watcher = watcher or Quiet()
    told.begins(tasks)
    turn = asyncio.Semaphore(AT_ONCE)
    outcomes = await asyncio.gather(*(_fetch(exchange, task, out, told, turn) for task in tasks))
    day = f"{datetime.fromtimestamp(now / 1000, tz=UTC):%Y-%m-%d}"
    return Result(list(outcomes), await _facts(exchange, wanted, out, day))


async def _facts(exchange: Exchange, wanted: Wanted, out: Path, day: str) -> list[str]:
    """Keep contract facts and tiers as they are today; return what could not be had."""
    markets = _markets(exchange, wanted)
    failures = []
    if "markets" in wanted.what:
        facts = {}
        for market in markets:
            try:
                facts[market.name] = exchange.contract(market)
            except DownloadError as error:
                failures.append(str(error))
        try:
            contracts.store(out, exchange.name, day, facts)
        except StoreError as error:
            failures.append(str(error))
    if "tiers" in wanted.what:
        try:
            contracts.store_tiers(out, exchange.name, day, await exchange.tiers(markets))
        except (DownloadError, StoreError, RuleError) as error:
            failures.append(str(error))
    return failures


async def _fetch(exchange: Exchange, task: Task, out: Path, told: Watcher, turn: asyncio.Semaphore) -> Outcome:
    series, market = task.series, task.market
    source = f"{exchange.name} {METHODS[series.kind]} of {market.unified} through ccxt"
    fetched, error = 0, None
    async with turn:
        with SeriesStore(out, series, source=source) as store:

            async def ask(span: Span) -> Sequence[Row]:
                return await exchange.rows(market, series, span)

            try:
                for span in store.missing(task.span):
                    async with aclosing(pages(ask, series, span, exchange.at_once(series))) as answered:
                        async for page in answered:
                            store.add(page.span, page.rows)
                            fetched += len(page.rows)
                            told.fetched(task, page.span)
            except CrossMarginError as failed:
                error = str(failed)
            store.commit()
            return Outcome(
                task, fetched, store.rows, within(task.span, store.gaps), store.missing(task.span), error, store.notes
            )
