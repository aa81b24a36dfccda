# SPDX-License-Identifier: GPL-3.0-or-later
"""The candle data stored in a result file: closes, extremes and gaps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.results import MarketCandles


def markets(candles: Sequence[Candles]) -> list[MarketCandles]:
    """Return the market data a report needs, one entry per symbol."""
    return [_market(one) for one in candles]


def _market(one: Candles) -> MarketCandles:
    frame = one.frame
    times = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
    steps = np.diff(times)
    step = int(np.percentile(steps, 25, method="lower")) if len(steps) else 0
    # The factor 1.5 tolerates bars with a late timestamp.
    wide = np.flatnonzero(steps >= 1.5 * step).tolist() if step else []
    return MarketCandles(
        symbol=one.symbol,
        times_ms=times.tolist(),
        high=frame["high"].tolist(),
        low=frame["low"].tolist(),
        close=frame["close"].tolist(),
        step_ms=step,
        holes=[
            (int(times[n]) + step, int(times[n]) + step * missing, missing)
            for n, missing in ((n, max(1, round(int(steps[n]) / step) - 1)) for n in wide)
        ],
        has_mark="mark_open" in frame,
        funding_settlements=_settlements(one, times),
    )


def _settlements(one: Candles, times: "np.ndarray") -> int:
    if one.funding is None:
        return int(one.frame["funding_rate"].notna().sum()) if "funding_rate" in one.frame else 0
    due = pd.DatetimeIndex(one.funding.index).as_unit("ms").asi8
    return int(((due >= times[0]) & (due <= times[-1])).sum())
