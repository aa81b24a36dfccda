# SPDX-License-Identifier: GPL-3.0-or-later
"""One strategy under many margin modes and venues."""

from crossmargin_bt.compare.runs import ACCOUNTS, Settings, run
from crossmargin_bt.compare.strategies import StrategySpec, load
from crossmargin_bt.compare.why import differences

__all__ = ["ACCOUNTS", "Settings", "StrategySpec", "differences", "load", "run"]
