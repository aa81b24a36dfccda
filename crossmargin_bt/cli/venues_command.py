# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin venues`."""

import sys
from datetime import datetime

import click

from crossmargin_bt.cli.parsing import report_errors, split_list
from crossmargin_bt.errors import CrossMarginError


@click.group(invoke_without_command=True)
@click.option("--only", help="Names or TOML files, separated by commas; default: all.")
@click.pass_context
def venues(context: click.Context, only: str | None) -> None:
    """Show the rule books of venues side by side."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from crossmargin_bt import venues as books
    from crossmargin_bt.report import rulebook_tables

    console = Console()
    chosen, failed = [], False
    for name in books.names() if only is None else split_list(only):
        try:
            chosen.append(books.load(name).at())
        except CrossMarginError as error:
            click.echo(f"error: {error}", err=True)
            failed = True
    if chosen:
        console.print(rulebook_tables.side_by_side(chosen, console.width))
    elif not failed:
        click.echo("error: --only contains no venue", err=True)
    if failed or not chosen:
        sys.exit(2)


@venues.command()
@click.argument("venue")
@click.option("--toml", is_flag=True, help="Print the TOML file, as a template for your own.")
@click.option(
    "--at", "day", type=click.DateTime(["%Y-%m-%d"]), help="The rules in force on this day; default: the latest."
)
@click.option("--contract", metavar="SYMBOL", help="Only the margin tiers of this contract, by date.")
def show(venue: str, *, toml: bool, day: datetime | None, contract: str | None) -> None:
    """Print one rule book, given by name or by the path of a TOML file."""
    from rich.console import Console

    from crossmargin_bt import venues as books
    from crossmargin_bt.report import rulebook_tables

    with report_errors():
        if toml:
            click.echo(books.text(venue), nl=False)
            return
        book, on = books.load(venue), None if day is None else day.date()
        Console().print(
            rulebook_tables.rule_book(book.at(on)) if contract is None else rulebook_tables.contract(book, contract, on)
        )


@venues.command()
@click.argument("venue")
def changes(venue: str) -> None:
    """Print the dated changes of a rule book, the oldest first."""
    from rich.console import Console

    from crossmargin_bt import venues as books
    from crossmargin_bt.report import rulebook_tables

    with report_errors():
        Console().print(rulebook_tables.changes(books.load(venue)))
