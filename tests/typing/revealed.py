# SPDX-License-Identifier: GPL-3.0-or-later
"""No public name is Any to a type checker. Checked by tests/test_typing.py, never run."""

from typing import reveal_type

import crossmargin_bt as cm


def public_names() -> None:
    """Every public name; the test holds the list against `__all__`."""
    reveal_type(cm.Candles)
    reveal_type(cm.Cerebro)
    reveal_type(cm.CrossMarginBroker)
    reveal_type(cm.FreeMarginSizer)
    reveal_type(cm.HedgeStrategy)
    reveal_type(cm.Instrument)
    reveal_type(cm.LiquidationDistance)
    reveal_type(cm.MaximumSizer)
    reveal_type(cm.Recorder)
    reveal_type(cm.Refusal)
    reveal_type(cm.Reserve)
    reveal_type(cm.RiskSizer)
    reveal_type(cm.SafeDistanceSizer)
    reveal_type(cm.Venue)
    reveal_type(cm.VolatilitySizer)
    reveal_type(cm.analyzers)
    reveal_type(cm.batch)
    reveal_type(cm.candles)
    reveal_type(cm.compare)
    reveal_type(cm.errors)
    reveal_type(cm.events)
    reveal_type(cm.feeds)
    reveal_type(cm.guards)
    reveal_type(cm.load_venue)
    reveal_type(cm.observers)
    reveal_type(cm.results)
    reveal_type(cm.roll)
    reveal_type(cm.theoretical_candles)
    reveal_type(cm.venues)
