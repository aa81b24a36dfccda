# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin download`: the command, its progress bars and its summary."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from crossmargin_bt.cli.parsing import report_errors, split_list

if TYPE_CHECKING:
    from crossmargin_bt.candles.download import (
        DownloadRequest,
        DownloadResult,
        FetchOutcome,
        FetchTask,
        ProgressListener,
    )
    from crossmargin_bt.candles.exchange import Exchange

FOLDER = click.Path(path_type=Path, file_okay=False)
OUT = Path("data")
CREDENTIALS = {
    "apiKey": "CROSSMARGIN_API_KEY",
    "secret": "CROSSMARGIN_API_SECRET",
    "password": "CROSSMARGIN_API_PASSWORD",
}


class Connection(NamedTuple):
    """Connection settings, see `crossmargin_bt.candles.exchange.Exchange`."""

    api_base: str | None
    rate_limited: bool
    tries: int


def connection_options(command: "click.decorators.FC") -> "click.decorators.FC":
    """Add the connection options to a command."""
    for option in (
        click.option("--retries", type=click.IntRange(min=1), default=8, show_default=True, help="Attempts per request."),
        click.option("--no-rate-limit", is_flag=True, help="Send requests without rate limiting, for your own mirror."),
        click.option(
            "--api-base", envvar="CROSSMARGIN_API_BASE", metavar="URL",
            help="Server that replaces every host of the exchange, such as a mirror or proxy.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.option("--exchange", required=True, help="ccxt id of the exchange: binanceusdm, okx, bybit, ...")
@click.option("--symbols", required=True, help="Markets, separated by commas: BTC/USDT:USDT, or BTCUSDT.")
@click.option("--timeframe", default="1h", show_default=True, help="Timeframe of candles, mark and index prices.")
@click.option("--since", required=True, help="First date, for example 2024-01-01 (UTC).")
@click.option("--until", help="End date, exclusive (UTC); default: now.")
@click.option(
    "--what",
    default="candles,mark,funding,markets",
    show_default=True,
    help="Any of candles, mark, index, funding, tiers (current) and markets (contract specifications).",
)
@click.option("--out", type=FOLDER, default=OUT, show_default=True, help="Folder of downloads.")
@click.option("--dry-run", is_flag=True, help="Print what would be downloaded and its size.")
@connection_options
def download(
    *, exchange: str, symbols: str, timeframe: str, since: str, until: str | None, what: str, out: Path, dry_run: bool,
    retries: int, no_rate_limit: bool, api_base: str | None,
) -> None:  # fmt: skip
    """Download market data from an exchange; stored data is not fetched again.

    An interrupted download resumes when the command is repeated. Exit code 1 if data is missing, which is then listed.
    """
    from crossmargin_bt.candles.download import DownloadRequest
    from crossmargin_bt.candles.download import download as fetch

    with report_errors():
        request = DownloadRequest(
            symbols=tuple(split_list(symbols)),
            kinds=tuple(split_list(what)),
            timeframe=timeframe,
            since_ms=_milliseconds(since),
            until_ms=None if until is None else _milliseconds(until),
        )
        connection = Connection(api_base, not no_rate_limit, retries)
        if dry_run:
            _show_plan(asyncio.run(_planned(exchange, request, out, connection)))
            return
        result = asyncio.run(
            with_exchange(exchange, connection, lambda opened, bars: fetch(opened, request, out, bars))
        )
        show_result(result)
        if not result.is_complete:
            sys.exit(1)


async def _planned(exchange: str, request: "DownloadRequest", out: Path, connection: "Connection") -> "list[FetchTask]":
    from crossmargin_bt.candles.download import plan
    from crossmargin_bt.candles.exchange import Exchange

    async with Exchange(exchange, **connection._asdict()) as opened:
        return await plan(opened, request, out)


async def with_exchange(
    exchange: str, connection: Connection, work: "Callable[[Exchange, ProgressListener], Awaitable[DownloadResult]]"
) -> "DownloadResult":
    """Open an exchange and await `work`, with a progress bar per series."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from crossmargin_bt.candles.exchange import Exchange

    credentials = {key: os.environ[name] for key, name in CREDENTIALS.items() if name in os.environ}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def waits(seconds: float, why: str) -> None:
            if seconds >= 1:
                progress.console.print(f"{exchange}: {why}, waiting {seconds:.0f} s")

        async with Exchange(exchange, on_wait=waits, credentials=credentials, **connection._asdict()) as opened:
            return await work(opened, _Bars(progress))


class _Bars:
    """One progress bar per series, advanced by the period received."""

    def __init__(self, progress: Any) -> None:
        self._progress: Any = progress
        self._bars: dict[object, object] = {}

    def on_start(self, tasks: "Sequence[FetchTask]") -> None:
        """Add a bar for every incomplete series."""
        for task in tasks:
            if task.missing:
                name = f"{task.series.symbol} {task.series.name}"
                self._bars[task.series] = self._progress.add_task(name, total=task.rows, rate="")

    def on_fetched(self, task: "FetchTask", span: "tuple[int, int]") -> None:
        """Advance a bar by the rows received."""
        bar = self._bars[task.series]
        self._progress.advance(bar, task.rows_in([span]))
        speed = self._progress.tasks[bar].speed
        self._progress.update(bar, rate=f"{speed:,.0f} rows/s" if speed else "")


def _show_plan(tasks: "Sequence[FetchTask]") -> None:
    from crossmargin_bt.candles.download import BYTES_PER_VALUE
    from crossmargin_bt.candles.series import format_time

    total = 0
    for task in tasks:
        size = task.rows * (1 + len(task.series.columns)) * BYTES_PER_VALUE
        total += size
        spans = ", ".join(f"{format_time(a)} to {format_time(b)}" for a, b in task.missing) or "nothing to download"
        click.echo(f"{task.series.symbol} {task.series.name}: {spans}; about {task.rows:,} rows, {size / 1e6:.1f} MB")
    click.echo(f"about {total / 1e6:.1f} MB in total")


def show_result(result: "DownloadResult") -> None:
    """Print what was downloaded, what the exchange does not have, and what is missing."""
    for one in result.outcomes:
        for line in _outcome_lines(one):
            click.echo(line)
    for text in result.failures:
        click.echo(f"missing: {text}")


def _outcome_lines(one: "FetchOutcome") -> list[str]:
    from crossmargin_bt.candles.series import format_time

    name = f"{one.task.series.symbol} {one.task.series.name}"
    lines = [f"{name}: {note}" for note in one.notes]
    lines.append(f"{name}: {one.fetched:,} rows fetched, {one.stored:,} stored")
    lines += [f"{name}: the exchange has none from {format_time(a)} to {format_time(b)}" for a, b in one.gaps]
    lines += [f"missing: {name} from {format_time(a)} to {format_time(b)}: {one.error}" for a, b in one.missing]
    if one.error and not one.missing:
        lines.append(f"missing: {name}: {one.error}")
    return lines


def _milliseconds(text: str) -> int:
    from crossmargin_bt.candles.market import parse_date

    stamp: datetime = parse_date(text)
    return round(stamp.timestamp() * 1000)
