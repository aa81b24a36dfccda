# SPDX-License-Identifier: GPL-3.0-or-later
"""How cost grows: time a bar against instruments, resting orders and bars, time a bar and account against accounts of a batch.

    python benchmarks/growth.py --out docs/growth

Writes `OUT.md`, the tables, and `OUT.svg`, their charts; both axes are logarithmic. `--scale` shortens every run and leaves
out the points that become too small.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import backtrader as bt
from many_runs import targets
from one_run import prepared
from workloads import CASH, FEE, Crossover, candles

import crossmargin_bt as cm

ENDLESS = 10 * CASH
"""More than the fees of ten million bars."""
FEWEST = 400
"""Bars below which a run is too short to be measured: the loop's cost is the difference to a quarter of them."""


class Resting(bt.Strategy):
    """Keeps so many orders resting far from the price, and replaces one every 20 bars."""

    params = (("orders", 0),)

    def __init__(self):
        """Begin without orders."""
        self.resting = []

    def next(self):
        if len(self) == 1:
            self.resting = [self.place(n) for n in range(self.p.orders)]
        elif not len(self) % 20 and self.resting:
            n = len(self) // 20 % len(self.resting)
            self.cancel(self.resting[n])
            self.resting[n] = self.place(n)

    def place(self, n):
        """Place a buy order at a tenth of the price and less."""
        return self.buy(size=1.0, exectype=bt.Order.Limit, price=100.0 - 0.01 * n)


class Growth(NamedTuple):
    """One cost against what it may grow with."""

    title: str
    against: str
    unit: str
    points: list[tuple[int, float]]


def seconds(run: Callable[[], object]) -> float:
    """Return how long the quicker of two calls took."""
    found = []
    for _ in range(2):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def loop_us(strategy: type, frames: list, bars: int, **params: int) -> float:
    """Return microseconds a bar: those of so many bars less those of a quarter of them."""

    def run(count: int) -> Callable[[], object]:
        def once() -> None:
            cerebro = prepared("house", strategy, [frame.iloc[:count] for frame in frames], 1)
            cerebro.strats.clear()
            cerebro.addstrategy(strategy, **params)
            cerebro.broker.setcash(ENDLESS)
            cerebro.run()

        return once

    few = bars // 4
    return (seconds(run(bars)) - seconds(run(few))) / (bars - few) * 1e6


def counts(largest: float, *points: int) -> list[int]:
    """Return the points that are at most `largest`, and never fewer than two."""
    return [n for place, n in enumerate(points) if place < 2 or n <= largest]


