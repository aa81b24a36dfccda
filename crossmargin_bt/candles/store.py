# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a series to disk: one file per month, an append-only log of recent pages, and a manifest.

Each page fetched is appended to the page log with a checksum, and the log is merged into the month files in batches. A log
found on opening was left by a process that was killed, and is merged first. Month files carry their own coverage, so the
manifest can always be rebuilt.
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
    """A series opened for writing, by one process at a time (file lock); other processes wait.

    Use it as a context manager: on exit, also after an exception, all rows added are merged into the month files.

    Args:
        out: the folder of all downloads.
        series: the series to write.
        source: the origin of the rows, for the manifest.
    """

    def __init__(self, out: Path, series: Series, *, source: str = "") -> None:
        self.series, self._source = series, source
        self.folder = series.folder(out)
        self.notes: list[str] = []
        """Messages about broken files that were renamed."""
        self._files: dict[str, MonthEntry] = {}
        self._lost: list[TimeRange] = []
        self._requested: list[TimeRange] = []
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
        self._requested = found.requested
        for path, error in found.broken:
            aside = path.with_name(path.name + ".broken")
            path.replace(aside)
            self.notes.append(f"{error}; renamed to {aside.name}; `crossmargin data repair` fetches its rows again")
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
        """Time ranges requested and answered."""
        return union(
            [time_range for entry in self._files.values() for time_range in entry.covered]
            + [time_range for time_range, _ in self._pages]
        )

    @property
    def gaps(self) -> list[TimeRange]:
        """Covered time ranges without rows, as of the last commit."""
        return union(time_range for entry in self._files.values() for time_range in entry.gaps)

    @property
    def lost(self) -> list[TimeRange]:
        """Time ranges once covered by files that are now broken or missing."""
        return self._lost

    @property
    def rows(self) -> int:
        """Number of rows, as of the last commit."""
        return sum(entry.rows for entry in self._files.values())

    @property
    def phase(self) -> int | None:
        """The phase of the stored bars, as of the last commit; None if there are none."""
        first = next((entry.first for entry in self._files.values() if entry.first is not None), None)
        return None if first is None else self.series.phase(first)

    def missing(self, time_range: TimeRange) -> list[TimeRange]:
        """Return the parts of a time range that are not covered yet."""
        return subtract(time_range, self.covered)

    def add(self, time_range: TimeRange, rows: Sequence[SeriesRow]) -> None:
        """Add the answer for a time range: its rows in ascending order, all within the range."""
        self._pages.append((time_range, list(rows)))
        self._rows += len(rows)
        with _disk(self.folder), (self.folder / PAGE_LOG).open("ab") as log:
            log.write(encode_page(time_range, list(rows)))
        if self._rows >= ROWS_MAX or self._pages[0][0][0] < month_range(_month(time_range[1] - 1))[0]:
            self.commit()

    def discard_coverage(self, ranges: Sequence[TimeRange]) -> None:
        """Mark time ranges as not covered, so that they are requested again; their rows are kept until then."""
        self.commit()
        if not ranges:
            return
        for month in sorted({month for time_range in ranges for month in months_in(time_range)} & set(self._files)):
            kept = self._read(month)
            left = [part for time_range in kept.covered for part in subtract(time_range, ranges)]
            self._write(month, MonthData(kept.rows, left))
        self._write_manifest()

    def commit(self, requested: TimeRange | None = None) -> None:
        """Merge the pages added into the month files, and rewrite the manifest.

        `requested` is a time range that a download asked for, answered or not; the manifest lists them.
        """
        asked = union([*self._requested, *([requested] if requested else [])])
        if asked != self._requested:
            self._requested = asked
            if not self._pages:
                self._write_manifest()
        if not self._pages:
            return
        ranges = union(time_range for time_range, _ in self._pages)
        rows = RowArrays.of([row for _, page in self._pages for row in page], len(self.series.columns))
        for month in sorted({month for time_range in ranges for month in months_in(time_range)}):
            month_bounds = month_range(month)
            before = self._read(month) if month in self._files else month_file.empty_month(self.series)
            self._write(month, before.merge(rows.select(month_bounds), intersect(month_bounds, ranges)))
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
            self._requested,
        )
        with _disk(self.folder):
            write_manifest(self.folder, manifest)


def _month(time: int) -> str:
    return next(months_in((time, time + 1)))


def read_stored(out: Path, series: Series, time_range: TimeRange) -> RowArrays:
    """Return the stored rows of a series in a time range, those of an interrupted download included; broken files are left out."""
    folder = series.folder(out)
    found = inspect_folder(folder, series)
    rows = RowArrays.of([row for _, page in found.pages for row in page], len(series.columns))
    for month in sorted(set(months_in(time_range)) & set(found.files)):
        rows = month_file.read_month(folder / f"{month}.parquet", series).rows.merge(rows)
    return rows.select(time_range)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Convert an OSError of writing into a StoreError that names the folder."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to: {error}") from error
