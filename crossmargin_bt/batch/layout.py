# SPDX-License-Identifier: GPL-3.0-or-later
"""What the compiled loop takes: where everything stands in its arrays."""

from typing import Any, NamedTuple

import numpy as np

# Where a target says nothing: leave the position as it is.
LEAVE = np.iinfo(np.int64).min
# Places in a candle.
OPEN, HIGH, LOW, CLOSE = range(4)
# Places in the arrays of contracts, shape (instruments, 5), and tiers, shape (instruments, 4, tiers); where a table has fewer tiers
# than another, the rest begin at infinity.
UNITS, INVERSE, MAKER, TAKER, KEPT = range(5)
BEGINS, RATE, DEDUCTION, FLOOR = range(4)
# Places in an account's money, shape (5,), and counts, shape (2,).
BALANCE, FEES_PAID, RECEIVED, PEAK, DRAWDOWN = range(5)
FILLS, REFUSED = range(2)


class Terms(NamedTuple):
    """What the account trades under, beside contracts and tiers."""

    floor_raises: bool
    """Whether a tier's lowest initial rate raises that of a position; otherwise the venue refuses it."""
    smallest: float
    """The smallest value that may be opened."""
    gains_pay: bool
    """Whether floating profit pays for cross orders."""
    markup: float
    """By how much a sell order is marked up."""
    leverage: float
    isolated: bool


class Held(NamedTuple):
    """What an account holds of every contract, and how many thresholds of each pool have acted; shapes (instruments,).

    The shared pool of a cross account is the first.
    """

    lots: Any
    entry: Any
    margin: Any
    acted: Any

    @classmethod
    def nothing(cls, instruments: int) -> "Held":
        """Return an account that holds nothing."""
        whole, real = np.zeros(instruments, np.int64), np.zeros(instruments)
        return cls(whole, real, real.copy(), whole.copy())
