# SPDX-License-Identifier: GPL-3.0-or-later
"""Data quality checks of stored market data: gaps, disorder, impossible values and outliers."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.candles import catalog
from crossmargin_bt.candles.manifest import PAGE_LOG, inspect_folder, read_manifest
from crossmargin_bt.candles.series import Series, format_time
from crossmargin_bt.candles.time_ranges import TimeRange, grid_gaps, intersect
from crossmargin_bt.columns import PRICES
from crossmargin_bt.errors import StoreError
from crossmargin_bt.time_units import MS_PER_HOUR

# Consecutive candles without volume from which on they are reported.
NO_VOLUME_BARS_MIN = 24
# Maximum relative distance of a candle's prices from the range of its mark-price candle.
OUTLIER_DISTANCE = 0.05
# Longest interval between funding settlements of any venue.
FUNDING_MAX_MS = 8 * MS_PER_HOUR
FUNDING_TOLERANCE_MS = 60_000


FindingKind = Literal[
    "broken file", "lost", "unfinished", "manifest", "not requested", "empty", "duplicate", "disorder", "misaligned", "gap",
    "impossible price", "impossible candle", "no volume", "no mark price", "outlier", "late funding", "impossible rate",
]  # fmt: skip


class Finding(NamedTuple):
    """One finding about a series: a fault if `is_fault`, otherwise a note."""

    series: str
    kind: FindingKind
    where: str
    is_fault: bool


def check(directory: Path) -> list[Finding]:
    """Return the findings about every series in a folder of downloads.

    Raises:
        StoreError: the folder holds no downloads.
    """
    all_series = catalog.list_series(directory)
    if not all_series:
        raise StoreError(f"{directory} holds no downloads; name the folder that `crossmargin download --out` wrote to")
    return [finding for series in all_series for finding in check_series(catalog.store_root(directory, series), series)]


def check_series(out: Path, series: Series) -> list[Finding]:
    """Return the findings about one series: about its files first, and about its rows if the files are valid."""
    name = f"{series.exchange}/{series.symbol}/{series.name}"
    folder = series.folder(out)
    state = inspect_folder(folder, series)
    files = [
        Finding(name, "broken file", f"{error}; `crossmargin data repair` fetches it again", True)
        for _, error in state.broken
    ]
    files += [
        Finding(
            name, "lost", f"from {format_time(a)} to {format_time(b)}; `crossmargin data repair` fetches it again", True
        )
        for a, b in state.lost
    ]
    if (folder / PAGE_LOG).is_file():
        files.append(Finding(name, "unfinished", "a download was interrupted; run it again", True))
    elif not state.manifest_is_current and not files:
        files.append(
            Finding(name, "manifest", "it does not match the files; run the download again to rebuild it", True)
        )
    manifest = read_manifest(folder)
    if files or manifest is None:
        return files
    uncovered = [
        Finding(name, "not requested", f"from {format_time(a[1])} to {format_time(b[0])}", True)
        for a, b in zip(manifest.covered, manifest.covered[1:], strict=False)
    ]
    frame = catalog.read_frame(out, series)
    mark = catalog.read_frame(out, series._replace(kind="mark")) if series.kind == "candles" else None
    rows = check_rows(frame, series, manifest.gaps, mark)
    return [*uncovered, *(Finding(name, kind, where, fault) for kind, where, fault in rows)]


class RowFinding(NamedTuple):
    """A finding about rows: its kind, where it is, and whether it is a fault."""

    kind: FindingKind
    where: str
    is_fault: bool


def check_rows(
    frame: pd.DataFrame, series: Series, confirmed: list[TimeRange], mark: pd.DataFrame | None
) -> list[RowFinding]:
    """Return the findings about the rows of a series.

    `confirmed` are the gaps for which the exchange returned no rows; such gaps are notes, other gaps are faults. `mark` are the
    mark-price candles of the same market.
    """
    if not len(frame):
        return [RowFinding("empty", "no rows", True)]
    times = _milliseconds(frame)
    found = list(_row_order(times, series))
    if series.step_ms:
        found += _gaps(times, series, confirmed)
        found += _prices(frame, times)
        if "volume" in frame:
            found += _no_volume(frame["volume"].to_numpy(), times)
        if mark is not None and len(mark):
            found += _mark_outliers(frame, mark)
    else:
        late = np.flatnonzero(np.diff(times) > FUNDING_MAX_MS + FUNDING_TOLERANCE_MS)
        found += [
            RowFinding("late funding", f"nothing from {format_time(times[n])} to {format_time(times[n + 1])}", True)
            for n in late
        ]
        odd = frame.index[~np.isfinite(frame["funding_rate"]) | (frame["funding_rate"].abs() >= 1)]
        found += [RowFinding("impossible rate", f"at {time:%Y-%m-%d %H:%M}", True) for time in odd]
    return found


def _milliseconds(frame: pd.DataFrame) -> list[int]:
    times: list[int] = pd.DatetimeIndex(frame.index).as_unit("ms").asi8.tolist()
    return times


def _row_order(times: list[int], series: Series) -> Iterator[RowFinding]:
    steps = np.diff(times)
    for n in np.flatnonzero(steps == 0):
        yield RowFinding("duplicate", f"two rows at {format_time(times[n])}", True)
    for n in np.flatnonzero(steps < 0):
        yield RowFinding("disorder", f"{format_time(times[n + 1])} follows {format_time(times[n])}", True)
    usual = Counter(map(series.phase, times)).most_common(1)[0][0]
    for time in times:
        if series.phase(time) != usual:
            yield RowFinding(
                "misaligned", f"{format_time(time)} ({time}) is not on the grid of {series.timeframe}", True
            )


def _gaps(times: list[int], series: Series, confirmed: list[TimeRange]) -> Iterator[RowFinding]:
    step = series.step_ms
    for start, end in grid_gaps((times[0], times[-1] + step), sorted(times), step):
        known = intersect((start, end), confirmed) == [(start, end)]
        text = f"{(end - start) // step} rows from {format_time(start)} to {format_time(end)}"
        yield RowFinding("gap", f"{text}; the exchange has none" if known else text, not known)


def _prices(frame: pd.DataFrame, times: list[int]) -> Iterator[RowFinding]:
    opens, high, low, close = (frame[name].to_numpy(dtype=np.float64) for name in PRICES)
    usable = np.isfinite(opens) & np.isfinite(high) & np.isfinite(close) & (low > 0) & (opens > 0) & (close > 0)
    for n in np.flatnonzero(~usable):
        yield RowFinding("impossible price", f"at {format_time(times[n])}", True)
    crossed = (high < np.maximum(opens, close)) | (low > np.minimum(opens, close))
    for n in np.flatnonzero(usable & crossed):
        text = f"at {format_time(times[n])}: high {high[n]:g}, low {low[n]:g}, open {opens[n]:g}, close {close[n]:g}"
        yield RowFinding("impossible candle", text, True)


def _no_volume(volume: np.ndarray, times: list[int]) -> Iterator[RowFinding]:
    silent = np.concatenate([[False], ~(volume > 0), [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(silent))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start >= NO_VOLUME_BARS_MIN:
            yield RowFinding("no volume", f"{end - start} rows from {format_time(times[start])}", True)


def _mark_outliers(frame: pd.DataFrame, mark: pd.DataFrame) -> Iterator[RowFinding]:
    both = frame.join(mark.add_prefix("mark_"))
    missing = int(both["mark_open"].isna().sum())
    if missing:
        yield RowFinding("no mark price", f"{missing} of {len(both)} candles", False)
    above = both["high"] / both["mark_high"] - 1
    below = 1 - both["low"] / both["mark_low"]
    away = pd.Series(np.maximum(above, below), index=both.index)
    for time, part in away[away > OUTLIER_DISTANCE].items():
        yield RowFinding(
            "outlier", f"at {time:%Y-%m-%d %H:%M} the last price is {part:.1%} beyond the mark's range", True
        )
