# SPDX-License-Identifier: GPL-3.0-or-later
"""Contract facts and leverage tiers of an exchange, stored beside its series as of the day they were fetched."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from filelock import FileLock

from crossmargin_bt.candles.month_file import AtomicWrite
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import DECODE_ERRORS, RuleError, StoreError
from crossmargin_bt.symbols import short_symbol
from crossmargin_bt.venues import tiers
from crossmargin_bt.venues.tiers import File, Snapshot
from crossmargin_bt.venues.tiers import Row as TierRow

CONTRACTS_FILE, TIERS_FILE = "contracts.json", "tiers.json"


class StoredContract(msgspec.Struct, frozen=True, omit_defaults=True):
    """The facts of a contract as of a day (ISO date), and when it was listed: milliseconds since 1970-01-01 UTC, 0 if unknown."""

    as_of: str
    facts: Instrument
    listed_ms: int = 0


def store_contracts(out: Path, exchange: str, as_of: str, facts: Mapping[str, tuple[Instrument, int]]) -> None:
    """Store the facts of contracts and their listing times by symbol; entries of other symbols are kept."""
    folder = out / exchange
    path = folder / CONTRACTS_FILE
    with _locked(folder):
        try:
            before = read_contracts(folder)
        except StoreError:
            path.replace(path.with_name(path.name + ".broken"))
            before = {}
        known = {**before, **{name: StoredContract(as_of, *known) for name, known in facts.items()}}
        with AtomicWrite(path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(known, order="sorted"), indent=1))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of an exchange's folder while its files are changed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to: {error}") from error


def read_contracts(folder: Path) -> dict[str, StoredContract]:
    """Return the contracts stored in an exchange's folder by symbol; empty if none were fetched.

    Raises:
        StoreError: the file is broken.
    """
    path = folder / CONTRACTS_FILE
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, StoredContract])
    except (OSError, *DECODE_ERRORS) as error:
        raise StoreError(f"{path} cannot be read ({error}); download --what markets again") from error


def store_tiers(out: Path, exchange: str, as_of: str, tables: Mapping[str, Sequence[TierRow]]) -> list[str]:
    """Store the leverage tiers of a day by unified symbol, and return what is wrong with those that are not stored.

    Other days are kept. The file can be passed to `--tiers`.
    """
    folder = out / exchange
    path = folder / TIERS_FILE
    failures, valid = [], {}
    for symbol, table in tables.items():
        snapshot = Snapshot(as_of=as_of, tiers={symbol: list(table)})
        try:
            tiers.parse(msgspec.json.encode(File(snapshots=[snapshot])), f"{exchange} leverage tiers")
            valid[symbol] = list(table)
        except RuleError as error:
            failures.append(f"{error}; they are not stored")
    if not valid:
        return failures
    with _locked(folder):
        try:
            file = msgspec.json.decode(path.read_bytes(), type=File) if path.is_file() else File(snapshots=[])
        except (OSError, *DECODE_ERRORS) as error:
            raise StoreError(
                f"{path} cannot be read ({error}); move it away and download --what tiers again"
            ) from error
        snapshots = {snapshot.as_of: snapshot for snapshot in file.snapshots}
        before = snapshots[as_of].tiers if as_of in snapshots else {}
        rows = {**before, **valid}
        snapshots[as_of] = Snapshot(
            as_of=as_of, tiers=rows, source=f"{exchange} leverage tiers of {as_of} through ccxt"
        )
        updated = File(snapshots=[snapshots[day] for day in sorted(snapshots)], venue=exchange, units="settle currency")
        with AtomicWrite(path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(updated), indent=1))
    return failures


class StoredInstruments(NamedTuple):
    """The contracts of an exchange by symbol, and what is wrong with tiers stored by an earlier version, by symbol."""

    instruments: dict[str, Instrument]
    invalid_tiers: dict[str, str]


def read_instruments(folder: Path) -> StoredInstruments:
    """Return the contracts in an exchange's folder by symbol, with the most recent valid leverage tiers where there are any.

    Raises:
        StoreError: a file is broken.
    """
    latest, invalid = {}, {}
    path = folder / TIERS_FILE
    if path.is_file():
        try:
            file = msgspec.json.decode(path.read_bytes(), type=File)
        except (OSError, *DECODE_ERRORS) as error:
            raise StoreError(f"{path} cannot be read ({error}); download --what tiers again") from error
        for snapshot in sorted(file.snapshots, key=lambda one: one.as_of):
            for symbol, rows in snapshot.tiers.items():
                single = File(snapshots=[msgspec.structs.replace(snapshot, tiers={symbol: rows})])
                try:
                    (terms,) = tiers.parse(msgspec.json.encode(single), str(path))
                except RuleError as error:
                    invalid[short_symbol(symbol)] = str(error)
                    continue
                latest.update(dict.fromkeys(terms.symbols, terms.maintenance))
    known = {
        name: msgspec.structs.replace(contract.facts, maintenance=latest.get(name))
        for name, contract in read_contracts(folder).items()
    }
    return StoredInstruments(known, invalid)
