# SPDX-License-Identifier: GPL-3.0-or-later
"""One strategy under many margin modes and venues."""

from crossmargin_bt.compare.markets import markets
from crossmargin_bt.compare.rule_attribution import differences
from crossmargin_bt.compare.runs import MODE_ALIASES, Settings, run, run_all
from crossmargin_bt.compare.strategies import StrategySource, StrategySpec, load
from crossmargin_bt.compare.stress import run_stress, stress_scenarios

__all__ = [
    "MODE_ALIASES",
    "Settings",
    "StrategySource",
    "StrategySpec",
    "differences",
    "load",
    "markets",
    "run",
    "run_all",
    "run_stress",
    "stress_scenarios",
]
