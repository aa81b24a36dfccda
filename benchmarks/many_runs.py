# SPDX-License-Identifier: GPL-3.0-or-later
"""W4: 64 runs of W1 with 50,000 bars each, on all cores; prints the seconds as JSON.

    python benchmarks/many_runs.py stock --cpus 2

`stock` is backtrader's `optstrategy` as it comes; `house` the same with our Cerebro, feeds, broker and recorder, `turbo` with
vectorised indicators whose last digits may differ; `batch` the same crossovers as targets of `crossmargin_bt.batch`.
"""

import argparse
import json
import os
import sys
import time
from itertools import product

import backtrader as bt
import numpy as np
from one_run import prepared
from workloads import CASH, FEE, LEVERAGE, WORKLOADS, frames

import crossmargin_bt as cm

FAST, SLOW = range(6, 14), range(30, 70, 5)


def targets(close: np.ndarray, fast: int, slow: int) -> np.ndarray:
    """Return the size the crossover holds at every bar's end."""
    sums = np.concatenate(([0.0], np.cumsum(close)))
    means = []
    for period in (fast, slow):
        mean = np.full(len(close), np.nan)
        mean[period - 1 :] = (sums[period:] - sums[:-period]) / period
        means.append(mean)
    side = np.sign(means[0] - means[1])
    turns = np.concatenate(([np.nan], np.where(side[1:] != side[:-1], side[1:], np.nan)))
    return np.where(np.isnan(side), np.nan, turns)


def main() -> None:
    """Run, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setup", choices=("stock", "house", "turbo", "batch"))
    parser.add_argument("--bars", type=int, default=50_000)
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    options = parser.parse_args()
    workload = WORKLOADS["W1"]
    data = frames(workload, options.bars)
    began = time.perf_counter()
    if options.setup == "batch":
        market = cm.batch.Candles("S0", data[0], None, cm.Instrument(symbol="S0", lot=0.001, maker=FEE, taker=FEE))
        close = data[0]["close"].to_numpy()
        wanted = [targets(close, fast, slow) for fast, slow in product(FAST, SLOW)]
        asked = cm.batch.accounts(len(wanted), leverages=(LEVERAGE,), cash=(CASH,))
        count = len(cm.batch.simulate([market], wanted, asked, workers=options.cpus))
    else:
        cerebro = prepared(options.setup, workload.strategy, data, workload.minutes)
        cerebro.strats.clear()
        cerebro.optstrategy(workload.strategy, fast=FAST, slow=SLOW)
        if options.setup == "stock":
            cerebro.addanalyzer(bt.analyzers.DrawDown)
        count = len(cerebro.run(maxcpus=options.cpus))
    json.dump({"seconds": time.perf_counter() - began, "runs": count}, sys.stdout)


if __name__ == "__main__":
    main()
