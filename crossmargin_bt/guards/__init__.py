# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards: the trader's own discipline, kept by the broker.

`CrossMarginBroker(guards=[EquityBuffer(0.25), StopRequired()])`. A guard looks at every order that opens, and at the account
when a bar has ended; it refuses, reduces, closes or sweeps with a reason, and each time the journal has a `GuardActed`. What only closes
is never refused. Shares are plain fractions, amounts in the account's currency.
"""

from crossmargin_bt.guards.account import DailyLossLimit, DeRisk, MarginLevelAlert, ProfitSweep
from crossmargin_bt.guards.base import Entry, Guard, checked, largest
from crossmargin_bt.guards.orders import STOPS, CorrelatedExposure, EquityBuffer, MaximumLeverage, StopRequired

__all__ = [
    "STOPS",
    "CorrelatedExposure",
    "DailyLossLimit",
    "DeRisk",
    "Entry",
    "EquityBuffer",
    "Guard",
    "MarginLevelAlert",
    "MaximumLeverage",
    "ProfitSweep",
    "StopRequired",
    "checked",
    "largest",
]
