# SPDX-License-Identifier: GPL-3.0-or-later
"""Every tolerance of the engine, with the question it answers.

Money, prices and rates are 64-bit floats and sizes are whole lots, so a tolerance is only needed where two sums of rounded
terms are compared, where a float becomes a count of lots, and where an iteration ends.
"""

REL_TOL = 1e-12
"""Are two amounts equal but for the rounding of the sums they come from? Relative to the largest amount involved."""

OVERDRAWN_TOL = 1e-9
"""Is more margin in use than the collateral covers? In-use margin may exceed collateral by this relative amount."""

REARM_HYSTERESIS = 1e-6
"""Has a pool recovered above a threshold? It re-arms once the margin level exceeds it by this relative amount."""

SAME_MOMENT_TOL = 1e-6
"""Does a pool fail its requirement under another rule too? At the moment of a liquidation both are equal up to this part of it."""

LOT_TOL = 1e-9
"""Is a number of lots a whole number? 0.3 / 0.1 is 2.9999999999999996 and means 3. Absolute, in lots."""

LOT_REL_TOL = 1e-14
"""The same for large numbers of lots, whose floats lie further apart; relative to the number, added to `LOT_TOL`."""

LOT_TOL_MAX = 0.25
"""The same for more than 1e13 lots, where a relative tolerance alone would become whole lots: the most of both together."""

LOT_REMAINDER_MIN = 1e-6
"""Is the difference of two sizes an order? Below this part of a lot it is rounding."""

DEBT_MIN = 1e-9
"""Is a negative balance a debt? Below this value, in the account's currency, it is rounding."""

DEBT_GROWTH_MIN = 1e-9
"""Has a debt grown, so that interest is due on the rise? A smaller relative rise is rounding."""

ROOT_TOL = 1e-9
"""Has the search for a crossing ended? Once the gap is at most this part of the gap at the segment's start."""

SEGMENT_EDGE = 1e-9
"""Where does a segment of a path begin and end, for a requirement that jumps there? This part of its length inside."""

SUM_REL_TOL, SUM_ABS_TOL = 1e-9, 1e-6
"""Are equity and the sum of its parts the same? The invariants allow these differences; the second is in the currency."""

FUND_TOL = 1e-6
"""Is the insurance fund overdrawn? By more than this amount, in the account's currency."""


def fits(needed: float, available: float, *scales: float) -> bool:
    """Return whether `available` covers `needed`, up to the rounding of the sums behind them.

    `scales` are further amounts in the same currency that entered those sums, such as the balance: rounding errors are
    relative to the largest of all.

    >>> fits(0.1 + 0.2, 0.3)
    True
    >>> fits(0.3 + 1e-9, 0.3), fits(0.3 + 1e-9, 0.3, 1e4)
    (False, True)
    """
    return needed <= available + REL_TOL * max(abs(needed), abs(available), *scales)
