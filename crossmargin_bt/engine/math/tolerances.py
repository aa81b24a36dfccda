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
