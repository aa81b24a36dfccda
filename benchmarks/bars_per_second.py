# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars per second of one strategy on the stock broker and on ours, side by side in one run.

    make bench

Every round runs the three set-ups one after the other on the same candles; ratios are taken within
a round, so a busy machine slows both sides. The strategy and the candles are the same objects
everywhere: a moving-average crossover that is always in the market, at market, with equal sizes.
"""

import argparse
import platform
import statistics
import time

import backtrader as bt
import numpy as np
import pandas as pd

from crossmargin_bt import CrossMarginBroker, Instrument, feeds


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
                held = self.getposition(data).size
                order = self.buy if cross[0] > 0 else self.sell
                order(data=data, size=1.0 + abs(held))


def candles(bars: int, seed: int) -> pd.DataFrame:
    """Return seeded one-minute candles."""
    random = np.random.default_rng(seed)
    close = 1000.0 * np.exp(np.cumsum(random.normal(0, 0.0006, bars)))
    opens = np.concatenate(([1000.0], close[:-1]))
    high = np.maximum(opens, close) * (1 + np.abs(random.normal(0, 0.0003, bars)))
    low = np.minimum(opens, close) * (1 - np.abs(random.normal(0, 0.0003, bars)))
    index = pd.date_range("2025-01-01", periods=bars, freq="min")
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": close, "volume": 1.0}, index=index)


def run(frames: list[pd.DataFrame], setup: str) -> tuple[float, int]:
    """Return seconds for one whole run, loading included, and the number of fills."""
    began = time.perf_counter()
    cerebro = bt.Cerebro()
    instruments = {f"S{n}": Instrument(symbol=f"S{n}", lot=0.001) for n in range(len(frames))}
    for (name, instrument), frame in zip(instruments.items(), frames, strict=True):
        if setup == "our feed and broker":
            cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
        else:
            cerebro.adddata(bt.feeds.PandasData(dataname=frame, name=name, timeframe=bt.TimeFrame.Minutes))
    if setup == "stock":
        cerebro.broker.setcash(1e6)
        cerebro.broker.setcommission(commission=0.0005)
    else:
        cerebro.setbroker(CrossMarginBroker(cash=1e6, leverage=10.0, instruments=instruments))
    cerebro.addstrategy(Crossover)
    strategy = cerebro.run()[0]
    fills = sum(order.status == order.Completed for order in strategy.broker.orders)
    return time.perf_counter() - began, fills


def main() -> None:
    """Print medians and the ratios to stock."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=40_000, help="bars in all, shared by the feeds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    setups = ("stock", "our broker only", "our feed and broker")
    print(f"{platform.platform()}, Python {platform.python_version()}, backtrader {bt.__version__}")
    for count in (1, 4):
        frames = [candles(options.bars // count, seed) for seed in range(count)]
        seconds: dict[str, list[float]] = {setup: [] for setup in setups}
        fills = {}
        for _ in range(options.rounds):
            for setup in setups:
                spent, fills[setup] = run(frames, setup)
                seconds[setup].append(spent)
        print(f"\n{count} instrument(s) x {options.bars // count:,} bars, {options.rounds} rounds, fills {fills}")
        for setup in setups:
            rate = options.bars / statistics.median(seconds[setup])
            pairs = zip(seconds["stock"], seconds[setup], strict=True)
            ratio = statistics.median(stock / ours for stock, ours in pairs)
            print(f"  {setup:<20} {rate:>10,.0f} bars/s   {ratio:5.2f} x stock")


if __name__ == "__main__":
    main()
