# SPDX-License-Identifier: GPL-3.0-or-later
"""Volatility-scaled margin rates: the rates are multiplied by a factor of the realised volatility."""

import math
from collections import deque

import msgspec

from crossmargin_bt.errors import RuleError
from crossmargin_bt.time_units import DAYS_PER_YEAR, MS_PER_DAY


class VolatilityScaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The factor is volatility / `reference`, rounded to a multiple of `step` and clamped to [`floor`, `cap`].

    Volatility is the annualised root mean square of close-to-close logarithmic returns over the last `window_days`,
    exponentially weighted with a half-life of `half_life_days`. The factor is 1 until one half-life of data is available.

    Raises:
        RuleError: a figure is not above 0, or not floor <= 1 <= cap.

    >>> scaling = VolatilityScaling(reference=0.5, floor=0.8, cap=3.0, window_days=30.0, half_life_days=7.0)
    >>> scaling.factor(1.01), scaling.factor(0.1), scaling.factor(9.0)
    (2.0, 0.8, 3.0)
    """

    reference: float
    cap: float
    window_days: float
    half_life_days: float
    floor: float = 1.0
    step: float = 0.05

    def __post_init__(self) -> None:
        for name in ("reference", "window_days", "half_life_days", "floor", "step"):
            if not 0 < getattr(self, name) < math.inf:
                raise RuleError(f"{name} of a volatility scaling is above 0, got {getattr(self, name)!r}")
        if not self.floor <= 1 <= self.cap < math.inf:
            raise RuleError(f"a volatility scaling has floor <= 1 <= cap, got {self.floor!r} and {self.cap!r}")

    def factor(self, volatility: float) -> float:
        """Return the multiplier of the rates at an annualised volatility (0.8 is 80 %)."""
        stepped = round(volatility / self.reference / self.step) * self.step
        return min(self.cap, max(self.floor, stepped))


class RealisedVolatility:
    """Online estimator of the realised volatility of one instrument, updated per close."""

    def __init__(self, scaling: VolatilityScaling) -> None:
        self._window_ms = scaling.window_days * MS_PER_DAY
        self._half_life_ms = scaling.half_life_days * MS_PER_DAY
        self._previous: tuple[int, float] | None = None
        self._seen_ms = 0
        # Per return: its time, its square, and the time it spans.
        self._returns: deque[tuple[int, float, int]] = deque()
        self._weighted_squares = self._weighted_ms = 0.0

    def add(self, time_ms: int, close: float) -> float | None:
        """Add a close and return the annualised volatility, None until one half-life of data is available."""
        previous, self._previous = self._previous, (time_ms, close)
        if previous is None or time_ms <= previous[0]:
            return None
        elapsed_ms = time_ms - previous[0]
        square = math.log(close / previous[1]) ** 2
        decay = self._weight(elapsed_ms)
        self._weighted_squares = self._weighted_squares * decay + square
        self._weighted_ms = self._weighted_ms * decay + elapsed_ms
        self._returns.append((time_ms, square, elapsed_ms))
        while self._returns[0][0] <= time_ms - self._window_ms:
            at, old_square, old_elapsed_ms = self._returns.popleft()
            self._weighted_squares -= old_square * self._weight(time_ms - at)
            self._weighted_ms -= old_elapsed_ms * self._weight(time_ms - at)
        self._seen_ms += elapsed_ms
        if self._seen_ms < self._half_life_ms or self._weighted_ms <= 0:
            return None
        years = self._weighted_ms / (DAYS_PER_YEAR * MS_PER_DAY)
        return math.sqrt(max(0.0, self._weighted_squares) / years)

    def _weight(self, age_ms: float) -> float:
        return float(0.5 ** (age_ms / self._half_life_ms))
