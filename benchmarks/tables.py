# SPDX-License-Identifier: GPL-3.0-or-later
"""Every table of docs/performance.md: each set-up in a process of its own, ratios taken within a round.

    make bench
    python benchmarks/tables.py --rounds 3 --scale 0.1

Every round runs all set-ups of a workload one after the other on the same candles, so that a busy machine slows all of them;
the median over the rounds of each round's ratio to stock backtrader is what is printed. `--scale` shortens the workloads.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
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


def ratios(scale: float, rounds: int) -> None:
    """Print W1 to W3 in every set-up."""
    for n, name in enumerate(("W1", "W2", "W3")):
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
            goal = f"{GOALS[setup][n]:g}" if setup in GOALS else ""
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


def others(scale: float) -> None:
    """Print W5 against stock, and W6."""
    bars = str(int(WORKLOADS["W5"].bars * scale))
    print(f"\nW5: 50 x {int(bars):,} bars\n| set-up | bars/s | ratio to stock |\n|---|---|---|")
    stock = asked("one_run.py", "W5", "stock", "--bars", bars)
    for setup in ("stock", "feeds", "house"):
        found = stock if setup == "stock" else asked("one_run.py", "W5", setup, "--bars", bars)
        rate, ratio = found["bars"] / found["seconds"], stock["seconds"] / found["seconds"]
        print(f"| {WORDS[setup]} | {rate:,.0f} | {ratio:.2f} |", flush=True)
    bars = str(int(100_000 * scale))
    print(f"\nW6: W1 with {int(bars):,} bars by mode\n| mode | bars/s |\n|---|---|")
    for mode in ("cash", "isolated", "cross", "portfolio"):
        found = asked("one_run.py", "W1", "house", "--bars", bars, "--mode", mode)
        print(f"| {mode} | {found['bars'] / found['seconds']:,.0f} |", flush=True)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    print(
        f"{platform.platform()}, {platform.processor() or platform.machine()}, Python {platform.python_version()}, backtrader {bt.__version__}"
    )
    subprocess.run([sys.executable, str(HERE / "calls.py")], check=True)
    ratios(options.scale, options.rounds)
    many(options.scale)
    others(options.scale)


if __name__ == "__main__":
    main()
