# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule books in the terminal: side by side, or one with its sources."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.report import wording
from crossmargin_bt.venues import RULES, TOPICS, Statement, Topic, Venue

ASSUMED = "assumed"
# The width of the column of switches, and what a venue's needs to be readable.
FIRST_COLUMN, COLUMN = 32, 20


def side_by_side(venues: Sequence[Venue], width: int) -> Group:
    """Return the switches of venues, a column each, in as many tables as the width (in characters) asks for."""
    room = max(1, (width - FIRST_COLUMN) // COLUMN)
    groups = [venues[n : n + room] for n in range(0, len(venues), room)]
    tables = []
    for group in groups:
        table = Table(
            title="Rule books", title_justify="left", title_style="bold", width=min(width, FIRST_COLUMN + COLUMN * room)
        )
        table.add_column("", overflow="fold", ratio=FIRST_COLUMN)
        for venue in group:
            table.add_column(escape(venue.name), overflow="fold", ratio=COLUMN)
        for key in RULES:
            table.add_row(key, *(escape(wording.answer(venue.rules, key)) for venue in group))
        tables.append(table)
    return Group(*tables)


def one(venue: Venue) -> Group:
    """Return a whole rule book: every rule with its source, tiers, contracts, the rest in words, and what is assumed."""
    table = Table(title=escape(venue.title), title_justify="left", title_style="bold", show_lines=True)
    for column in ("rule", "value", "source"):
        table.add_column(column, overflow="fold")
    for key in RULES:
        source = venue.sources.get(key, ASSUMED)
        table.add_row(
            escape(f"{wording.TITLES[key]} ({key})"), escape(wording.meaning(venue.rules, key)), escape(source)
        )
    parts: list[Table | Text] = [table, Text("Maintenance", style="bold"), _maintenance(venue.rules.maintenance)]
    for terms in venue.rules.contracts:
        since = f", from {terms.since}" if terms.since else ""
        parts.append(Text(f"{', '.join(terms.symbols)}{since}: {wording.formula(terms.maintenance)} ({terms.source})"))
    parts.extend((Text("The rest of the book", style="bold"), _statements(venue.statements)))
    parts.append(Text("Assumptions", style="bold"))
    parts.extend(Text(f"  - {text}") for text in venue.assumptions)
    return Group(*parts)


def _statements(statements: Mapping[Topic, Statement]) -> Table:
    table = Table(show_lines=True)
    for column in ("topic", "what the venue does", "simulated", "source"):
        table.add_column(column, overflow="fold")
    for topic in TOPICS:
        if topic in statements:
            said = statements[topic]
            simulated = "yes" if said.simulated else "no"
            table.add_row(topic.replace("_", " "), escape(said.says), simulated, escape(said.source or "-"))
    return table


def _maintenance(rule: MaintenanceRule) -> Table:
    table = Table()
    rows = wording.tiers(rule)
    if rows:
        for column in ("value from", "rate", "deduction", "leverage up to"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*row)
        return table
    for column in ("constant", "value"):
        table.add_column(column)
    for key, value in wording.constants(rule).items():
        table.add_row(key, value)
    return table
