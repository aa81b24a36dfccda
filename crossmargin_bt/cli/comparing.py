# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin compare` and `crossmargin explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossmargin_bt.cli.words import errors_as_lines, listed, words
from crossmargin_bt.errors import ConfigurationError, suggestion

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings
    from crossmargin_bt.results import Difference, RunResult

# The strategies of `crossmargin compare` without arguments: those that trade perpetuals alone.
EXAMPLES = ("hedging.py:Hedging", "long_short.py:LongShort", "scalping.py:Scalping")


@click.command()
@click.argument("strategies", nargs=-1, metavar="[FILE.py:Class ...]")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of downloads, or of one CSV or Parquet file a symbol; without it the generated sample.",
)
@click.option("--symbols", help="Symbols of that folder, in this order, separated by commas; without it all.")
@click.option("--timeframe", help="Which of the downloaded timeframes, where there are several.")
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
@click.option(
    "--cash",
    type=float,
    default=10_000.0,
    show_default=True,
    help="Starting balance, in the currency the contracts settle in.",
)
@click.option("--leverage", type=float, default=5.0, show_default=True, help="Leverage where the strategy sets none.")
@click.option(
    "--path",
    "path_policy",
    default="path",
    show_default=True,
    help="What is read into a candle: path (nearer extreme first), adverse (stress), close.",
)
@click.option("--start", help="First date, for example 2020-03-01 (UTC).")
@click.option("--end", help="Date to stop before (UTC).")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures, curves and journals here.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(
    *, strategies: tuple[str, ...], data: Path | None, modes: str, venue: str, tiers: tuple[str, ...], cash: float, leverage: float,
    path_policy: str,
    symbols: str | None, timeframe: str | None, start: str | None, end: str | None, json_file: Path | None, debug: bool,
) -> None:  # fmt: skip
    """Compare strategies under several margin modes.

    Without arguments: the three example strategies on the generated sample.
    """
    from rich.console import Console

    from crossmargin_bt.broker.settings import MODES
    from crossmargin_bt.candles import folder
    from crossmargin_bt.compare import ACCOUNTS, Settings
    from crossmargin_bt.report import files, table

    with errors_as_lines(debug=debug):
        chosen = listed(modes, "mode", (*MODES, *ACCOUNTS))
        files_of_strategies = strategies or _shipped_strategies()
        if json_file is not None:
            files.check_writable(json_file)
        candles = folder.read(
            data or _shipped("data"),
            symbols=words(symbols) if symbols else None,
            timeframe=timeframe,
            start=start,
            end=end,
            downloads=data is not None,  # the sample's folder may hold downloads too
        )
        settles = sorted({one.instrument.settle for one in candles})
        if len(settles) > 1:
            raise ConfigurationError(
                f"the contracts settle in {', '.join(settles)}; choose those of one with --symbols"
            )
        settings = Settings(cash=cash, leverage=leverage, path=path_policy, currency=settles[0])
        tiers_of = _tiers(tiers, words(venue))
        results = _compare(files_of_strategies, candles, modes=chosen, tiers_of=tiers_of, settings=settings)
        table.show(results, Console(), _why(results, candles, tiers_of))
        if json_file is not None:
            files.write_json(results, json_file)


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--run", "number", type=int, default=1, show_default=True, help="Which run of the file, counted from 1.")
@click.option(
    "--event", type=int, help="Which entry of its journal; without it those that can be explained are listed."
)
def explain(result: Path, number: int, event: int | None) -> None:
    """Write down the arithmetic of a refusal, a warning or a liquidation in a result file of `compare --json`."""
    from crossmargin_bt.compare import explaining

    with errors_as_lines():
        run = explaining.read(result, number)
        for line in explaining.listed(run) if event is None else explaining.explained(run, event):
            click.echo(line)


def _compare(
    strategies: Sequence[str],
    candles: "Sequence[Candles]",
    *,
    modes: Sequence[str],
    tiers_of: "dict[str, Path | None]",
    settings: "Settings",
) -> "list[RunResult]":
    """Run every strategy under every venue and mode, with a progress bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from crossmargin_bt import compare as comparing

    specs = [comparing.load(text) for text in strategies]
    bars = len({time for one in candles for time in one.frame.index})
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    results = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=bars * len(specs) * len(tiers_of) * len(modes))
        for spec in specs:
            for venue, tiers in tiers_of.items():
                for mode in modes:
                    progress.update(task, description=f"{spec.name} {mode} {venue}")
                    results.append(
                        comparing.run(
                            spec, candles, venue=venue, mode=mode, settings=settings, tiers=tiers,
                            on_bar=lambda: progress.advance(task),
                        )
                    )  # fmt: skip
    return results


def _why(
    results: "Sequence[RunResult]", candles: "Sequence[Candles]", tiers_of: "dict[str, Path | None]"
) -> "Sequence[Difference] | None":
    """Return where the venues differ, None where only one was compared."""
    from crossmargin_bt import compare as comparing
    from crossmargin_bt.venues.tiers import load_with

    if len(tiers_of) == 1:
        return None
    books = {book.name: book for book in (load_with(venue, file) for venue, file in tiers_of.items())}
    return comparing.differences(results, books, {one.symbol: one.instrument for one in candles})


def _tiers(given: Sequence[str], venue_names: Sequence[str]) -> "dict[str, Path | None]":
    """Return the file of dated tiers of every venue, None for those without."""
    from crossmargin_bt import venues as books

    if not venue_names:
        raise ConfigurationError("--venue names no venue; `crossmargin venues` lists them")
    files: dict[str, Path | None] = dict.fromkeys(venue_names)
    for text in given:
        venue, _, file = text.partition("=")
        if not file:
            raise ConfigurationError(f"--tiers {text} names no venue; write --tiers {venue_names[0]}={text}")
        if venue not in files:
            raise ConfigurationError(f"--tiers {text}: {venue!r} is not compared{suggestion(venue, venue_names)}")
        files[venue] = Path(file)
    names = [books.load(venue).name for venue in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigurationError(f"two of the venues are named {twice!r}; give yours another name in its file")
    return files


def _shipped(name: str) -> Path:
    """Return the project's folder of that name: beside the package, else in the working directory."""
    for base in (Path(__file__).parents[2], Path.cwd()):
        if (base / name).is_dir():
            return base / name
    raise ConfigurationError(f"there is no folder {name!r} here; run this in the project's folder, or name your own")


def _shipped_strategies() -> tuple[str, ...]:
    return tuple(f"{_shipped('strategies')}/{name}" for name in EXAMPLES)
