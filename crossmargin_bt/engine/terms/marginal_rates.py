# SPDX-License-Identifier: GPL-3.0-or-later
"""Amounts in marginal slices: each part between two bounds counts at its own rate."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from crossmargin_bt.engine.math import formulas


class Slices(NamedTuple):
    """Rates from bounds on; the first rate holds from 0, and `bounds` are those after it."""

    bounds: tuple[float, ...]
    rates: tuple[float, ...]
    deductions: tuple[float, ...]
    """The amount that makes each rate continuous with the one below."""

    @classmethod
    def of(cls, bounds: Sequence[float], rates: Sequence[float]) -> "Slices":
        """Return the slices of rates that begin at `bounds`, the first of which is 0.

        >>> Slices.of((0.0, 5e6, 1e7), (1.0, 0.975, 0.95)).total(11e6)
        10825000.0
        """
        amounts = [0.0]
        for n in range(1, len(rates)):
            amounts.append(formulas.next_deduction(amounts[-1], bounds[n], rates[n - 1], rates[n]))
        return cls(tuple(bounds[1:]), tuple(rates), tuple(amounts))

    def total(self, amount: float) -> float:
        """Return what an amount comes to, its slices added up."""
        n = bisect_right(self.bounds, amount)
        return formulas.in_slices(amount, self.rates[n], self.deductions[n])
