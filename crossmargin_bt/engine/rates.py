# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance rules: how much of a position's value must stay covered.

A rule answers for a value in the settle currency and the quantity behind it in base coins. It
also names the values at which its answer bends or jumps, because the search for a liquidation
inside a bar has to look at each stretch on its own.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import msgspec

from crossmargin_bt.engine import formulas
from crossmargin_bt.errors import RuleError


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bracket of a tier table: from `notional_min` (inclusive, settle currency) upwards."""

    notional_min: float
    maintenance_rate: float
    leverage_max: float | None = None


class TierTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="tiers", tag_field="rule", dict=True):
    """A table of tiers; one tier from zero is a flat rate.

    With `marginal` each slice of the value pays its own tier's rate; otherwise the tier that
    holds the value decides the rate of all of it.

    Raises:
        RuleError: the first tier does not start at zero, tiers do not rise, a rate is not in
            (0, 1), or a tier demands more maintenance than the initial margin it allows.

    >>> table = TierTable((Tier(0, 0.004), Tier(50_000, 0.005)), marginal=True)
    >>> round(table.margin(100_000.0, 1.0), 9)
    450.0
    """

    tiers: tuple[Tier, ...]
    marginal: bool = False

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].notional_min != 0:
            raise RuleError("a tier table starts with a tier at notional_min = 0")
        for lower, upper in pairwise(self.tiers):
            if upper.notional_min <= lower.notional_min or upper.maintenance_rate < lower.maintenance_rate:
                raise RuleError(
                    f"tiers rise: the one from {upper.notional_min:g} at {upper.maintenance_rate:g} follows "
                    f"the one from {lower.notional_min:g} at {lower.maintenance_rate:g}"
                )
        for tier in self.tiers:
            ceiling = 1.0 if tier.leverage_max is None else 1 / tier.leverage_max
            if not 0 < tier.maintenance_rate < 1 or tier.maintenance_rate > ceiling:
                raise RuleError(
                    f"the tier from {tier.notional_min:g} has maintenance rate {tier.maintenance_rate:g}; "
                    f"it must lie above 0 and not above its initial rate {ceiling:g}"
                )

    @cached_property
    def knots(self) -> tuple[float, ...]:
        """Values (settle currency) at which the margin bends or jumps."""
        return tuple(tier.notional_min for tier in self.tiers[1:])

    @cached_property
    def deductions(self) -> tuple[float, ...]:
        """The amount that makes each tier's rate continuous with the one below; zeros for whole-position tables."""
        amounts = [0.0] * len(self.tiers)
        if self.marginal:
            for n, (lower, upper) in enumerate(pairwise(self.tiers), start=1):
                amounts[n] = formulas.next_deduction(
                    amounts[n - 1], upper.notional_min, lower.maintenance_rate, upper.maintenance_rate
                )
        return tuple(amounts)

    def margin(self, value: float, quantity: float) -> float:  # noqa: ARG002 - the rule's common shape
        """Return the maintenance margin of `value` (settle currency)."""
        n = bisect_right(self.knots, value)
        return formulas.maintenance_margin(value, self.tiers[n].maintenance_rate, self.deductions[n])

    def initial_floor(self, value: float, quantity: float) -> float:  # noqa: ARG002
        """Return the lowest initial rate the tier of `value` allows: 1 / its highest leverage, or 0."""
        highest = self.tiers[bisect_right(self.knots, value)].leverage_max
        return 0.0 if highest is None else 1 / highest


class SizeRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="size", tag_field="rule"):
    """A rate that grows with the quantity held: min(cap, (1 + quantity/doubling) / (2 x leverage_constant)).

    `initial_factor` times this rate is the floor of the initial rate.
    Source: docs/sources.md#kucoin-maintenance.
    """

    doubling: float
    leverage_constant: float
    cap: float
    initial_factor: float

    def __post_init__(self) -> None:
        if min(self.doubling, self.leverage_constant, self.cap) <= 0 or self.initial_factor < 1:
            raise RuleError("a size-dependent rate needs positive constants and an initial_factor of at least 1")

    @property
    def knots(self) -> tuple[float, ...]:
        """None: for a held quantity the margin is a straight line in the price."""
        return ()

    def rate(self, quantity: float) -> float:
        """Return the maintenance rate of `quantity` base coins."""
        return min(self.cap, formulas.size_dependent_rate(quantity, self.doubling, self.leverage_constant))

    def margin(self, value: float, quantity: float) -> float:
        """Return the maintenance margin of `value`, held as `quantity` base coins."""
        return formulas.maintenance_margin(value, self.rate(quantity), 0.0)

    def initial_floor(self, value: float, quantity: float) -> float:  # noqa: ARG002
        """Return the lowest initial rate for `quantity` base coins."""
        return self.initial_factor * self.rate(quantity)


class PowerRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="power", tag_field="rule"):
    """A rate that grows with a power of the value: max(base, factor x value^exponent).

    `initial_factor` times this rate is the floor of the initial rate.
    Source: docs/sources.md#orderly-maintenance.
    """

    base: float
    factor: float
    exponent: float
    initial_factor: float

    def __post_init__(self) -> None:
        if not (0 < self.base < 1 and self.factor > 0 and 0 < self.exponent < 2) or self.initial_factor < 1:
            raise RuleError("a power rate needs 0 < base < 1, a positive factor, 0 < exponent < 2, initial_factor >= 1")

    @property
    def knots(self) -> tuple[float, ...]:
        """The value at which the power overtakes the base."""
        return ((self.base / self.factor) ** (1 / self.exponent),)

    def rate(self, value: float) -> float:
        """Return the maintenance rate of `value` (settle currency)."""
        return formulas.power_rate(value, self.base, self.factor, self.exponent)

    def margin(self, value: float, quantity: float) -> float:  # noqa: ARG002 - the rule's common shape
        """Return the maintenance margin of `value` (settle currency)."""
        return formulas.maintenance_margin(value, self.rate(value), 0.0)

    def initial_floor(self, value: float, quantity: float) -> float:  # noqa: ARG002
        """Return the lowest initial rate for `value`."""
        return self.initial_factor * self.rate(value)


MaintenanceRule = TierTable | SizeRate | PowerRate


def flat(rate: float, leverage_max: float | None = None) -> TierTable:
    """Return the rule of one rate for every size."""
    return TierTable((Tier(0.0, rate, leverage_max),))


def table(rows: Sequence[tuple[float, float, float | None]], *, marginal: bool) -> TierTable:
    """Return a tier table from rows of (notional_min, maintenance_rate, leverage_max)."""
    return TierTable(tuple(Tier(*row) for row in rows), marginal)
