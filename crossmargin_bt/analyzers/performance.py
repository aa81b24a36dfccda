# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers of equity and margin used, sampled at the end of every bar."""

import math
from typing import Any

import backtrader as bt

from crossmargin_bt import performance
from crossmargin_bt.broker.session.bars import time_ms
from crossmargin_bt.time_units import MS_PER_HOUR


class MarginUse(bt.Analyzer):
    """Margin used and free margin per bar.

    Params:
        distance: also record the distance to liquidation if all marks move together (`fall`, `rise`), at the cost of a
            root search per bar.

    `get_analysis()` returns lists with one entry per bar: `times_ms`, `equity`, `used`, `free`, `level` (lowest ratio of
    collateral to requirement over the pools; None if nothing is required), `ratio` (its inverse; 0 if nothing is
    required), `leverage`, `fall`, `rise`.
    """

    params = (("distance", True),)

    def create_analysis(self) -> None:
        """Create empty lists."""
        names = ("times_ms", "equity", "used", "free", "level", "ratio", "leverage", "fall", "rise")
        self._rows: dict[str, list[Any]] = {name: [] for name in names}

    def next(self) -> None:
        """Record the state of the account at the end of the bar."""
        broker = self.strategy.broker
        level = broker.margin_level
        fall, rise = broker.aggregate_distance() if self.p.distance else (None, None)
        row = {
            "times_ms": time_ms(self.strategy.datetime[0]), "equity": broker.equity, "used": broker.margin_used,
            "free": broker.getcash(), "level": level if math.isfinite(level) else None,
            "ratio": 1 / level if level > 0 else math.inf, "leverage": broker.get_leverage(), "fall": fall, "rise": rise,
        }  # fmt: skip
        for name, value in row.items():
            self._rows[name].append(value)

    def get_analysis(self) -> dict[str, list[Any]]:
        """Return the lists."""
        return self._rows


class _EquityCurve(bt.Analyzer):
    """Records equity and margin used per bar."""

    def create_analysis(self) -> None:
        """Create empty lists."""
        self._times: list[int] = []
        self._equity: list[float] = []
        self._used: list[float] = []
        self._cash = 0.0

    def start(self) -> None:
        """Record the starting cash."""
        self._cash = float(self.strategy.broker.startingcash)

    def next(self) -> None:
        """Record the bar. The starting cash changes when a coin that was paid in gets its first price."""
        broker = self.strategy.broker
        self._cash = float(broker.startingcash)
        self._times.append(time_ms(self.strategy.datetime[0]))
        self._equity.append(broker.equity)
        self._used.append(broker.margin_used)


class CryptoReturns(_EquityCurve):
    """Return, volatility, Sharpe, Sortino, Calmar and drawdown from daily returns (UTC), annualised over 365 days.

    Defined for zero equity too. `get_analysis()` returns the fields of `crossmargin_bt.performance.PerformanceMetrics` and `daily`,
    the daily returns.
    """

    def get_analysis(self) -> dict[str, Any]:
        """Return the metrics."""
        metrics = performance.performance_metrics(self._times, self._equity, self._cash)._asdict()
        return {
            **metrics,
            "daily": performance.simple_returns(performance.daily_equity(self._times, self._equity, self._cash)),
        }


class CapitalEfficiency(_EquityCurve):
    """Profit relative to the margin used.

    `get_analysis()` returns `profit`, `margin_mean` and `margin_peak` (over all bars), `return_on_margin` (profit over the
    mean), `return_on_peak`, `margin_hours` (margin used times hours) and `profit_per_margin_hour`. Ratios are None if no
    margin was used.
    """

    def get_analysis(self) -> dict[str, float | None]:
        """Return the metrics."""
        profit = self._equity[-1] - self._cash if self._equity else 0.0
        mean = math.fsum(self._used) / len(self._used) if self._used else 0.0
        peak = max(self._used, default=0.0)
        steps = [b - a for a, b in zip(self._times, self._times[1:], strict=False)]
        hours = math.fsum(used * step for used, step in zip(self._used, steps, strict=False)) / MS_PER_HOUR
        return {
            "profit": profit,
            "margin_mean": mean,
            "margin_peak": peak,
            "return_on_margin": profit / mean if mean else None,
            "return_on_peak": profit / peak if peak else None,
            "margin_hours": hours,
            "profit_per_margin_hour": profit / hours if hours else None,
        }
