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

from crossmargin_bt.candles import month_file
from crossmargin_bt.candles.manifest import (
    PAGE_LOG,
    Manifest,
    MonthEntry,
    encode_page,
    inspect_folder,
    month_entry,
    write_manifest,
)
from crossmargin_bt.candles.month_file import MonthData, RowArrays
from crossmargin_bt.candles.series import Series, SeriesRow, month_range, months_in
from crossmargin_bt.candles.time_ranges import TimeRange, intersect, subtract, union
from crossmargin_bt.errors import StoreError

# RowArrays in memory and in the file of pages before they are worked into the months' files.
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
        self._files: dict[str, MonthEntry] = {}
        self._lost: list[TimeRange] = []
        self._pages: list[tuple[TimeRange, list[SeriesRow]]] = []
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
        found = inspect_folder(self.folder, self.series)
        self._files, self._lost, self._pages = found.files, found.lost, found.pages
        self._source = self._source or found.source
        for path, error in found.broken:
            aside = path.with_name(path.name + ".broken")
            path.replace(aside)
            self.notes.append(f"{error}; it is now {aside.name}, `crossmargin data repair` fetches what it held again")
        if self._pages:
            self.commit()
        else:
            (self.folder / PAGE_LOG).unlink(missing_ok=True)
            if self._files and not found.manifest_is_current:
                self._write_manifest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.commit()
        finally:
            self._lock.release()

    @property
    def covered(self) -> list[TimeRange]:
        """What was asked for and answered."""
        return union(
            [time_range for entry in self._files.values() for time_range in entry.covered]
            + [time_range for time_range, _ in self._pages]
        )

    @property
    def gaps(self) -> list[TimeRange]:
        """Where the answers had no rows, as far as it is worked in."""
        return union(time_range for entry in self._files.values() for time_range in entry.gaps)

    @property
    def lost(self) -> list[TimeRange]:
        """What was covered once, by files that are broken or gone."""
        return self._lost

    @property
    def rows(self) -> int:
        """How many rows there are, as far as they are worked in."""
        return sum(entry.rows for entry in self._files.values())

    def missing(self, time_range: TimeRange) -> list[TimeRange]:
        """Return what of a time_range was not asked for yet."""
        return subtract(time_range, self.covered)

    def add(self, time_range: TimeRange, rows: Sequence[SeriesRow]) -> None:
        """Take the answer for a time_range: its rows in order, all within it."""
        self._pages.append((time_range, list(rows)))
        self._rows += len(rows)
        with _disk(self.folder), (self.folder / PAGE_LOG).open("ab") as journal:
            journal.write(encode_page(time_range, list(rows)))
        if self._rows >= ROWS_MAX or self._pages[0][0][0] < month_range(_month(time_range[1] - 1))[0]:
            self.commit()

    def discard_coverage(self, ranges: Sequence[TimeRange]) -> None:
        """Take it that these ranges were never asked for; their rows stay until they are answered again."""
        self.commit()
        if not ranges:
            return
        for month in sorted({month for time_range in ranges for month in months_in(time_range)} & set(self._files)):
            kept = self._read(month)
            left = [part for time_range in kept.covered for part in subtract(time_range, ranges)]
            self._write(month, MonthData(kept.rows, left))
        self._write_manifest()

    def commit(self) -> None:
        """Work what was added into the months' files and the manifest."""
        if not self._pages:
            return
        ranges = union(time_range for time_range, _ in self._pages)
        rows = RowArrays.of([row for _, page in self._pages for row in page], len(self.series.columns))
        for month in sorted({month for time_range in ranges for month in months_in(time_range)}):
            inside = month_range(month)
            before = self._read(month) if month in self._files else month_file.empty_month(self.series)
            self._write(month, before.merge(rows.select(inside), intersect(inside, ranges)))
        self._write_manifest()
        (self.folder / PAGE_LOG).unlink(missing_ok=True)
        self._pages, self._rows = [], 0

    def _path(self, month: str) -> Path:
        return self.folder / f"{month}.parquet"

    def _read(self, month: str) -> MonthData:
        return month_file.read_month(self._path(month), self.series)

    def _write(self, month: str, content: MonthData) -> None:
        with _disk(self.folder):
            month_file.write_month(self._path(month), self.series, content)
        fetched = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._files[month] = month_entry(self._path(month), self.series, content, fetched)

    def _write_manifest(self) -> None:
        covered = union(time_range for entry in self._files.values() for time_range in entry.covered)
        self._lost = union(part for time_range in self._lost for part in subtract(time_range, covered))
        manifest = Manifest(
            month_file.SCHEMA,
            *self.series,
            self._source,
            covered,
            self.gaps,
            self._lost,
            dict(sorted(self._files.items())),
        )
        with _disk(self.folder):
            write_manifest(self.folder, manifest)


def _month(time: int) -> str:
    return next(months_in((time, time + 1)))


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Say where it was that the disk did not take something."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to: {error}") from error
