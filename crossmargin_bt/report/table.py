# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison as terminal tables: one per strategy, one column per mode."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crossmargin_bt.report import rule_text
from crossmargin_bt.report.metric_rows import by_strategy, equity_and_liquidations, run_names, visible_rows
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.summary import rule_changes
from crossmargin_bt.results import RunResult, Shock, VenueDifference

# Liquidations listed individually below a table; the remaining ones are counted.
LIQUIDATIONS_LISTED = 3
# More columns do not fit a terminal of 80 characters; each venue then gets its own table.
COLUMNS_MAX = 4


def build_tables(
    results: Sequence[RunResult], differences: Sequence[VenueDifference] | None = None, shocks: Sequence[Shock] = ()
) -> Group:
    """Return what the data lack, the tables, liquidations, reasons for differences between venues, stress results and assumptions."""
    parts: list[Table | Text] = []
    warned = dict.fromkeys(text for result in results for text in result.warnings)
    if warned:
        parts.append(Text("What the data lack", style="bold"))
        parts.extend(Text(f"  - {text}") for text in warned)
        parts.append(Text())
    for strategy, mine in by_strategy(results).items():
        for group in [mine] if len(mine) <= COLUMNS_MAX else _by_venue(mine):
            parts.extend((_metrics_table(strategy, group), *_notable_events(group), Text()))
    if differences is not None:
        parts.extend(_venue_differences(differences))
    if shocks:
        parts.extend(_stress_tables(results, shocks))
    changes = rule_changes(results)
    if changes:
        parts.append(Text("Rules that changed within the run", style="bold"))
        parts.extend(Text(f"  - {text}") for text in changes)
    assumptions = dict.fromkeys(f"{result.venue}: {text}" for result in results for text in result.assumptions)
    if assumptions:
        parts.append(Text("Assumptions", style="bold"))
        parts.extend(Text(f"  - {text}") for text in assumptions)
    return Group(*parts)


def _by_venue(results: Sequence[RunResult]) -> list[list[RunResult]]:
    venues = dict.fromkeys(result.venue for result in results)
    return [[result for result in results if result.venue == venue] for venue in venues]


def print_tables(
    results: Sequence[RunResult],
    console: Console,
    differences: Sequence[VenueDifference] | None = None,
    shocks: Sequence[Shock] = (),
) -> None:
    """Print the comparison; `differences` between venues are None if only one was compared."""
    console.print(build_tables(results, differences, shocks))


def _stress_tables(results: Sequence[RunResult], shocks: Sequence[Shock]) -> list[Table | Text]:
    """Return the outcome of every run under stress, and the conclusions that change."""
    parts: list[Table | Text] = []
    for strategy, mine in by_strategy(results).items():
        table = Table(title=f"{escape(strategy)} under stress: final equity (liquidations)", title_justify="left")
        table.add_column("")
        for name in run_names(mine):
            table.add_column(escape(name), justify="right")
        table.add_row(
            "base case", *(equity_and_liquidations(result.equity[-1], result.liquidations) for result in mine)
        )
        for shock in shocks:
            own = [one for one in shock.outcomes if one.strategy == strategy]
            table.add_row(
                shock.name,
                *(
                    "failed" if one.failed else equity_and_liquidations(one.final_equity, one.liquidations)
                    for one in own
                ),
            )
        parts += [table, Text()]
    parts.append(Text("What changes under stress", style="bold"))
    for shock in shocks:
        parts.append(Text(f"  {shock.name} ({shock.what}):{'' if shock.changes else ' no conclusion changes'}"))
        parts.extend(Text(f"    {text}") for text in shock.changes)
    return [*parts, Text()]


def _venue_differences(differences: Sequence[VenueDifference]) -> list[Text]:
    """Return how other venues' rules judge the first refusal and the first liquidation of every run."""
    lines = [
        Text("Why the venues differ", style="bold"),
        Text(
            "  for each run: the first refusal and the first liquidation that another venue's rules would have avoided;"
        ),
        Text("  a rule is listed if replacing it alone is sufficient"),
    ]
    previous = ""
    for one in differences:
        event = f"  {one.strategy} {one.mode} {one.venue}: {one.what}"
        if event != previous:
            lines.append(Text(event))
            previous = event
        reasons = ", ".join(rule_text.TITLES[key] for key in one.reasons) or "several rules combined"
        verdict = f"requires {one.other_verdict.needed:,.2f}" if one.other_verdict.needed else "accepts it"
        lines.append(Text(f"    {one.other} {verdict}: {reasons}"))
    if not differences:
        lines.append(Text("  no first refusal or liquidation that another venue's rules would have avoided"))
    return [*lines, Text()]


def _metrics_table(strategy: str, results: Sequence[RunResult]) -> Table:
    currency = results[0].currency
    venues = list(dict.fromkeys(result.venue for result in results))
    where = f", {escape(venues[0])}" if len(venues) == 1 else ""
    table = Table(title=f"{escape(strategy)} ({currency}{where})", title_justify="left", title_style="bold")
    table.add_column("")
    for name in run_names(results):
        table.add_column(escape(name), justify="right")
    summaries = [summarise(result) for result in results]
    for row in visible_rows(summaries):
        table.add_row(row.label, *(row.text(summary) for summary in summaries))
    return table


def _notable_events(results: Iterable[RunResult]) -> list[Text]:
    lines = []
    for result in results:
        refused = next(
            (event for event in result.journal if event["event"] == "OrderRefused" and "reason" in event), None
        )
        if refused is not None:
            when = datetime.fromtimestamp(refused["time_ms"] / 1000, tz=UTC)
            lines.append(
                Text(
                    f"  {result.mode} {result.venue}: first refusal {when:%Y-%m-%d %H:%M} {refused['symbol']}: {refused['reason']}"
                )
            )
        events = [event for event in result.journal if event["event"] == "Liquidated"]
        for event in events[:LIQUIDATIONS_LISTED]:
            legs = ", ".join(f"{leg} at mark price {mark:,.6g}" for leg, mark in event["marks"].items())
            when = datetime.fromtimestamp(event["time_ms"] / 1000, tz=UTC)
            lines.append(
                Text(
                    f"  {result.mode} {result.venue}: {when:%Y-%m-%d %H:%M} liquidated {legs} "
                    f"(collateral {event['collateral']:,.2f} against {event['requirement']:,.2f})"
                )
            )
        if len(events) > LIQUIDATIONS_LISTED:
            lines.append(
                Text(f"  {result.mode} {result.venue}: and {len(events) - LIQUIDATIONS_LISTED} more liquidations")
            )
    return lines
