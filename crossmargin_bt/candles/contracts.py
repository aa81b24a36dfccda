# SPDX-License-Identifier: GPL-3.0-or-later
"""Contract facts and leverage tiers of an exchange, stored beside its series as of the day they were fetched."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock

from crossmargin_bt.candles.month_file import AtomicWrite
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import StoreError
from crossmargin_bt.venues import tiers
from crossmargin_bt.venues.tiers import File, Snapshot
from crossmargin_bt.venues.tiers import Row as TierRow

CONTRACTS_FILE, TIERS_FILE = "contracts.json", "tiers.json"


class StoredContract(msgspec.Struct, frozen=True):
    """The facts of a contract as of a day (ISO date)."""

    as_of: str
    facts: Instrument


def store_contracts(out: Path, exchange: str, as_of: str, facts: Mapping[str, Instrument]) -> None:
    """Store the facts of contracts by symbol; entries of other symbols are kept."""
    folder = out / exchange
    path = folder / CONTRACTS_FILE
    with _locked(folder):
        try:
            before = read_contracts(folder)
        except StoreError:
            path.replace(path.with_name(path.name + ".broken"))
            before = {}
        known = {**before, **{name: StoredContract(as_of, instrument) for name, instrument in facts.items()}}
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
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); download --what markets again") from error


def store_tiers(out: Path, exchange: str, as_of: str, tables: Mapping[str, Sequence[TierRow]]) -> None:
    """Store the leverage tiers of a day by unified symbol; other days are kept. The file can be passed to `--tiers`."""
    folder = out / exchange
    path = folder / TIERS_FILE
    with _locked(folder):
        try:
            file = msgspec.json.decode(path.read_bytes(), type=File) if path.is_file() else File(snapshots=[])
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path} cannot be read ({error}); move it away and download --what tiers again"
            ) from error
        snapshots = {snapshot.as_of: snapshot for snapshot in file.snapshots}
        before = snapshots[as_of].tiers if as_of in snapshots else {}
        rows = {**before, **{symbol: list(table) for symbol, table in tables.items()}}
        snapshots[as_of] = Snapshot(
            as_of=as_of, tiers=rows, source=f"{exchange} leverage tiers of {as_of} through ccxt"
        )
        updated = File(snapshots=[snapshots[day] for day in sorted(snapshots)], venue=exchange, units="settle currency")
        with AtomicWrite(path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(updated), indent=1))


def read_instruments(folder: Path) -> dict[str, Instrument]:
    """Return the contracts in an exchange's folder by symbol, with the most recent leverage tiers where there are any."""
    latest = {}
    if (folder / TIERS_FILE).is_file():
        for terms in sorted(tiers.read(folder / TIERS_FILE), key=lambda table: table.since_ms):
            latest.update(dict.fromkeys(terms.symbols, terms.maintenance))
    return {
        name: msgspec.structs.replace(contract.facts, maintenance=latest.get(name))
        for name, contract in read_contracts(folder).items()
    }
