# SPDX-License-Identifier: GPL-3.0-or-later
"""Mark prices beside candles: joined bar by bar, aggregated from finer bars, or spread over finer candles.

One rule covers holes everywhere: where no mark price is known, the last price is taken for it, and the number of bars is
reported.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.readers.market_file import infer_timeframe
from crossmargin_bt.time_units import timeframe_ms


class Marked(NamedTuple):
    """Candles with mark prices, and the assumptions made about them."""

    frame: pd.DataFrame
    assumptions: tuple[str, ...]


def with_marks(candles: pd.DataFrame, marks: Mapping[str, pd.DataFrame], symbol: str) -> Marked:
    """Return candles with the columns `mark_open` ... `mark_close`, of the mark prices nearest in timeframe.

    Args:
        candles: prices by open time, UTC.
        marks: mark prices by timeframe, columns `open high low close`; may be empty.
        symbol: the market, for the assumptions.
    """
    usable = {name: frame for name, frame in marks.items() if len(frame)}
    if not usable or not len(candles):
        return Marked(candles, ())
    step = timeframe_ms(infer_timeframe(pd.DatetimeIndex(candles.index)) or next(iter(usable)))
    chosen = min(usable, key=lambda name: (timeframe_ms(name) > step, abs(timeframe_ms(name) - step)))
    mark, mark_step = usable[chosen], timeframe_ms(chosen)
    texts = []
    if mark_step < step:
        known = _aggregated(mark, pd.DatetimeIndex(candles.index), step)
    elif mark_step == step:
        known = mark.reindex(candles.index)
    else:
        known = _spread(candles, mark, mark_step)
        texts.append(
            f"{symbol}: mark prices of {chosen} beside finer candles: their opens, closes, highs and lows are met; in between the "
            "mark price follows the last price within that range"
        )
    frame = candles.assign(**{mark: known[price].to_numpy() for mark, price in zip(MARKS, PRICES, strict=True)})
    frame, holes = fill_holes(frame)
    if holes:
        texts.append(f"{symbol}: {holes:,} of {len(frame):,} bars have no mark price; the last price is taken for it")
    return Marked(frame, tuple(texts))


def fill_holes(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return candles whose missing mark prices are replaced by the last prices, and the number of such bars."""
    if MARKS[0] not in frame:
        return frame, 0
    absent = frame[MARKS[0]].isna()
    if not absent.any():
        return frame, 0
    filled = {mark: frame[mark].where(~absent, frame[price]) for mark, price in zip(MARKS, PRICES, strict=True)}
    return frame.assign(**filled), int(absent.sum())


def _aggregated(mark: pd.DataFrame, opens: pd.DatetimeIndex, step: int) -> pd.DataFrame:
    """Return finer mark prices as bars that open at `opens`; NaN where there is none."""
    bar = opens.searchsorted(mark.index, side="right") - 1
    stamps, times = opens.as_unit("ms").asi8, pd.DatetimeIndex(mark.index).as_unit("ms").asi8
    inside = (bar >= 0) & (times < stamps[np.maximum(bar, 0)] + step)
    groups = mark[inside].groupby(opens[bar[inside]])
    rows: pd.DataFrame = groups.agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    return rows.reindex(opens)


def _spread(candles: pd.DataFrame, mark: pd.DataFrame, mark_step: int) -> pd.DataFrame:
    """Return coarser mark prices as bars of the candles.

    Assumption: within a coarse bar the mark price follows the last price, bounded by the low and the high of the coarse bar;
    it opens and closes as the coarse bar does, and reaches its low and high in the candles with the lowest low and the
    highest high. NaN where no coarse bar covers a candle.
    """
    opens = pd.DatetimeIndex(candles.index)
    coarse = pd.DatetimeIndex(mark.index)
    row = coarse.searchsorted(opens, side="right") - 1
    stamps, starts = opens.as_unit("ms").asi8, coarse.as_unit("ms").asi8
    covered = (row >= 0) & (stamps < starts[np.maximum(row, 0)] + mark_step)
    bounds = mark.to_numpy(dtype=np.float64)[np.maximum(row, 0)]
    low, high = bounds[:, PRICES.index("low")], bounds[:, PRICES.index("high")]
    prices = candles[list(PRICES)].to_numpy(dtype=np.float64)
    spread = np.clip(prices, low[:, None], high[:, None])
    for group in np.split(np.flatnonzero(covered), np.flatnonzero(np.diff(row[covered])) + 1):
        if not len(group):
            continue
        first, last = group[0], group[-1]
        spread[first, 0] = bounds[first, 0] if stamps[first] == starts[row[first]] else spread[first, 0]
        spread[last, 3] = bounds[last, 3]
        spread[group[np.argmax(prices[group, 1])], 1] = high[first]
        spread[group[np.argmin(prices[group, 2])], 2] = low[first]
        spread[group, 1] = spread[group].max(axis=1)
        spread[group, 2] = spread[group].min(axis=1)
    spread[~covered] = np.nan
    return pd.DataFrame(spread, columns=list(PRICES), index=candles.index)
