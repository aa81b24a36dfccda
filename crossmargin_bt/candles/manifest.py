# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a series, and how it agrees with the files beside it."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from crossmargin_bt.candles import months
from crossmargin_bt.candles.months import Month, Replacement
from crossmargin_bt.candles.series import Row, Series
from crossmargin_bt.candles.spans import Span, union, without
from crossmargin_bt.errors import StoreError

MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
PAGES = "pages.part"


class Entry(msgspec.Struct, frozen=True):
    """One month in the manifest. Times are milliseconds since 1970, `fetched` an ISO date."""

    rows: int
    first: int | None
    last: int | None
    covered: list[Span]
    gaps: list[Span]
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
    covered: list[Span]
    gaps: list[Span]
    lost: list[Span]
    files: dict[str, Entry]


class Inspection(NamedTuple):
    """What a series' folder holds in truth: whole months, broken files with what is wrong, pages not yet worked in."""

    files: dict[str, Entry]
    broken: list[tuple[Path, str]]
    lost: list[Span]
    pages: list[tuple[Span, list[Row]]]
    source: str
    is_as_written: bool
    """Whether the manifest says the same."""

    @property
    def covered(self) -> list[Span]:
        """What was asked for and answered."""
        return union(
            [span for entry in self.files.values() for span in entry.covered] + [span for span, _ in self.pages]
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a series' folder, None where there is none that can be read."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    return manifest if manifest.schema == months.SCHEMA else None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a series' folder."""
    with Replacement(folder / "manifest.json") as beside:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1))


def month_files(folder: Path) -> list[Path]:
    """Return the files of months in a series' folder; others are nobody's business."""
    return [path for path in sorted(folder.glob("*.parquet")) if MONTH.fullmatch(path.stem)]


def inspect(folder: Path, series: Series) -> Inspection:
    """Look at a series' folder and change nothing.

    What the manifest says of a month is believed where the file has the same bytes and says so itself.
    """
    manifest = read_manifest(folder)
    known = manifest.files if manifest is not None else {}
    files: dict[str, Entry] = {}
    broken = []
    for path in month_files(folder):
        month = path.stem
        try:
            if month in known and known[month].sha256 == sha256(path) and months.covered(path) == known[month].covered:
                files[month] = known[month]
            else:
                files[month] = entry_of(path, series, months.read(path, series), "")
        except (StoreError, OSError) as error:
            broken.append((path, str(error)))
    covered = union(span for entry in files.values() for span in entry.covered)
    once = [
        *(manifest.lost if manifest is not None else ()),
        *(span for entry in known.values() for span in entry.covered),
    ]
    lost = union(part for span in union(once) for part in without(span, covered))
    pages = list(_pages(folder / PAGES, len(series.columns)))
    said = manifest is not None and (manifest.files, manifest.lost) == (files, lost) and not broken
    return Inspection(files, broken, lost, pages, "" if manifest is None else manifest.source, said)


def entry_of(path: Path, series: Series, content: Month, fetched: str) -> Entry:
    """Return what the manifest says of a month."""
    times = content.rows.times
    first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
    return Entry(len(times), first, last, content.covered, content.gaps(series), sha256(path), fetched)


def page_line(span: Span, rows: list[Row]) -> bytes:
    """Return a page as a line with its checksum."""
    text = msgspec.json.encode([span, [[row.time, *row.values] for row in rows]])
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _pages(path: Path, width: int) -> Iterator[tuple[Span, list[Row]]]:
    """Yield the pages of a file of them, up to the first that is not whole."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            return
        span, rows = msgspec.json.decode(text, type=tuple[Span, list[list[float]]])
        if any(len(row) != width + 1 for row in rows):
            return
        yield span, [Row(int(row[0]), tuple(row[1:])) for row in rows]


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
