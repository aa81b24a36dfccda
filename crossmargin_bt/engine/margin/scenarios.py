# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenario margin of a risk unit: revaluation under stress scenarios, plus charges. The only module of the engine that uses NumPy.

Options are revalued on a grid of scenarios x options with the same formula as a single option
(`crossmargin_bt.engine.math.pricing.black76`); all other positions are linear in the price move.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.terms.portfolio_terms import Scenario, SkewShock, UnitTerms
from crossmargin_bt.time_units import DAYS_PER_YEAR

Array = np.ndarray[Any, np.dtype[np.float64]]
_erfc = np.frompyfunc(math.erfc, 1, 1)
VOLATILITY_POINT = 0.01


class LinearPosition(NamedTuple):
    """A perpetual or future: signed quantity in coins, price, and years to expiry (0 for a perpetual)."""

    coins: float
    price: float
    years: float = 0.0


class OptionPosition(NamedTuple):
    """An option position: signed quantity in coins; `sign` is 1 for a call, -1 for a put; `discount` is the discount factor."""

    coins: float
    strike: float
    sign: int
    forward: float
    years: float
    volatility: float
    discount: float = 1.0
    rate: float = 0.0


class RiskUnit(NamedTuple):
    """All positions on one coin. `coins` is the coin balance that counts; prices are in the account's currency."""

    spot: float
    linears: tuple[LinearPosition, ...] = ()
    options: tuple[OptionPosition, ...] = ()
    coins: float = 0.0
    peg_hedges: tuple[float, ...] = ()
    """Per pair of quote currencies, the value of the deltas in one that offset deltas in the other."""


class ScenarioMargin(NamedTuple):
    """The margin of a risk unit and its components, in the account's currency."""

    maintenance: float
    initial: float
    worst_loss: float
    """The worst loss (0 or above), before `loss_factor` and `initial_factor`."""
    worst_scenario: Scenario | None
    """The scenario with the worst loss; None if theta or basis risk is larger."""
    charges: float
    initial_charges: float
    minimum_charge: float
    option_value: float


def scenario_margin(terms: UnitTerms, unit: RiskUnit, *, initial_factor: float | None = None) -> ScenarioMargin:
    """Return the margin of a risk unit by the formula of `UnitTerms`.

    `initial_factor` overrides that of the terms.
    """
    scenarios = terms.all_scenarios
    held = _OptionGrid(unit.options) if unit.options else None
    losses = _losses(terms, unit, held)
    n = int(np.argmax(losses))
    worst_loss = max(0.0, float(losses[n]))
    scenario: Scenario | None = scenarios[n]
    for other in (_basis_loss(terms, held), _theta_loss(terms, held)):
        if other > worst_loss:
            worst_loss, scenario = other, None
    charges = _charges(terms, unit, held)
    initial_charges = terms.linear_initial * _net_linear(unit) + terms.short_option_initial * _naked_shorts(unit)
    minimum = 0.0
    if terms.minimum is not None:
        gross = sum(abs(one.coins) * one.price for one in unit.linears)
        minimum = terms.minimum.scaled(terms.minimum.linear * gross + terms.minimum.short_option * _naked_shorts(unit))
    peg = 0.0 if terms.peg_rates is None else sum(map(terms.peg_rates.total, unit.peg_hedges))
    maintenance = max(terms.loss_factor * worst_loss + charges, minimum) + peg
    factor = terms.initial_factor if initial_factor is None else initial_factor
    initial = max(terms.initial_multiple * maintenance, factor * worst_loss + charges + initial_charges + peg)
    value = held.value if held is not None else 0.0
    return ScenarioMargin(maintenance, initial, worst_loss, scenario, charges, initial_charges, minimum, value)


class _OptionGrid:
    """The options of a unit as arrays of shape (options,), with their present values of shape (expiries,)."""

    def __init__(self, options: tuple[OptionPosition, ...]) -> None:
        columns = np.array(options, dtype=np.float64).T
        self.coins, self.strike, self.sign, self.forward, self.years, self.volatility, self.discount, self.rate = (
            columns
        )
        self.expiries, self.expiry_of = np.unique(self.years, return_inverse=True)
        first = [int(np.flatnonzero(self.expiry_of == n)[0]) for n in range(len(self.expiries))]
        self.expiry_discount, self.expiry_rate = self.discount[first], self.rate[first]
        self.present_values = self.by_expiry(self.forward[None, :], self.volatility[None, :])[0]
        self.value = float(self.present_values.sum())

    def by_expiry(self, forwards: Array, volatilities: Array, years: Array | None = None) -> Array:
        """Return the values per expiry, shape (rows, expiries), for forwards and volatilities of shape (rows, options)."""
        time = self.years if years is None else years
        standard_deviation = np.maximum(volatilities * np.sqrt(time), pricing.STANDARD_DEVIATION_MIN)
        prices = pricing.black76(forwards, self.strike, standard_deviation, self.sign, log=np.log, normal=_normal)
        values = prices * self.discount * self.coins
        return np.stack([values[:, self.expiry_of == n].sum(axis=1) for n in range(len(self.expiries))], axis=1)


def _normal(x: Array) -> Array:
    return np.asarray(_erfc(-x / math.sqrt(2)), dtype=np.float64) / 2


