# SPDX-License-Identifier: GPL-3.0-or-later
"""Result files, worked through again: which entries can be explained, and the arithmetic of one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from crossmargin_bt.engine import events
from crossmargin_bt.engine.explain import account_before, explain, is_explainable
from crossmargin_bt.engine.instrument import Instrument
from crossmargin_bt.engine.rules import Rules
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.results import SCHEMA_VERSION


class Run(msgspec.Struct, frozen=True):
    """What of a run's result is needed to work its journal through again."""

    strategy: str
    venue: str
    mode: str
    position_mode: str
    journal: list[msgspec.Raw]
    rules: Rules
    instruments: list[Instrument]
    account: dict[str, Any] = {}

    @property
    def setup(self) -> dict[str, Any]:
        """What the account is made with."""
        return self.account or {"position_mode": self.position_mode}

    def entries(self) -> list[events.JournalEntry]:
        """Return the journal; empty for cash mode, whose entries are backtrader's."""
        if self.mode == "cash":
            return []
        return [msgspec.json.decode(entry, type=events.JournalEntry) for entry in self.journal]


class _Entry(msgspec.Struct, frozen=True):
    result: Run


class _File(msgspec.Struct, frozen=True):
    schema: int
    runs: list[_Entry]


def read(path: Path, number: int) -> Run:
    """Return run `number` (from 1) of a result file.

    Raises:
        ConfigurationError: there is no such file or run, or it is no result file of this version.
    """
    if not path.is_file():
        raise ConfigurationError(f"result file {path} does not exist; `crossmargin compare --json {path}` writes one")
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path} is no result file of schema {SCHEMA_VERSION}: {error}") from error
    if file.schema != SCHEMA_VERSION:
        raise ConfigurationError(f"{path} has schema {file.schema}, this version reads {SCHEMA_VERSION}; compare again")
    if not 1 <= number <= len(file.runs):
        names = ", ".join(
            f"{n} {one.result.strategy} {one.result.mode} {one.result.venue}"
            for n, one in enumerate(file.runs, start=1)
        )
        raise ConfigurationError(f"{path} has no run {number}; it has {names}")
    return file.runs[number - 1].result


def listed(run: Run) -> list[str]:
    """Return a line for every entry that can be explained, with its number."""
    lines = [f"{run.strategy} {run.mode} {run.venue}"]
    for n, entry in enumerate(run.entries()):
        if is_explainable(entry):
            when = datetime.fromtimestamp(entry.time_ms / 1000, tz=UTC)
            name = getattr(entry, "state", type(entry).__name__)
            whose = getattr(entry, "pool", getattr(entry, "symbol", ""))
            lines.append(f"{n:>8}  {when:%Y-%m-%d %H:%M}  {name} {whose}")
    return lines if len(lines) > 1 else [*lines, "nothing was refused for margin, warned of or liquidated"]


def explained(run: Run, number: int) -> list[str]:
    """Return the arithmetic of entry `number` of the journal.

    Raises:
        ConfigurationError: there is no such entry, or nothing in it to explain.
    """
    journal = run.entries()
    if not 0 <= number < len(journal) or not is_explainable(journal[number]):
        raise ConfigurationError(f"entry {number} cannot be explained; without --event those that can are listed")
    instruments = {one.symbol: one for one in run.instruments}
    before = account_before(journal, number, run.rules, instruments, **run.setup)
    return explain(before, journal[number])
