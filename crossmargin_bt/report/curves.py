# SPDX-License-Identifier: GPL-3.0-or-later
"""Curves that follow from what a run recorded."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.results import MarketCandles, RunResult

Floats = NDArray[np.float64]


class Fill(NamedTuple):
    """A fill as it is drawn; `size` is signed."""

    time_ms: int
    size: float
    price: float
    forced: bool
    """Whether the venue made it; a settlement at expiry is none of these."""


def drawdown(result: RunResult) -> Floats:
    """Return how far equity stands below its peak, bar by bar, as a fraction of the peak (0 or below); shape (bars,)."""
    equity = np.asarray(result.equity, dtype=np.float64)
    peak: Floats = np.maximum.accumulate(np.concatenate(([result.starting_cash], equity)))[1:]
    return np.asarray(equity / peak - 1, dtype=np.float64)


def return_on_margin(result: RunResult) -> Floats:
    """Return profit so far over the mean of the margin used so far, bar by bar; NaN before any was; shape (bars,)."""
    profit = np.asarray(result.equity, dtype=np.float64) - result.starting_cash
    used = np.asarray(result.margin_used, dtype=np.float64)
    mean = np.cumsum(used) / np.arange(1, len(used) + 1)
    earned: Floats = np.divide(profit, mean, out=np.full(len(used), np.nan), where=mean > 0)
    return earned


def levels(result: RunResult) -> Floats:
    """Return the margin level at the end of every bar; NaN with nothing required; shape (bars,)."""
    return np.array([np.nan if level is None else level for level in result.margin_level], dtype=np.float64)


def costs(result: RunResult, event: str, amount: str) -> tuple[list[int], list[float]]:
    """Return the times at which a cost was booked and what it came to so far: of the entries `event` their `amount`."""
    booked = [(entry["time_ms"], entry[amount]) for entry in result.journal if entry["event"] == event]
    return [time for time, _ in booked], list(accumulate(value for _, value in booked))


def fills(result: RunResult) -> dict[str, list[Fill]]:
    """Return the fills of every symbol."""
    instruments = {one.symbol: one for one in msgspec.convert(result.instruments, type=list[Instrument])}
    found: dict[str, list[Fill]] = {}
    for entry in result.journal:
        if entry["event"] == "Filled":
            size = entry["size"] if "size" in entry else instruments[entry["symbol"]].size(entry["lots"])
            found.setdefault(entry["symbol"], []).append(Fill(entry["time_ms"], size, entry["price"], is_forced(entry)))
    return found


def is_forced(entry: Mapping[str, Any]) -> bool:
    """Return whether a fill of a journal was forced on the account: liquidated, or sold to pay a debt back."""
    return bool(entry.get("forced", False)) and entry.get("cause") != "expiry"


def correlations(markets: Sequence[MarketCandles]) -> tuple[list[str], list[list[float]]]:
    """Return the correlation of returns from bar to bar of all markets, on the bars that they share; empty below two."""
    if len(markets) < 2:
        return [], []
    shared = sorted(set.intersection(*(set(market.times_ms) for market in markets)))
    closes = []
    for market in markets:
        by_time = dict(zip(market.times_ms, market.close, strict=True))
        closes.append([by_time[time] for time in shared])
    if len(shared) < 3:
        return [], []
    changes = np.diff(np.log(np.array(closes)), axis=1)
    moved = changes.std(axis=1) > 0
    if moved.sum() < 2:
        return [], []
    names = [market.symbol for market, moves in zip(markets, moved, strict=True) if moves]
    return names, np.corrcoef(changes[moved]).tolist()