def _losses(terms: UnitTerms, unit: RiskUnit, held: _OptionGrid | None) -> Array:
    """Return the weighted loss of every scenario: shape (scenarios,), float64; a profit is negative."""
    moves, weights = np.frombuffer(terms.moves), np.frombuffer(terms.weights)
    delta_value = sum(one.coins * one.price for one in unit.linears) + unit.coins * unit.spot
    profits = moves * delta_value
    if held is not None:
        forwards = held.forward[None, :] * (1 + moves[:, None])
        shocked = held.by_expiry(forwards, _shocked_volatilities(terms, held))
        changes = _discounted(terms, held, shocked) - held.present_values
        skewed = np.array([one.volatility in ("linear", "absolute") for one in terms.all_scenarios])
        changes = np.where(skewed[:, None], -np.abs(changes), changes)
        profits = profits + changes.sum(axis=1)
    losses: Array = -profits * weights
    return losses


def _discounted(terms: UnitTerms, held: _OptionGrid, values: Array) -> Array:
    if terms.discounting is None:
        return values
    how = terms.discounting
    years, rate = held.expiries, held.expiry_rate
    asset = how.asset * np.exp(-years * (rate * how.asset_rate_scale + how.asset_rate))
    debt = np.minimum(1 / held.expiry_discount, how.debt * np.exp(years * (rate * how.debt_rate_scale + how.debt_rate)))
    found: Array = np.where(values >= 0, values * asset, values * debt)
    return found


def _shocked_volatilities(terms: UnitTerms, held: _OptionGrid) -> Array:
    """Return the shocked volatilities: shape (scenarios, options)."""
    shock = terms.volatility
    shifts = np.array([shock.tenor_scale(years * DAYS_PER_YEAR) for years in held.years])
    rows = {
        "same": held.volatility,
        "up": np.maximum(shock.shocked_min, held.volatility * (1 + shock.up * shifts)),
        "down": held.volatility * np.maximum(0.0, 1 - shock.down * shifts),
    }
    if terms.skew is not None:
        rows["linear"] = held.volatility * _skew(terms.skew, held, absolute=False)
        rows["absolute"] = held.volatility * _skew(terms.skew, held, absolute=True)
    return np.stack([rows[one.volatility] for one in terms.all_scenarios])


def _skew(skew: SkewShock, held: _OptionGrid, *, absolute: bool) -> Array:
    root = np.sqrt(held.years)
    cap, slope = (skew.absolute_cap, skew.absolute_slope) if absolute else (skew.linear_cap, skew.linear_slope)
    bound = cap + slope * root
    width = np.maximum(skew.least_width, root * skew.width * (skew.level + skew.level_slope * root))
    k = np.log(held.strike / held.forward)
    shock = (np.abs(k) if absolute else k) * bound / width
    multipliers: Array = np.maximum(
        0.0, 1 + np.where(k * (not absolute) < 0, np.maximum(-bound, shock), np.minimum(bound, shock))
    )
    return multipliers


def _basis_loss(terms: UnitTerms, held: _OptionGrid | None) -> float:
    basis = terms.basis
    if basis is None or held is None:
        return 0.0
    moves = np.array([basis.up, basis.down])
    volatilities = np.broadcast_to(held.volatility, (2, len(held.volatility)))
    values = held.by_expiry(held.forward[None, :] * (1 + moves[:, None]), volatilities)
    losses = np.minimum((values - held.present_values).min(axis=0), 0.0)
    return float(-(losses * (basis.add + basis.each_year * held.expiries)).sum())


def _theta_loss(terms: UnitTerms, held: _OptionGrid | None) -> float:
    """Return the time decay of the options over `theta_days` days, other inputs unchanged."""
    if not terms.theta_days or held is None:
        return 0.0
    later = np.maximum(held.years - terms.theta_days / DAYS_PER_YEAR, 0.0)
    return held.value - float(held.by_expiry(held.forward[None, :], held.volatility[None, :], later).sum())


def _net_linear(unit: RiskUnit) -> float:
    return abs(sum(one.coins for one in unit.linears)) * unit.spot


def _naked_shorts(unit: RiskUnit) -> float:
    """Return the value at spot of net short options, netted per strike and expiry."""
    net: dict[tuple[float, float], tuple[float, float]] = {}
    for one in unit.options:
        long, short = net.get((one.years, one.strike), (0.0, 0.0))
        net[one.years, one.strike] = (long + max(one.coins, 0.0), short + max(-one.coins, 0.0))
    return sum(max(0.0, short - long) for long, short in net.values()) * unit.spot


def _charges(terms: UnitTerms, unit: RiskUnit, held: _OptionGrid | None) -> float:
    """Return the charges added to the worst loss (see `UnitTerms`)."""
    long = sum(one.coins for one in unit.linears if one.coins > 0)
    short = -sum(one.coins for one in unit.linears if one.coins < 0)
    charge = terms.linear * _net_linear(unit) + terms.offset * min(long, short) * unit.spot
    charge += terms.short_option * _naked_shorts(unit)
    curve = sum(one.coins * one.price * one.years for one in unit.linears)
    if unit.options and (terms.vega_offset or terms.curve):
        vegas: dict[float, float] = {}
        for one in unit.options:
            found = pricing.greeks(one.forward, one.strike, one.years, one.volatility, one.sign)
            vegas[one.years] = vegas.get(one.years, 0.0) + one.coins * found.vega * VOLATILITY_POINT
            curve += one.coins * found.delta * one.forward * one.years
        up = sum(vega for vega in vegas.values() if vega > 0)
        down = -sum(vega for vega in vegas.values() if vega < 0)
        charge += terms.vega_offset * min(up, down)
    if held is not None:
        charge += terms.rates * abs(float((held.present_values * held.expiries).sum()))
    return charge + terms.curve * abs(curve)
