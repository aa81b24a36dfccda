# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin data`: list, check, repair, import, export and generate market data."""

import asyncio
import sys
from datetime import date
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from crossmargin_bt.cli.download_command import FOLDER, OUT, Connection, connection_options, show_result, with_exchange
from crossmargin_bt.cli.options import time_options
from crossmargin_bt.cli.parsing import report_errors
from crossmargin_bt.errors import ConfigurationError, CrossMarginError

if TYPE_CHECKING:
    from crossmargin_bt.readers.options import TimeOptions


@click.group()
def data() -> None:
    """Manage downloaded market data."""


@data.command(name="list")
@click.argument("folder", type=FOLDER, default=OUT)
def list_series(folder: Path) -> None:
    """List stored series with period, gaps and size."""
    from rich.console import Console
    from rich.table import Table

    from crossmargin_bt.candles import catalog
    from crossmargin_bt.candles.manifest import read_manifest
    from crossmargin_bt.candles.series import format_time
    from crossmargin_bt.errors import StoreError

    with report_errors():
        all_series = catalog.list_series(folder)
        if not all_series:
            raise StoreError(f"{folder} holds no downloads; `crossmargin download` fetches data")
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
@click.option("--strict", is_flag=True, help="Also count gaps of the exchange itself as faults.")
def check(folder: Path, *, strict: bool) -> None:
    """Check for gaps, duplicates, unsorted rows, impossible candles, stale prices, outliers and broken files; exit code 1 on faults."""
    from crossmargin_bt.candles import sanity

    with report_errors():
        findings = sanity.check(folder)
        for one in findings:
            click.echo(f"{'fault' if one.is_fault else 'note '}  {one.series}: {one.kind}: {one.where}")
        faults = sum(one.is_fault or strict for one in findings)
        click.echo(f"{faults} faults" if faults else "no faults")
        if faults:
            sys.exit(1)


@data.command()
@click.argument("folder", type=FOLDER, default=OUT)
@connection_options
def repair(folder: Path, *, retries: int, no_rate_limit: bool, api_base: str | None) -> None:
    """Download gaps, broken months and missing periods again; exit code 1 if anything is still missing."""
    from crossmargin_bt.candles.repair import find_damaged, repair_series

    with report_errors():
        connection = Connection(api_base, not no_rate_limit, retries)
        complete = True
        for exchange, group in groupby(find_damaged(folder), key=lambda one: one.series.exchange):
            damaged = list(group)
            try:
                result = asyncio.run(with_exchange(exchange, connection, partial(repair_series, damaged)))
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
    "--exchange", required=True, help="Exchange folder in the store; use the ccxt id to continue with downloads."
)
@click.option("--symbol", default="", help="Symbol, if neither the file names nor a column contain it.")
@click.option("--kind", default="", help="candles, mark, index or funding, if the file names do not contain it.")
@click.option("--timeframe", default="", help="Timeframe, if neither file names nor timestamps determine it.")
@time_options
@click.option("--replace", is_flag=True, help="Of rows of one time with different values take the later one.")
@click.option("--out", type=FOLDER, default=OUT, show_default=True, help="Folder of downloads.")
def import_files(
    *, files: tuple[Path, ...], exchange: str, symbol: str, kind: str, timeframe: str, times: "TimeOptions", replace: bool, out: Path
) -> None:  # fmt: skip
    """Import CSV, Parquet, feather and JSON files, freqtrade's folders, and archives of Binance, Bybit, OKX and others."""
    from crossmargin_bt.candles import importer
    from crossmargin_bt.readers.file_names import FileMetadata
    from crossmargin_bt.readers.market_file import ReadOptions

    with report_errors():
        options = ReadOptions(FileMetadata(symbol, kind, timeframe), times)
        for one in importer.import_files(files, out, exchange, options, replace=replace):
            click.echo(f"{one.series.symbol} {one.series.name}: {one.rows:,} rows read, {one.stored:,} stored")


@data.command()
@click.argument("folder", type=FOLDER)
@click.argument("to", type=FOLDER)
@click.option("--form", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
def export(folder: Path, to: Path, form: Literal["csv", "parquet"]) -> None:
    """Export downloads as one file per series, which `compare --data` also reads."""
    from crossmargin_bt.candles import exporter

    with report_errors():
        for path in exporter.export_files(folder, to, form):
            click.echo(str(path))


@data.command()
@click.argument("to", type=FOLDER)
@click.option("--seed", type=int, default=20250101, show_default=True)
@click.option(
    "--correlation",
    type=float,
    help="Correlation of the coins' returns (0 to 1); overrides their individual volatilities.",
)
@click.option(
    "--jump", type=float, default=0.13, show_default=True, help="Gap of the crash as a fraction of the price."
)
@click.option("--crash-date", help="Date of the crash, for example 2025-08-14; the year starts 225 days earlier.")
@click.option("--funding", default="mixed", show_default=True, help="mixed, positive or negative.")
@click.option(
    "--whole-account",
    is_flag=True,
    help="One coin as spot, perpetual and options instead of three perpetuals.",
)
def generate(
    *, to: Path, seed: int, correlation: float | None, jump: float, crash_date: str | None, funding: str,
    whole_account: bool,
) -> None:  # fmt: skip
    """Generate a year of three correlated perpetuals; deterministic for given options."""
    from crossmargin_bt.candles import synthetic
    from crossmargin_bt.candles.synthetic_products import write_products

    with report_errors():
        crash = synthetic.CRASH if crash_date is None else _date(crash_date)
        market = synthetic.SyntheticMarket(seed=seed, correlation=correlation, jump=jump, crash=crash, funding=funding)
        (write_products if whole_account else synthetic.write_candles)(to, market)
        click.echo(f"generated candles in {to}")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a date; write it as 2025-08-14") from error
