# SPDX-License-Identifier: GPL-3.0-or-later
"""W1 in other tools, side by side with ours; each that is installed runs in a process of its own.

    pip install vectorbt backtesting backtrader-next
    python benchmarks/peers.py --bars 100000

What they run is the same crossover on the same candles at the same fee; none of them has margin rules. vectorbt, which
compiles, and our batch run twice in the same process, and the second run counts. backtrader-next takes backtrader's place
under another name, so its strategy is W1's written against it.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from typing import Any

from workloads import CASH, FEE, LEVERAGE, WORKLOADS, candles

TOOLS = ("stock", "house", "batch", "backtrader_next", "backtesting", "vectorbt")


def ours(tool: str, bars: int) -> float:
    """Return seconds of stock backtrader and of ours."""
    from one_run import prepared  # noqa: PLC0415 - a process of another tool does without

    data = [candles(bars, 0)]
    began = time.perf_counter()
    prepared(tool, WORKLOADS["W1"].strategy, data, 1).run()
    return time.perf_counter() - began


def batch(bars: int) -> float:
    """Return seconds of a batch of one account."""
    from many_runs import targets  # noqa: PLC0415

    import crossmargin_bt as cm  # noqa: PLC0415

    frame = candles(bars, 0)
    market = cm.batch.Candles("S0", frame, None, cm.Instrument(symbol="S0", lot=0.001, maker=FEE, taker=FEE))
    for _ in range(2):
        began = time.perf_counter()
        wanted = targets(frame["close"].to_numpy(), 10, 50)
        cm.batch.simulate([market], [wanted], cm.batch.accounts(1, leverages=(LEVERAGE,), cash=(CASH,)))
    return time.perf_counter() - began


def backtrader_next(bars: int) -> float:
    """Return seconds of backtrader-next without observers."""
    import backtrader_next as bt  # noqa: PLC0415

    class Crossover(bt.Strategy):
        """W1's strategy."""

        def __init__(self) -> None:
            self.cross = bt.ind.CrossOver(bt.ind.SMA(self.data, period=10), bt.ind.SMA(self.data, period=50))

        def next(self) -> None:
            if self.cross[0]:
                order = self.buy if self.cross[0] > 0 else self.sell
                order(size=1.0 + abs(self.position.size))

    frame = candles(bars, 0)
    began = time.perf_counter()
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataframe=frame))
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    cerebro.addstrategy(Crossover)
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


RUNS: dict[str, Any] = {
    "batch": batch,
    "backtrader_next": backtrader_next,
    "backtesting": backtesting,
    "vectorbt": vectorbt,
}


def main() -> None:
    """Print a line a tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=100_000)
    parser.add_argument("--tool", choices=TOOLS, help="run this one alone and print its seconds")
    options = parser.parse_args()
    if options.tool:
        run = RUNS.get(options.tool)
        json.dump(run(options.bars) if run else ours(options.tool, options.bars), sys.stdout)
        return
    print(f"W1 with {options.bars:,} bars\n| tool | seconds | bars/s |\n|---|---|---|")
    for tool in TOOLS:
        if tool in RUNS and tool != "batch" and importlib.util.find_spec(tool) is None:
            print(f"| {tool} | not installed | |")
            continue
        command = [sys.executable, __file__, "--tool", tool, "--bars", str(options.bars)]
        found = subprocess.run(command, check=False, capture_output=True, text=True)
        if found.returncode:
            print(f"| {tool} | {found.stderr.strip().splitlines()[-1]} | |")
            continue
        seconds = json.loads(found.stdout.strip().splitlines()[-1])
        print(f"| {tool} | {seconds:.2f} | {options.bars / seconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
