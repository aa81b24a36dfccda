# SPDX-License-Identifier: GPL-3.0-or-later
"""One strategy under many parameters, modes and venues: searched, kept as it comes, taken up where it stopped."""

from crossmargin_bt.sweep.plan import Arm, Definition, Task
from crossmargin_bt.sweep.rows import FIGURES, OBJECTIVES, Objective, Row, objectives
from crossmargin_bt.sweep.running import in_full, run
from crossmargin_bt.sweep.space import Axis, axis
from crossmargin_bt.sweep.store import Store

__all__ = [
    "FIGURES",
    "OBJECTIVES",
    "Arm",
    "Axis",
    "Definition",
    "Objective",
    "Row",
    "Store",
    "Task",
    "axis",
    "in_full",
    "objectives",
    "run",
]
