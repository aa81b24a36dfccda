# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a run is outside the lean loop, where it is."""

from typing import Any

import backtrader as bt

# What the loop does in their place; a class with its own way of them is run by backtrader's loop.
REPLACED = (
    "_addnotification", "_getminperstatus", "_next_analyzers", "_next_observers", "_notify", "_oncepost", "_oncepost_open", "advance",
    "clear", "forward",
)  # fmt: skip


def reason(cerebro: Any, strategies: list[Any]) -> str | None:
    """Return why the loop cannot run these strategies, or None when it can."""
    if type(cerebro)._brokernotify is not bt.Cerebro._brokernotify:
        return f"{type(cerebro).__name__} delivers notifications in its own way"
    for strategy in strategies:
        own = next((name for name in REPLACED if _differs(strategy, name)), None)
        if own is not None:
            return f"{type(strategy).__name__} has its own {own}"
        if any(line.bindings for line in strategy.lines.lines):
            return f"lines of {type(strategy).__name__} are bound to others"
    return None


def _differs(strategy: Any, name: str) -> bool:
    return getattr(type(strategy), name) is not getattr(bt.Strategy, name) or name in strategy.__dict__
