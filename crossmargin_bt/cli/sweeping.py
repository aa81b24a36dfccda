# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin sweep`."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossmargin_bt.cli.options import AccountOptions, MarketOptions, account_options, market_options, tier_files
from crossmargin_bt.cli.words import errors_as_lines, listed, value, words
from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.sweep import Definition, Objective, Row

INTERRUPTED = 130
"""What a program returns that was stopped by Ctrl-C."""
SHOWN = 8
"""Rows of the best so far."""


@click.command()
@click.argument("strategy", metavar="FILE.py:Class")
@click.option(
    "--param",
    "params",
    multiple=True,
    required=True,
    metavar="NAME=VALUES",
    help="What is varied: fast=5:50:5 (to and including), fast=5,10,20, or size=0.1..2 (random, optuna). A param of the strategy, or "
    "leverage, cash, slippage. May be repeated.",
)
@market_options
@click.option("--modes", default="isolated,cross", show_default=True, help="Margin modes, separated by commas.")
@click.option("--venue", default="generic", show_default=True, help="Rule books or TOML files, separated by commas.")
@click.option("--tiers", multiple=True, metavar="VENUE=FILE", help="Tier tables of a venue by date; may be repeated.")
@account_options
@click.option("--search", default="grid", show_default=True, help="grid (all combinations), random, or optuna.")
@click.option("--trials", default=100, show_default=True, help="Combinations a random or learning search tries.")
@click.option("--seed", default=1, show_default=True, help="Of a random or learning search.")
@click.option(
    "--objective", default="return", show_default=True, help="One or two figures to look for, separated by commas."
)
@click.option("--walk-forward", "walk", metavar="180d/30d", help="Choose in the first, trade in the second, and go on.")
@click.option("--jobs", default=-1, show_default=True, help="Processes; -1 takes every core.")
@click.option(
    "--dask", metavar="ADDRESS", help="A dask scheduler (tcp://host:8786), or local for a cluster on this machine."
)
@click.option(
    "--fast", is_flag=True, help="Follow the strategy's signals() in a compiled loop, then run the best bar by bar."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results; without it sweeps/ and the class.")
@click.option("--again", is_flag=True, help="Run combinations again that failed before.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def sweep(
    *, strategy: str, params: tuple[str, ...], market: MarketOptions, modes: str, venue: str, tiers: tuple[str, ...],
    account: AccountOptions, search: str, trials: int, seed: int, objective: str, walk: str | None, jobs: int, dask: str | None,
    fast: bool, out: Path | None, again: bool, debug: bool,
) -> None:  # fmt: skip
    """Search the params of a strategy under several margin modes.

    What has run is kept in the folder of results; the same command goes on where it was stopped.
    """
    from crossmargin_bt.broker.api.settings import MODES
    from crossmargin_bt.compare import ACCOUNTS, StrategySource
    from crossmargin_bt.sweep import Definition, Store, axis, objectives, plan, space
    from crossmargin_bt.sweep.engines import Engine
    from crossmargin_bt.sweep.running import SEARCHES
    from crossmargin_bt.venues.tiers import load_with

    with errors_as_lines(debug=debug):
        if trials < 1 or jobs == 0:
            raise ConfigurationError("--trials is 1 or more, --jobs is 1 or more, or -1 for every core")
        source = StrategySource.read(strategy)
        spec = source.load()
        axes = tuple(axis(text, value) for text in params)
        space.check_names(axes, list(spec.strategy.params._getkeys()), plan.VARIED_SETTINGS)
        aims = objectives(objective)
        chosen = listed(modes, "mode", (*MODES, *ACCOUNTS))
        books = [load_with(name, file) for name, file in tier_files(tiers, words(venue)).items()]
        candles = market.read()
        # The class is named in full, so that a run is the same however it was asked for.
        shared = plan.Shared(
            source._replace(name=spec.name), {book.name: book for book in books}, account.settings(candles),
            _data(market, candles), plan.hashed(source.beside()), fast,
        )  # fmt: skip
        (way,) = listed(search, "search", SEARCHES, most=1)
        definition = Definition(
            shared, axes, tuple(chosen), tuple(aim.name for aim in aims), way,
            trials=trials, seed=seed, walk=None if walk is None else plan.walk_of(walk),
        )  # fmt: skip
        if fast:
            _check_fast(definition, spec, candles)
        folder = out or Path("sweeps") / spec.name
        with Store(folder) as store, Engine(jobs, dask) as engine:
            if again:
                store.forget_failed()
            rows = _followed(definition, candles, store, engine, aims)
        _report(definition, rows, folder)
        if fast:
            _confirm(definition, rows, aims)
        click.echo(f"rows: {folder / 'results.parquet'}\nreport: {folder / 'report.html'}")
        if rows and all(row.error for row in rows):
            raise ConfigurationError(f"all of {len(rows)} runs failed; the first: {rows[0].error}")


def _check_fast(definition: "Definition", spec: Any, candles: "Sequence[Candles]") -> None:
    """Refuse what signals cannot be swept by, signals that look ahead among it."""
    from crossmargin_bt.sweep import fast, space

    shared, axes = definition.shared, definition.axes
    fast.check(spec, definition.modes, definition.objective, shared.settings, [one.name for one in axes])
    fast.check_venues(list(shared.venues.values()), candles, definition.modes, shared.settings)
    first = {one.name: one.between[0] if one.between is not None else one.values[0] for one in axes}
    own, _ = space.divided(first, list(spec.strategy.params._getkeys()))
    fast.check_signals(spec, candles, own)


def _confirm(definition: "Definition", rows: "Sequence[Row]", aims: "Sequence[Objective]") -> None:
    """Run the best bar by bar, and tell what that comes to beside its signals."""
    from crossmargin_bt import sweep as sweeping
    from crossmargin_bt.sweep import table

    best = min((row for row in rows if row.sample != "out" and not row.error), key=aims[0].rank, default=None)
    if best is not None:
        click.echo(table.beside(best, sweeping.in_full(definition, best)))


def _data(market: MarketOptions, candles: "Sequence[Candles]") -> Any:
    from crossmargin_bt.sweep import plan

    return plan.Data(
        str(market.folder.resolve()), tuple(words(market.symbols)) if market.symbols else None, market.timeframe, market.start,
        market.end, market.data is not None, plan.digest(candles),
    )  # fmt: skip


def _followed(
    definition: "Definition", candles: "Sequence[Candles]", store: Any, engine: Any, aims: "Sequence[Objective]"
) -> "list[Row]":
    """Run the sweep under a table of the best so far; Ctrl-C keeps what has run."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from crossmargin_bt import sweep as sweeping
    from crossmargin_bt.sweep import table

    console = Console(stderr=True)
    progress = Progress(
        TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
    task = progress.add_task("", total=None)
    board = table.Board(aims, SHOWN, progress)
    had = len(store.rows)
    with _stopped_by_terminate(), Live(board, console=console, refresh_per_second=4, transient=True) as live:

        def on_round(total: int, kept: "Sequence[Row]") -> None:
            if had and not progress.tasks[0].total:
                live.console.print(f"{len(kept)} of {total} were kept from before")
            progress.update(task, total=total)
            for row in kept:
                on_row(row)

        def on_row(row: "Row") -> None:
            board.add(row)
            progress.advance(task)

        try:
            rows = sweeping.run(definition, candles, store, engine, on_round=on_round, on_row=on_row)
        except KeyboardInterrupt:
            store.flush()
            live.stop()
            click.echo(
                f"stopped: {len(store.rows)} runs are kept in {store.folder}; the same command goes on", err=True
            )
            sys.exit(INTERRUPTED)
    Console().print(table.summary(rows, aims, definition.axes, SHOWN))
    return rows


@contextmanager
def _stopped_by_terminate() -> "Iterator[None]":
    """Let a request to end be what Ctrl-C is."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(definition: "Definition", rows: "Sequence[Row]", folder: Path) -> None:
    from crossmargin_bt.report import files
    from crossmargin_bt.sweep import page

    files.write(page.render(definition, rows), folder / "report.html")
