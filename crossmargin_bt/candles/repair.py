# SPDX-License-Identifier: GPL-3.0-or-later
"""Repairing a store: fetching gaps, broken or missing months, and time ranges between downloads again."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crossmargin_bt.candles import catalog
from crossmargin_bt.candles.download import DownloadRequest, DownloadResult, ProgressListener, download
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.candles.manifest import inspect_folder
from crossmargin_bt.candles.series import Series
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.errors import CrossMarginError, StoreError


class DamagedSeries(NamedTuple):
    """A series with missing data below the download folder `root`, and the request that covers all of it."""

    root: Path
    series: Series
    request: DownloadRequest


def find_damaged(directory: Path) -> list[DamagedSeries]:
    """Return the series with missing data, without changing anything.

    Raises:
        StoreError: the folder holds no downloads.
    """
    all_series = catalog.list_series(directory)
    if not all_series:
        raise StoreError(f"{directory} holds no downloads; name the folder that `crossmargin download --out` wrote to")
    found = []
    for series in all_series:
        out = catalog.store_root(directory, series)
        seen = inspect_folder(series.folder(out), series)
        ranges = sorted([*seen.covered, *seen.lost])
        gaps = [time_range for entry in seen.files.values() for time_range in entry.gaps]
        if ranges and (seen.broken or seen.lost or gaps or len(seen.covered) > 1 or not seen.manifest_is_current):
            timeframe = series.timeframe or "1h"
            request = DownloadRequest(
                symbols=(series.symbol,),
                kinds=(series.kind,),
                timeframe=timeframe,
                since_ms=ranges[0][0],
                until_ms=ranges[-1][1],
            )
            found.append(DamagedSeries(out, series, request))
    return found


async def repair_series(
    found: Sequence[DamagedSeries], exchange: Exchange, progress: ProgressListener | None = None
) -> DownloadResult:
    """Fetch the missing data of damaged series of one exchange.

    A series that fails (for example of a delisted market) is left unchanged and its error reported in the result.
    """
    result = DownloadResult([], [])
    for damaged in found:
        try:
            exchange.market(damaged.series.symbol)
            with SeriesStore(damaged.root, damaged.series) as store:
                store.discard_coverage(store.gaps)
            part = await download(exchange, damaged.request, damaged.root, progress)
        except CrossMarginError as error:
            result.failures.append(str(error))
            continue
        result.outcomes.extend(part.outcomes)
        result.failures.extend(part.failures)
    return result
