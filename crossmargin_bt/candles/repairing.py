# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a store is to be fetched again: gaps, months that are broken or gone, and what was never asked for in between."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crossmargin_bt.candles import stored
from crossmargin_bt.candles.download import Result, Wanted, Watcher, download
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.candles.manifest import inspect
from crossmargin_bt.candles.series import Series
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.errors import CrossMarginError, StoreError


class Damaged(NamedTuple):
    """A series of which something is to be fetched again, all of it within `wanted`."""

    out: Path
    series: Series
    wanted: Wanted


def damaged(directory: Path) -> list[Damaged]:
    """Return the series of which something is missing, and change nothing.

    Raises:
        StoreError: the folder holds no downloads.
    """
    catalog = stored.catalog(directory)
    if not catalog:
        raise StoreError(f"{directory} holds no downloads; name the folder that `crossmargin download --out` wrote to")
    found = []
    for series in catalog:
        out = stored.root(directory, series)
        seen = inspect(series.folder(out), series)
        spans = sorted([*seen.covered, *seen.lost])
        gaps = [span for entry in seen.files.values() for span in entry.gaps]
        if spans and (seen.broken or seen.lost or gaps or len(seen.covered) > 1 or not seen.is_as_written):
            timeframe = series.timeframe or "1h"
            wanted = Wanted(
                symbols=(series.symbol,),
                what=(series.kind,),
                timeframe=timeframe,
                since=spans[0][0],
                until=spans[-1][1],
            )
            found.append(Damaged(out, series, wanted))
    return found


async def repair(found: Sequence[Damaged], exchange: Exchange, watcher: Watcher | None = None) -> Result:
    """Fetch again what is missing of the series of one exchange; what it does not know is named, and stays as it is."""
    result = Result([], [])
    for one in found:
        try:
            exchange.market(one.series.symbol)
            with SeriesStore(one.out, one.series) as store:
                store.forget(store.gaps)
            part = await download(exchange, one.wanted, one.out, watcher)
        except CrossMarginError as error:
            result.failures.append(str(error))
            continue
        result.outcomes.extend(part.outcomes)
        result.failures.extend(part.failures)
    return result
