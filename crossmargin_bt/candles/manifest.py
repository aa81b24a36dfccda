# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a series, and how it agrees with the files beside it."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from crossmargin_bt.candles import month_file
from crossmargin_bt.candles.month_file import AtomicWrite, MonthData
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.time_ranges import TimeRange, subtract, union
from crossmargin_bt.errors import StoreError

MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
PAGE_LOG = "pages.part"


class MonthEntry(msgspec.Struct, frozen=True):
    """One month in the manifest. Times are milliseconds since 1970, `fetched` an ISO date."""

    rows: int
    first: int | None
    last: int | None
    covered: list[TimeRange]
    gaps: list[TimeRange]
    sha256: str
    fetched: str


class Manifest(msgspec.Struct, frozen=True):
    """What is stored of a series: `covered` was asked for and answered to its last millisecond, `gaps` is where it had no rows.

    `lost` was covered once, by files that are broken or gone.
    """

    schema: int
    exchange: str
    symbol: str
    kind: str
    timeframe: str
    source: str
    covered: list[TimeRange]
    gaps: list[TimeRange]
    lost: list[TimeRange]
    files: dict[str, MonthEntry]


class Inspection(NamedTuple):
    """What a series' folder holds in truth: whole months, broken files with what is wrong, pages not yet worked in."""

    files: dict[str, MonthEntry]
    broken: list[tuple[Path, str]]
    lost: list[TimeRange]
    pages: list[tuple[TimeRange, list[SeriesRow]]]
    source: str
    manifest_is_current: bool
    """Whether the manifest says the same."""

    @property
    def covered(self) -> list[TimeRange]:
        """What was asked for and answered."""
        return union(
            [time_range for entry in self.files.values() for time_range in entry.covered]
            + [time_range for time_range, _ in self.pages]
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a series' folder, None where there is none that can be read."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    return manifest if manifest.schema == month_file.SCHEMA else None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a series' folder."""
    with AtomicWrite(folder / "manifest.json") as beside:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1))


def month_files(folder: Path) -> list[Path]:
    """Return the files of months in a series' folder; others are nobody's business."""
    return [path for path in sorted(folder.glob("*.parquet")) if MONTH.fullmatch(path.stem)]


def inspect_folder(folder: Path, series: Series) -> Inspection:
    """Look at a series' folder and change nothing.

    What the manifest says of a month is believed where the file has the same bytes and says so itself.
    """
    manifest = read_manifest(folder)
    known = manifest.files if manifest is not None else {}
    files: dict[str, MonthEntry] = {}
    broken = []
    for path in month_files(folder):
        month = path.stem
        try:
            if (
                month in known
                and known[month].sha256 == sha256(path)
                and month_file.read_coverage(path) == known[month].covered
            ):
                files[month] = known[month]
            else:
                files[month] = month_entry(path, series, month_file.read_month(path, series), "")
        except (StoreError, OSError) as error:
            broken.append((path, str(error)))
    covered = union(time_range for entry in files.values() for time_range in entry.covered)
    once = [
        *(manifest.lost if manifest is not None else ()),
        *(time_range for entry in known.values() for time_range in entry.covered),
    ]
    lost = union(part for time_range in union(once) for part in subtract(time_range, covered))
    pages = list(_pages(folder / PAGE_LOG, len(series.columns)))
    said = manifest is not None and (manifest.files, manifest.lost) == (files, lost) and not broken
    return Inspection(files, broken, lost, pages, "" if manifest is None else manifest.source, said)


def month_entry(path: Path, series: Series, content: MonthData, fetched: str) -> MonthEntry:
    """Return what the manifest says of a month."""
    times = content.rows.times
    first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
    return MonthEntry(len(times), first, last, content.covered, content.missing_rows(series), sha256(path), fetched)


def encode_page(time_range: TimeRange, rows: list[SeriesRow]) -> bytes:
    """Return a page as a line with its checksum."""
    text = msgspec.json.encode([time_range, [[row.time, *row.values] for row in rows]])
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _pages(path: Path, width: int) -> Iterator[tuple[TimeRange, list[SeriesRow]]]:
    """Yield the pages of a file of them, up to the first that is not whole."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            return
        time_range, rows = msgspec.json.decode(text, type=tuple[TimeRange, list[list[float]]])
        if any(len(row) != width + 1 for row in rows):
            return
        yield time_range, [SeriesRow(int(row[0]), tuple(row[1:])) for row in rows]


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
