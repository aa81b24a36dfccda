# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened in a run that margin decided: refusals, warnings and liquidations, each with its arithmetic."""

from collections import Counter
from typing import NamedTuple

from crossmargin_bt.engine.explain.describe import describe, format_time
from crossmargin_bt.engine.explain.explanations import is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.report import explained_entries
from crossmargin_bt.results import RunResult

EVENTS_MAX = 200
"""Events told of one run; liquidations come before warnings, and these before refusals, where there are more."""

_RANK = {
    events.Liquidated: 0,
    events.InsuranceFundTakeover: 0,
    events.CollateralToppedUp: 1,
    events.RiskState: 1,
    events.OrderRefused: 2,
}
_KINDS = {
    events.Liquidated: "liquidation", events.InsuranceFundTakeover: "state", events.CollateralToppedUp: "warning",
    events.RiskState: "warning", events.OrderRefused: "refusal",
}  # fmt: skip
# States that end a liquidation or a danger, or lead from one to the other.
_STATES = ("liquidation_check", "recovered", "closed_out")


class Happening(NamedTuple):
    """One event. `number` is that of the journal entry; `arithmetic` is empty where there is none."""

    number: int
    time_ms: int
    kind: str
    text: str
    arithmetic: str

    @property
    def moment(self) -> str:
        """Its time in words."""
        return format_time(self.time_ms)


class Happenings(NamedTuple):
    """Those of a run that are told, in their order, and how many of each kind are not."""

    told: list[Happening]
    left_out: dict[str, int]


def happenings(result: RunResult) -> Happenings:
    """Return what happened in a run."""
    if result.mode == "cash":
        return _of_cash(result)
    journal = explained_entries.entries(result)
    mine = [n for n, entry in enumerate(journal) if type(entry) in _KINDS]
    chosen = sorted(sorted(mine, key=lambda n: (_RANK[type(journal[n])], n))[:EVENTS_MAX])
    arithmetic = explained_entries.all_explained(result, {n for n in chosen if is_explainable(journal[n])})
    found = [
        Happening(
            n, journal[n].time_ms, _kind(journal[n]), describe(journal[n], result.currency),
            "\n".join(arithmetic.get(n, ())),
        )
        for n in chosen
    ]  # fmt: skip
    return Happenings(found, dict(Counter(_kind(journal[n]) for n in set(mine) - set(chosen))))


def _kind(entry: events.JournalEntry) -> str:
    return "state" if getattr(entry, "state", "") in _STATES else _KINDS[type(entry)]


def _of_cash(result: RunResult) -> Happenings:
    """Return the refusals of cash mode, for which backtrader keeps no arithmetic."""
    refused = [(n, entry) for n, entry in enumerate(result.journal) if entry["event"] == "OrderRefused"]
    found = [
        Happening(
            n, entry["time_ms"], "refusal",
            f"order of {entry['size']:+g} {entry['symbol']} refused by backtrader: value and commission exceed the cash", "",
        )
        for n, entry in refused[:EVENTS_MAX]
    ]  # fmt: skip
    left = len(refused) - len(found)
    return Happenings(found, {"refusal": left} if left else {})
