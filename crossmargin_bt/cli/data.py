# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin data`: look after what was downloaded, bring data in and out, generate some."""

import asyncio
import sys
from datetime import date
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import click

from crossmargin_bt.cli.downloading import FOLDER, OUT, Connection, reaching, show_result, with_exchange
from crossmargin_bt.cli.words import errors_as_lines
from crossmargin_bt.errors import ConfigurationError, CrossMarginError


@click.group()
def data() -> None:
    """Look after downloaded market data."""


@data.command(name="list")
@click.argument("folder", type=FOLDER, default=OUT)
def list_series(folder: Path) -> None:
    """List what is stored, with its period, gaps and size."""
    from rich.console import Console
    from rich.table import Table

    from crossmargin_bt.candles import catalog
    from crossmargin_bt.candles.manifest import read_manifest
    from crossmargin_bt.candles.series import format_time
    from crossmargin_bt.errors import StoreError

    with errors_as_lines():
        all_series = catalog.list_series(folder)
        if not all_series:
            raise StoreError(f"{folder} holds no downloads; `crossmargin download` fetches some")
        table = Table()
        for column in ("exchange", "symbol", "series", "from", "to", "rows", "gaps", "MB"):
            table.add_column(column, justify="right" if column in ("rows", "gaps", "MB") else "left")
        for series in all_series:
            place = series.folder(catalog.store_root(folder, series))
            manifest = read_manifest(place)
            size = sum(path.stat().st_size for path in place.glob("*.parquet"))
            name = (series.exchange, series.symbol, series.name)
            if manifest is None or not manifest.covered:
                table.add_row(*name, "?", "?", "?", "?", f"{size / 1e6:.1f}")
                continue
            rows = sum(entry.rows for entry in manifest.files.values())
            ends = (format_time(manifest.covered[0][0]), format_time(manifest.covered[-1][1]))
            table.add_row(*name, *ends, f"{rows:,}", str(len(manifest.gaps)), f"{size / 1e6:.1f}")
        Console().print(table)


@data.command()
@click.argument("folder", type=FOLDER, default=OUT)
@click.option("--strict", is_flag=True, help="Count as faults also what the exchange itself does not have.")
def check(folder: Path, *, strict: bool) -> None:
    """Look for gaps, duplicates, disorder, impossible candles, silence, outliers and broken files; code 1 on faults."""
    from crossmargin_bt.candles import sanity

    with errors_as_lines():
        findings = sanity.check(folder)
        for one in findings:
            click.echo(f"{'fault' if one.is_fault else 'note '}  {one.series}: {one.kind}: {one.where}")
        faults = sum(one.is_fault or strict for one in findings)
        click.echo(f"{faults} faults" if faults else "no faults")
        if faults:
            sys.exit(1)


@data.command()
@click.argument("folder", type=FOLDER, default=OUT)
@reaching
def repair(folder: Path, *, retries: int, no_rate_limit: bool, api_base: str | None) -> None:
    """Fetch gaps, broken months and what was not asked for again; code 1 when something is still missing."""
    from crossmargin_bt.candles.repair import find_damaged, repair_series

    with errors_as_lines():
        connection = Connection(api_base, not no_rate_limit, retries)
        complete = True
        for exchange, group in groupby(find_damaged(folder), key=lambda one: one.series.exchange):
            found = list(group)
            try:
                result = asyncio.run(with_exchange(exchange, connection, partial(repair_series, found)))
            except CrossMarginError as error:
                click.echo(f"missing: {exchange}: {error}")
                complete = False
                continue
            show_result(result)
            complete &= result.is_complete
        if not complete:
            sys.exit(1)


@data.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--exchange", required=True, help="The folder of the store it goes to: ccxt's id, to download on from there."
)
@click.option("--symbol", default="", help="Whose rows they are, where the files' names do not say.")
@click.option("--kind", default="", help="candles, mark, index or funding, where the names do not say.")
@click.option("--timeframe", default="", help="Where neither names nor times say.")
@click.option("--out", type=FOLDER, default=OUT, show_default=True, help="Folder of downloads.")
def import_files(*, files: tuple[Path, ...], exchange: str, symbol: str, kind: str, timeframe: str, out: Path) -> None:
    """Bring in CSV, Parquet, freqtrade's feather and JSON, and Binance's bulk archives (zip)."""
    from crossmargin_bt.candles import importer

    with errors_as_lines():
        for one in importer.import_files(files, out, exchange, importer.FileMetadata(symbol, kind, timeframe)):
            click.echo(f"{one.series.symbol} {one.series.name}: {one.rows:,} rows read, {one.stored:,} stored")


@data.command()
@click.argument("folder", type=FOLDER)
@click.argument("to", type=FOLDER)
@click.option("--form", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
def export(folder: Path, to: Path, form: Literal["csv", "parquet"]) -> None:
    """Write downloads as one plain file a series, which `compare --data` reads too."""
    from crossmargin_bt.candles import exporter

    with errors_as_lines():
        for path in exporter.export_files(folder, to, form):
            click.echo(str(path))


@data.command()
@click.argument("to", type=FOLDER)
@click.option("--seed", type=int, default=20250101, show_default=True)
@click.option("--correlation", type=float, help="Of the coins' returns (0 to 1), in place of their own volatilities.")
@click.option("--jump", type=float, default=0.13, show_default=True, help="The gap of the crash, a part of the price.")
@click.option("--crash-date", help="The day of the crash, for example 2025-08-14; the year begins 225 days before.")
@click.option("--funding", default="mixed", show_default=True, help="mixed, positive or negative.")
@click.option(
    "--whole-account",
    is_flag=True,
    help="One coin in every product (spot, perpetual, options), in place of three perpetuals.",
)
def generate(
    *, to: Path, seed: int, correlation: float | None, jump: float, crash_date: str | None, funding: str,
    whole_account: bool,
) -> None:  # fmt: skip
    """Write a generated year of three correlated perpetuals; the same options give the same candles."""
    from crossmargin_bt.candles import synthetic
    from crossmargin_bt.candles.synthetic_products import write_products

    with errors_as_lines():
        crash = synthetic.CRASH if crash_date is None else _date(crash_date)
        market = synthetic.SyntheticMarket(seed=seed, correlation=correlation, jump=jump, crash=crash, funding=funding)
        (write_products if whole_account else synthetic.write_candles)(to, market)
        click.echo(f"generated candles in {to}")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no date; write it as 2025-08-14") from error
