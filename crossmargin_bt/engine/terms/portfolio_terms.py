# SPDX-License-Identifier: GPL-3.0-or-later
"""What a venue asks of a portfolio: which moves of price and volatility it must survive, and what is added to the worst.

All of it is data; `crossmargin_bt.engine.margin.scenarios` works it out. Rates are plain fractions. Source:
docs/sources.md#portfolio-margin.
"""

from array import array
from functools import cached_property
from typing import Literal

import msgspec

from crossmargin_bt.engine.terms.rates import MarginalRates
from crossmargin_bt.errors import RuleError


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One shock: the underlying moves by `move` (-0.12 is 12 % down), volatilities as named, `weight` of the result counts."""

    move: float
    volatility: Literal["same", "up", "down", "linear", "absolute"] = "same"
    weight: float = 1.0


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scenarios as a grid: every move, up and down and none, with every shock of volatility."""

    moves: tuple[float, ...]
    volatilities: tuple[Literal["same", "up", "down", "linear", "absolute"], ...] = ("up", "same", "down")
    weight: float = 1.0

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios, each move once in each direction."""
        moves = sorted({move for one in self.moves for move in (-one, one)})
        return tuple(Scenario(move, shock, self.weight) for move in moves for shock in self.volatilities)


class VolatilityShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How volatilities are shocked: by 1 + `up` x (30 / days)^power and 1 - `down` x the same, never below 0.

    The power is `short_power` up to 30 days and `long_power` beyond; days count at least `days_min`; what goes up goes to
    `shocked_min` at least.

    >>> round(VolatilityShock(up=0.38, down=0.38, short_power=0.3).tenor_scale(15.0) * 0.38, 4)
    0.4678
    """

    up: float
    down: float
    short_power: float = 0.3
    long_power: float = 0.13
    days_min: float = 1.0
    shocked_min: float = 0.0

    def tenor_scale(self, days: float) -> float:
        """Return (30 / days)^power, what a shock is multiplied by for an expiry in so many days."""
        power = self.short_power if days <= 30 else self.long_power
        return float((30 / max(days, self.days_min)) ** power)


class SkewShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the wings of a surface are shocked, by k = ln(strike / forward) and the root of the years to the expiry.

    Volatilities are multiplied by 1 + m k / k*, |m k / k*| not above m, with m = cap + slope x root and
    k* = max(`least_width`, root x `width` x (`level` + `level_slope` x root)); an "absolute" shock takes |k|.
    """

    linear_cap: float
    linear_slope: float
    absolute_cap: float
    absolute_slope: float
    width: float
    level: float
    level_slope: float
    least_width: float


class Discounting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the shocked value of an expiry is discounted, of what is owned and what is owed.

    An asset by `asset` x exp(-years x (rate x `asset_rate_scale` + `asset_rate`)), a debt by
    min(1 / discount factor, `debt` x exp(years x (rate x `debt_rate_scale` + `debt_rate`))).
    """

    asset: float
    asset_rate_scale: float
    asset_rate: float
    debt: float
    debt_rate_scale: float
    debt_rate: float


class BasisContingency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loss beside the scenarios: of each expiry what it loses at `up` or `down`, x (`add` + `each_year` x years)."""

    up: float
    down: float
    add: float
    each_year: float


class ChargeTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From `amount_min` (inclusive) on, each further unit of a charge counts `multiplier` times."""

    amount_min: float
    multiplier: float


