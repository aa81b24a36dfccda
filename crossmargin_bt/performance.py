# SPDX-License-Identifier: GPL-3.0-or-later
"""Performance metrics of an equity curve, annualised over 365 days."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossmargin_bt.time_units import DAYS_PER_YEAR, MS_PER_DAY


class PerformanceMetrics(NamedTuple):
    """Performance metrics of an equity curve, annualised over 365 days; None where undefined."""

    days: int
    total_return: float
    annual_return: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    drawdown_max: float


def drawdown_max(equity: ArrayLike) -> float:
    """Return the maximum drawdown as a fraction of the preceding peak; above 1 if equity fell below zero.

    `equity`: shape (bars,), float64, account currency.

    >>> drawdown_max([100.0, 80.0, 120.0, 60.0])
    0.5
    """
    values = np.asarray(equity, dtype=np.float64)
    peaks = np.maximum.accumulate(values)
    risen = peaks > 0
    return float(np.max(1 - values[risen] / peaks[risen], initial=0.0))


def daily_equity(times_ms: ArrayLike, equity: ArrayLike, start: float) -> list[float]:
    """Return the starting equity, followed by the equity at the last bar of each UTC day that has bars; times ascend.

    >>> daily_equity([0, 3_600_000, 86_400_000], [101.0, 102.0, 99.0], 100.0)
    [100.0, 102.0, 99.0]
    >>> daily_equity([], [], 100.0)
    [100.0]
    """
    days = np.asarray(times_ms, dtype=np.int64) // MS_PER_DAY
    values = np.asarray(equity, dtype=np.float64)
    ends = np.append(days[1:] != days[:-1], np.ones(min(len(days), 1), dtype=bool))
    return [start, *values[ends].tolist()]


def simple_returns(values: Sequence[float]) -> list[float]:
    """Return the simple return from each value to the next; 0 after a value of zero or less, where a return is undefined.

    >>> simple_returns([100.0, 110.0, 0.0, 0.0])
    [0.10000000000000009, -1.0, 0.0]
    """
    return [after / before - 1 if before > 0 else 0.0 for before, after in pairwise(values)]


def performance_metrics(times_ms: ArrayLike, equity: ArrayLike, start: float) -> PerformanceMetrics:
    """Return the metrics of an equity curve, computed from its daily returns.

    Sharpe ratio: mean over standard deviation (n - 1), risk-free rate 0. Sortino ratio: mean over the root mean square of the
    negative returns. Calmar ratio: annual return over the maximum drawdown of all bars.
    """
    values = daily_equity(times_ms, equity, start)
    daily_returns = simple_returns(values)
    n = len(daily_returns)
    total = values[-1] / start - 1 if start else 0.0
    deepest = drawdown_max(np.append(start, np.asarray(equity, dtype=np.float64)))
    annual = _annualised(total, n)
    mean = math.fsum(daily_returns) / n if n else 0.0
    deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in daily_returns) / (n - 1)) if n > 1 else 0.0
    downside = math.sqrt(math.fsum(min(r, 0.0) ** 2 for r in daily_returns) / n) if n else 0.0
    yearly = math.sqrt(DAYS_PER_YEAR)
    return PerformanceMetrics(
        days=n,
        total_return=total,
        annual_return=annual,
        volatility=deviation * yearly if n > 1 else None,
        sharpe=mean / deviation * yearly if deviation > 0 else None,
        sortino=mean / downside * yearly if downside > 0 else None,
        calmar=annual / deepest if annual is not None and deepest > 0 else None,
        drawdown_max=deepest,
    )


# Largest exponent for which exp() does not overflow a float.
EXPONENT_MAX = 700.0


def _annualised(total: float, days: int) -> float | None:
    """Return a total return converted to 365 days; None without days, or if the result overflows a float."""
    if not days:
        return None
    if total <= -1:
        return -1.0
    exponent = math.log1p(total) * DAYS_PER_YEAR / days
    return math.expm1(exponent) if exponent < EXPONENT_MAX else None
