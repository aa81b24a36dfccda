# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `crossmargin compare`, `run`, `sweep`, `report`, `explain`, `venues`, `download` and `data`.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

import click

from crossmargin_bt import __version__
from crossmargin_bt.cli.books import venues
from crossmargin_bt.cli.comparing import compare, explain
from crossmargin_bt.cli.data import data
from crossmargin_bt.cli.downloading import download
from crossmargin_bt.cli.running import report, run
from crossmargin_bt.cli.sweeping import sweep


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crossmargin")
def commands() -> None:
    """Backtest leveraged crypto strategies under an exchange's margin rules."""


for _command in (compare, run, sweep, report, explain, venues, download, data):
    commands.add_command(_command)


def main() -> None:
    """Run the command line."""
    commands()
