# SPDX-License-Identifier: GPL-3.0-or-later
"""Result files: metrics, curves and journals as JSON; atomic writing of files.

docs/result-files.md describes the format; `schema()` returns it as JSON Schema.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.errors import DECODE_ERRORS, ConfigurationError
from crossmargin_bt.printable import control_text
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.upgrade import upgrade
from crossmargin_bt.results import (
    SCHEMA_VERSION,
    MarketCandles,
    ResultFile,
    RunEntry,
    RunResult,
    Shock,
    VenueDifference,
)

# The oldest supported schema. Fields added since then have defaults.
OLDEST_READ = 2


def check_writable(path: Path, option: str = "--json") -> None:
    """Check before a long run that its output file can be written.

    Raises:
        ConfigurationError: `path` is a folder, or its folder does not exist or is not writable.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigurationError(
            f"cannot write {path}; give {option} a file in a folder that exists and can be written to"
        )


def write(content: bytes, path: Path) -> None:
    """Write a file atomically: a temporary file in the same folder is renamed to `path`.

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


def build_result_file(
    results: Sequence[RunResult],
    markets: Sequence[MarketCandles] = (),
    differences: Sequence[VenueDifference] | None = None,
    shocks: Sequence[Shock] = (),
) -> ResultFile:
    """Return the content of a result file, with the metrics of every run."""
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
    """Read a result file of the current or an older supported schema.

    Raises:
        ConfigurationError: the file does not exist, or is not a result file of a supported schema.
    """
    if not path.is_file():
        raise ConfigurationError(f"result file {path} does not exist; `crossmargin compare --json {path}` writes one")
    try:
        decoded = msgspec.json.decode(path.read_bytes())
        version = msgspec.convert(decoded, type=_Version).schema
        _check_version(path, version)
        file = msgspec.convert(upgrade(decoded), type=ResultFile)
    except ConfigurationError:
        raise
    except (*DECODE_ERRORS, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is not a result file of schema {SCHEMA_VERSION}: {error}") from error
    fault = _fault(file) or (f"{text} has control characters" if (text := control_text(decoded)) else None)
    if fault is not None:
        raise ConfigurationError(f"{path} was altered: {fault}; write it again with `crossmargin compare --json`")
    return file


def _check_version(path: Path, version: int) -> None:
    if version < OLDEST_READ:
        raise ConfigurationError(
            f"{path} has schema {version}, which does not contain the rules of the run; this version reads "
            f"{OLDEST_READ} to {SCHEMA_VERSION}; run the comparison again with --json"
        )
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path} has schema {version}, this version reads up to {SCHEMA_VERSION}; update crossmargin_bt"
        )


def _fault(file: ResultFile) -> str | None:
    """Return what contradicts itself in a result file, or None: no runs, curves of another length than their times."""
    if not file.results:
        return "it has no runs"
    for number, run in enumerate(file.results, start=1):
        bars = len(run.times_ms)
        curves: dict[str, Sequence[Any]] = {
            "equity": run.equity, "margin_used": run.margin_used, "free_margin": run.free_margin, "margin_level": run.margin_level,
            **{f"exposure of {symbol}": values for symbol, values in run.exposure.items()},
        }  # fmt: skip
        for name, values in curves.items():
            if len(values) != bars and (values or name in ("equity", "margin_used")):
                return f"{name} of run {number} has {len(values)} values for {bars} bars"
        if any(after <= before for before, after in pairwise(run.times_ms)):
            return f"the times of run {number} do not rise"
        odd = next((n for n, entry in enumerate(run.journal) if not _is_entry(entry)), None)
        if odd is not None:
            return f"entry {odd} of the journal of run {number} has no event or no time"
    for market in file.markets:
        if len({len(market.times_ms), len(market.high), len(market.low), len(market.close)}) > 1:
            return f"the candles of {market.symbol} differ in length"
    return None


def _is_entry(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("event"), str) and isinstance(entry.get("time_ms"), int)


def read_run(path: Path, number: int) -> RunResult:
    """Read run `number` (counted from 1) of a result file.

    Raises:
        ConfigurationError: see `read`; or the file has no such run.
    """
    results = read(path).results
    if not 1 <= number <= len(results):
        names = ", ".join(f"{n} {one.strategy} {one.mode} {one.venue}" for n, one in enumerate(results, start=1))
        raise ConfigurationError(f"{path} has no run {number}; it has {names}")
    return results[number - 1]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of result files, including the engine's journal entries."""
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
    "description": "A fill or refusal in cash mode as reported by backtrader; `size` is signed.",
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
