# SPDX-License-Identifier: GPL-3.0-or-later
"""Collateral haircuts: the collateral value of each currency in a multi-currency pool.

The collateral value of a holding is its value x a collateral rate, in marginal tiers; a debt counts in full.
Source: docs/sources.md#collateral.
"""

from functools import cached_property
from itertools import pairwise
from typing import Literal

import msgspec

from crossmargin_bt.engine.terms.rates import MarginalRates
from crossmargin_bt.errors import RuleError


class CollateralTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The collateral rate (1 - haircut) of each unit above `amount_min` (inclusive)."""

    amount_min: float
    rate: float


class CollateralTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Collateral rates of some currencies; terms without `currencies` are the default for all others.

    `measure` is the unit of `amount_min`: the "value" in the currency of the pool, or the "amount" of the
    currency itself. A currency without terms is not accepted as collateral.

    Raises:
        RuleError: the first tier does not start at 0, amounts do not rise, or a rate is not between 0 and 1.

    >>> CollateralTerms((CollateralTier(0.0, 1.0), CollateralTier(5e6, 0.975), CollateralTier(1e7, 0.95))).discounted(11e6)
    10825000.0
    """

    tiers: tuple[CollateralTier, ...]
    currencies: tuple[str, ...] = ()
    measure: Literal["value", "amount"] = "value"
    in_scenarios: bool = True
    """Whether the coin takes part in the scenarios of its risk unit in portfolio margin; a stablecoin does not."""
    initial_haircut: float = 0.0
    """A fraction of the holding's value added to the margin in use: an additional haircut in free margin that does
    not apply in the risk ratio."""

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].amount_min != 0:
            raise RuleError("the first collateral tier must start at amount_min = 0")
        if any(upper.amount_min <= lower.amount_min for lower, upper in pairwise(self.tiers)):
            raise RuleError("collateral tiers must rise in amount_min")
        if any(not 0 <= tier.rate <= 1 for tier in self.tiers):
            raise RuleError("the rate of a collateral tier must lie between 0 and 1 (0.95 counts 95 %)")

    @cached_property
    def marginal_rates(self) -> MarginalRates:
        """The tiers as marginal rates."""
        return MarginalRates.from_bounds([tier.amount_min for tier in self.tiers], [tier.rate for tier in self.tiers])

    def discounted(self, amount: float) -> float:
        """Return a non-negative amount after its haircut, in the unit of `measure`."""
        return self.marginal_rates.total(amount)

    def collateral_value(self, amount: float, price: float) -> float:
        """Return the collateral value of a holding of `amount` at `price`, in the pool's currency; a debt in full.

        >>> CollateralTerms((CollateralTier(0.0, 0.9),)).collateral_value(-2.0, 100.0)
        -200.0
        """
        if amount <= 0:
            return amount * price
        return self.discounted(amount) * price if self.measure == "amount" else self.discounted(amount * price)


NOT_ACCEPTED = CollateralTerms((CollateralTier(0.0, 0.0),))


def collateral_terms(currency: str, terms: tuple[CollateralTerms, ...]) -> CollateralTerms:
    """Return the collateral terms of a currency: its own, else the default, else `NOT_ACCEPTED`."""
    own = next((one for one in terms if currency in one.currencies), None)
    return own or next((one for one in terms if not one.currencies), NOT_ACCEPTED)
