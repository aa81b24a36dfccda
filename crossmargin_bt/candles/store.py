# SPDX-License-Identifier: GPL-3.0-or-later
"""A series on the disk: a file a month, what was fetched since beside them, and a manifest of it all.

What is fetched is appended to a file of pages at once, each with its checksum, and worked into the months'
files from there; a file of pages that is found was left by a process that was killed, and is worked in first. The
months' files say themselves what they cover, so the manifest can always be made anew.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from filelock import FileLock

from crossmargin_bt.candles import months
from crossmargin_bt.candles.months import Month, Replacement, Rows
from crossmargin_bt.candles.series import Row, Series, month_span
from crossmargin_bt.candles.series import months as months_of
from crossmargin_bt.candles.spans import Span, union, within, without
from crossmargin_bt.errors import StoreError

# Rows in memory and in the file of pages before they are worked into the months' files.
ROWS_MAX = 100_000


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
    """What is stored of a series: `covered` was asked for and answered to its last millisecond, `gaps` is where it had no rows."""

    schema: int
    exchange: str
    symbol: str
    kind: str
    timeframe: str
    source: str
    covered: list[Span]
    gaps: list[Span]
    files: dict[str, Entry]


class SeriesStore:
    """A series opened for writing, by one process at a time; others wait.

    Use it as a context: at its end, however it comes, everything added is on the disk.

    Args:
        out: the folder of all series.
        series: which one.
        source: where its rows come from, for the manifest.
    """

    def __init__(self, out: Path, series: Series, *, source: str = "") -> None:
        self.series, self._source = series, source
        self.folder = series.folder(out)
        self.notes: list[str] = []
        """What was found broken and set aside."""
        self._files: dict[str, Entry] = {}
        self._pages: list[tuple[Span, list[Row]]] = []
        self._rows = 0

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock")
            self._lock.acquire()
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written to: {error}") from error
        self._files = self._inspected()
        left = list(_read_pages(self._journal, len(self.series.columns)))
        if left:
            self._pages = left
            self.commit()
        else:
            self._journal.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.commit()
        finally:
            self._lock.release()

    @property
    def covered(self) -> list[Span]:
        """What was asked for and answered."""
        return union(
            [span for entry in self._files.values() for span in entry.covered] + [span for span, _ in self._pages]
        )

    @property
    def gaps(self) -> list[Span]:
        """Where the answers had no rows, as far as it is worked in."""
        return union(span for entry in self._files.values() for span in entry.gaps)

    @property
    def rows(self) -> int:
        """How many rows there are, as far as they are worked in."""
        return sum(entry.rows for entry in self._files.values())

    def missing(self, span: Span) -> list[Span]:
        """Return what of a span was not asked for yet."""
        return without(span, self.covered)

    def add(self, span: Span, rows: Sequence[Row]) -> None:
        """Take the answer for a span: its rows in order, all within it."""
        self._pages.append((span, list(rows)))
        self._rows += len(rows)
        text = msgspec.json.encode([span, [[row.time, *row.values] for row in rows]])
        with self._journal.open("ab") as journal:
            journal.write(b"%08x %s\n" % (zlib.crc32(text), text))
        if self._rows >= ROWS_MAX or self._pages[0][0][0] < month_span(_month(span[1] - 1))[0]:
            self.commit()

    def forget(self, spans: Sequence[Span]) -> None:
        """Take it that these spans were never asked for; their rows stay until they are answered again."""
        self.commit()
        for month in sorted({month for span in spans for month in months_of(span)} & set(self._files)):
            kept = self._read(month)
            left = [part for span in kept.covered for part in without(span, spans)]
            self._write(month, Month(kept.rows, left))
        self._write_manifest()

    def commit(self) -> None:
        """Work what was added into the months' files and the manifest."""
        if not self._pages:
            return
        spans = union(span for span, _ in self._pages)
        rows = Rows.of([row for _, page in self._pages for row in page], len(self.series.columns))
        for month in sorted({month for span in spans for month in months_of(span)}):
            inside = month_span(month)
            before = self._read(month) if month in self._files else months.empty(self.series)
            self._write(month, before.joined(rows.inside(inside), within(inside, spans)))
        self._write_manifest()
        self._journal.unlink(missing_ok=True)
        self._pages, self._rows = [], 0

    @property
    def _journal(self) -> Path:
        return self.folder / "pages.part"

    def _path(self, month: str) -> Path:
        return self.folder / f"{month}.parquet"

    def _read(self, month: str) -> Month:
        return months.read(self._path(month), self.series)

    def _write(self, month: str, content: Month) -> None:
        try:
            months.write(self._path(month), self.series, content)
        except OSError as error:
            raise StoreError(f"{self._path(month)} cannot be written: {error}") from error
        self._files[month] = self._entry(month, content, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")

    def _entry(self, month: str, content: Month, fetched: str) -> Entry:
        times = content.rows.times
        first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
        return Entry(
            len(times), first, last, content.covered, content.gaps(self.series), _sha256(self._path(month)), fetched
        )

    def _inspected(self) -> dict[str, Entry]:
        """Return the months there are, those that are not what the manifest says looked through or set aside."""
        known: dict[str, Entry] = {}
        manifest = read_manifest(self.folder)
        if manifest is not None:
            known = manifest.files
        found = {}
        for path in sorted(self.folder.glob("*.parquet")):
            month = path.stem
            if month in known and known[month].sha256 == _sha256(path):
                found[month] = known[month]
                continue
            try:
                found[month] = self._entry(month, self._read(month), "")
            except StoreError as error:
                aside = path.with_name(path.name + ".broken")
                path.replace(aside)
                self.notes.append(f"{error}; it is now {aside.name}, and fetched again")
        return found

    def _write_manifest(self) -> None:
        gaps = union(span for entry in self._files.values() for span in entry.gaps)
        manifest = Manifest(months.SCHEMA, *self.series, self._source, self.covered, gaps, self._files)
        with Replacement(self.folder / "manifest.json") as beside:
            beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a series' folder, None where there is none that can be read."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    return manifest if manifest.schema == months.SCHEMA else None


def _month(time: int) -> str:
    return next(months_of((time, time + 1)))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_pages(path: Path, width: int) -> Iterator[tuple[Span, list[Row]]]:
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
