# SPDX-License-Identifier: GPL-3.0-or-later
"""Tier tables by date: snapshots of a venue's tiers of each contract.

The file is JSON: `{"venue": ..., "units": ..., "snapshots": [{"as_of": "2022-02-16", "source": ...,
"tiers": {"BTC/USDT:USDT": [{"notional_min", "maintenance_rate", "leverage_max", "initial_rate", ...}]}}]}`, amounts in the settle
currency. A table is valid from its snapshot until the next one; the first is also valid before its date.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec

from crossmargin_bt.engine.terms.rates import Tier, TierTable
from crossmargin_bt.engine.terms.rules import ContractTerms
from crossmargin_bt.errors import DECODE_ERRORS, ConfigurationError, RuleError
from crossmargin_bt.symbols import short_symbol

# Relative tolerance between a published deduction and the one computed from the rates.
DEDUCTION_TOLERANCE = 1e-6


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tier in a file; `maintenance_amount` is the deduction if the venue publishes it."""

    notional_min: float
    maintenance_rate: float
    leverage_max: float | None = None
    initial_rate: float | None = None
    notional_max: float | None = None
    maintenance_amount: float | None = None


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tables of one day by unified symbol (BTC/USDT:USDT); `as_of` is 2022-02-16, or 2022-02 for the first day of a month."""

    as_of: str
    tiers: dict[str, list[Row]]
    source: str = ""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of tier tables."""

    snapshots: list[Snapshot]
    venue: str = ""
    units: str = ""


def read(path: Path) -> list[ContractTerms]:
    """Return the contract terms in a file.

    Raises:
        ConfigurationError: the file does not exist.
        RuleError: the file violates the schema, contains no table, or is inconsistent; the text names the place.
    """
    if not path.is_file():
        raise ConfigurationError(f"tiers file {path} does not exist")
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, file: str) -> list[ContractTerms]:
    """Return the contract terms in the content of a file; `file` is the name that errors use.

    Raises:
        RuleError: see `read`.
    """
    try:
        decoded = msgspec.json.decode(content, type=File)
    except DECODE_ERRORS as error:
        raise RuleError(f"{file}: {error}") from error
    found = [
        _terms(f"{file}: snapshot {snapshot.as_of}, {symbol}", snapshot, symbol, rows)
        for snapshot in decoded.snapshots
        for symbol, rows in snapshot.tiers.items()
    ]
    if not found:
        raise RuleError(f"{file}: the file contains no tier table")
    return found


def _terms(where: str, snapshot: Snapshot, symbol: str, rows: Sequence[Row]) -> ContractTerms:
    try:
        since = date.fromisoformat(snapshot.as_of if len(snapshot.as_of) > len("2022-02") else f"{snapshot.as_of}-01")
    except ValueError as error:
        raise RuleError(f"{where}: {snapshot.as_of!r} is not a date; write it as 2022-02-16") from error
    if len({row.maintenance_amount is None for row in rows}) > 1:
        raise RuleError(f"{where}: some tiers have a maintenance_amount and some have none; give all or none")
    marginal = any(row.maintenance_amount for row in rows)
    try:
        table = TierTable(
            tuple(Tier(row.notional_min, row.maintenance_rate, row.leverage_max, row.initial_rate) for row in rows),
            marginal,
        )
    except RuleError as error:
        raise RuleError(f"{where}: {error}") from error
    for row, deduction in zip(rows, table.deductions, strict=True):
        printed = row.maintenance_amount
        if printed is not None and abs(printed - deduction) > DEDUCTION_TOLERANCE * max(1.0, deduction):
            raise RuleError(
                f"{where}: the tier from {row.notional_min:g} has maintenance_amount {printed:g}, its rates give {deduction:g}"
            )
    return ContractTerms(
        symbols=tuple(dict.fromkeys((symbol, short_symbol(symbol)))), maintenance=table, source=snapshot.source,
        since=since,
    )  # fmt: skip
