# SPDX-License-Identifier: GPL-3.0-or-later
"""Results, worked through again: which entries of a journal can be explained, and the arithmetic of them."""

from collections.abc import Collection
from datetime import UTC, datetime

import msgspec

from crossmargin_bt.engine.explain.explanations import account_before, explain, is_explainable, set_to_entry
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import replay
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.results import RunResult


def entries(result: RunResult) -> list[events.JournalEntry]:
    """Return the engine's journal of a run; empty for cash mode, whose entries are backtrader's."""
    if result.mode == "cash":
        return []
    return [msgspec.convert(entry, type=events.JournalEntry) for entry in result.journal]


def listed(result: RunResult) -> list[str]:
    """Return a line for every entry that can be explained, with its number."""
    lines = [f"{result.strategy} {result.mode} {result.venue}"]
    for n, entry in enumerate(entries(result)):
        if is_explainable(entry):
            when = datetime.fromtimestamp(entry.time_ms / 1000, tz=UTC)
            name = getattr(entry, "state", type(entry).__name__)
            whose = getattr(entry, "pool", getattr(entry, "symbol", ""))
            lines.append(f"{n:>8}  {when:%Y-%m-%d %H:%M}  {name} {whose}")
    return lines if len(lines) > 1 else [*lines, "nothing was refused for margin, warned of or liquidated"]


def explained(result: RunResult, number: int) -> list[str]:
    """Return the arithmetic of entry `number` of the journal.

    Raises:
        ConfigurationError: there is no such entry, or nothing in it to explain.
    """
    journal = entries(result)
    if not 0 <= number < len(journal) or not is_explainable(journal[number]):
        raise ConfigurationError(f"entry {number} cannot be explained; without --event those that can are listed")
    rules, instruments = _terms(result)
    before = account_before(journal, number, rules, instruments, **result.setup)
    return explain(before, journal[number])


def all_explained(result: RunResult, numbers: Collection[int]) -> dict[int, list[str]]:
    """Return the arithmetic of several entries by their number, the journal being worked through once."""
    journal = entries(result)
    rules, instruments = _terms(result)
    account = replay([], rules, instruments, **result.setup)
    found = {}
    last = max(numbers, default=-1)
    for n, entry in enumerate(journal[: last + 1]):
        if n in numbers:
            set_to_entry(account, entry)
            found[n] = explain(account, entry)
        account.apply(entry)
    return found


def _terms(result: RunResult) -> tuple[Rules, dict[str, Instrument]]:
    rules = msgspec.convert(result.rules, type=Rules)
    contracts = msgspec.convert(result.instruments, type=list[Instrument])
    return rules, {one.symbol: one for one in contracts}
