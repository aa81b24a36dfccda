# SPDX-License-Identifier: GPL-3.0-or-later
"""Result files: the table's figures with the curves and journals, as JSON; and files that appear whole or not at all.

docs/result-files.md describes the schema; `schema()` is it as JSON Schema.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.upgrade import upgraded
from crossmargin_bt.results import (
    SCHEMA_VERSION,
    MarketCandles,
    ResultFile,
    RunEntry,
    RunResult,
    Shock,
    VenueDifference,
)

# The oldest schema that is still read: its files lack what later ones added, which has defaults.
OLDEST_READ = 2


def check_writable(path: Path, option: str = "--json") -> None:
    """Check before a long run that its result can be written.

    Raises:
        ConfigurationError: `path` is a folder, or lies in none that can be written to.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigurationError(
            f"cannot write {path}; give {option} a file in a folder that exists and can be written to"
        )


def write(content: bytes, path: Path) -> None:
    """Write a file; it appears whole or not at all.

    Raises:
        ConfigurationError: the folder does not exist or cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def file_of(
    results: Sequence[RunResult],
    markets: Sequence[MarketCandles] = (),
    differences: Sequence[VenueDifference] | None = None,
    shocks: Sequence[Shock] = (),
) -> ResultFile:
    """Return what a result file holds."""
    return ResultFile(
        schema=SCHEMA_VERSION,
        runs=[RunEntry(summary=summarise(result), result=result) for result in results],
        markets=list(markets),
        differences=None if differences is None else list(differences),
        shocks=list(shocks),
    )


def write_json(file: ResultFile, path: Path) -> None:
    """Write a result file. Undefined and infinite numbers are null.

    Raises:
        ConfigurationError: see `write`.
    """
    write(msgspec.json.encode(file), path)


class _Version(msgspec.Struct):
    schema: int


def read(path: Path) -> ResultFile:
    """Return a result file of this version or an older one that can still be read.

    Raises:
        ConfigurationError: there is no such file, or it is no result file of such a version.
    """
    if not path.is_file():
        raise ConfigurationError(f"result file {path} does not exist; `crossmargin compare --json {path}` writes one")
    content = path.read_bytes()
    try:
        version = msgspec.json.decode(content, type=_Version).schema
        if version < OLDEST_READ:
            raise ConfigurationError(
                f"{path} has schema {version}, whose files do not hold the rules of the run; this version reads "
                f"{OLDEST_READ} to {SCHEMA_VERSION}, so compare again with --json"
            )
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"{path} has schema {version}, this version reads up to {SCHEMA_VERSION}; update crossmargin_bt"
            )
        return msgspec.convert(upgraded(msgspec.json.decode(content)), type=ResultFile)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path} is no result file of schema {SCHEMA_VERSION}: {error}") from error


def run_of(path: Path, number: int) -> RunResult:
    """Return run `number` (from 1) of a result file.

    Raises:
        ConfigurationError: see `read`; or there is no such run.
    """
    results = read(path).results
    if not 1 <= number <= len(results):
        names = ", ".join(f"{n} {one.strategy} {one.mode} {one.venue}" for n, one in enumerate(results, start=1))
        raise ConfigurationError(f"{path} has no run {number}; it has {names}")
    return results[number - 1]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of result files, the engine's journal entries included."""
    (top, entry), components = msgspec.json.schema_components(
        (ResultFile, events.JournalEntry), ref_template="#/$defs/{name}"
    )
    journal = {
        **components["RunResult"]["properties"]["journal"],
        "items": {"anyOf": [entry, {"$ref": "#/$defs/CashEntry"}]},
    }
    components["RunResult"]["properties"]["journal"] = journal
    components["CashEntry"] = CASH_ENTRY
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Result file of crossmargin_bt, schema {SCHEMA_VERSION}",
        **top,
        "$defs": components,
    }


CASH_ENTRY = {
    "title": "CashEntry",
    "description": "A fill or a refusal of cash mode, as backtrader reported it; `size` is signed.",
    "type": "object",
    "properties": {
        "event": {"enum": ["Filled", "OrderRefused"]},
        "time_ms": {"type": "integer"},
        "symbol": {"type": "string"},
        "size": {"type": "number"},
        "price": {"type": ["number", "null"]},
        "fee": {"type": "number"},
    },
    "required": ["event", "time_ms", "symbol", "size", "price", "fee"],
}
