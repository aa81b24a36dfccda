# SPDX-License-Identifier: GPL-3.0-or-later
"""Venue rule books as terminal tables: several side by side, or one with its sources."""

from collections.abc import Mapping, Sequence
from datetime import date

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.engine.terms.rules import ContractTerms
from crossmargin_bt.errors import ConfigurationError, suggestion
from crossmargin_bt.report import rule_text
from crossmargin_bt.venues import RULES, TOPICS, Statement, Topic, Venue

ASSUMED = "assumed"
# Characters for the column of rule keys, and the minimum for the column of a venue.
KEY_WIDTH, VENUE_WIDTH = 32, 20


def side_by_side(venues: Sequence[Venue], width: int) -> Group:
    """Return the rules of several venues, one column each, split into as many tables as `width` (characters) requires."""
    per_table = max(1, (width - KEY_WIDTH) // VENUE_WIDTH)
    groups = [venues[n : n + per_table] for n in range(0, len(venues), per_table)]
    tables = []
    for group in groups:
        table = Table(
            title="Rule books",
            title_justify="left",
            title_style="bold",
            width=min(width, KEY_WIDTH + VENUE_WIDTH * per_table),
        )
        table.add_column("", overflow="fold", ratio=KEY_WIDTH)
        for venue in group:
            table.add_column(escape(venue.name), overflow="fold", ratio=VENUE_WIDTH)
        for key in RULES:
            table.add_row(key, *(escape(rule_text.describe_value(venue.rules, key)) for venue in group))
        tables.append(table)
    return Group(*tables)


def rule_book(venue: Venue) -> Group:
    """Return a complete rule book: rules with sources, tiers, contract terms, statements and assumptions."""
    table = Table(title=escape(venue.title), title_justify="left", title_style="bold", show_lines=True)
    for column in ("rule", "value", "source"):
        table.add_column(column, overflow="fold")
    for key in RULES:
        source = venue.sources.get(key, ASSUMED)
        table.add_row(
            escape(f"{rule_text.TITLES[key]} ({key})"),
            escape(rule_text.describe_rule(venue.rules, key)),
            escape(source),
        )
    parts: list[Table | Text] = [table, Text("Maintenance", style="bold"), _maintenance(venue.rules.maintenance)]
    if rule_text.has_many_contracts(venue):
        parts.append(_contracts(venue))
    else:
        parts.extend(map(_contract_line, venue.rules.contracts))
    parts.extend((Text("Other rules", style="bold"), _statements(venue.statements)))
    parts.append(Text("Assumptions", style="bold"))
    parts.extend(Text(f"  - {text}") for text in venue.assumptions)
    return Group(*parts)


def contract(venue: Venue, symbol: str, day: date | None = None) -> Group:
    """Return the tables of one contract by date, or the one in force on a day.

    Raises:
        ConfigurationError: the rule book has none.
    """
    terms = (venue if day is None else venue.at(day)).rules.terms(symbol)
    terms = terms if day is None else terms[:1]
    if not venue.rules.contracts:
        raise ConfigurationError(f"{venue.name} has no terms of single contracts; its default tiers hold for all")
    if not terms:
        known = sorted({symbol for one in venue.rules.contracts for symbol in one.symbols})
        raise ConfigurationError(f"{venue.name} has no terms of {symbol!r}{suggestion(symbol, known)}")
    parts: list[Table | Text] = []
    for one in terms:
        parts.extend((_contract_line(one), _maintenance(one.maintenance)))
    return Group(*parts)


def _contract_line(terms: ContractTerms) -> Text:
    since = f", from {terms.since}" if terms.since else ""
    return Text(
        f"{', '.join(terms.symbols)}{since}: {rule_text.maintenance_formula(terms.maintenance)} ({terms.source})"
    )


def _contracts(venue: Venue) -> Table:
    title = f"Contracts (crossmargin venues show {venue.name} --contract SYMBOL prints their tables)"
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True)
    for column in rule_text.CONTRACT_HEADS:
        table.add_column(column, overflow="fold")
    for row in rule_text.contract_rows(venue.rules.contracts):
        table.add_row(*map(escape, row))
    return table


def changes(venue: Venue) -> Group:
    """Return the dated changes of a rule book: day, key, value before and after, sentence and source."""
    rows = rule_text.change_rows(venue)
    more = [_contracts(venue)] if rule_text.has_many_contracts(venue) else []
    if not rows:
        since = f" since {venue.known_since}" if venue.known_since else ""
        return Group(Text(f"{venue.title}: no dated change is known{since}."), *more)
    table = Table(title=escape(venue.title), title_justify="left", title_style="bold", show_lines=True)
    for column in ("since", "rule", "before", "after", "what changed", "source"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return Group(table, *more)


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
    rows = rule_text.tier_rows(rule)
    if rows:
        for column in ("value from", "rate", "deduction", "maximum leverage"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*row)
        return table
    for column in ("constant", "value"):
        table.add_column(column)
    for key, value in rule_text.constants(rule).items():
        table.add_row(key, value)
    return table
