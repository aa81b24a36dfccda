# SPDX-License-Identifier: GPL-3.0-or-later
"""One strategy under many margin modes and venues."""

from crossmargin_bt.compare.markets import markets
from crossmargin_bt.compare.rule_attribution import differences
from crossmargin_bt.compare.runs import ACCOUNTS, Settings, run, run_all
from crossmargin_bt.compare.strategies import StrategySource, StrategySpec, load
from crossmargin_bt.compare.stress import shocks, stressed

__all__ = [
    "ACCOUNTS",
    "Settings",
    "StrategySource",
    "StrategySpec",
    "differences",
    "load",
    "markets",
    "run",
    "run_all",
    "shocks",
    "stressed",
]
