# SPDX-License-Identifier: GPL-3.0-or-later
"""Python and builtin calls per bar and feed of a run, which no noisy clock can upset.

    python benchmarks/calls.py
    python benchmarks/calls.py --check

With `--check` a count above its entry in LIMITS is an error (`make check` runs this). `--bars` shortens the runs of the table.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from one_run import SETUPS, prepared
from workloads import WORKLOADS, frames

BARS = 2000
# No more than this, a hair above what was measured when it last became less.
LIMITS = {
    ("W1", "feeds"): 199, ("W2", "feeds"): 184, ("W3", "feeds"): 567, ("W1", "house"): 22, ("W2", "house"): 49, ("W3", "house"): 469,
}  # fmt: skip


def calls(run: Callable[[], Any]) -> int:
    """Return how many functions a call calls."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:  # noqa: ARG001 - what `sys.setprofile` passes
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def per_bar(name: str, setup: str, bars: int = BARS) -> float:
    """Return the calls per bar and feed: the difference between a run of `bars` bars and one of half as many."""
    workload = WORKLOADS[name]
    counts = []
    for count in (bars, bars // 2):
        cerebro = prepared(setup, workload.strategy, frames(workload, count), workload.minutes)
        counts.append(calls(cerebro.run))
    return (counts[0] - counts[1]) / (bars - bars // 2) / workload.instruments


def main() -> None:
    """Print the table, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where a count is above its limit")
    parser.add_argument("--bars", type=int, default=BARS, help="bars per instrument, for the table")
    options = parser.parse_args()
    if options.check:
        found = {key: per_bar(*key) for key in LIMITS}
        worse = [
            f"{name} {setup}: {found[name, setup]:.0f} calls a bar and feed, at most {most} are allowed"
            for (name, setup), most in LIMITS.items()
            if found[name, setup] > most
        ]
        sys.exit("\n".join(worse) or 0)
    print("calls a bar and feed  " + "".join(f"{setup:>9}" for setup in SETUPS))
    for name in ("W1", "W2", "W3"):
        print(f"{name:<22}" + "".join(f"{per_bar(name, setup, options.bars):9.0f}" for setup in SETUPS), flush=True)


if __name__ == "__main__":
    main()
