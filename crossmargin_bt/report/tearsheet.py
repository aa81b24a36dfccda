# SPDX-License-Identifier: GPL-3.0-or-later
"""The QuantStats tear sheet of a run, from daily returns annualised over 365 days."""

import html
import logging
import warnings
from pathlib import Path

import pandas as pd

from crossmargin_bt import performance
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.report import files
from crossmargin_bt.report.metric_rows import run_names
from crossmargin_bt.results import RunResult
from crossmargin_bt.time_units import DAYS_PER_YEAR, MS_PER_DAY


def check_installed() -> None:
    """Check before a long run that QuantStats is installed.

    Raises:
        ConfigurationError: QuantStats is not installed.
    """
    try:
        import quantstats  # noqa: F401, PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ConfigurationError(
            "--tearsheet needs QuantStats; install it with: pip install 'crossmargin-bt[tearsheet]'"
        ) from error


def write(result: RunResult, path: Path) -> None:
    """Write the tear sheet of a run as an HTML page.

    Raises:
        ConfigurationError: QuantStats is not installed, the run has fewer than two days, or the file cannot be written.
    """
    check_installed()
    daily = performance.daily_equity(result.times_ms, result.equity, result.starting_cash)
    returns = performance.simple_returns(daily)
    if len(returns) < 2:
        raise ConfigurationError("a tear sheet needs daily returns of at least two days; run on a longer period")
    days = sorted({time // MS_PER_DAY for time in result.times_ms})
    series = pd.Series(returns, index=pd.to_datetime([day * MS_PER_DAY for day in days], unit="ms"))
    import matplotlib as mpl  # noqa: PLC0415 - comes with the extra

    mpl.use("Agg")
    import quantstats  # noqa: PLC0415

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    # QuantStats does not escape the title.
    title = html.escape(f"{result.strategy}, {run_names([result])[0]} {result.venue}")
    partial = path.with_name(f".{path.name}.partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantstats.reports.html(  # type: ignore[no-untyped-call]
            series, title=title, output=str(partial), periods_per_year=DAYS_PER_YEAR, compounded=True
        )
    files.write(partial.read_bytes(), path)
    partial.unlink()
