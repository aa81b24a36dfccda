# SPDX-License-Identifier: GPL-3.0-or-later
"""The margin events of a run (refusals, warnings, liquidations), each with its arithmetic."""

from collections import Counter
from typing import Literal, NamedTuple

from crossmargin_bt.engine.explain.describe import describe, format_time
from crossmargin_bt.engine.explain.explanations import is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.report import explained_entries
from crossmargin_bt.results import RunResult

EventKind = Literal["liquidation", "warning", "refusal", "state"]

EVENTS_MAX = 200
"""Events shown per run. If there are more, liquidations have priority over warnings, and warnings over refusals."""

_PRIORITY = {
    events.Liquidated: 0,
    events.InsuranceFundTakeover: 0,
    events.CollateralToppedUp: 1,
    events.RiskState: 1,
    events.RulesChanged: 1,
    events.OrderRefused: 2,
}
_KINDS: dict[type, EventKind] = {
    events.Liquidated: "liquidation", events.InsuranceFundTakeover: "state", events.CollateralToppedUp: "warning",
    events.RiskState: "warning", events.OrderRefused: "refusal", events.RulesChanged: "state",
}  # fmt: skip
# Risk states that are part of a liquidation or end one; every other risk state is a warning.
_STATES = ("liquidation_check", "recovered", "closed_out")


class EventRow(NamedTuple):
    """One event. `number` is its index in the journal; `arithmetic` is empty if the event cannot be explained."""

    number: int
    time_ms: int
    kind: EventKind
    text: str
    arithmetic: str

    @property
    def moment(self) -> str:
        """The time as text, UTC."""
        return format_time(self.time_ms)


class EventTable(NamedTuple):
    """The events shown of a run in chronological order, and the number omitted of each kind."""

    rows: list[EventRow]
    omitted: dict[str, int]


def build_event_table(result: RunResult) -> EventTable:
    """Return the margin events of a run, at most `EVENTS_MAX` of them."""
    if result.mode == "cash":
        return _cash_mode_events(result)
    journal = explained_entries.engine_journal(result)
    mine = [n for n, entry in enumerate(journal) if type(entry) in _KINDS]
    chosen = sorted(sorted(mine, key=lambda n: (_PRIORITY[type(journal[n])], n))[:EVENTS_MAX])
    arithmetic = explained_entries.explain_entries(result, {n for n in chosen if is_explainable(journal[n])})
    rows = [
        EventRow(
            n, journal[n].time_ms, _kind(journal[n]), describe(journal[n], result.currency),
            "\n".join(arithmetic.get(n, ())),
        )
        for n in chosen
    ]  # fmt: skip
    return EventTable(rows, dict(Counter(_kind(journal[n]) for n in set(mine) - set(chosen))))


def _kind(entry: events.JournalEntry) -> EventKind:
    return "state" if getattr(entry, "state", "") in _STATES else _KINDS[type(entry)]


def _cash_mode_events(result: RunResult) -> EventTable:
    """Return the refusals of cash mode, for which backtrader records no arithmetic."""
    refused = [(n, entry) for n, entry in enumerate(result.journal) if entry["event"] == "OrderRefused"]
    rows = [
        EventRow(
            n, entry["time_ms"], "refusal",
            f"order of {entry['size']:+g} {entry['symbol']} refused by backtrader: value and commission exceed the cash", "",
        )
        for n, entry in refused[:EVENTS_MAX]
    ]  # fmt: skip
    omitted = len(refused) - len(rows)
    return EventTable(rows, {"refusal": omitted} if omitted else {})
