# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `crossmargin compare`, `run`, `sweep`, `report`, `explain`, `venues`, `download` and `data`.

Heavy modules are imported inside the commands to keep `--help` fast.
"""

import click

from crossmargin_bt import __version__
from crossmargin_bt.cli.compare_command import compare
from crossmargin_bt.cli.data_command import data
from crossmargin_bt.cli.download_command import download
from crossmargin_bt.cli.report_command import explain, report
from crossmargin_bt.cli.run_command import run
from crossmargin_bt.cli.sweep_command import sweep
from crossmargin_bt.cli.venues_command import venues


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crossmargin")
def commands() -> None:
    """Backtest leveraged crypto strategies under an exchange's margin rules."""


for _command in (compare, run, sweep, report, explain, venues, download, data):
    commands.add_command(_command)


def main() -> None:
    """Run the command line."""
    commands()