class MinimumCharge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The least a risk unit keeps: rates on the values of what is held, scaled in marginal tiers.

    >>> charge = MinimumCharge(linear=0.0, short_option=0.0, tiers=(ChargeTier(0.0, 1.0), ChargeTier(10_000.0, 2.0)))
    >>> charge.scaled(30_000.0)
    50000.0
    """

    linear: float
    short_option: float
    tiers: tuple[ChargeTier, ...]

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].amount_min != 0:
            raise RuleError("the tiers of a minimum charge start at amount_min = 0")

    @cached_property
    def marginal_rates(self) -> MarginalRates:
        """The tiers as marginal slices."""
        return MarginalRates.from_bounds(
            [tier.amount_min for tier in self.tiers], [tier.multiplier for tier in self.tiers]
        )

    def scaled(self, amount: float) -> float:
        """Return a charge in marginal slices."""
        return self.marginal_rates.total(amount)


class UnitTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The terms of risk units: all contracts on one coin, and the coin itself as far as it hedges them.

    UnitMargin is max(`loss_factor` x worst loss + charges, minimum charge), where the worst loss is that of all `scenarios` and `grids`,
    of a day's decay (`theta_days`) and of the `basis`; initially at least `initial_multiple` of that, and at least
    `initial_factor` x worst loss + charges + initial charges. Charges, on values at spot: `linear` of the net of
    perpetuals and futures, `offset` of the smaller side of them, `short_option` of net shorts by strike, `vega_offset` of the vega (a point)
    that expiries of opposite sign take from each other, `curve` (a rate a year) of deltas x years, `rates` of option values x years.
    `coins` says how much of the coin counts: none, what hedges ("offset"), or "all" of it.
    """

    underlyings: tuple[str, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    grids: tuple[Grid, ...] = ()
    volatility: VolatilityShock
    skew: SkewShock | None = None
    discounting: Discounting | None = None
    basis: BasisContingency | None = None
    theta_days: float = 0.0
    linear: float = 0.0
    linear_initial: float = 0.0
    offset: float = 0.0
    short_option: float = 0.0
    short_option_initial: float = 0.0
    vega_offset: float = 0.0
    curve: float = 0.0
    rates: float = 0.0
    minimum: MinimumCharge | None = None
    peg: tuple[ChargeTier, ...] = ()
    """What hedges between contracts in different dollars keep besides, in marginal tiers of their value: each multiplier is a rate."""
    loss_factor: float = 1.0
    initial_factor: float = 1.0
    initial_multiple: float = 1.0
    coins: Literal["none", "offset", "all"] = "offset"

    def __post_init__(self) -> None:
        if not self.scenarios and not self.grids:
            raise RuleError("a risk unit needs scenarios or grids")
        if any(one.move <= -1 for one in self.all_scenarios):
            raise RuleError("no scenario takes a price to 0 or below; a move lies above -1")
        if self.peg and self.peg[0].amount_min != 0:
            raise RuleError("the tiers of a peg start at amount_min = 0")
        skewed = any(one.volatility in ("linear", "absolute") for one in self.all_scenarios)
        if skewed and self.skew is None:
            raise RuleError("scenarios of a skewed surface need skew")

    @cached_property
    def peg_rates(self) -> MarginalRates | None:
        """The tiers of the peg as marginal slices."""
        if not self.peg:
            return None
        return MarginalRates.from_bounds([tier.amount_min for tier in self.peg], [tier.multiplier for tier in self.peg])

    @cached_property
    def all_scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios listed and those of the grids."""
        return (*self.scenarios, *(one for grid in self.grids for one in grid.scenarios))

    @cached_property
    def moves(self) -> "array[float]":
        """The move of each of them."""
        return array("d", [one.move for one in self.all_scenarios])

    @cached_property
    def weights(self) -> "array[float]":
        """The weight of each of them."""
        return array("d", [one.weight for one in self.all_scenarios])


class PortfolioTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A venue's portfolio margin: the terms of its risk units, those without `underlyings` for all other coins.

    Below a `peg_threshold` of the price of the account's currency in dollars the initial factor rises by `peg_factor` for each dollar.
    """

    units: tuple[UnitTerms, ...]
    peg_threshold: float = 0.0
    peg_factor: float = 0.0

    def __post_init__(self) -> None:
        if not any(not unit.underlyings for unit in self.units):
            raise RuleError("portfolio terms need units for all other coins: one without underlyings")

    def unit_terms(self, underlying: str) -> UnitTerms:
        """Return the terms of the unit of a coin."""
        own = next((unit for unit in self.units if underlying in unit.underlyings), None)
        return own or next(unit for unit in self.units if not unit.underlyings)
