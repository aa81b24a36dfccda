# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule books as people read them: side by side, or one with its sources."""

from collections.abc import Sequence

import msgspec
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crossmargin_bt.engine.rates import MaintenanceRule, PowerRate, SizeRate, TierTable
from crossmargin_bt.engine.rules import Rules
from crossmargin_bt.venues import Venue


def side_by_side(venues: Sequence[Venue]) -> Table:
    """Return the switches of venues, a column each."""
    table = Table(title="Rule books", title_justify="left", title_style="bold")
    table.add_column("")
    for venue in venues:
        table.add_column(escape(venue.name))
    for key in Rules.__struct_fields__:
        table.add_row(key, *(escape(_brief(getattr(venue.rules, key))) for venue in venues))
    return table


def one(venue: Venue) -> Group:
    """Return a whole rule book: every rule with its source, the tiers, and what is assumed."""
    table = Table(title=escape(venue.title), title_justify="left", title_style="bold")
    for column in ("rule", "value", "source"):
        table.add_column(column, overflow="fold")
    for key in Rules.__struct_fields__:
        source = venue.sources.get(key, "assumed")
        table.add_row(key, escape(_brief(getattr(venue.rules, key))), escape(source))
    assumed = [Text(f"  - {text}") for text in venue.assumptions]
    return Group(
        table,
        Text("Maintenance", style="bold"),
        _maintenance(venue.rules.maintenance),
        Text("Assumptions", style="bold"),
        *assumed,
    )


def _maintenance(rule: MaintenanceRule) -> Table:
    table = Table()
    if isinstance(rule, TierTable):
        for column in ("value from", "rate", "deduction", "leverage up to"):
            table.add_column(column, justify="right")
        for tier, deduction in zip(rule.tiers, rule.deductions, strict=True):
            highest = "-" if tier.leverage_max is None else f"{tier.leverage_max:g}"
            table.add_row(f"{tier.notional_min:,.0f}", f"{tier.maintenance_rate:.3%}", f"{deduction:,.2f}", highest)
        return table
    for column in ("constant", "value"):
        table.add_column(column)
    for key, value in msgspec.structs.asdict(rule).items():
        table.add_row(key, f"{value:g}")
    return table


def _brief(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3%}"
    if isinstance(value, SizeRate | PowerRate):
        return "grows with size" if isinstance(value, SizeRate) else "grows with value"
    if isinstance(value, TierTable):
        kind = "marginal" if value.marginal else "whole position"
        return (
            f"{value.tiers[0].maintenance_rate:.2%}" if len(value.tiers) == 1 else f"{len(value.tiers)} tiers, {kind}"
        )
    return str(value).replace("_", " ")
