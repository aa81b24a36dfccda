# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers that look at the account at the end of every bar."""

import math
from typing import Any

import backtrader as bt

from crossmargin_bt import performance
from crossmargin_bt.broker.session.bars import time_ms
from crossmargin_bt.time_units import MS_PER_HOUR


class MarginUse(bt.Analyzer):
    """What was used and what was free, bar by bar.

    Params:
        distance: also record how far all marks may move together (`fall`, `rise`), which costs a search a bar.

    `get_analysis()` holds lists of one entry a bar: `times_ms`, `equity`, `used`, `free`, `level` (the lowest collateral over
    requirement; None with nothing required), `ratio` (its inverse, 0 with nothing required), `leverage`, `fall`, `rise`.
    """

    params = (("distance", True),)

    def create_analysis(self) -> None:
        """Start empty."""
        names = ("times_ms", "equity", "used", "free", "level", "ratio", "leverage", "fall", "rise")
        self._rows: dict[str, list[Any]] = {name: [] for name in names}

    def next(self) -> None:
        """Ask the broker at the end of the bar."""
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


class _Curve(bt.Analyzer):
    """Keeps equity and margin used per bar."""

    def create_analysis(self) -> None:
        """Start empty."""
        self._times: list[int] = []
        self._equity: list[float] = []
        self._used: list[float] = []
        self._cash = 0.0

    def start(self) -> None:
        """Note the starting cash."""
        self._cash = float(self.strategy.broker.startingcash)

    def next(self) -> None:
        """Record the bar; what was paid in in coins counts from their first price on."""
        broker = self.strategy.broker
        self._cash = float(broker.startingcash)
        self._times.append(time_ms(self.strategy.datetime[0]))
        self._equity.append(broker.equity)
        self._used.append(broker.margin_used)


class CryptoReturns(_Curve):
    """Return, volatility, Sharpe, Sortino, Calmar and drawdown on days of 24 hours and years of 365, safe at zero equity.

    `get_analysis()` holds the figures of `crossmargin_bt.performance.PerformanceMetrics` and `daily`, the daily returns.
    """

    def get_analysis(self) -> dict[str, Any]:
        """Return the figures."""
        found = performance.performance_metrics(self._times, self._equity, self._cash)._asdict()
        return {
            **found,
            "daily": performance.simple_returns(performance.daily_equity(self._times, self._equity, self._cash)),
        }


class CapitalEfficiency(_Curve):
    """What the margin earned that was locked.

    `get_analysis()` holds `profit`, `margin_mean` and `margin_peak` (over all bars), `return_on_margin` (profit over the mean,
    None where none was used), `return_on_peak`, `margin_hours` (margin used times hours), and `profit_per_margin_hour`.
    """

    def get_analysis(self) -> dict[str, float | None]:
        """Return the figures."""
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
