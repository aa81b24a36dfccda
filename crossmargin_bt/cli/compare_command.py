# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from crossmargin_bt.cli.options import (
    AccountOptions,
    MarketOptions,
    account_options,
    market_options,
    parse_tier_files,
    project_folder,
)
from crossmargin_bt.cli.output_files import OutputFiles
from crossmargin_bt.cli.parsing import parse_choices, report_errors, split_list
from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings, StrategySpec
    from crossmargin_bt.results import RunResult, Shock, VenueDifference

# The strategies of `crossmargin compare` without arguments: those that trade only perpetuals.
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
    help="Rule book names (see `crossmargin venues`) or TOML files, separated by commas.",
)
@click.option(
    "--tiers", multiple=True, metavar="VENUE=FILE", help="JSON file of a venue's tier tables by date; may be repeated."
)
@account_options
@click.option(
    "--stress", is_flag=True, help="Repeat the comparison with worse fees, funding, slippage, tiers and prices."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write metrics, curves and journals to this file."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write the HTML report to this file.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(
    *, strategies: tuple[str, ...], market: MarketOptions, modes: str, venue: str, tiers: tuple[str, ...], account: AccountOptions,
    stress: bool, json_file: Path | None, report: Path | None, debug: bool,
) -> None:  # fmt: skip
    """Compare strategies under several margin modes.

    Without arguments: three example strategies on the generated sample.
    """
    from rich.console import Console

    from crossmargin_bt.broker.api.settings import MODES
    from crossmargin_bt.compare import MODE_ALIASES, load, markets
    from crossmargin_bt.report import files, table

    with report_errors(debug=debug):
        chosen = parse_choices(modes, "mode", (*MODES, *MODE_ALIASES))
        specs = _unique_names([load(text) for text in strategies or _example_strategies()])
        outputs = OutputFiles(json_file, report)
        outputs.check()
        candles = market.read()
        comparison = ComparisonRun(
            specs, candles, chosen, parse_tier_files(tiers, split_list(venue)), account.settings(candles),
            detail=bool(json_file or report),
        )  # fmt: skip
        results, shocks = comparison.run(stress=stress)
        differences = comparison.differences(results)
        table.print_tables(results, Console(), differences, shocks)
        outputs.write(files.build_result_file(results, markets(candles), differences, shocks))


class ComparisonRun(NamedTuple):
    """The inputs of a comparison: strategies, candles, modes, venues with their tiers, and common settings."""

    specs: "Sequence[StrategySpec]"
    candles: "Sequence[Candles]"
    modes: Sequence[str]
    tiers_of: "dict[str, Path | None]"
    settings: "Settings"
    detail: bool

    def run(self, *, stress: bool) -> "tuple[list[RunResult], list[Shock]]":
        """Run every strategy under every venue and mode with a progress bar, then the stress scenarios if `stress`."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from crossmargin_bt import compare as comparisons

        bars = len({time for one in self.candles for time in one.frame.index})
        scenarios = comparisons.stress_scenarios(self.candles) if stress else []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        runs = len(self.specs) * len(self.tiers_of) * len(self.modes)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=bars * runs * (1 + len(scenarios)))

            def on_run(what: str) -> None:
                progress.update(task, description=what)

            def on_bar() -> None:
                progress.advance(task)

            results = comparisons.run_all(
                self.specs, self.candles, modes=self.modes, tiers_of=self.tiers_of, settings=self.settings,
                detail=self.detail, on_run=on_run, on_bar=on_bar,
            )  # fmt: skip
            shocks = [
                comparisons.run_stress(
                    scenario, results, self.specs, self.candles, modes=self.modes, tiers_of=self.tiers_of,
                    settings=self.settings, on_run=on_run, on_bar=on_bar,
                )
                for scenario in scenarios
            ]  # fmt: skip
        return results, shocks

    def differences(self, results: "Sequence[RunResult]") -> "Sequence[VenueDifference] | None":
        """Return the differences between venues; None if only one was compared."""
        from crossmargin_bt import compare as comparisons
        from crossmargin_bt.venues import load_with

        if len(self.tiers_of) == 1:
            return None
        books = {book.name: book for book in (load_with(venue, file) for venue, file in self.tiers_of.items())}
        return comparisons.differences(results, books)


def _unique_names(specs: "list[StrategySpec]") -> "list[StrategySpec]":
    """Return the strategies with unique names: the file is added to class names that occur twice."""
    names = [spec.name for spec in specs]
    named = [spec._replace(name=f"{spec.name} ({spec.file})") if names.count(spec.name) > 1 else spec for spec in specs]
    twice = next((one.name for n, one in enumerate(named) if one.name in [other.name for other in named[:n]]), None)
    if twice:
        raise ConfigurationError(f"{twice} is given twice")
    return named


def _example_strategies() -> tuple[str, ...]:
    return tuple(f"{project_folder('strategies')}/{name}" for name in EXAMPLES)
