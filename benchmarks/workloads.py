# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixed workloads: seeded candles and the strategies that every set-up runs, unchanged.

W1  one instrument, minutes: a moving-average crossover, always in, at market.
W2  four instruments, five minutes: the same with a protective stop each, cancelled and replaced.
W3  one instrument, minutes: ten resting limit orders a side, requoted every 20 bars.
W5  fifty instruments, hours, one pool: as W1.
"""

from typing import Any, NamedTuple

import backtrader as bt
import numpy as np
import pandas as pd

CASH = 1e6
FEE = 0.0005
LEVERAGE = 10.0


class Crossover(bt.Strategy):
    """Long above, short below; a fixed size per feed."""

    params = (("fast", 10), ("slow", 50))

    def __init__(self):
        """Cross two moving averages per feed."""
        self.cross = {
            data: bt.ind.CrossOver(bt.ind.SMA(data, period=self.p.fast), bt.ind.SMA(data, period=self.p.slow))
            for data in self.datas
        }

    def next(self):
        for data, cross in self.cross.items():
            if cross[0]:
                self.turn(data, 1.0 if cross[0] > 0 else -1.0)

    def turn(self, data, direction):
        """Turn the position of a feed."""
        order = self.buy if direction > 0 else self.sell
        order(data=data, size=1.0 + abs(self.getposition(data).size))


class CrossoverWithStops(Crossover):
    """The same, with a protective stop behind every position."""

    params = (("distance", 0.01),)

    def __init__(self):
        """Begin without stops."""
        super().__init__()
        self.stops = {}

    def turn(self, data, direction):
        """Cancel the stop, turn the position, and place the next stop."""
        if data in self.stops:
            self.cancel(self.stops[data])
        super().turn(data, direction)
        protect = self.sell if direction > 0 else self.buy
        price = data.close[0] * (1 - direction * self.p.distance)
        self.stops[data] = protect(data=data, size=1.0, exectype=bt.Order.Stop, price=price)


class Quoter(bt.Strategy):
    """Ten limit orders a side around the price, requoted every 20 bars."""

    params = (("levels", 10), ("every", 20), ("step", 0.0005))

    def __init__(self):
        """Begin without quotes."""
        self.quotes = []

    def next(self):
        if len(self) % self.p.every:
            return
        for order in self.quotes:
            self.cancel(order)
        price = self.data.close[0]
        away = [price * self.p.step * level for level in range(1, self.p.levels + 1)]
        self.quotes = [self.buy(size=1.0, exectype=bt.Order.Limit, price=price - off) for off in away]
        self.quotes += [self.sell(size=1.0, exectype=bt.Order.Limit, price=price + off) for off in away]


class Workload(NamedTuple):
    """What is run: a strategy on so many instruments of so many bars."""

    strategy: Any
    instruments: int
    bars: int
    minutes: int


WORKLOADS = {
    "W1": Workload(Crossover, 1, 500_000, 1),
    "W2": Workload(CrossoverWithStops, 4, 100_000, 5),
    "W3": Workload(Quoter, 1, 100_000, 1),
    "W5": Workload(Crossover, 50, 5_000, 60),
}


def candles(bars: int, seed: int, minutes: int = 1) -> pd.DataFrame:
    """Return seeded candles of a random walk from 1,000."""
    random = np.random.default_rng(seed)
    close = 1000.0 * np.exp(np.cumsum(random.normal(0, 0.0006 * minutes**0.5, bars)))
    opens = np.concatenate(([1000.0], close[:-1]))
    high = np.maximum(opens, close) * (1 + np.abs(random.normal(0, 0.0003 * minutes**0.5, bars)))
    low = np.minimum(opens, close) * (1 - np.abs(random.normal(0, 0.0003 * minutes**0.5, bars)))
    index = pd.date_range("2025-01-01", periods=bars, freq=f"{minutes}min")
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)


def frames(workload: Workload, bars: int | None = None) -> list[pd.DataFrame]:
    """Return the candles of every instrument of a workload."""
    count = workload.bars if bars is None else bars
    return [candles(count, seed, workload.minutes) for seed in range(workload.instruments)]
