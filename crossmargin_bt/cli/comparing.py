# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin compare` and `crossmargin explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from crossmargin_bt.cli.options import (
    AccountOptions,
    MarketOptions,
    account_options,
    market_options,
    shipped,
    tier_files,
)
from crossmargin_bt.cli.outputs import Outputs
from crossmargin_bt.cli.words import errors_as_lines, listed, words
from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings, StrategySpec
    from crossmargin_bt.results import Difference, RunResult, Shock

# The strategies of `crossmargin compare` without arguments: those that trade perpetuals alone.
EXAMPLES = ("hedging.py:Hedging", "long_short.py:LongShort", "scalping.py:Scalping")


@click.command()
@click.argument("strategies", nargs=-1, metavar="[FILE.py:Class ...]")
@market_options
@click.option(
    "--modes",
    default="cash,isolated,cross",
    show_default=True,
    help="Margin modes, separated by commas: cash, isolated, cross, multi_currency, portfolio.",
)
@click.option(
    "--venue",
    default="generic",
    show_default=True,
    help="Rule books (`crossmargin venues` lists them) or TOML files, separated by commas.",
)
@click.option(
    "--tiers", multiple=True, metavar="VENUE=FILE", help="Tier tables of a venue by date, a JSON file; may be repeated."
)
@account_options
@click.option("--stress", is_flag=True, help="Compare again with fees, funding, slippage, tiers and prices made worse.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures, curves and journals here.")
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML report here, one file.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(
    *, strategies: tuple[str, ...], market: MarketOptions, modes: str, venue: str, tiers: tuple[str, ...], account: AccountOptions,
    stress: bool, json_file: Path | None, report: Path | None, debug: bool,
) -> None:  # fmt: skip
    """Compare strategies under several margin modes.

    Without arguments: the three example strategies on the generated sample.
    """
    from rich.console import Console

    from crossmargin_bt.broker.api.settings import MODES
    from crossmargin_bt.compare import ACCOUNTS, load, markets
    from crossmargin_bt.report import files, table

    with errors_as_lines(debug=debug):
        chosen = listed(modes, "mode", (*MODES, *ACCOUNTS))
        specs = _named_apart([load(text) for text in strategies or _shipped_strategies()])
        outputs = Outputs(json_file, report)
        outputs.check()
        candles = market.read()
        asked = Asked(
            specs, candles, chosen, tier_files(tiers, words(venue)), account.settings(candles),
            detail=bool(json_file or report),
        )  # fmt: skip
        results, shocks = asked.run(stress=stress)
        differences = asked.differences(results)
        table.show(results, Console(), differences, shocks)
        outputs.write(files.file_of(results, markets(candles), differences, shocks))


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--run", "number", type=int, default=1, show_default=True, help="Which run of the file, counted from 1.")
@click.option(
    "--event", type=int, help="Which entry of its journal; without it those that can be explained are listed."
)
def explain(result: Path, number: int, event: int | None) -> None:
    """Write down the arithmetic of a refusal, a warning or a liquidation in a result file of `compare --json`."""
    from crossmargin_bt.report import explained_entries, files

    with errors_as_lines():
        run = files.run_of(result, number)
        for line in explained_entries.listed(run) if event is None else explained_entries.explained(run, event):
            click.echo(line)


class Asked(NamedTuple):
    """A comparison: strategies, candles, modes, venues with their tiers, and what all runs have alike."""

    specs: "Sequence[StrategySpec]"
    candles: "Sequence[Candles]"
    modes: Sequence[str]
    tiers_of: "dict[str, Path | None]"
    settings: "Settings"
    detail: bool

    def run(self, *, stress: bool) -> "tuple[list[RunResult], list[Shock]]":
        """Run every strategy under every venue and mode, with a progress bar on the terminal; then, if asked, the shocks."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from crossmargin_bt import compare as comparing

        bars = len({time for one in self.candles for time in one.frame.index})
        shocks = comparing.shocks(self.candles) if stress else []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        runs = len(self.specs) * len(self.tiers_of) * len(self.modes)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=bars * runs * (1 + len(shocks)))

            def on_run(what: str) -> None:
                progress.update(task, description=what)

            def on_bar() -> None:
                progress.advance(task)

            results = comparing.run_all(
                self.specs, self.candles, modes=self.modes, tiers_of=self.tiers_of, settings=self.settings,
                detail=self.detail, on_run=on_run, on_bar=on_bar,
            )  # fmt: skip
            found = [
                comparing.stressed(
                    shock, results, self.specs, self.candles, modes=self.modes, tiers_of=self.tiers_of,
                    settings=self.settings, on_run=on_run, on_bar=on_bar,
                )
                for shock in shocks
            ]  # fmt: skip
        return results, found

    def differences(self, results: "Sequence[RunResult]") -> "Sequence[Difference] | None":
        """Return where the venues differ, None where only one was compared."""
        from crossmargin_bt import compare as comparing
        from crossmargin_bt.venues.tiers import load_with

        if len(self.tiers_of) == 1:
            return None
        books = {book.name: book for book in (load_with(venue, file) for venue, file in self.tiers_of.items())}
        return comparing.differences(results, books, {one.symbol: one.instrument for one in self.candles})


def _named_apart(specs: "list[StrategySpec]") -> "list[StrategySpec]":
    """Return strategies that are told apart: those of one class name by their files too."""
    names = [spec.name for spec in specs]
    named = [spec._replace(name=f"{spec.name} ({spec.file})") if names.count(spec.name) > 1 else spec for spec in specs]
    twice = next((one.name for n, one in enumerate(named) if one.name in [other.name for other in named[:n]]), None)
    if twice:
        raise ConfigurationError(f"{twice} is given twice")
    return named


def _shipped_strategies() -> tuple[str, ...]:
    return tuple(f"{shipped('strategies')}/{name}" for name in EXAMPLES)
