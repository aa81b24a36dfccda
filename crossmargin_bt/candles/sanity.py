# SPDX-License-Identifier: GPL-3.0-or-later
"""Data quality checks of stored market data: gaps, disorder, impossible values and outliers."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.candles import catalog, contracts
from crossmargin_bt.candles.manifest import PAGE_LOG, Manifest, inspect_folder, read_manifest
from crossmargin_bt.candles.series import Series, format_time
from crossmargin_bt.candles.time_ranges import TimeRange, grid_gaps, intersect, late_intervals, subtract
from crossmargin_bt.columns import PRICES
from crossmargin_bt.errors import StoreError
from crossmargin_bt.readers.validation import impossible_candles
from crossmargin_bt.time_units import MS_PER_DAY, MS_PER_HOUR

# Consecutive candles without volume from which on they are reported.
NO_VOLUME_BARS_MIN = 24
# Maximum relative distance of a candle's prices from the range of its mark-price candle.
OUTLIER_DISTANCE = 0.05
# Factor between a candle's open and the close before it from which on it is reported: a redenomination, or another market.
JUMP_FACTOR = 5.0
# Consecutive candles without volume and with one price from which on they are reported as frozen.
FROZEN_BARS_MIN = 3


FindingKind = Literal[
    "broken file", "lost", "unfinished", "manifest", "not requested", "empty", "duplicate", "disorder", "misaligned", "gap",
    "impossible price", "impossible candle", "no volume", "no mark price", "outlier", "late funding", "impossible rate",
    "jump", "frozen", "start", "end",
]  # fmt: skip


class Finding(NamedTuple):
    """One finding about a series: a fault if `is_fault`, otherwise a note."""

    series: str
    kind: FindingKind
    where: str
    is_fault: bool


class RowFinding(NamedTuple):
    """A finding about rows: its kind, where it is, and whether it is a fault."""

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
    if len(frame):
        listed = contracts.read_contracts(out / series.exchange).get(series.symbol)
        rows += _ends(_milliseconds(frame), series, manifest, 0 if listed is None else listed.listed_ms)
    return [*uncovered, *(Finding(name, kind, where, fault) for kind, where, fault in rows)]


def _ends(times: list[int], series: Series, manifest: Manifest, listed: int) -> list[RowFinding]:
    """Return what lies between the first and the last row and what downloads asked for.

    It is a note where the exchange has confirmed that it has no rows or the market was not listed, else a fault.
    """
    found = []
    if manifest.requested:
        last = times[-1] + (series.step_ms or 1)
        kinds: tuple[tuple[FindingKind, TimeRange], ...] = (
            ("start", (manifest.requested[0][0], times[0])),
            ("end", (last, manifest.requested[-1][1])),
        )
        for kind, (start, end) in kinds:
            longer = end - start >= (series.step_ms or _usual_interval(times))
            if not longer:
                continue
            text = f"nothing from {format_time(start)} to {format_time(end)}, which a download asked for"
            if kind == "start" and end <= listed + (series.step_ms or MS_PER_DAY):
                found.append(RowFinding(kind, f"{text}; the market was listed at {format_time(listed)}", False))
            elif not subtract((start, end), manifest.covered):
                found.append(RowFinding(kind, f"{text}; the exchange has none", False))
            else:
                found.append(RowFinding(kind, f"{text}; the exchange gave no answer for all of it", True))
    return found


def _usual_interval(times: list[int]) -> int:
    return int(np.median(np.diff(times))) if len(times) > 1 else MS_PER_DAY


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
        found += _jumps(frame, times, mark)
        if "volume" in frame:
            found += _no_volume(frame, times)
        if mark is not None and len(mark):
            found += _mark_outliers(frame, mark)
    else:
        found += _late_funding(times)
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
    prices = frame[list(PRICES)].to_numpy(dtype=np.float64)
    usable = (np.isfinite(prices) & (prices > 0)).all(axis=1)
    for n in np.flatnonzero(~usable):
        yield RowFinding("impossible price", f"at {format_time(times[n])}", True)
    opens, high, low, close = prices.T
    crossed = impossible_candles(prices)
    for n in np.flatnonzero(usable & crossed):
        text = f"at {format_time(times[n])}: high {high[n]:g}, low {low[n]:g}, open {opens[n]:g}, close {close[n]:g}"
        yield RowFinding("impossible candle", text, True)


def _late_funding(times: list[int]) -> Iterator[RowFinding]:
    for (start, end), usual in late_intervals(times):
        text = (
            f"nothing from {format_time(start)} to {format_time(end)}, with one every {usual / MS_PER_HOUR:g} h around"
        )
        yield RowFinding("late funding", text, True)


def _jumps(frame: pd.DataFrame, times: list[int], mark: pd.DataFrame | None) -> Iterator[RowFinding]:
    """Yield the candles whose open is far from the close before it, as after a redenomination."""
    opens, closes = frame["open"].to_numpy(), frame["close"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = opens[1:] / closes[:-1]
    marks = None if mark is None or not len(mark) else mark["open"].reindex(frame.index).to_numpy()
    for n in np.flatnonzero((factor > JUMP_FACTOR) | (factor < 1 / JUMP_FACTOR)):
        text = f"at {format_time(times[n + 1])} the price goes from {closes[n]:g} to {opens[n + 1]:g}"
        if marks is not None and np.isfinite(marks[n + 1]):
            text += f" (mark {marks[n + 1]:g})"
        yield RowFinding("jump", f"{text}; is it one market, in one unit?", True)


def _no_volume(frame: pd.DataFrame, times: list[int]) -> Iterator[RowFinding]:
    volume = frame["volume"].to_numpy()
    silent = ~(volume > 0)
    prices = frame[list(PRICES)].to_numpy()
    flat = silent & (prices.max(axis=1) == prices.min(axis=1))
    if flat.all():
        yield RowFinding("no volume", f"all {len(times)} rows: the volume is not known", False)
        return
    for start, end in _stretches(silent):
        if end - start >= NO_VOLUME_BARS_MIN and not flat[start:end].all():
            yield RowFinding("no volume", f"{end - start} rows from {format_time(times[start])}", True)
    for start, end in _stretches(flat):
        if end - start >= FROZEN_BARS_MIN:
            text = f"{end - start} rows of one price without volume from {format_time(times[start])}; a halt?"
            yield RowFinding("frozen", text, end - start >= NO_VOLUME_BARS_MIN)


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the runs of True as (first, end) positions."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


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
