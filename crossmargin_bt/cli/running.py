# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin run` and `crossmargin report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossmargin_bt.cli.options import AccountOptions, MarketOptions, account_options, market_options, tier_files
from crossmargin_bt.cli.outputs import Outputs
from crossmargin_bt.cli.words import errors_as_lines, listed
from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings, StrategySpec
    from crossmargin_bt.results import RunResult


@click.command()
@click.argument("strategy", metavar="FILE.py:Class")
@market_options
@click.option("--mode", default="cross", show_default=True, help="Margin mode, as --modes of compare names them.")
@click.option("--venue", default="generic", show_default=True, help="A rule book, or a TOML file.")
@click.option("--tiers", metavar="FILE", type=click.Path(path_type=Path), help="Tier tables by date, a JSON file.")
@account_options
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="A param of the strategy; may be repeated."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures, curves and journal here.")
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML report here, one file.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Write backtrader's own plot here, a .png, .svg or .pdf file."
)
@click.option("--tearsheet", type=click.Path(path_type=Path), help="Write QuantStats' tear sheet here, an HTML file.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def run(
    *, strategy: str, market: MarketOptions, mode: str, venue: str, tiers: Path | None, account: AccountOptions, params: tuple[str, ...],
    json_file: Path | None, report: Path | None, plot: Path | None, tearsheet: Path | None, debug: bool,
) -> None:  # fmt: skip
    """Run one strategy under one margin mode."""
    from rich.console import Console

    from crossmargin_bt.broker.api.settings import MODES
    from crossmargin_bt.compare import ACCOUNTS, load, markets
    from crossmargin_bt.report import files, table

    with errors_as_lines(debug=debug):
        (chosen,) = listed(mode, "mode", (*MODES, *ACCOUNTS), most=1)
        spec = load(strategy)
        given = dict(_param(text) for text in params)
        for name in set(account._fields) & set(given) - set(spec.strategy.params._getkeys()):
            raise ConfigurationError(f"{name} is a setting of the account, not a param of {spec.name}; use --{name}")
        spec = spec.given(given)
        outputs = Outputs(json_file, report, plot, tearsheet)
        outputs.check()
        candles = market.read()
        tier_file = tier_files([] if tiers is None else [f"{venue}={tiers}"], [venue])[venue]
        result, cerebro = _run(
            spec,
            candles,
            venue=venue,
            mode=chosen,
            settings=account.settings(candles),
            tiers=tier_file,
            plots=plot is not None,
        )
        table.show([result], Console())
        outputs.write(files.file_of([result], markets(candles)), cerebro)


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page to write; without it beside the result file.")
@click.option("--tearsheet", type=click.Path(path_type=Path), help="Write QuantStats' tear sheet of one run here.")
@click.option("--run", "number", type=int, help="Which run --tearsheet is of, counted from 1.")
@click.option(
    "--schema",
    is_flag=True,
    help="Print the JSON Schema of result files and end.",
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, asked: _schema(context) if asked else None,
)
def report(*, result: Path, out: Path | None, tearsheet: Path | None, number: int | None) -> None:
    """Draw the report of a result file again."""
    from crossmargin_bt.report import files

    with errors_as_lines():
        target = out or result.with_suffix(".html")
        if target.resolve() == result.resolve():
            raise ConfigurationError(f"{target} is the result file itself; give --out another name")
        if number is not None and tearsheet is None:
            raise ConfigurationError("--run is for --tearsheet; the report shows all runs")
        outputs = Outputs(report=target, tearsheet=tearsheet)
        outputs.check()
        content = files.read(result)
        outputs.write(content, sheet_of=files.run_of(result, number or 1) if tearsheet is not None else None)


def _schema(context: click.Context) -> None:
    import json

    from crossmargin_bt.report import files

    click.echo(json.dumps(files.schema(), indent=2))
    context.exit()


def _param(text: str) -> tuple[str, Any]:
    """Return name and value of a param as it was written."""
    from crossmargin_bt.cli.words import value

    name, given, written = text.partition("=")
    if not given or not name:
        raise ConfigurationError(f"--param {text} is no NAME=VALUE; write for example --param fast=10")
    return name.strip(), value(written)


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
    """Run once, with what a plot needs where one is asked for."""
    import backtrader as bt

    from crossmargin_bt.broker.analyzers import Recorder
    from crossmargin_bt.compare import runs

    cerebro = runs.prepare(spec, candles, venue=venue, mode=mode, settings=settings, tiers=tiers)
    cerebro.addanalyzer(Recorder, _name="record")
    if plots:
        cerebro.addobserver(bt.observers.Broker)
        cerebro.addobserver(bt.observers.Trades)
        cerebro.addobservermulti(bt.observers.BuySell, barplot=True)
    record = runs.execute(cerebro, spec, len(candles)).analyzers.record.get_analysis()
    result = runs.result_of(record, cerebro.broker, spec, candles, mode=mode, settings=settings, tiers=tiers)
    return result, cerebro
