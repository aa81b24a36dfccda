# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin sweep`."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossmargin_bt.cli.options import AccountOptions, MarketOptions, account_options, market_options, parse_tier_files
from crossmargin_bt.cli.parsing import parse_choices, parse_value, report_errors, split_list
from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import StrategySpec
    from crossmargin_bt.sweep import Objective, SweepDefinition, SweepRow, SweepStore
    from crossmargin_bt.sweep.executors import Executor
    from crossmargin_bt.sweep.plan import DataSource

INTERRUPTED = 130
"""Exit code of a program stopped by Ctrl-C (128 + SIGINT)."""
ROWS_SHOWN = 8
"""Rows of the leaderboard and of listed failures."""


@click.command()
@click.argument("strategy", metavar="FILE.py:Class")
@click.option(
    "--param",
    "params",
    multiple=True,
    required=True,
    metavar="NAME=VALUES",
    help="Values of a strategy param, or of leverage, cash or slippage: fast=5:50:5 (end included), fast=5,10,20, or size=0.1..2 "
    "(random, optuna). May be repeated.",
)
@market_options
@click.option("--modes", default="isolated,cross", show_default=True, help="Margin modes, separated by commas.")
@click.option(
    "--venue", default="generic", show_default=True, help="Rule book names or TOML files, separated by commas."
)
@click.option(
    "--tiers", multiple=True, metavar="VENUE=FILE", help="JSON file of a venue's tier tables by date; may be repeated."
)
@account_options
@click.option("--search", default="grid", show_default=True, help="grid (all combinations), random, or optuna.")
@click.option("--trials", default=100, show_default=True, help="Number of combinations of a random or optuna search.")
@click.option("--seed", default=1, show_default=True, help="Random seed of a random or optuna search.")
@click.option(
    "--objective", default="return", show_default=True, help="One or two figures to optimise, separated by commas."
)
@click.option("--walk-forward", "walk", metavar="180d/30d", help="Lengths of in-sample and out-of-sample windows.")
@click.option("--jobs", default=-1, show_default=True, help="Number of processes; -1 uses every core.")
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Address of a dask scheduler (tcp://host:8786), or local for a cluster on this machine.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Simulate the strategy's signals() in a compiled loop, then run the best combination bar by bar.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Result folder; default: sweeps/CLASS.")
@click.option("--again", is_flag=True, help="Repeat combinations that failed before.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def sweep(
    *, strategy: str, params: tuple[str, ...], market: MarketOptions, modes: str, venue: str, tiers: tuple[str, ...],
    account: AccountOptions, search: str, trials: int, seed: int, objective: str, walk: str | None, jobs: int, dask: str | None,
    fast: bool, out: Path | None, again: bool, debug: bool,
) -> None:  # fmt: skip
    """Search the params of a strategy under several margin modes.

    Finished runs are stored in the result folder; the same command resumes an interrupted sweep.
    """
    from crossmargin_bt.broker.api.settings import MODES
    from crossmargin_bt.compare import MODE_ALIASES, StrategySource
    from crossmargin_bt.sweep import SweepDefinition, SweepStore, parse_axis, parse_objectives, plan, search_space
    from crossmargin_bt.sweep.executors import Executor
    from crossmargin_bt.sweep.runner import SEARCHES
    from crossmargin_bt.venues import load_with

    with report_errors(debug=debug):
        if trials < 1 or jobs == 0:
            raise ConfigurationError("--trials is 1 or more, --jobs is 1 or more, or -1 for every core")
        source = StrategySource.read(strategy)
        spec = source.load()
        axes = tuple(parse_axis(text, parse_value) for text in params)
        search_space.check_names(axes, list(spec.strategy.params._getkeys()), plan.VARIED_SETTINGS)
        objectives = parse_objectives(objective)
        chosen = parse_choices(modes, "mode", (*MODES, *MODE_ALIASES))
        books = [load_with(name, file) for name, file in parse_tier_files(tiers, split_list(venue)).items()]
        candles = market.read()
        # The class name is always set, so that the keys do not depend on how the file was given.
        shared = plan.SharedInputs(
            source._replace(name=spec.name), {book.name: book for book in books}, account.settings(candles),
            _data_source(market, candles), plan.hash_files(source.imported_files()), fast,
        )  # fmt: skip
        (method,) = parse_choices(search, "search", SEARCHES, count_max=1)
        definition = SweepDefinition(
            shared, axes, tuple(chosen), tuple(objective.name for objective in objectives), method,
            trials=trials, seed=seed, walk=None if walk is None else plan.parse_walk_forward(walk),
        )  # fmt: skip
        if fast:
            _check_fast(definition, spec, candles)
        folder = out or Path("sweeps") / spec.name
        with SweepStore(folder) as store, Executor(jobs, dask) as executor:
            if again:
                store.drop_failed()
            rows = _run_with_leaderboard(definition, candles, store, executor, objectives)
        _write_report(definition, rows, folder)
        if fast:
            _print_bar_by_bar(definition, rows, objectives)
        click.echo(f"rows: {folder / 'results.parquet'}\nreport: {folder / 'report.html'}")
        if rows and all(row.error for row in rows):
            raise ConfigurationError(f"all of {len(rows)} runs failed; the first: {rows[0].error}")


def _check_fast(definition: "SweepDefinition", spec: "StrategySpec", candles: "Sequence[Candles]") -> None:
    """Check that `--fast` supports the sweep and that the signals do not look ahead."""
    from crossmargin_bt.sweep import search_space, signals

    shared, axes = definition.shared, definition.axes
    signals.check_supported(spec, definition.modes, definition.objectives, shared.settings, [one.name for one in axes])
    signals.check_venues(list(shared.venues.values()), candles, definition.modes, shared.settings)
    first = {one.name: one.between[0] if one.between is not None else one.values[0] for one in axes}
    own, _ = search_space.split_params(first, list(spec.strategy.params._getkeys()))
    signals.check_lookahead(spec, candles, own)


def _print_bar_by_bar(
    definition: "SweepDefinition", rows: "Sequence[SweepRow]", objectives: "Sequence[Objective]"
) -> None:
    """Run the best combination bar by bar and print how it compares with its signals."""
    from crossmargin_bt import sweep as sweeps
    from crossmargin_bt.sweep import table

    best = min((row for row in rows if row.sample != "out" and not row.error), key=objectives[0].rank, default=None)
    if best is not None:
        click.echo(table.compare_with_bar_by_bar(best, sweeps.run_bar_by_bar(definition, best)))


def _data_source(market: MarketOptions, candles: "Sequence[Candles]") -> "DataSource":
    from crossmargin_bt.sweep import plan

    return plan.DataSource(
        str(market.folder.resolve()), tuple(split_list(market.symbols)) if market.symbols else None, market.timeframe, market.start,
        market.end, market.data is not None, plan.digest(candles),
    )  # fmt: skip


def _run_with_leaderboard(
    definition: "SweepDefinition",
    candles: "Sequence[Candles]",
    store: "SweepStore",
    executor: "Executor",
    objectives: "Sequence[Objective]",
) -> "list[SweepRow]":
    """Run the sweep with a live leaderboard; finished runs are stored on Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    from crossmargin_bt import sweep as sweeps
    from crossmargin_bt.sweep import table

    console = Console(stderr=True)
    progress = _progress_bar(console)
    task = progress.add_task("", total=None)
    board = table.Leaderboard(objectives, ROWS_SHOWN, progress)
    resumed = bool(store.rows)
    with _terminate_as_interrupt(), Live(board, console=console, refresh_per_second=4, transient=True) as live:

        def on_round(total: int, stored: "Sequence[SweepRow]") -> None:
            if resumed and not progress.tasks[0].total:
                live.console.print(f"{len(stored)} of {total} runs are stored already")
            progress.update(task, total=total)
            for row in stored:
                on_row(row)

        def on_row(row: "SweepRow") -> None:
            board.add(row)
            progress.advance(task)

        try:
            rows = sweeps.run(definition, candles, store, executor, on_round=on_round, on_row=on_row)
        except KeyboardInterrupt:
            store.flush()
            live.stop()
            click.echo(
                f"stopped: {len(store.rows)} runs are stored in {store.folder}; repeat the command to resume", err=True
            )
            sys.exit(INTERRUPTED)
    Console().print(table.build_summary(rows, objectives, definition.axes, ROWS_SHOWN))
    return rows


def _progress_bar(console: "Console") -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip


@contextmanager
def _terminate_as_interrupt() -> "Iterator[None]":
    """Handle SIGTERM like Ctrl-C."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _write_report(definition: "SweepDefinition", rows: "Sequence[SweepRow]", folder: Path) -> None:
    from crossmargin_bt.report import files
    from crossmargin_bt.sweep import page

    files.write(page.render(definition, rows), folder / "report.html")
