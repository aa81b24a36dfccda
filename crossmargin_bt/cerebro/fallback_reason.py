# SPDX-License-Identifier: GPL-3.0-or-later
"""Reasons for which a run uses backtrader's own loop."""

from typing import Any

import backtrader as bt

# Methods of a strategy that the loop replaces; a strategy that overrides one of them runs in backtrader's loop.
REPLACED = (
    "_addnotification", "_getminperstatus", "_next_analyzers", "_next_observers", "_notify", "_oncepost", "_oncepost_open", "advance",
    "clear", "forward",
)  # fmt: skip


def reason(cerebro: Any, strategies: list[Any]) -> str | None:
    """Return the reason for which the loop cannot run these strategies, or None if it can."""
    if type(cerebro)._brokernotify is not bt.Cerebro._brokernotify:
        return f"{type(cerebro).__name__} overrides _brokernotify"
    for strategy in strategies:
        own = next((name for name in REPLACED if _overrides(strategy, name)), None)
        if own is not None:
            return f"{type(strategy).__name__} overrides {own}"
        if any(line.bindings for line in strategy.lines.lines):
            return f"lines of {type(strategy).__name__} are bound to other lines"
    return None


def _overrides(strategy: Any, name: str) -> bool:
    return getattr(type(strategy), name) is not getattr(bt.Strategy, name) or name in strategy.__dict__
