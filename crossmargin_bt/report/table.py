# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison as terminal tables: one a strategy, a column a mode."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crossmargin_bt.report import wording
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.rows import by_strategy, came_to, names, told
from crossmargin_bt.results import RunResult, Shock, VenueDifference

# Liquidations told one by one below a table; the rest is counted.
TOLD = 3
# More columns than this do not fit a terminal of 80 characters; then every venue has a table of its own.
COLUMNS_MAX = 4


def comparison(
    results: Sequence[RunResult], differences: Sequence[VenueDifference] | None = None, shocks: Sequence[Shock] = ()
) -> Group:
    """Return the tables, what was liquidated when, why venues differ, and what was assumed."""
    parts: list[Table | Text] = []
    for strategy, mine in by_strategy(results).items():
        for group in [mine] if len(mine) <= COLUMNS_MAX else _by_venue(mine):
            parts.extend((_table(strategy, group), *_stories(group), Text()))
    if differences is not None:
        parts.extend(_why(differences))
    if shocks:
        parts.extend(_stress(results, shocks))
    assumptions = dict.fromkeys(f"{result.venue}: {text}" for result in results for text in result.assumptions)
    if assumptions:
        parts.append(Text("Assumptions in force", style="bold"))
        parts.extend(Text(f"  - {text}") for text in assumptions)
    return Group(*parts)


def _by_venue(results: Sequence[RunResult]) -> list[list[RunResult]]:
    venues = dict.fromkeys(result.venue for result in results)
    return [[result for result in results if result.venue == venue] for venue in venues]


def show(
    results: Sequence[RunResult],
    console: Console,
    differences: Sequence[VenueDifference] | None = None,
    shocks: Sequence[Shock] = (),
) -> None:
    """Print the comparison; `differences` are those between venues, None where only one was compared."""
    console.print(comparison(results, differences, shocks))


def _stress(results: Sequence[RunResult], shocks: Sequence[Shock]) -> list[Table | Text]:
    """Return what the shocks made of every run, and which conclusions they change."""
    found: list[Table | Text] = []
    for strategy, mine in by_strategy(results).items():
        table = Table(title=f"{escape(strategy)} under stress: final equity (liquidations)", title_justify="left")
        table.add_column("")
        for name in names(mine):
            table.add_column(escape(name), justify="right")
        table.add_row("as it was", *(came_to(result.equity[-1], result.liquidations) for result in mine))
        for shock in shocks:
            own = [one for one in shock.outcomes if one.strategy == strategy]
            table.add_row(
                shock.name,
                *("failed" if one.failed else came_to(one.final_equity, one.liquidations) for one in own),
            )
        found += [table, Text()]
    found.append(Text("What changes under stress", style="bold"))
    for shock in shocks:
        found.append(Text(f"  {shock.name} ({shock.what}):{'' if shock.changes else ' all conclusions hold'}"))
        found.extend(Text(f"    {text}") for text in shock.changes)
    return [*found, Text()]


def _why(differences: Sequence[VenueDifference]) -> list[Text]:
    """Return, for the first refusal and liquidation of every run, what the other venues' rules make of it."""
    lines = [
        Text("Why the venues differ", style="bold"),
        Text("  of every run the first refusal and the first liquidation that another rule book would have let pass;"),
        Text("  a rule is named when exchanged alone it is enough"),
    ]
    told = ""
    for one in differences:
        event = f"  {one.strategy} {one.mode} {one.venue}: {one.what}"
        if event != told:
            lines.append(Text(event))
            told = event
        reasons = ", ".join(wording.TITLES[key] for key in one.reasons) or "several rules together"
        asked = f"asks {one.other_verdict.needed:,.2f}" if one.other_verdict.needed else "admits it"
        lines.append(Text(f"    {one.other} {asked}: {reasons}"))
    if not differences:
        lines.append(Text("  no first refusal or liquidation of one that another would have let pass"))
    return [*lines, Text()]


def _table(strategy: str, results: Sequence[RunResult]) -> Table:
    currency = results[0].currency
    venues = list(dict.fromkeys(result.venue for result in results))
    where = f", {escape(venues[0])}" if len(venues) == 1 else ""
    table = Table(title=f"{escape(strategy)} ({currency}{where})", title_justify="left", title_style="bold")
    table.add_column("")
    for name in names(results):
        table.add_column(escape(name), justify="right")
    summaries = [summarise(result) for result in results]
    for row in told(summaries):
        table.add_row(row.label, *(row.text(summary) for summary in summaries))
    return table


def _stories(results: Iterable[RunResult]) -> list[Text]:
    lines = []
    for result in results:
        refused = next(
            (event for event in result.journal if event["event"] == "OrderRefused" and "reason" in event), None
        )
        if refused is not None:
            when = datetime.fromtimestamp(refused["time_ms"] / 1000, tz=UTC)
            lines.append(
                Text(
                    f"  {result.mode} {result.venue}: first refused {when:%Y-%m-%d %H:%M} {refused['symbol']}: {refused['reason']}"
                )
            )
        events = [event for event in result.journal if event["event"] == "Liquidated"]
        for event in events[:TOLD]:
            legs = ", ".join(f"{leg} at mark {mark:,.6g}" for leg, mark in event["marks"].items())
            when = datetime.fromtimestamp(event["time_ms"] / 1000, tz=UTC)
            lines.append(
                Text(
                    f"  {result.mode} {result.venue}: {when:%Y-%m-%d %H:%M} liquidated {legs} "
                    f"(collateral {event['collateral']:,.2f} against {event['requirement']:,.2f})"
                )
            )
        if len(events) > TOLD:
            lines.append(Text(f"  {result.mode} {result.venue}: and {len(events) - TOLD} more liquidations"))
    return lines
