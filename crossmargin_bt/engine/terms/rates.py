# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance margin rules and marginal rates.

A maintenance rule maps a position's value (settle currency) and quantity (base coins) to its maintenance
margin and to a floor of the initial rate. It also lists its breakpoints, the values at which the margin
changes slope or jumps, because the intrabar search for a liquidation solves each segment separately.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import ClassVar, Literal, NamedTuple

import msgspec

from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.terms.finite import check_finite
from crossmargin_bt.errors import RuleError


class MarginalRates(NamedTuple):
    """Marginal rates: each part of an amount between two bounds is charged at its own rate, as in a tax schedule.

    `bounds` excludes the first lower bound, which is 0, so there is one bound fewer than there are rates.
    """

    bounds: tuple[float, ...]
    rates: tuple[float, ...]
    deductions: tuple[float, ...]
    """Per tier, the deduction that makes the total continuous at its lower bound (`formulas.next_deduction`)."""

    @classmethod
    def from_bounds(cls, bounds: Sequence[float], rates: Sequence[float]) -> "MarginalRates":
        """Return the marginal rates that apply from each of `bounds` on; the first bound is 0.

        >>> MarginalRates.from_bounds((0.0, 5e6, 1e7), (1.0, 0.975, 0.95)).total(11e6)
        10825000.0
        """
        amounts = [0.0]
        for n in range(1, len(rates)):
            amounts.append(formulas.next_deduction(amounts[-1], bounds[n], rates[n - 1], rates[n]))
        return cls(tuple(bounds[1:]), tuple(rates), tuple(amounts))

    def total(self, amount: float) -> float:
        """Return the total of a non-negative amount: the sum of its parts, each at its own rate."""
        n = bisect_right(self.bounds, amount)
        return formulas.tiered_amount(amount, self.rates[n], self.deductions[n])


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One tier of a maintenance table, from `notional_min` (inclusive, settle currency) upwards.

    `leverage_max` is the maximum leverage of the tier; its reciprocal is the floor of the initial rate, unless the tier has an
    `initial_rate` of its own.
    """

    notional_min: float
    maintenance_rate: float
    leverage_max: float | None = None
    initial_rate: float | None = None

    @cached_property
    def initial_floor(self) -> float:
        """The minimum initial rate in the tier, 0 without one."""
        if self.initial_rate is not None:
            return self.initial_rate
        return 0.0 if self.leverage_max is None else 1 / self.leverage_max


class TierTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="tiers", tag_field="rule", dict=True):
    """A table of tiers; a single tier from zero is a flat rate.

    With `marginal`, the part of the value inside each tier is charged at that tier's rate: value x rate - deduction.
    Otherwise the tier that contains the value sets the rate of the whole value. With the measure "quantity", bounds
    (`notional_min`) are numbers of base coins instead of amounts; a venue that prints contracts means contracts x contract size.
    Source: docs/sources.md#tiers.

    Raises:
        RuleError: the first tier does not start at zero, tiers do not rise, a rate is not in
            (0, 1), or a maintenance rate exceeds the initial rate at the tier's maximum leverage.

    >>> table = TierTable((Tier(0, 0.004), Tier(50_000, 0.005)), marginal=True)
    >>> round(table.margin(100_000.0, 1.0), 9)
    450.0
    >>> TierTable((Tier(0, 0.01), Tier(10, 0.02)), measure="quantity").margin(1200.0, 12.0)
    24.0
    """

    tiers: tuple[Tier, ...]
    marginal: bool = False
    measure: Literal["value", "quantity"] = "value"

    def __post_init__(self) -> None:
        check_finite(self)
        if not self.tiers or self.tiers[0].notional_min != 0:
            raise RuleError("a tier table starts with a tier at notional_min = 0")
        for lower, upper in pairwise(self.tiers):
            if upper.notional_min <= lower.notional_min or upper.maintenance_rate < lower.maintenance_rate:
                raise RuleError(
                    f"tiers must rise, in notional_min and in maintenance_rate: the one from {upper.notional_min:g} at {upper.maintenance_rate:g} follows "
                    f"the one from {lower.notional_min:g} at {lower.maintenance_rate:g}"
                )
        for tier in self.tiers:
            if tier.leverage_max is not None and tier.leverage_max < 1:
                raise RuleError(
                    f"the tier from {tier.notional_min:g} has leverage_max {tier.leverage_max:g}; it is 1 or more"
                )
            if not 0 < (1.0 if tier.initial_rate is None else tier.initial_rate) <= 1:
                raise RuleError(
                    f"the tier from {tier.notional_min:g} has initial_rate {tier.initial_rate:g}; it must lie in (0, 1]"
                )
            ceiling = tier.initial_floor or 1.0
            if not 0 < tier.maintenance_rate < 1 or tier.maintenance_rate > ceiling:
                raise RuleError(
                    f"the tier from {tier.notional_min:g} has maintenance rate {tier.maintenance_rate:g}; "
                    f"it must lie above 0 and not above its initial rate {ceiling:g}"
                )

    @cached_property
    def has_initial_floor(self) -> bool:
        """Whether any tier limits the leverage or has an initial rate, and so sets a floor of the initial rate."""
        return any(self._initial_floors)

    @cached_property
    def breakpoints(self) -> tuple[float, ...]:
        """Values (settle currency) at which the margin changes slope or jumps; none if the tier depends on the quantity."""
        return () if self.measure == "quantity" else self.bounds

    @cached_property
    def bounds(self) -> tuple[float, ...]:
        """The lower bounds of the tiers above the first."""
        return tuple(tier.notional_min for tier in self.tiers[1:])

    @cached_property
    def _initial_floors(self) -> tuple[float, ...]:
        return tuple(map(attrgetter("initial_floor"), self.tiers))

    @cached_property
    def marginal_rates(self) -> MarginalRates:
        """The tiers as marginal rates."""
        return MarginalRates.from_bounds(
            [tier.notional_min for tier in self.tiers], [tier.maintenance_rate for tier in self.tiers]
        )

    @cached_property
    def deductions(self) -> tuple[float, ...]:
        """The deduction of each tier (Binance: maintenance amount); zeros if the rates apply to the whole value."""
        return self.marginal_rates.deductions if self.marginal else (0.0,) * len(self.tiers)

    def margin(self, value: float, quantity: float) -> float:
        """Return the maintenance margin of `value` (settle currency), held as `quantity` base coins."""
        measured = value if self.measure == "value" else quantity
        n = bisect_right(self.bounds, measured)
        margin = formulas.tiered_amount(measured, self.tiers[n].maintenance_rate, self.deductions[n])
        return margin if measured is value else formulas.pro_rata(margin, value, quantity)

    def initial_floor(self, value: float, quantity: float) -> float:
        """Return the minimum initial rate in the tier of a position, 0 without one."""
        measured = value if self.measure == "value" else quantity
        return self._initial_floors[bisect_right(self.bounds, measured)]


class LeverageTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tier of a leverage table: the maximum leverage from `notional_min` (inclusive, settle currency) upwards."""

    notional_min: float
    leverage_max: float


class ShareTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="share", tag_field="rule", dict=True):
    """Maintenance rate = share / maximum leverage of the tier, independent of the leverage set.

    Hyperliquid uses a share of 0.5 (docs/sources.md#hyperliquid-maintenance).

    Raises:
        RuleError: the share is not in (0, 1], or the tiers do not rise from zero.

    >>> ShareTable((LeverageTier(0, 50),), share=0.5).margin(1000.0, 1.0)
    10.0
    """

    tiers: tuple[LeverageTier, ...]
    share: float
    marginal: bool = True

    has_initial_floor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self)
        if not 0 < self.share <= 1 or any(tier.leverage_max < 1 for tier in self.tiers):
            raise RuleError("share must lie in (0, 1], and each leverage_max must be at least 1")
        _ = self.tier_table  # runs the checks of a tier table

    @cached_property
    def tier_table(self) -> TierTable:
        """The equivalent table of maintenance rates."""
        return TierTable(
            tuple(Tier(tier.notional_min, self.share / tier.leverage_max, tier.leverage_max) for tier in self.tiers),
            self.marginal,
        )

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Values (settle currency) at which the margin changes slope or jumps: the lower bounds of the tiers."""
        return self.tier_table.breakpoints

    def margin(self, value: float, quantity: float) -> float:
        """Return the maintenance margin of `value` (settle currency)."""
        return self.tier_table.margin(value, quantity)

    def initial_floor(self, value: float, quantity: float) -> float:
        """Return the minimum initial rate in the tier of `value`: 1 / its maximum leverage."""
        return self.tier_table.initial_floor(value, quantity)


class LinearRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="linear", tag_field="rule"):
    """Rates that are linear in the quantity, applied to the whole position: rate = base + slope x quantity.

    `initial` and `maintenance` are the base rates; `slope` is the increase of both per base coin.
    Source: docs/sources.md#deribit-rates.

    >>> LinearRate(initial=0.02, maintenance=0.01, slope=0.00005).margin(2_500_000.0, 25.0)
    28125.0
    """

    initial: float
    maintenance: float
    slope: float

    has_initial_floor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self)
        if not 0 < self.maintenance <= self.initial < 1 or self.slope < 0:
            raise RuleError("a linear rate needs 0 < maintenance <= initial < 1 and slope >= 0")

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """None: for a held quantity the margin is a straight line in the price."""
        return ()

    def margin(self, value: float, quantity: float) -> float:
        """Return the maintenance margin of a position of `value` and `quantity` base coins."""
        return formulas.tiered_amount(value, formulas.linear_rate(quantity, self.maintenance, self.slope), 0.0)

    def initial_floor(self, value: float, quantity: float) -> float:  # noqa: ARG002 - the common signature of the rules
        """Return the minimum initial rate of `quantity` base coins."""
        return formulas.linear_rate(quantity, self.initial, self.slope)


class SizeRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="size", tag_field="rule"):
    """KuCoin's size-dependent maintenance rate: min(cap, (1 + quantity/doubling) / (2 x leverage_constant)).

    The initial rate is at least `initial_factor` x the maintenance rate. `open_constant` (k) limits the size of a
    position that is opened to k x ln(capital x leverage / (price x k) + 1).
    Source: docs/sources.md#kucoin-maintenance, docs/sources.md#kucoin-open-size.
    """

    doubling: float
    leverage_constant: float
    cap: float
    initial_factor: float
    open_constant: float | None = None

    has_initial_floor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self)
        if min(self.doubling, self.leverage_constant, self.cap) <= 0 or self.initial_factor < 1:
            raise RuleError("a size-dependent rate needs positive constants and an initial_factor of at least 1")

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """None: for a held quantity the margin is a straight line in the price."""
        return ()

    def rate(self, quantity: float) -> float:
        """Return the maintenance rate of a position of `quantity` base coins."""
        return min(self.cap, formulas.size_dependent_rate(quantity, self.doubling, self.leverage_constant))

    def margin(self, value: float, quantity: float) -> float:
        """Return the maintenance margin of `value`, held as `quantity` base coins."""
        return formulas.tiered_amount(value, self.rate(quantity), 0.0)

    def initial_floor(self, value: float, quantity: float) -> float:  # noqa: ARG002
        """Return the lowest initial rate for `quantity` base coins."""
        return self.initial_factor * self.rate(quantity)


class PowerRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="power", tag_field="rule"):
    """A power-law maintenance rate: max(base, factor x measure^exponent), `measure` being the value or the quantity.

    The initial rate is at least `initial_factor` x the maintenance rate.
    Source: docs/sources.md#orderly-maintenance (value^0.8), docs/sources.md#ftx-initial (square root of the
    quantity).
    """

    base: float
    factor: float
    exponent: float
    initial_factor: float
    measure: Literal["value", "quantity"] = "value"

    has_initial_floor: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self)
        if not (0 < self.base < 1 and self.factor > 0 and 0 < self.exponent < 2) or self.initial_factor < 1:
            raise RuleError("a power rate needs 0 < base < 1, a positive factor, 0 < exponent < 2, initial_factor >= 1")

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The value at which the power exceeds the base; none if the rate depends on the quantity."""
        return () if self.measure == "quantity" else ((self.base / self.factor) ** (1 / self.exponent),)

    def rate(self, value: float, quantity: float) -> float:
        """Return the maintenance rate of a position of `value` (settle currency) and `quantity` base coins."""
        measured = value if self.measure == "value" else quantity
        return formulas.power_rate(measured, self.base, self.factor, self.exponent)

    def margin(self, value: float, quantity: float) -> float:
        """Return the maintenance margin of `value`, held as `quantity` base coins."""
        return formulas.tiered_amount(value, self.rate(value, quantity), 0.0)

    def initial_floor(self, value: float, quantity: float) -> float:
        """Return the minimum initial rate of a position of `value` and `quantity` base coins."""
        return self.initial_factor * self.rate(value, quantity)


MaintenanceRule = TierTable | ShareTable | LinearRate | SizeRate | PowerRate


def flat_rate(rate: float, leverage_max: float | None = None) -> TierTable:
    """Return a maintenance rule with one rate for every value."""
    return TierTable((Tier(0.0, rate, leverage_max),))


def tier_table(rows: Sequence[tuple[float, float, *tuple[float | None, ...]]], *, marginal: bool) -> TierTable:
    """Return a tier table from rows of (notional_min, maintenance_rate[, leverage_max[, initial_rate]])."""
    return TierTable(tuple(Tier(*row) for row in rows), marginal)
