# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic behind journal entries, obtained by replaying the journal of a result up to each entry."""

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


def engine_journal(result: RunResult) -> list[events.JournalEntry]:
    """Return the journal of a run as engine entries; empty in cash mode, whose journal is backtrader's."""
    if result.mode == "cash":
        return []
    return [msgspec.convert(entry, type=events.JournalEntry) for entry in result.journal]


def list_explainable(result: RunResult) -> list[str]:
    """Return one line per explainable journal entry: index, time, event and pool or symbol."""
    lines = [f"{result.strategy} {result.mode} {result.venue}"]
    for n, entry in enumerate(engine_journal(result)):
        if is_explainable(entry):
            when = datetime.fromtimestamp(entry.time_ms / 1000, tz=UTC)
            name = getattr(entry, "state", type(entry).__name__)
            whose = getattr(entry, "pool", getattr(entry, "symbol", ""))
            lines.append(f"{n:>8}  {when:%Y-%m-%d %H:%M}  {name} {whose}")
    return (
        lines
        if len(lines) > 1
        else [*lines, "no order was refused for margin, and there were no warnings or liquidations"]
    )


def explain_entry(result: RunResult, number: int) -> list[str]:
    """Return the arithmetic of journal entry `number`, line by line.

    Raises:
        ConfigurationError: the journal has no such entry, or it cannot be explained.
    """
    journal = engine_journal(result)
    if not 0 <= number < len(journal) or not is_explainable(journal[number]):
        raise ConfigurationError(f"entry {number} cannot be explained; omit --event to list the entries that can")
    rules, instruments = _rules_and_instruments(result)
    before = account_before(journal, number, rules, instruments, **result.setup)
    return explain(before, journal[number])


def explain_entries(result: RunResult, numbers: Collection[int]) -> dict[int, list[str]]:
    """Return the arithmetic of several entries by index, in one replay of the journal."""
    journal = engine_journal(result)
    rules, instruments = _rules_and_instruments(result)
    account = replay([], rules, instruments, **result.setup)
    texts = {}
    last = max(numbers, default=-1)
    for n, entry in enumerate(journal[: last + 1]):
        if n in numbers:
            set_to_entry(account, entry)
            texts[n] = explain(account, entry)
        account.apply(entry)
    return texts


def _rules_and_instruments(result: RunResult) -> tuple[Rules, dict[str, Instrument]]:
    rules = msgspec.convert(result.rules, type=Rules)
    contracts = msgspec.convert(result.instruments, type=list[Instrument])
    return rules, {one.symbol: one for one in contracts}
