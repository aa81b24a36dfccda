# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin download`: the command, its bars and what it says at the end."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from crossmargin_bt.cli.words import errors_as_lines, words

if TYPE_CHECKING:
    from crossmargin_bt.candles.download import Outcome, Result, Task, Wanted, Watcher
    from crossmargin_bt.candles.exchange import Exchange

FOLDER = click.Path(path_type=Path, file_okay=False)
OUT = Path("data")
CREDENTIALS = {
    "apiKey": "CROSSMARGIN_API_KEY",
    "secret": "CROSSMARGIN_API_SECRET",
    "password": "CROSSMARGIN_API_PASSWORD",
}


class Connection(NamedTuple):
    """How an exchange is reached, see `crossmargin_bt.candles.exchange.Exchange`."""

    api_base: str | None
    rate_limited: bool
    tries: int


def reaching(command: "click.decorators.FC") -> "click.decorators.FC":
    """Add the options that say how an exchange is reached."""
    for option in (
        click.option("--retries", type=click.IntRange(min=1), default=8, show_default=True, help="How often a request is tried."),
        click.option("--no-rate-limit", is_flag=True, help="Send requests as fast as they are answered: for mirrors of your own."),
        click.option(
            "--api-base", envvar="CROSSMARGIN_API_BASE", metavar="URL",
            help="A server in place of every host of the exchange: a mirror, a proxy.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.option("--exchange", required=True, help="ccxt's id of the exchange: binanceusdm, okx, bybit, ...")
@click.option("--symbols", required=True, help="Markets, separated by commas: BTC/USDT:USDT, or BTCUSDT.")
@click.option("--timeframe", default="1h", show_default=True, help="Of candles, mark and index prices.")
@click.option("--since", required=True, help="First date, for example 2024-01-01 (UTC).")
@click.option("--until", help="Date to stop before (UTC); without it what there is by now.")
@click.option(
    "--what",
    default="candles,mark,funding,markets",
    show_default=True,
    help="Of candles, mark, index, funding, tiers (as they are today) and markets (contract facts).",
)
@click.option("--out", type=FOLDER, default=OUT, show_default=True, help="Folder of downloads.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and how large it is.")
@reaching
def download(
    *, exchange: str, symbols: str, timeframe: str, since: str, until: str | None, what: str, out: Path, dry_run: bool,
    retries: int, no_rate_limit: bool, api_base: str | None,
) -> None:  # fmt: skip
    """Fetch market data from an exchange: what is missing of it, until it is complete.

    Run again, it goes on where it ended. It ends with code 1 when something could not be had, and says what.
    """
    from crossmargin_bt.candles.download import Wanted
    from crossmargin_bt.candles.download import download as fetch

    with errors_as_lines():
        wanted = Wanted(
            symbols=tuple(words(symbols)),
            what=tuple(words(what)),
            timeframe=timeframe,
            since=_milliseconds(since),
            until=None if until is None else _milliseconds(until),
        )
        connection = Connection(api_base, not no_rate_limit, retries)
        if dry_run:
            _show_plan(asyncio.run(_planned(exchange, wanted, out, connection)))
            return
        result = asyncio.run(with_exchange(exchange, connection, lambda opened, bars: fetch(opened, wanted, out, bars)))
        show_result(result)
        if not result.is_complete:
            sys.exit(1)


async def _planned(exchange: str, wanted: "Wanted", out: Path, connection: "Connection") -> "list[Task]":
    from crossmargin_bt.candles.download import plan
    from crossmargin_bt.candles.exchange import Exchange

    async with Exchange(exchange, **connection._asdict()) as opened:
        return await plan(opened, wanted, out)


async def with_exchange(
    exchange: str, connection: Connection, work: "Callable[[Exchange, Watcher], Awaitable[Result]]"
) -> "Result":
    """Open an exchange and do some work there, with a bar a series on the terminal."""
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
    """A progress bar a series, filled by the time that is answered."""

    def __init__(self, progress: Any) -> None:
        self._progress: Any = progress
        self._bars: dict[object, object] = {}

    def begins(self, tasks: "Sequence[Task]") -> None:
        """Draw a bar for every series of which something is missing."""
        for task in tasks:
            if task.missing:
                name = f"{task.series.symbol} {task.series.name}"
                self._bars[task.series] = self._progress.add_task(name, total=task.rows, rate="")

    def fetched(self, task: "Task", span: "tuple[int, int]") -> None:
        """Move a bar on by what was answered."""
        bar = self._bars[task.series]
        self._progress.advance(bar, task.rows_in([span]))
        speed = self._progress.tasks[bar].speed
        self._progress.update(bar, rate=f"{speed:,.0f} rows/s" if speed else "")


def _show_plan(tasks: "Sequence[Task]") -> None:
    from crossmargin_bt.candles.download import BYTES_PER_VALUE
    from crossmargin_bt.candles.series import date_text

    total = 0
    for task in tasks:
        size = task.rows * (1 + len(task.series.columns)) * BYTES_PER_VALUE
        total += size
        spans = (
            ", ".join(f"{date_text(a)} to {date_text(b)}" for a, b in task.missing) or "nothing, all of it is stored"
        )
        click.echo(f"{task.series.symbol} {task.series.name}: {spans}; about {task.rows:,} rows, {size / 1e6:.1f} MB")
    click.echo(f"about {total / 1e6:.1f} MB in all")


def show_result(result: "Result") -> None:
    """Say what was fetched, what the exchange does not have, and what is missing."""
    for one in result.outcomes:
        for line in _outcome_lines(one):
            click.echo(line)
    for text in result.failures:
        click.echo(f"missing: {text}")


def _outcome_lines(one: "Outcome") -> list[str]:
    from crossmargin_bt.candles.series import date_text

    name = f"{one.task.series.symbol} {one.task.series.name}"
    lines = [f"{name}: {note}" for note in one.notes]
    lines.append(f"{name}: {one.fetched:,} rows fetched, {one.stored:,} stored")
    lines += [f"{name}: the exchange has none from {date_text(a)} to {date_text(b)}" for a, b in one.gaps]
    lines += [f"missing: {name} from {date_text(a)} to {date_text(b)}: {one.error}" for a, b in one.missing]
    if one.error and not one.missing:
        lines.append(f"missing: {name}: {one.error}")
    return lines


def _milliseconds(text: str) -> int:
    from crossmargin_bt.candles.market import timestamp

    stamp: datetime = timestamp(text)
    return round(stamp.timestamp() * 1000)
