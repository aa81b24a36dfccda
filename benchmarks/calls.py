# SPDX-License-Identifier: GPL-3.0-or-later
"""Python and builtin calls per bar and feed in the run loop, which no noisy clock can upset.

python benchmarks/calls.py
"""

import sys
from collections.abc import Callable
from typing import Any

from one_run import SETUPS, prepared
from workloads import WORKLOADS, frames

BARS = 2000


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


def per_bar(name: str, setup: str) -> float:
    """Return the calls a bar and feed costs: those of so many bars less those of half as many."""
    workload = WORKLOADS[name]
    counts = []
    for bars in (BARS, BARS // 2):
        cerebro = prepared(setup, workload.strategy, frames(workload, bars), workload.minutes)
        counts.append(calls(cerebro.run))
    return (counts[0] - counts[1]) / (BARS // 2) / workload.instruments


def main() -> None:
    """Print the table."""
    print("calls a bar and feed  " + "".join(f"{setup:>9}" for setup in SETUPS))
    for name in ("W1", "W2", "W3"):
        print(f"{name:<22}" + "".join(f"{per_bar(name, setup):9.0f}" for setup in SETUPS), flush=True)


if __name__ == "__main__":
    main()
