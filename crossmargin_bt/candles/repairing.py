# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a store is to be fetched again: gaps, months that are broken, and what was never asked for in between."""

from pathlib import Path

from crossmargin_bt.candles import stored
from crossmargin_bt.candles.download import Wanted
from crossmargin_bt.candles.series import month_span
from crossmargin_bt.candles.store import SeriesStore, read_manifest
from crossmargin_bt.errors import StoreError


def prepared(directory: Path) -> list[tuple[Path, str, list[Wanted]]]:
    """Take back the answers of gaps and broken months, and return what to download: folder, exchange, wishes.

    Raises:
        StoreError: the folder holds no downloads, or does not take changes.
    """
    catalog = stored.catalog(directory)
    if not catalog:
        raise StoreError(f"{directory} holds no downloads; name the folder that `crossmargin download --out` wrote to")
    wishes: dict[tuple[Path, str], list[Wanted]] = {}
    for series in catalog:
        out = stored.root(directory, series)
        folder = series.folder(out)
        manifest = read_manifest(folder)
        spans = list(manifest.covered) if manifest is not None else []
        with SeriesStore(out, series) as store:
            spans += [*store.covered, *(month_span(path.name[:7]) for path in folder.glob("*.broken"))]
            store.forget(store.gaps)
        if spans:
            since, until = min(a for a, _ in spans), max(b for _, b in spans)
            wish = Wanted(
                symbols=(series.symbol,),
                what=(series.kind,),
                timeframe=series.timeframe or "1h",
                since=since,
                until=until,
            )
            wishes.setdefault((out, series.exchange), []).append(wish)
    return [(out, exchange, found) for (out, exchange), found in wishes.items()]
