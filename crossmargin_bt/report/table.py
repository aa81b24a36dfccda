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
from crossmargin_bt.results import Difference, RunResult, Summary

# Liquidations told one by one below a table; the rest is counted.
TOLD = 3
# More columns than this do not fit a terminal of 80 characters; then every venue has a table of its own.
COLUMNS_MAX = 4


def comparison(results: Sequence[RunResult], differences: Sequence[Difference] | None = None) -> Group:
    """Return the tables, what was liquidated when, why venues differ, and what was assumed."""
    parts: list[Table | Text] = []
    for strategy in dict.fromkeys(result.strategy for result in results):
        mine = [result for result in results if result.strategy == strategy]
        for group in [mine] if len(mine) <= COLUMNS_MAX else _by_venue(mine):
            parts.extend((_table(strategy, group), *_stories(group), Text()))
    if differences is not None:
        parts.extend(_why(differences))
    assumptions = dict.fromkeys(f"{result.venue}: {text}" for result in results for text in result.assumptions)
    if assumptions:
        parts.append(Text("Assumptions in force", style="bold"))
        parts.extend(Text(f"  - {text}") for text in assumptions)
    return Group(*parts)


def _by_venue(results: Sequence[RunResult]) -> list[list[RunResult]]:
    venues = dict.fromkeys(result.venue for result in results)
    return [[result for result in results if result.venue == venue] for venue in venues]


def show(results: Sequence[RunResult], console: Console, differences: Sequence[Difference] | None = None) -> None:
    """Print the comparison; `differences` are those between venues, None where only one was compared."""
    console.print(comparison(results, differences))


def _why(differences: Sequence[Difference]) -> list[Text]:
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
    for result in results:
        heading = result.mode if len(venues) == 1 else f"{result.mode} {result.venue}"
        table.add_column(escape(heading), justify="right")
    rows = [_cells(summarise(result)) for result in results]
    for label in rows[0]:
        if any(row[label] for row in rows):  # interest, where nobody owes any, is not told
            table.add_row(label, *(row[label] or "-" for row in rows))
    return table


def _cells(summary: Summary) -> dict[str, str]:
    efficiency, level = summary.capital_efficiency, summary.lowest_margin_level
    return {
        "final equity": f"{summary.final_equity:,.2f}",
        "return": f"{summary.total_return:+.2%}",
        "maximum drawdown": f"{summary.drawdown_max:.2%}",
        "margin used, peak": f"{summary.margin_used_peak:,.2f}",
        "margin used, mean": f"{summary.margin_used_mean:,.2f}",
        "capital efficiency": "-" if efficiency is None else f"{efficiency:+.2%}",
        "fills": f"{summary.fills:,}",
        "refused orders": f"{summary.refused:,}",
        "liquidations": f"{summary.liquidations:,}",
        "bad debt": f"{summary.bad_debt:,.2f}",
        "lowest margin level": "-" if level is None else f"{level:.1%}",
        "fees": f"{summary.fees:,.2f}",
        "funding": f"{summary.funding:+,.2f}",
        "interest": f"{-summary.interest:+,.2f}" if summary.interest else "",
    }


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
