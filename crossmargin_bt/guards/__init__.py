# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards: a trader's own risk limits, enforced by the broker.

`CrossMarginBroker(guards=[EquityBuffer(0.25), StopRequired()])`. A guard checks every opening order before admission, and the account
at the end of every bar. It refuses or reduces orders, closes positions or withdraws profit, and every action is a `GuardActed` in the
journal with its reason. Orders that only close are never refused. Shares are plain fractions, amounts are in the account's currency.
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
