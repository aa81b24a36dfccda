# SPDX-License-Identifier: GPL-3.0-or-later
"""Curves and series derived from the recorded data of a run."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.results import MarketCandles, RunResult

Floats = NDArray[np.float64]


class ChartFill(NamedTuple):
    """A fill as drawn in a price chart; `size` is signed."""

    time_ms: int
    size: float
    price: float
    forced: bool
    """Whether the venue forced it. A settlement at expiry does not count as forced."""


def drawdown(result: RunResult) -> Floats:
    """Return the drawdown per bar as a fraction of the running peak (0 or negative); shape (bars,)."""
    equity = np.asarray(result.equity, dtype=np.float64)
    peak: Floats = np.maximum.accumulate(np.concatenate(([result.starting_cash], equity)))[1:]
    return np.asarray(equity / peak - 1, dtype=np.float64)


def return_on_margin(result: RunResult) -> Floats:
    """Return cumulative profit over the running mean of margin used; NaN before margin is used; shape (bars,)."""
    profit = np.asarray(result.equity, dtype=np.float64) - result.starting_cash
    used = np.asarray(result.margin_used, dtype=np.float64)
    mean = np.cumsum(used) / np.arange(1, len(used) + 1)
    earned: Floats = np.divide(profit, mean, out=np.full(len(used), np.nan), where=mean > 0)
    return earned


def margin_levels(result: RunResult) -> Floats:
    """Return the margin level at the end of each bar; NaN if nothing is required; shape (bars,)."""
    return np.array([np.nan if level is None else level for level in result.margin_level], dtype=np.float64)


def cumulative_costs(result: RunResult, event: str, amount: str) -> tuple[list[int], list[float]]:
    """Return booking times and running totals of field `amount` over the journal entries named `event`."""
    booked = [(entry["time_ms"], entry[amount]) for entry in result.journal if entry["event"] == event]
    return [time for time, _ in booked], list(accumulate(value for _, value in booked))


def fills_by_symbol(result: RunResult) -> dict[str, list[ChartFill]]:
    """Return the fills of a run by symbol."""
    instruments = {one.symbol: one for one in msgspec.convert(result.instruments, type=list[Instrument])}
    fills: dict[str, list[ChartFill]] = {}
    for entry in result.journal:
        if entry["event"] == "Filled":
            size = entry["size"] if "size" in entry else instruments[entry["symbol"]].size(entry["lots"])
            fill = ChartFill(entry["time_ms"], size, entry["price"], is_forced(entry))
            fills.setdefault(entry["symbol"], []).append(fill)
    return fills


def is_forced(entry: Mapping[str, Any]) -> bool:
    """Return whether a journal fill was forced: a liquidation, or a sale that repays a debt."""
    return bool(entry.get("forced", False)) and entry.get("cause") not in ("expiry", "delisting")


def return_correlations(markets: Sequence[MarketCandles]) -> tuple[list[str], list[list[float]]]:
    """Return symbols and the correlation matrix of their log returns per bar, on common bars.

    Markets whose price never moved are left out. Both lists are empty with fewer than two markets or three bars.
    """
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
