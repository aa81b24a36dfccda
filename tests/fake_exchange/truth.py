# SPDX-License-Identifier: GPL-3.0-or-later
"""The market data of the fake exchanges: prices are a formula of time, so that any time range can be verified."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MINUTE = 60_000
HOUR = 3_600_000


@dataclass
class Truth:
    """The rows of one market between its listing and now; times in milliseconds."""

    start: int
    now: int
    listed: int = 0
    outages: list[tuple[int, int]] = field(default_factory=list)
    intervals: list[tuple[int, int]] = field(default_factory=lambda: [(0, 8 * HOUR)])
    """Funding intervals by the time from which they apply."""
    late_ms: int = 0
    """Delay of the time stamps of funding settlements."""

    def candles(self, kind: str, start: int, end: int, step: int) -> list[tuple[int, ...]]:
        """Return (time, open, high, low, close, volume) of every candle that opens in a time range, the open one included."""
        first = -(-max(start, self.listed) // step) * step
        times = range(first, min(end, self.now + 1), step)
        return [self._candle(kind, t, step) for t in times if not any(a <= t < b for a, b in self.outages)]

    def funding(self, start: int, end: int) -> list[tuple[int, float]]:
        """Return (time, rate) of every settlement in a time range."""
        found = []
        for (since, every), (until, _) in zip(self.intervals, [*self.intervals[1:], (self.now + 1, 0)], strict=True):
            first = -(-max(since, self.listed, start - self.late_ms) // every) * every
            found += [
                (t + self.late_ms, round(1e-4 * math.sin(t / 1e7), 8))
                for t in range(first, min(until, end, self.now + 1), every)
                if start <= t + self.late_ms < end
            ]
        return found

    def _candle(self, kind: str, time: int, step: int) -> tuple[int, ...]:
        base = {"candles": 0.0, "mark": 1.0, "index": 2.0}[kind]
        price = [round(30_000 + base + 500 * math.sin((time + n * step / 3) / 3.1e6), 1) for n in range(4)]
        volume = 0.0 if kind != "candles" else round(10 + 5 * math.cos(time / 1e6), 3)
        return (time, price[0], max(price) + 1, min(price) - 1, price[3], volume)