def loops(scale: float) -> Iterable[Growth]:
    """Yield the growths of the bar loop."""
    instruments = counts(200 * scale, 1, 2, 5, 10, 20, 50, 100, 200)
    many = [candles(2000, seed) for seed in range(instruments[-1])]
    yield Growth(
        "instruments in one pool", "instruments", "us a bar",
        [(n, loop_us(Crossover, many[:n], max(FEWEST, int(min(2000, 40_000 // n) * scale)))) for n in instruments],
    )  # fmt: skip
    bars = [max(FEWEST, int(n * scale)) for n in (10_000, 30_000, 100_000, 1_000_000, 10_000_000)]
    one = [candles(bars[-1], 1)]
    yield Growth(
        "resting orders, one of them replaced every 20 bars", "orders", "us a bar",
        [
            (n, loop_us(Resting, one, max(FEWEST, int(20_000 * scale)), orders=n))
            for n in counts(1000 * scale, 1, 10, 100, 1000)
        ],
    )  # fmt: skip
    yield Growth(
        "bars of one run", "bars", "us a bar",
        [(n, loop_us(Crossover, one, n)) for n in dict.fromkeys(bars)],
    )  # fmt: skip


def batches(scale: float) -> Iterable[Growth]:
    """Yield the growths of a batch."""
    frame = candles(max(FEWEST, int(20_000 * scale)), 1)
    market = cm.batch.Candles("S0", frame, None, cm.Instrument(symbol="S0", lot=0.001, maker=FEE, taker=FEE))
    wanted = [targets(frame["close"].to_numpy(), 10, 50)]
    yield Growth(
        "accounts of a batch", "accounts", "ns a bar and account",
        [
            (n, seconds(lambda n=n: cm.batch.simulate([market], wanted, cm.batch.accounts(1, cash=[CASH] * n))) / n / len(frame) * 1e9)
            for n in counts(10_000 * scale, 1, 10, 100, 1000, 10_000)
        ],
    )  # fmt: skip
    points = []
    bars = [max(FEWEST, int(n * scale)) for n in (10_000, 100_000, 1_000_000, 10_000_000)]
    longest = candles(bars[-1], 1)
    for n in dict.fromkeys(bars):
        part = longest.iloc[:n]
        short = cm.batch.Candles("S0", part, None, market.instrument)
        aims = [targets(part["close"].to_numpy(), 10, 50)]
        points.append(
            (
                n,
                seconds(
                    lambda short=short, aims=aims: cm.batch.simulate(
                        [short], aims, cm.batch.accounts(1, cash=[ENDLESS])
                    )
                )
                / n
                * 1e9,
            )
        )
    yield Growth("bars of a batch of one account", "bars", "ns a bar, loading included", points)


WIDE, HIGH, LEFT, TOP = 300, 190, 56, 34


def chart(growths: list[Growth]) -> str:
    """Return the charts side by side as one SVG."""
    height = (HIGH + 70) * math.ceil(len(growths) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" font-family="sans-serif" font-size="12">',
        "<title>Cost against what it may grow with, both axes logarithmic</title>",
        f'<rect width="760" height="{height}" fill="white"/>',
    ]
    for place, one in enumerate(growths):
        left, top = LEFT + place % 2 * 380, TOP + place // 2 * (HIGH + 70)
        xs, ys = [math.log10(x) for x, _ in one.points], [math.log10(max(y, 1e-3)) for _, y in one.points]
        low, top_y = math.floor(min(ys)), max(math.ceil(max(ys)), math.floor(min(ys)) + 1)
        span = (max(xs) - min(xs)) or 1.0
        across = [left + (x - min(xs)) / span * WIDE for x in xs]
        down = [top + HIGH - (y - low) / (top_y - low) * HIGH for y in ys]
        parts.append(f'<text x="{left}" y="{top - 14}" font-weight="bold">{one.title}: {one.unit}</text>')
        for power in range(low, top_y + 1):
            y = top + HIGH - (power - low) / (top_y - low) * HIGH
            parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDE}" y2="{y:.1f}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
        parts.append(f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="2"/>')
        for x, y, (n, value) in zip(across, down, one.points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#0072b2"/>')
            parts.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle" fill="#0072b2">{value:.3g}</text>')
            parts.append(f'<text x="{x:.1f}" y="{top + HIGH + 16}" text-anchor="middle">{n:,}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def table(growths: list[Growth]) -> str:
    """Return the figures as Markdown."""
    lines = []
    for one in growths:
        lines += [
            f"| {one.against} | " + " | ".join(f"{n:,}" for n, _ in one.points) + " |",
            "|---|" + "---|" * len(one.points),
        ]
        lines += [f"| {one.unit} | " + " | ".join(f"{value:.3g}" for _, value in one.points) + " |", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the files' name without ending")
    parser.add_argument("--scale", type=float, default=1.0, help="a fraction of every run")
    options = parser.parse_args()
    growths = []
    for one in chain(loops(options.scale), batches(options.scale)):
        growths.append(one)
        print(one.title, [(n, round(value, 3)) for n, value in one.points], flush=True)
    options.out.with_suffix(".md").write_text(table(growths), encoding="utf-8")
    options.out.with_suffix(".svg").write_text(chart(growths), encoding="utf-8")


if __name__ == "__main__":
    main()
