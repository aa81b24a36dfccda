# SPDX-License-Identifier: GPL-3.0-or-later
"""A series on the disk: a file a month, what was fetched since beside them, and a manifest of it all.

What is fetched is appended to a file of pages at once, each with its checksum, and worked into the months'
files from there; a file of pages that is found was left by a process that was killed, and is worked in first. The
months' files say themselves what they cover, so the manifest can always be made anew.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from crossmargin_bt.candles import months
from crossmargin_bt.candles.manifest import PAGES, Entry, Manifest, entry_of, inspect, page_line, write_manifest
from crossmargin_bt.candles.months import Month, Rows
from crossmargin_bt.candles.series import Row, Series, month_span
from crossmargin_bt.candles.series import months as months_of
from crossmargin_bt.candles.spans import Span, union, within, without
from crossmargin_bt.errors import StoreError

# Rows in memory and in the file of pages before they are worked into the months' files.
ROWS_MAX = 100_000


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
        self._lost: list[Span] = []
        self._pages: list[tuple[Span, list[Row]]] = []
        self._rows = 0

    def __enter__(self) -> Self:
        with _disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock")
            self._lock.acquire()
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        return self

    def _open(self) -> None:
        found = inspect(self.folder, self.series)
        self._files, self._lost, self._pages = found.files, found.lost, found.pages
        self._source = self._source or found.source
        for path, error in found.broken:
            aside = path.with_name(path.name + ".broken")
            path.replace(aside)
            self.notes.append(f"{error}; it is now {aside.name}, `crossmargin data repair` fetches what it held again")
        if self._pages:
            self.commit()
        else:
            (self.folder / PAGES).unlink(missing_ok=True)
            if self._files and not found.is_as_written:
                self._write_manifest()

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
    def lost(self) -> list[Span]:
        """What was covered once, by files that are broken or gone."""
        return self._lost

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
        with _disk(self.folder), (self.folder / PAGES).open("ab") as journal:
            journal.write(page_line(span, list(rows)))
        if self._rows >= ROWS_MAX or self._pages[0][0][0] < month_span(_month(span[1] - 1))[0]:
            self.commit()

    def forget(self, spans: Sequence[Span]) -> None:
        """Take it that these spans were never asked for; their rows stay until they are answered again."""
        self.commit()
        if not spans:
            return
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
        (self.folder / PAGES).unlink(missing_ok=True)
        self._pages, self._rows = [], 0

    def _path(self, month: str) -> Path:
        return self.folder / f"{month}.parquet"

    def _read(self, month: str) -> Month:
        return months.read(self._path(month), self.series)

    def _write(self, month: str, content: Month) -> None:
        with _disk(self.folder):
            months.write(self._path(month), self.series, content)
        fetched = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._files[month] = entry_of(self._path(month), self.series, content, fetched)

    def _write_manifest(self) -> None:
        covered = union(span for entry in self._files.values() for span in entry.covered)
        self._lost = union(part for span in self._lost for part in without(span, covered))
        manifest = Manifest(
            months.SCHEMA, *self.series, self._source, covered, self.gaps, self._lost, dict(sorted(self._files.items()))
        )
        with _disk(self.folder):
            write_manifest(self.folder, manifest)


def _month(time: int) -> str:
    return next(months_of((time, time + 1)))


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Say where it was that the disk did not take something."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to: {error}") from error
