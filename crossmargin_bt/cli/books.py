# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin venues`."""

import sys

import click

from crossmargin_bt.cli.words import errors_as_lines, words
from crossmargin_bt.errors import CrossMarginError


@click.group(invoke_without_command=True)
@click.option("--only", help="Names or TOML files, separated by commas; without it all there are.")
@click.pass_context
def venues(context: click.Context, only: str | None) -> None:
    """List the rule books, side by side."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from crossmargin_bt import venues as books
    from crossmargin_bt.report import rulebook

    console = Console()
    chosen, failed = [], False
    for name in books.names() if only is None else words(only):
        try:
            chosen.append(books.load(name))
        except CrossMarginError as error:
            click.echo(f"error: {error}", err=True)
            failed = True
    if chosen:
        console.print(rulebook.side_by_side(chosen, console.width))
    elif not failed:
        click.echo("error: --only names no venue", err=True)
    if failed or not chosen:
        sys.exit(2)


@venues.command()
@click.argument("venue")
@click.option("--toml", is_flag=True, help="Print the file itself, to copy and change.")
def show(venue: str, *, toml: bool) -> None:
    """Print one rule book: a name, or the path of a TOML file."""
    from rich.console import Console

    from crossmargin_bt import venues as books
    from crossmargin_bt.report import rulebook

    with errors_as_lines():
        if toml:
            click.echo(books.text(venue), nl=False)
        else:
            Console().print(rulebook.one(books.load(venue)))
