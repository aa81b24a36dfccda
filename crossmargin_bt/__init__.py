# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin accounts for backtrader: cross, isolated and cash margin as crypto exchanges run them.

cerebro.setbroker(crossmargin_bt.CrossMarginBroker(venue="okx", mode="cross"))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossmargin_bt import analyzers as analyzers
    from crossmargin_bt import batch as batch
    from crossmargin_bt import candles as candles
    from crossmargin_bt import compare as compare
    from crossmargin_bt import errors as errors
    from crossmargin_bt import feeds as feeds
    from crossmargin_bt import guards as guards
    from crossmargin_bt import observers as observers
    from crossmargin_bt import results as results
    from crossmargin_bt import venues as venues
    from crossmargin_bt.broker import CrossMarginBroker as CrossMarginBroker
    from crossmargin_bt.broker.analyzers import LiquidationDistance as LiquidationDistance
    from crossmargin_bt.broker.analyzers import Recorder as Recorder
    from crossmargin_bt.broker.session.reserve import Reserve as Reserve
    from crossmargin_bt.broker.sizers import FreeMarginSizer as FreeMarginSizer
    from crossmargin_bt.broker.sizers import MaximumSizer as MaximumSizer
    from crossmargin_bt.broker.sizers import RiskSizer as RiskSizer
    from crossmargin_bt.broker.sizers import SafeDistanceSizer as SafeDistanceSizer
    from crossmargin_bt.broker.sizers import VolatilitySizer as VolatilitySizer
    from crossmargin_bt.candles.market import Candles as Candles
    from crossmargin_bt.candles.theoretical import theoretical_candles as theoretical_candles
    from crossmargin_bt.cerebro import Cerebro as Cerebro
    from crossmargin_bt.engine.ledger import events as events
    from crossmargin_bt.engine.ledger.refusal import Refusal as Refusal
    from crossmargin_bt.engine.terms.instrument import Instrument as Instrument
    from crossmargin_bt.strategy import HedgeStrategy as HedgeStrategy
    from crossmargin_bt.strategy import roll as roll
    from crossmargin_bt.venues import Venue as Venue
    from crossmargin_bt.venues import load as load_venue

# Public names by where they are found, as "module" or "module:attribute". They are imported on first use:
# backtrader and pandas take most of a second to import. The imports above tell type checkers and editors the same.
_LAZY = {
    "Candles": "crossmargin_bt.candles.market:Candles",
    "Cerebro": "crossmargin_bt.cerebro:Cerebro",
    "CrossMarginBroker": "crossmargin_bt.broker:CrossMarginBroker",
    "FreeMarginSizer": "crossmargin_bt.broker.sizers:FreeMarginSizer",
    "HedgeStrategy": "crossmargin_bt.strategy:HedgeStrategy",
    "Instrument": "crossmargin_bt.engine.terms.instrument:Instrument",
    "LiquidationDistance": "crossmargin_bt.broker.analyzers:LiquidationDistance",
    "MaximumSizer": "crossmargin_bt.broker.sizers:MaximumSizer",
    "Recorder": "crossmargin_bt.broker.analyzers:Recorder",
    "Refusal": "crossmargin_bt.engine.ledger.refusal:Refusal",
    "Reserve": "crossmargin_bt.broker.session.reserve:Reserve",
    "RiskSizer": "crossmargin_bt.broker.sizers:RiskSizer",
    "SafeDistanceSizer": "crossmargin_bt.broker.sizers:SafeDistanceSizer",
    "Venue": "crossmargin_bt.venues:Venue",
    "VolatilitySizer": "crossmargin_bt.broker.sizers:VolatilitySizer",
    "analyzers": "crossmargin_bt.analyzers",
    "batch": "crossmargin_bt.batch",
    "candles": "crossmargin_bt.candles",
    "compare": "crossmargin_bt.compare",
    "errors": "crossmargin_bt.errors",
    "events": "crossmargin_bt.engine.ledger.events",
    "feeds": "crossmargin_bt.feeds",
    "guards": "crossmargin_bt.guards",
    "load_venue": "crossmargin_bt.venues:load",
    "observers": "crossmargin_bt.observers",
    "results": "crossmargin_bt.results",
    "roll": "crossmargin_bt.strategy:roll",
    "theoretical_candles": "crossmargin_bt.candles.theoretical:theoretical_candles",
    "venues": "crossmargin_bt.venues",
}

__all__ = [
    "Candles",
    "Cerebro",
    "CrossMarginBroker",
    "FreeMarginSizer",
    "HedgeStrategy",
    "Instrument",
    "LiquidationDistance",
    "MaximumSizer",
    "Recorder",
    "Refusal",
    "Reserve",
    "RiskSizer",
    "SafeDistanceSizer",
    "Venue",
    "VolatilitySizer",
    "analyzers",
    "batch",
    "candles",
    "compare",
    "errors",
    "events",
    "feeds",
    "guards",
    "load_venue",
    "observers",
    "results",
    "roll",
    "theoretical_candles",
    "venues",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Hidden from type checkers, to which a module with a `__getattr__` has every attribute.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = _LAZY[name].partition(":")
        found = import_module(module)
        return getattr(found, attribute) if attribute else found
