# SPDX-License-Identifier: GPL-3.0-or-later
"""W1 to W3 in other tools, side by side with ours; each that is installed runs in a process of its own.

    pip install vectorbt backtesting backtrader-next nautilus_trader
    python benchmarks/peers.py --bars 100000

vectorbt and nautilus_trader ask for different pandas: an environment for each.

What they run is the same strategy on the same candles at the same fee; none of them has margin rules. vectorbt, which
compiles, and our batch run twice in the same process, and the second run counts. backtrader-next takes backtrader's place
under another name, so the workloads' own strategies run in it; nautilus_trader has its own written for it (`peer_nautilus.py`), the
others a crossover alone, and run W1.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import workloads
from workloads import CASH, FEE, LEVERAGE, candles

OURS = ("stock", "house", "batch")
TOOLS = (*OURS, "backtrader_next", "nautilus_trader", "backtesting", "vectorbt")
NAMES = {"W1": 1, "W2": 4, "W3": 5}
"""The workloads, and which part of W1's bars every instrument of them has."""


def ours(name: str, tool: str, bars: int) -> float:
    """Return seconds of stock backtrader and of ours."""
    from one_run import prepared  # noqa: PLC0415 - a process of another tool does without

    workload = workloads.WORKLOADS[name]
    data = workloads.frames(workload, bars)
    began = time.perf_counter()
    prepared(tool, workload.strategy, data, workload.minutes).run()
    return time.perf_counter() - began


def batch(name: str, bars: int) -> float:
    """Return seconds of a batch of one account: W1's crossover as targets, W3's quotes as limit orders."""
    from many_runs import targets  # noqa: PLC0415

    import crossmargin_bt as cm  # noqa: PLC0415

    frame = candles(bars, 0)
    close = frame["close"].to_numpy()
    market = cm.batch.Candles("S0", frame, None, cm.Instrument(symbol="S0", lot=0.001, maker=FEE, taker=FEE))
    for _ in range(2):
        began = time.perf_counter()
        if name == "W1":
            wanted, orders, account = [targets(close, 10, 50)], [], cm.batch.BatchAccount(0, LEVERAGE, cash=CASH)
        else:
            wanted, orders = [], [quotes(cm.batch.LimitOrders, close)]
            account = cm.batch.BatchAccount(None, LEVERAGE, cash=CASH, orders=0)
        cm.batch.simulate([market], wanted, [account], orders=orders)
    return time.perf_counter() - began


def quotes(limit_orders: Any, close: Any) -> Any:
    """Return W3's ten limit orders a side, requoted every 20 bars."""
    sizes, prices = np.full((2, len(close), 20), np.nan)
    sizes[19::20, :10], sizes[19::20, 10:] = 1.0, -1.0
    away = close[19::20, None] * 0.0005 * np.arange(1, 11)
    prices[19::20] = close[19::20, None] + np.concatenate([-away, away], axis=1)
    return limit_orders(sizes, prices)


def backtrader_next(name: str, bars: int) -> float:
    """Return seconds of backtrader-next without observers."""
    import backtrader_next as bt  # noqa: PLC0415

    sys.modules["backtrader"] = bt  # the strategies of the workloads become its own
    workload = importlib.reload(workloads).WORKLOADS[name]
    data = workloads.frames(workload, bars)
    began = time.perf_counter()
    cerebro = bt.Cerebro(stdstats=False)
    for n, frame in enumerate(data):
        cerebro.adddata(bt.feeds.PandasData(dataframe=frame, name=f"S{n}"))
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    cerebro.addstrategy(workload.strategy)
    cerebro.run()
    return time.perf_counter() - began


def backtesting(bars: int) -> float:
    """Return seconds of backtesting.py."""
    import backtesting as bt  # noqa: PLC0415
    from backtesting.lib import crossover  # noqa: PLC0415

    class Crossover(bt.Strategy):
        """W1's strategy."""

        def init(self) -> None:
            close = self.data.Close.s
            self.fast = self.I(lambda: close.rolling(10).mean())
            self.slow = self.I(lambda: close.rolling(50).mean())

        def next(self) -> None:
            if crossover(self.fast, self.slow):
                self.position.close()
                self.buy(size=1)
            elif crossover(self.slow, self.fast):
                self.position.close()
                self.sell(size=1)

    frame = candles(bars, 0).rename(columns=str.capitalize)
    began = time.perf_counter()
    bt.Backtest(frame, Crossover, cash=CASH, commission=FEE, margin=1 / LEVERAGE).run()
    return time.perf_counter() - began


def vectorbt(bars: int) -> float:
    """Return seconds of vectorbt's from_signals."""
    import vectorbt as vbt  # noqa: PLC0415

    frame = candles(bars, 0)
    for _ in range(2):
        began = time.perf_counter()
        close = frame["close"]
        fast, slow = vbt.MA.run(close, 10), vbt.MA.run(close, 50)
        above, below = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
        portfolio = vbt.Portfolio.from_signals(
            close, entries=above, short_entries=below, size=1.0, fees=FEE, init_cash=CASH, price=frame["open"].shift(-1)
        )
        portfolio.final_value()
    return time.perf_counter() - began


def nautilus_trader(name: str, bars: int) -> float:
    """Return seconds of nautilus_trader."""
    from peer_nautilus import seconds  # noqa: PLC0415

    return seconds(name, bars)


ONLY_W1: dict[str, Any] = {"backtesting": backtesting, "vectorbt": vectorbt}


def run(name: str, tool: str, bars: int) -> float:
    """Return the seconds a tool takes for a workload."""
    if tool in ONLY_W1:
        return float(ONLY_W1[tool](bars))
    if tool == "batch":
        return batch(name, bars)
    if tool == "nautilus_trader":
        return nautilus_trader(name, bars)
    return backtrader_next(name, bars) if tool == "backtrader_next" else ours(name, tool, bars)


def main() -> None:
    """Print a table a workload, a line a tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bars", type=int, default=100_000, help="of W1; a quarter of them of every instrument in W2, a fifth in W3"
    )
    parser.add_argument("--workload", choices=NAMES, help="this one alone")
    parser.add_argument("--tool", choices=TOOLS, help="run this one alone and print its seconds")
    options = parser.parse_args()
    if options.tool:
        json.dump(run(options.workload or "W1", options.tool, options.bars), sys.stdout)
        return
    for name, share in NAMES.items():
        if options.workload in (None, name):
            _table(name, options.bars // share)


def _table(name: str, bars: int) -> None:
    count = bars * workloads.WORKLOADS[name].instruments
    print(f"{name} with {count:,} bars\n| tool | seconds | bars/s |\n|---|---|---|")
    for tool in TOOLS:
        if (tool in ONLY_W1 and name != "W1") or (tool == "batch" and name == "W2"):
            continue  # a batch knows no stop orders
        if tool not in OURS and importlib.util.find_spec(tool) is None:
            print(f"| {tool} | not installed | |")
            continue
        command = [sys.executable, __file__, "--tool", tool, "--workload", name, "--bars", str(bars)]
        found = subprocess.run(command, check=False, capture_output=True, text=True)
        if found.returncode:
            print(f"| {tool} | {found.stderr.strip().splitlines()[-1]} | |")
            continue
        seconds = json.loads(found.stdout.strip().splitlines()[-1])
        print(f"| {tool} | {seconds:.2f} | {count / seconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
