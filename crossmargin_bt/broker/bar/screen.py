# SPDX-License-Identifier: GPL-3.0-or-later
"""The question asked before a bar is simulated: can anything happen to a pool in it?"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from crossmargin_bt.broker.session.bars import Bar


class BarEvent(IntEnum):
    """The most that can happen to the pools of an account within bars."""

    NOTHING = 0
    NEW_LOW_LEVEL = 1
    """No threshold is crossed, but the margin level may fall below the lowest of the run."""
    THRESHOLD = 2
    """A threshold may be crossed."""


class EventScreen(Protocol):
    """Classifies bars before they are simulated."""

    def classify(self, bars: Sequence[Bar], *, at_open: bool = False) -> BarEvent:
        """Return the most that can happen within these bars, or as they open. Conservative, and changes no mark."""
        ...


class NoScreen:
    """Rules nothing out, so every bar is simulated along its path."""

    def classify(self, bars: Sequence[Bar], *, at_open: bool = False) -> BarEvent:  # noqa: ARG002 - the screens' common shape
        """Return THRESHOLD."""
        return BarEvent.THRESHOLD
