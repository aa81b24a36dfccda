# SPDX-License-Identifier: GPL-3.0-or-later
"""Every table of docs/performance.md: each set-up in a process of its own, ratios taken within a round.

    make bench
    python benchmarks/tables.py --rounds 3 --scale 0.1
    python benchmarks/tables.py --only W6

Every round runs all set-ups of a workload one after the other on the same candles, so that a busy machine slows all of them;
the median over the rounds of each round's ratio to stock backtrader is printed. `--scale` shortens the workloads, `--only`
names the tables to print.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrader as bt
from one_run import SETUPS
from workloads import WORKLOADS

HERE = Path(__file__).parent
GOALS = {
    "broker": (1.1, 1.3, 3.0), "feeds": (4.0, 4.5, 8.0), "house": (12.0, 11.0, 11.0), "turbo": (30.0, 25.0, 12.0),
}  # fmt: skip
WORDS = {
    "stock": "stock backtrader", "broker": "our broker in an unchanged script", "feeds": "our feeds and broker, stock Cerebro",
    "house": "our Cerebro, feeds, broker, recorder", "turbo": "the same, turbo",
}  # fmt: skip


def asked(script: str, *arguments: str) -> Any:
    """Return what a script prints, run in a process of its own."""
    command = [sys.executable, str(HERE / script), *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def calls(scale: float) -> None:
    """Print the calls per bar."""
    bars = str(max(200, int(2000 * min(scale, 1.0))))
    subprocess.run([sys.executable, str(HERE / "calls.py"), "--bars", bars], check=True)


def ratios(name: str, scale: float, rounds: int) -> None:
    """Print W1, W2 or W3 in every set-up."""
    bars = int(WORKLOADS[name].bars * scale)
    runs: dict[str, list[Any]] = {setup: [] for setup in SETUPS}
    for _ in range(rounds):
        for setup in SETUPS:
            runs[setup].append(asked("one_run.py", name, setup, "--bars", str(bars)))
    print(f"\n{name}: {WORKLOADS[name].instruments} x {bars:,} bars, {rounds} rounds")
    print(
        "| set-up | bars/s | ratio to stock | goal | peak MiB | trades | final value |\n|---|---|---|---|---|---|---|"
    )
    for setup, found in runs.items():
        seconds = statistics.median(one["seconds"] for one in found)
        ratio = statistics.median(
            stock["seconds"] / one["seconds"] for stock, one in zip(runs["stock"], found, strict=True)
        )
        goal = f"{GOALS[setup][('W1', 'W2', 'W3').index(name)]:g}" if setup in GOALS else ""
        last = found[-1]
        print(
            f"| {WORDS[setup]} | {last['bars'] / seconds:,.0f} | {ratio:.2f} | {goal} | {last['peak_mib']:.0f} | {last['trades']} "
            f"| {last['value']:.2f} |",
            flush=True,
        )


def many(scale: float) -> None:
    """Print W4, on one core and on all."""
    bars = str(int(50_000 * scale))
    print(f"\nW4: 64 runs of W1 with {int(bars):,} bars\n| set-up | one core, s | two cores, s |\n|---|---|---|")
    for setup in ("stock", "house", "turbo", "batch"):
        one, two = (asked("many_runs.py", setup, "--bars", bars, "--cpus", cpus)["seconds"] for cpus in ("1", "2"))
        print(f"| {setup} | {one:.1f} | {two:.1f} |", flush=True)


def wide(scale: float) -> None:
    """Print W5 against stock."""
    bars = str(int(WORKLOADS["W5"].bars * scale))
    print(f"\nW5: 50 x {int(bars):,} bars\n| set-up | bars/s | ratio to stock |\n|---|---|---|")
    stock = asked("one_run.py", "W5", "stock", "--bars", bars)
    for setup in ("stock", "feeds", "house"):
        found = stock if setup == "stock" else asked("one_run.py", "W5", setup, "--bars", bars)
        rate, ratio = found["bars"] / found["seconds"], stock["seconds"] / found["seconds"]
        print(f"| {WORDS[setup]} | {rate:,.0f} | {ratio:.2f} |", flush=True)


def modes(scale: float) -> None:
    """Print W6: W1 in every margin mode."""
    bars = str(int(100_000 * scale))
    print(f"\nW6: W1 with {int(bars):,} bars by mode\n| mode | bars/s |\n|---|---|")
    for mode in ("cash", "isolated", "cross", "portfolio"):
        found = asked("one_run.py", "W1", "house", "--bars", bars, "--mode", mode)
        print(f"| {mode} | {found['bars'] / found['seconds']:,.0f} |", flush=True)


TABLES: dict[str, Callable[[float, int], None]] = {
    "calls": lambda scale, _: calls(scale),
    "W1": lambda scale, rounds: ratios("W1", scale, rounds),
    "W2": lambda scale, rounds: ratios("W2", scale, rounds),
    "W3": lambda scale, rounds: ratios("W3", scale, rounds),
    "W4": lambda scale, _: many(scale),
    "W5": lambda scale, _: wide(scale),
    "W6": lambda scale, _: modes(scale),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", choices=TABLES, nargs="+", default=list(TABLES))
    options = parser.parse_args()
    print(
        f"{platform.platform()}, {platform.processor() or platform.machine()}, Python {platform.python_version()}, backtrader {bt.__version__}"
    )
    for name in options.only:
        TABLES[name](options.scale, options.rounds)


if __name__ == "__main__":
    main()
