# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter sweeps of a strategy over modes and venues, with resumable storage."""

from crossmargin_bt.sweep.plan import RunGroup, RunTask, SweepDefinition
from crossmargin_bt.sweep.rows import FIGURES, OBJECTIVES, Objective, SweepRow, parse_objectives
from crossmargin_bt.sweep.runner import run, run_bar_by_bar
from crossmargin_bt.sweep.search_space import Axis, parse_axis
from crossmargin_bt.sweep.store import SweepStore

__all__ = [
    "FIGURES",
    "OBJECTIVES",
    "Axis",
    "Objective",
    "RunGroup",
    "RunTask",
    "SweepDefinition",
    "SweepRow",
    "SweepStore",
    "parse_axis",
    "parse_objectives",
    "run",
    "run_bar_by_bar",
]
