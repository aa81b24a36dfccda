# SPDX-License-Identifier: GPL-3.0-or-later
"""Portfolio margin terms: stress scenarios of price and volatility, and the charges added to the worst loss.

Data only; `crossmargin_bt.engine.margin.scenarios` evaluates it. Rates are plain fractions.
Source: docs/sources.md#portfolio-margin.
"""

from array import array
from functools import cached_property
from typing import Literal

import msgspec

from crossmargin_bt.engine.terms.liquidation_steps import LiquidationStep
from crossmargin_bt.engine.terms.rates import MarginalRates
from crossmargin_bt.errors import RuleError


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stress scenario: a relative price `move` (-0.12 is 12 % down), a volatility shock, and a loss `weight`.

    `volatility` selects the shock: "up" and "down" are those of `VolatilityShock`, "linear" and "absolute" those of
    `SkewShock`, "same" is none. The loss is multiplied by `weight` (extreme moves often count in part).
    """

    move: float
    volatility: Literal["same", "up", "down", "linear", "absolute"] = "same"
    weight: float = 1.0


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario grid: every move in both directions, combined with every volatility shock."""

    moves: tuple[float, ...]
    volatilities: tuple[Literal["same", "up", "down", "linear", "absolute"], ...] = ("up", "same", "down")
    weight: float = 1.0

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of the grid, in rising order of the move."""
        moves = sorted({move for one in self.moves for move in (-one, one)})
        return tuple(Scenario(move, shock, self.weight) for move in moves for shock in self.volatilities)


class VolatilityShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A relative volatility shock with a term structure: factors 1 + up x (30/days)^power and 1 - down x (30/days)^power.

    The power is `short_power` up to 30 days and `long_power` beyond. `days_min` is the lower bound of the days to expiry,
    `shocked_min` the lower bound of a volatility shocked upwards; a downward factor is never below 0.

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
        """Return (30 / days)^power, the multiplier of the shock for an expiry in `days` days."""
        power = self.short_power if days <= 30 else self.long_power
        return float((30 / max(days, self.days_min)) ** power)


class SkewShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A skew shock of the volatility surface, by log-moneyness k = ln(strike / forward).

    With t = sqrt(years to expiry), m = cap + slope x t and k* = max(`least_width`, t x `width` x (`level` + `level_slope` x t)),
    volatilities are multiplied by 1 + m k / k*, where m k / k* is clamped to [-m, m]. A "linear" shock uses k and the
    `linear_` parameters, an "absolute" shock |k| and the `absolute_` parameters.
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
    """Discounting of the shocked value of the options of one expiry.

    A positive value is multiplied by `asset` x exp(-years x (rate x `asset_rate_scale` + `asset_rate`)), a negative one by
    min(1 / discount factor, `debt` x exp(years x (rate x `debt_rate_scale` + `debt_rate`))).
    """

    asset: float
    asset_rate_scale: float
    asset_rate: float
    debt: float
    debt_rate_scale: float
    debt_rate: float


class BasisContingency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Basis risk, a loss compared with the scenarios: sum over expiries of loss x (`add` + `each_year` x years).

    The loss of an expiry is the larger of its losses at the forward moves `up` and `down`.
    """

    up: float
    down: float
    add: float
    each_year: float


class ChargeTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The multiplier of each unit of a charge above `amount_min` (inclusive)."""

    amount_min: float
    multiplier: float


class MinimumCharge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The minimum charge of a risk unit, a lower bound of its margin: rates x gross values, scaled in marginal tiers.

    `linear` is the rate on the gross value of perpetuals and futures, `short_option` on the value at spot of net short options.

    >>> charge = MinimumCharge(linear=0.0, short_option=0.0, tiers=(ChargeTier(0.0, 1.0), ChargeTier(10_000.0, 2.0)))
    >>> charge.scaled(30_000.0)
    50000.0
    """

    linear: float
    short_option: float
    tiers: tuple[ChargeTier, ...]

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].amount_min != 0:
            raise RuleError("the first tier of a minimum charge must start at amount_min = 0")

    @cached_property
    def marginal_rates(self) -> MarginalRates:
        """The tiers as marginal rates."""
        return MarginalRates.from_bounds(
            [tier.amount_min for tier in self.tiers], [tier.multiplier for tier in self.tiers]
        )

    def scaled(self, amount: float) -> float:
        """Return a charge scaled by the multipliers of its tiers."""
        return self.marginal_rates.total(amount)


class UnitTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Portfolio margin terms of a risk unit: all contracts on one coin, and the coin itself as far as it counts.

    Maintenance margin: max(`loss_factor` x worst loss + charges, minimum charge) + peg charge. The worst loss is the largest of the
    losses in `scenarios` and `grids`, the theta of `theta_days` days, and the loss of `basis`.
    Initial margin: max(`initial_multiple` x maintenance margin, `initial_factor` x worst loss + charges + initial charges + peg charge).

    Charges are rates on values at spot:
    `linear`, on the net value of perpetuals and futures (`linear_initial` in the initial charges);
    `offset`, on the value of the smaller side of perpetuals and futures;
    `short_option`, on net short options per strike and expiry (`short_option_initial` in the initial charges);
    `vega_offset`, on the vega per volatility point that nets between expiries of opposite sign;
    `curve`, an annual rate on the net of delta x forward x years to expiry;
    `rates`, an annual rate on the net of option value x years to expiry.

    `coins` selects the coin balance that counts in the scenarios: "none", "offset" (as much as offsets the delta of the
    contracts) or "all".
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
    """Stablecoin peg charge on deltas hedged across quote currencies (USDT against USD), in marginal tiers of the hedged
    value; each multiplier is a rate."""
    loss_factor: float = 1.0
    initial_factor: float = 1.0
    initial_multiple: float = 1.0
    coins: Literal["none", "offset", "all"] = "offset"

    def __post_init__(self) -> None:
        if not self.scenarios and not self.grids:
            raise RuleError("a risk unit needs scenarios or grids")
        if any(one.move <= -1 for one in self.all_scenarios):
            raise RuleError("a scenario move must lie above -1: a price stays above 0")
        if self.peg and self.peg[0].amount_min != 0:
            raise RuleError("the first tier of peg must start at amount_min = 0")
        skewed = any(one.volatility in ("linear", "absolute") for one in self.all_scenarios)
        if skewed and self.skew is None:
            raise RuleError('scenarios with "linear" or "absolute" volatility need skew')

    @cached_property
    def peg_rates(self) -> MarginalRates | None:
        """The tiers of the peg charge as marginal rates, None without one."""
        if not self.peg:
            return None
        return MarginalRates.from_bounds([tier.amount_min for tier in self.peg], [tier.multiplier for tier in self.peg])

    @cached_property
    def all_scenarios(self) -> tuple[Scenario, ...]:
        """The listed scenarios followed by those of the grids."""
        return (*self.scenarios, *(one for grid in self.grids for one in grid.scenarios))

    @cached_property
    def moves(self) -> "array[float]":
        """The moves of `all_scenarios`, float64."""
        return array("d", [one.move for one in self.all_scenarios])

    @cached_property
    def weights(self) -> "array[float]":
        """The weights of `all_scenarios`, float64."""
        return array("d", [one.weight for one in self.all_scenarios])


class PortfolioTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Portfolio margin of a venue: terms per risk unit; terms without `underlyings` are the default of all other coins.

    If the account's currency trades at a dollar price p below `peg_threshold`, the initial factor rises by
    (`peg_threshold` - p) x `peg_factor`.
    """

    units: tuple[UnitTerms, ...]
    peg_threshold: float = 0.0
    peg_factor: float = 0.0
    minimum: MinimumCharge | None = None
    """The minimum charge of units without one of their own."""
    liquidation: tuple[LiquidationStep, ...] | None = None
    """The steps of a partial liquidation of a portfolio account; None for those of `Rules`."""
    safe_level: float | None = None
    """The margin level above which the liquidation of a portfolio account stops; None for that of `Rules`."""

    def __post_init__(self) -> None:
        if not any(not unit.underlyings for unit in self.units):
            raise RuleError("portfolio terms need a default unit: one without underlyings")

    def unit_terms(self, underlying: str) -> UnitTerms:
        """Return the terms of the risk unit of a coin."""
        return self._by_underlying.get(underlying) or self._by_underlying[""]

    @cached_property
    def _by_underlying(self) -> dict[str, UnitTerms]:
        """The terms by coin, those of all other coins under "", each with its minimum charge."""
        found: dict[str, UnitTerms] = {}
        for unit in self.units:
            own = unit if unit.minimum is not None else msgspec.structs.replace(unit, minimum=self.minimum)
            for name in unit.underlyings or ("",):
                found.setdefault(name, own)
        return found
