# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a workload in a set-up, in a process of its own; prints what it took and where it ended as JSON.

    python benchmarks/one_run.py W1 stock --bars 50000

Set-ups: `stock` is backtrader as it comes, observers and all; `broker` the same script with our broker alone; `feeds` our feeds
and broker under the stock Cerebro, without observers; `house` our Cerebro, feeds, broker and recorder; `turbo` the same with
vectorised indicators whose last digits may differ.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import backtrader as bt
from workloads import CASH, FEE, LEVERAGE, WORKLOADS, frames

SETUPS = ("stock", "broker", "feeds", "house", "turbo")


def prepared(setup: str, strategy: type, data: list, minutes: int, *, mode: str = "cross") -> bt.Cerebro:
    """Return a Cerebro with everything of the set-up in it."""
    if setup == "stock":
        cerebro = bt.Cerebro()
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(commission=FEE)
    else:
        import crossmargin_bt as cm  # noqa: PLC0415 - not part of what a stock run costs

        instruments = {
            f"S{n}": cm.Instrument(symbol=f"S{n}", lot=0.001, maker=FEE, taker=FEE) for n in range(len(data))
        }
        ours = setup in ("house", "turbo")
        cerebro = cm.Cerebro(turbo=setup == "turbo", stdstats=False) if ours else bt.Cerebro(stdstats=setup == "broker")
        cerebro.setbroker(cm.CrossMarginBroker(cash=CASH, leverage=LEVERAGE, instruments=instruments, mode=mode))
        if ours:
            cerebro.addanalyzer(cm.Recorder, detail=False)
    for n, frame in enumerate(data):
        if setup in ("stock", "broker"):
            feed = bt.feeds.PandasData(
                dataname=frame, name=f"S{n}", timeframe=bt.TimeFrame.Minutes, compression=minutes
            )
        else:
            feed = cm.feeds.from_frame(frame, name=f"S{n}", instrument=instruments[f"S{n}"])
        cerebro.adddata(feed)
    cerebro.addstrategy(strategy)
    return cerebro


def main() -> None:
    """Run, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("setup", choices=SETUPS)
    parser.add_argument("--bars", type=int, help="of every instrument; those of the workload when left out")
    parser.add_argument("--mode", default="cross")
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    data = frames(workload, options.bars)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    cerebro = prepared(options.setup, workload.strategy, data, workload.minutes, mode=options.mode)
    (strategy,) = cerebro.run()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fills = sum(len(trades) for by_id in strategy._trades.values() for trades in by_id.values())
    json.dump(
        {
            "seconds": seconds,
            "bars": sum(map(len, data)),
            "peak_mib": peak / 1024,
            "before_mib": held / 1024,
            "trades": fills,
            "cash": strategy.broker.getcash(),
            "value": strategy.broker.getvalue(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
