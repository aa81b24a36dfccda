# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen to pools within bars, the bands of prices in which it cannot, and how often that is asked."""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.engine.ledger.account import Account

# So many bars at most the margin level is followed without asking.
SPELL_MOST = 16
# A band ends this part of the way to where the slack does.
ALMOST = 0.95


class BarEvent(IntEnum):
    """What can happen to a pool within bars."""

    NOTHING = 0
    NEW_LOW_LEVEL = 1
    """Nothing acts, but its lowest level so far may be undercut."""
    THRESHOLD = 2
    """A threshold may act."""


class SafePriceRange(NamedTuple):
    """Mark prices within which something cannot happen, at one version of the account; an instrument not named stands still."""

    version: int
    ranges: dict[str, tuple[float, float]]
    counts_orders: bool = False
    """Whether the version is that of orders as well."""

    def holds(self, account: Account, bars: Sequence[Bar], *, at_open: bool = False) -> bool:
        """Return whether these bars stay within the band, or open there."""
        if self.version != (account.version if self.counts_orders else account.risk_version):
            return False
        for bar in bars:
            low, high = self.ranges.get(bar.book.instrument.symbol, (math.inf, 0.0))
            opened, top, bottom, _ = bar.mark
            if at_open:
                top = bottom = opened
            if bottom < low or top > high:
                return False
        return True


NO_RANGE = SafePriceRange(-1, {})


class Backoff:
    """Bars in which the margin level is followed without asking first whether it may sink: noting it costs no more than asking.

    None after the first yes, one after the second in a row, then each time twice as many as before.
    """

    def __init__(self) -> None:
        self._left = self._length = 0

    def lasts(self) -> bool:
        """Return whether this bar is one of them, and count it."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def hear(self, *, sinks: bool) -> None:
        """Take an answer."""
        self._left = self._length if sinks else 0
        self._length = min(max(1, 2 * self._length), SPELL_MOST) if sinks else 0
