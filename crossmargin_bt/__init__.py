# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin accounts for backtrader: cross, isolated and cash margin as crypto exchanges run them.

cerebro.setbroker(crossmargin_bt.CrossMarginBroker(venue="okx", mode="cross"))
"""

from importlib import import_module
from typing import Any

# Loaded on first use: backtrader and pandas take most of a second to import.
_LAZY = {
    "Cerebro": "crossmargin_bt.cerebro",
    "CrossMarginBroker": "crossmargin_bt.broker",
    "HedgeStrategy": "crossmargin_bt.strategy",
    "Instrument": "crossmargin_bt.engine.terms.instrument",
    "LiquidationDistance": "crossmargin_bt.broker.analyzers",
    "Recorder": "crossmargin_bt.broker.analyzers",
    "FreeMarginSizer": "crossmargin_bt.broker.sizers",
    "MaximumSizer": "crossmargin_bt.broker.sizers",
    "RiskSizer": "crossmargin_bt.broker.sizers",
    "SafeDistanceSizer": "crossmargin_bt.broker.sizers",
    "VolatilitySizer": "crossmargin_bt.broker.sizers",
    "Reserve": "crossmargin_bt.broker.session.reserve",
    "roll": "crossmargin_bt.strategy",
    "theoretical_candles": "crossmargin_bt.candles.theoretical",
    "analyzers": "",
    "batch": "",
    "feeds": "",
    "guards": "",
    "observers": "",
}

__all__ = [
    "Cerebro",
    "CrossMarginBroker",
    "FreeMarginSizer",
    "HedgeStrategy",
    "Instrument",
    "LiquidationDistance",
    "MaximumSizer",
    "Recorder",
    "Reserve",
    "RiskSizer",
    "SafeDistanceSizer",
    "VolatilitySizer",
    "analyzers",
    "batch",
    "feeds",
    "guards",
    "observers",
    "roll",
    "theoretical_candles",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_LAZY[name] or f"{__name__}.{name}")
    return getattr(module, name) if _LAZY[name] else module
