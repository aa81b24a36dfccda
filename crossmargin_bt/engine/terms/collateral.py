# SPDX-License-Identifier: GPL-3.0-or-later
"""What a currency counts for as collateral of a pool of many currencies.

A holding counts at a share of its value that falls with its amount; a debt counts in full.
Source: docs/sources.md#collateral.
"""

from functools import cached_property
from itertools import pairwise
from typing import Literal

import msgspec

from crossmargin_bt.engine.terms.rates import MarginalRates
from crossmargin_bt.errors import RuleError


class CollateralTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From `amount_min` (inclusive) on, each further unit counts at `rate` of its value."""

    amount_min: float
    rate: float


class CollateralTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The tiers of some currencies; those of no `currencies` are for all that have none of their own.

    `measure` says what `amount_min` counts: the "value" in the currency of the pool, or the "amount" of the
    currency itself. Where there is no tier for the first unit a currency counts for nothing.

    Raises:
        RuleError: the first tier does not start at 0, amounts do not rise, or a rate is not between 0 and 1.

    >>> CollateralTerms((CollateralTier(0.0, 1.0), CollateralTier(5e6, 0.975), CollateralTier(1e7, 0.95))).discounted(11e6)
    10825000.0
    """

    tiers: tuple[CollateralTier, ...]
    currencies: tuple[str, ...] = ()
    measure: Literal["value", "amount"] = "value"
    in_scenarios: bool = True
    """Whether it is a coin that takes part in the scenarios of its risk unit, in portfolio margin; a dollar coin does not."""
    initial_haircut: float = 0.0
    """What of its value counts as locked besides: free margin counts it for less than the risk ratio does."""

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].amount_min != 0:
            raise RuleError("collateral tiers start with one at amount_min = 0")
        if any(upper.amount_min <= lower.amount_min for lower, upper in pairwise(self.tiers)):
            raise RuleError("collateral tiers rise in amount_min")
        if any(not 0 <= tier.rate <= 1 for tier in self.tiers):
            raise RuleError("the rate of a collateral tier lies between 0 and 1 (0.95 counts 95 %)")

    @cached_property
    def marginal_rates(self) -> MarginalRates:
        """The tiers as marginal slices."""
        return MarginalRates.from_bounds([tier.amount_min for tier in self.tiers], [tier.rate for tier in self.tiers])

    def discounted(self, amount: float) -> float:
        """Return what an amount that is not negative counts for, in what the tiers are measured in."""
        return self.marginal_rates.total(amount)

    def collateral_value(self, amount: float, price: float) -> float:
        """Return what a holding of `amount` at `price` counts for in the pool's currency; a debt in full.

        >>> CollateralTerms((CollateralTier(0.0, 0.9),)).collateral_value(-2.0, 100.0)
        -200.0
        """
        if amount <= 0:
            return amount * price
        return self.discounted(amount) * price if self.measure == "amount" else self.discounted(amount * price)


NOT_ACCEPTED = CollateralTerms((CollateralTier(0.0, 0.0),))


def collateral_terms(currency: str, terms: tuple[CollateralTerms, ...]) -> CollateralTerms:
    """Return the terms of a currency: its own, those of all others, or that it counts for nothing."""
    own = next((one for one in terms if currency in one.currencies), None)
    return own or next((one for one in terms if not one.currencies), NOT_ACCEPTED)
