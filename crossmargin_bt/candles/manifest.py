# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a series, and checks of the files on disk against it."""

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
from crossmargin_bt.errors import DECODE_ERRORS, StoreError

MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
PAGE_LOG = "pages.part"


class MonthEntry(msgspec.Struct, frozen=True):
    """Manifest entry of one month. `first` and `last` are row times in milliseconds since 1970-01-01 UTC, `fetched` is an ISO 8601 time."""

    rows: int
    first: int | None
    last: int | None
    covered: list[TimeRange]
    gaps: list[TimeRange]
    sha256: str
    fetched: str


class Manifest(msgspec.Struct, frozen=True):
    """Contents of a series: `covered` are the time ranges requested and answered in full, `gaps` the parts of them without rows.

    `lost` are time ranges that were covered by files that are now broken or missing, `requested` those that downloads asked for.
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
    requested: list[TimeRange] = []


class Inspection(NamedTuple):
    """The actual contents of a series folder: valid months, broken files with the error, and logged pages not yet merged into months."""

    files: dict[str, MonthEntry]
    broken: list[tuple[Path, str]]
    lost: list[TimeRange]
    pages: list[tuple[TimeRange, list[SeriesRow]]]
    source: str
    requested: list[TimeRange]
    manifest_is_current: bool
    """Whether the manifest on disk matches these contents."""

    @property
    def covered(self) -> list[TimeRange]:
        """Time ranges requested and answered, logged pages included."""
        return union(
            [time_range for entry in self.files.values() for time_range in entry.covered]
            + [time_range for time_range, _ in self.pages]
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a series folder; None if it is missing, unreadable or of another schema version."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except (OSError, *DECODE_ERRORS):
        return None
    return manifest if manifest.schema == month_file.SCHEMA else None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a series folder, atomically."""
    with AtomicWrite(folder / "manifest.json") as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1))


def month_files(folder: Path) -> list[Path]:
    """Return the month files of a series folder in ascending order; other files are ignored."""
    return [path for path in sorted(folder.glob("*.parquet")) if MONTH.fullmatch(path.stem)]


def inspect_folder(folder: Path, series: Series) -> Inspection:
    """Read the contents of a series folder without changing it.

    The manifest entry of a month is trusted only if the file has the recorded checksum and its footer the same coverage;
    otherwise the file is read in full.
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
    ever_covered = [
        *(manifest.lost if manifest is not None else ()),
        *(time_range for entry in known.values() for time_range in entry.covered),
    ]
    lost = union(part for time_range in union(ever_covered) for part in subtract(time_range, covered))
    pages = list(_read_pages(folder / PAGE_LOG, len(series.columns)))
    is_current = manifest is not None and (manifest.files, manifest.lost) == (files, lost) and not broken
    source, requested = ("", []) if manifest is None else (manifest.source, manifest.requested)
    return Inspection(files, broken, lost, pages, source, requested, is_current)


def month_entry(path: Path, series: Series, content: MonthData, fetched: str) -> MonthEntry:
    """Return the manifest entry of a month."""
    times = content.rows.times
    first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
    return MonthEntry(len(times), first, last, content.covered, content.gaps(series), sha256(path), fetched)


def encode_page(time_range: TimeRange, rows: list[SeriesRow]) -> bytes:
    """Return a page as one line of the page log: CRC-32 in hexadecimal, then JSON."""
    text = msgspec.json.encode([time_range, [[row.time, *row.values] for row in rows]])
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read_pages(path: Path, width: int) -> Iterator[tuple[TimeRange, list[SeriesRow]]]:
    """Yield the pages of a page log up to the first incomplete one (torn write)."""
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
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
