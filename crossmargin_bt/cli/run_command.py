# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossmargin_bt.cli.options import AccountOptions, MarketOptions, account_options, market_options, parse_tier_files
from crossmargin_bt.cli.output_files import OutputFiles
from crossmargin_bt.cli.parsing import parse_choices, parse_value, report_errors
from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings, StrategySpec
    from crossmargin_bt.results import RunResult


@click.command()
@click.argument("strategy", metavar="FILE.py:Class")
@market_options
@click.option("--mode", default="cross", show_default=True, help="Margin mode; see --modes of compare.")
@click.option("--venue", default="generic", show_default=True, help="Rule book name or TOML file.")
@click.option("--tiers", metavar="FILE", type=click.Path(path_type=Path), help="JSON file of tier tables by date.")
@account_options
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A strategy param; may be repeated.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write metrics, curves and journal to this file."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write the HTML report to this file.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Write backtrader's plot to this .png, .svg or .pdf file."
)
@click.option("--tearsheet", type=click.Path(path_type=Path), help="Write the QuantStats tear sheet to this HTML file.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def run(
    *, strategy: str, market: MarketOptions, mode: str, venue: str, tiers: Path | None, account: AccountOptions, params: tuple[str, ...],
    json_file: Path | None, report: Path | None, plot: Path | None, tearsheet: Path | None, debug: bool,
) -> None:  # fmt: skip
    """Run one strategy under one margin mode."""
    from rich.console import Console

    from crossmargin_bt.broker.api.settings import MODES
    from crossmargin_bt.compare import MODE_ALIASES, load, markets
    from crossmargin_bt.report import files, table

    with report_errors(debug=debug):
        (chosen,) = parse_choices(mode, "mode", (*MODES, *MODE_ALIASES), count_max=1)
        spec = load(strategy)
        given = dict(_param(text) for text in params)
        for name in set(account._fields) & set(given) - set(spec.strategy.params._getkeys()):
            raise ConfigurationError(f"{name} is a setting of the account, not a param of {spec.name}; use --{name}")
        spec = spec.with_params(given)
        outputs = OutputFiles(json_file, report, plot, tearsheet)
        outputs.check()
        candles = market.read()
        tier_file = parse_tier_files([] if tiers is None else [f"{venue}={tiers}"], [venue])[venue]
        result, cerebro = _run(
            spec,
            candles,
            venue=venue,
            mode=chosen,
            settings=account.settings(candles),
            tiers=tier_file,
            plots=plot is not None,
        )
        table.print_tables([result], Console())
        outputs.write(files.build_result_file([result], markets(candles)), cerebro)


def _param(text: str) -> tuple[str, Any]:
    """Return the name and value of a NAME=VALUE option."""
    name, separator, written = text.partition("=")
    if not separator or not name:
        raise ConfigurationError(f"--param {text} is not NAME=VALUE; example: --param fast=10")
    return name.strip(), parse_value(written)


def _run(
    spec: "StrategySpec",
    candles: "Sequence[Candles]",
    *,
    venue: str,
    mode: str,
    settings: "Settings",
    tiers: Path | None,
    plots: bool,
) -> "tuple[RunResult, Any]":
    """Run the strategy, with the observers a plot needs if `plots`."""
    import backtrader as bt

    from crossmargin_bt.broker.analyzers import Recorder
    from crossmargin_bt.compare import runs

    cerebro = runs.build_cerebro(spec, candles, venue=venue, mode=mode, settings=settings, tiers=tiers)
    cerebro.addanalyzer(Recorder, _name="record")
    if plots:
        cerebro.addobserver(bt.observers.Broker)
        cerebro.addobserver(bt.observers.Trades)
        cerebro.addobservermulti(bt.observers.BuySell, barplot=True)
    record = runs.run_cerebro(cerebro, spec, len(candles)).analyzers.record.get_analysis()
    result = runs.build_result(record, cerebro.broker, spec, candles, mode=mode, settings=settings, tiers=tiers)
    return result, cerebro
