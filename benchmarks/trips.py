# SPDX-License-Identifier: GPL-3.0-or-later
"""How far one order travels through the code: files, functions and moves between files, and what a liquidation calls.

    python benchmarks/trips.py
    python benchmarks/trips.py --check
    python benchmarks/trips.py --list

The first trip is a market order from `buy()` in one bar to its fill and notifications in the next. The second is the bar in
which a lone cross position is liquidated. Only functions of this package count. `--list` prints the files of the first
trip in the order they are entered; with `--check` longer trips than LIMITS are an error.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import backtrader as bt
import pandas as pd

import crossmargin_bt
from crossmargin_bt import CrossMarginBroker, Instrument, feeds

ROOT = str(Path(crossmargin_bt.__file__).parent)
LIMITS = {
    "order files": 35,
    "order functions": 246,
    "order moves": 305,
    "liquidation calls": 1100,
    "liquidation risk": 14,
}


class Trip(NamedTuple):
    """What was called between two moments: functions by (file, line), in order of their first call, and calls from one file into another."""

    calls: Counter[tuple[str, str]]
    moves: int

    @property
    def files(self) -> list[str]:
        """The files entered, in order."""
        return list(dict.fromkeys(file for file, _ in self.calls))


class Recorder:
    """Counts calls of the package's own functions while it is switched on."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str]] = Counter()
        self._moves = 0

    def start(self) -> None:
        """Begin to count."""
        self._stack: list[str] = []
        sys.setprofile(self._seen)

    def stop(self) -> Trip:
        """End, and return what was counted."""
        sys.setprofile(None)
        return Trip(self._calls, self._moves)

    def _seen(self, frame: Any, event: str, argument: Any) -> None:  # noqa: ARG002 - what `sys.setprofile` passes
        file = frame.f_code.co_filename
        if not file.startswith(ROOT):
            return
        if event == "call":
            self._calls[file[len(ROOT) + 1 :], frame.f_code.co_qualname] += 1
            if not self._stack or self._stack[-1] != file:
                self._moves += 1
            self._stack.append(file)
        elif event == "return" and self._stack:
            self._stack.pop()


class Watched(bt.Strategy):
    """Does something in one bar while calls are counted until a later one."""

    params = (("begins", 3), ("act", None), ("ends", 4))

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.trip: Any = None

    def next(self) -> None:
        if len(self) == self.p.begins:
            self.recorder.start()
            self.p.act(self)
        elif len(self) == self.p.ends:
            self.trip = self.recorder.stop()


def travelled(
    closes: list[float], act: Callable[[Any], None], begins: int, before: Callable[[Any], None] | None = None
) -> Trip:
    """Return the trip from an act at the end of one bar to the strategy's turn in the next."""
    opens = [closes[0], *closes[:-1]]
    frame = pd.DataFrame(
        {"open": opens, "close": closes}, index=pd.date_range("2025-01-01", periods=len(closes), freq="h")
    )
    frame["high"], frame["low"], frame["volume"] = frame.max(axis=1) * 1.001, frame.min(axis=1) * 0.999, 1000.0
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame, name="BTC", instrument=Instrument(symbol="BTC", lot=0.001)))
    cerebro.setbroker(CrossMarginBroker(leverage=10.0, cash=1_000.0))

    class Acting(Watched):
        """Also prepares the position in the first bar."""

        def next(self) -> None:
            if len(self) == 1 and before is not None:
                before(self)
            super().next()

    cerebro.addstrategy(Acting, begins=begins, ends=begins + 1, act=act)
    (strategy,) = cerebro.run()
    return strategy.trip


def measured() -> tuple[dict[str, int], Trip]:
    """Return the figures of both trips, and the first trip itself."""
    quiet = [100.0] * 8
    order = travelled(quiet, lambda strategy: strategy.buy(size=1.0), 4)
    crash = [100.0, 100.0, 100.0, 100.0, 80.0, 80.0]
    ended = travelled(crash, lambda _: None, 4, before=lambda strategy: strategy.buy(size=60.0))
    return {
        "order files": len(order.files),
        "order functions": len(order.calls),
        "order moves": order.moves,
        "liquidation calls": sum(ended.calls.values()),
        "liquidation risk": sum(count for (_, name), count in ended.calls.items() if name == "risk"),
    }, order


def main() -> None:
    """Print the figures, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where a trip is longer than it was")
    parser.add_argument("--list", action="store_true", help="also print the files and functions of an order's trip")
    options = parser.parse_args()
    found, order = measured()
    if options.check:
        worse = [
            f"{name}: {found[name]}, at most {most} are allowed" for name, most in LIMITS.items() if found[name] > most
        ]
        sys.exit("\n".join(worse) or 0)
    for name, value in found.items():
        print(f"{name:<20}{value:>6}")
    if options.list:
        for file in order.files:
            print(file, *(f"{name} x{count}" for (where, name), count in order.calls.items() if where == file))


if __name__ == "__main__":
    main()
