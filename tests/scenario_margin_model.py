# SPDX-License-Identifier: GPL-3.0-or-later
"""A second model of scenario margin: loops over plain floats, written from the sentences of `UnitTerms`."""

from __future__ import annotations

import math
from statistics import NormalDist

from crossmargin_bt.engine.margin.scenarios import OptionPosition, RiskUnit
from crossmargin_bt.engine.terms.portfolio_terms import ChargeTier, UnitTerms

NORMAL = NormalDist()


def price_of(one: OptionPosition, forward: float, volatility: float, years: float) -> float:
    """Return the undiscounted price of one option of a position."""
    width = volatility * math.sqrt(years)
    if width < 1e-9:
        return max(0.0, one.sign * (forward - one.strike))
    d1 = math.log(forward / one.strike) / width + width / 2
    return one.sign * (forward * NORMAL.cdf(one.sign * d1) - one.strike * NORMAL.cdf(one.sign * (d1 - width)))


def delta_and_vega(one: OptionPosition) -> tuple[float, float]:
    """Return the delta by the forward and the vega of a whole unit of volatility, of one coin."""
    width = one.volatility * math.sqrt(one.years)
    d1 = math.log(one.forward / one.strike) / width + width / 2
    delta = NORMAL.cdf(d1) if one.sign > 0 else NORMAL.cdf(d1) - 1
    return delta, one.forward * NORMAL.pdf(d1) * math.sqrt(one.years)


def shocked(terms: UnitTerms, one: OptionPosition, kind: str) -> float:
    """Return the volatility of an option under a shock."""
    shock, days = terms.volatility, one.years * 365
    scale = (30 / max(days, shock.days_min)) ** (shock.short_power if days <= 30 else shock.long_power)
    if kind == "up":
        return max(shock.shocked_min, one.volatility * (1 + shock.up * scale))
    if kind == "down":
        return one.volatility * max(0.0, 1 - shock.down * scale)
    if kind == "same" or terms.skew is None:
        return one.volatility
    skew, t, k = terms.skew, math.sqrt(one.years), math.log(one.strike / one.forward)
    cap, slope = (skew.linear_cap, skew.linear_slope) if kind == "linear" else (skew.absolute_cap, skew.absolute_slope)
    m, width = cap + slope * t, max(skew.least_width, t * skew.width * (skew.level + skew.level_slope * t))
    moved = m * (k if kind == "linear" else abs(k)) / width
    return one.volatility * max(0.0, 1 + max(-m, min(m, moved)))


def discounted(terms: UnitTerms, one: OptionPosition, value: float) -> float:
    """Return the discounted shocked value of the options of one expiry, `one` of which gives years and rate."""
    how = terms.discounting
    if how is None:
        return value
    if value >= 0:
        return value * how.asset * math.exp(-one.years * (one.rate * how.asset_rate_scale + how.asset_rate))
    worth = how.debt * math.exp(one.years * (one.rate * how.debt_rate_scale + how.debt_rate))
    return value * min(1 / one.discount, worth)


def marginal(tiers: tuple[ChargeTier, ...], amount: float) -> float:
    """Return an amount at the multiplier of each tier that its parts are in."""
    bounds = [*(tier.amount_min for tier in tiers[1:]), math.inf]
    return sum(
        max(0.0, min(amount, end) - tier.amount_min) * tier.multiplier for tier, end in zip(tiers, bounds, strict=True)
    )


def expected(terms: UnitTerms, unit: RiskUnit, factor: float | None) -> dict[str, float]:
    """Return the figures of a unit."""
    expiries: dict[float, list[OptionPosition]] = {}
    for one in unit.options:
        expiries.setdefault(one.years, []).append(one)

    def values(move: float, volatility_of, left=lambda years: years) -> list[float]:
        return [
            sum(
                held.coins * held.discount * price_of(held, held.forward * (1 + move), volatility_of(held), left(years))
                for held in group
            )
            for years, group in expiries.items()
        ]

    present = values(0.0, lambda held: held.volatility)
    losses = []
    for one in (*terms.scenarios, *(one for grid in terms.grids for one in grid.scenarios)):
        linear = sum(held.coins * held.price for held in unit.linears) + unit.coins * unit.spot
        after = values(one.move, lambda held, kind=one.volatility: shocked(terms, held, kind))
        changes = [
            discounted(terms, group[0], value) - now
            for group, value, now in zip(expiries.values(), after, present, strict=True)
        ]
        if one.volatility in ("linear", "absolute"):
            changes = [-abs(change) for change in changes]
        losses.append(-(linear * one.move + sum(changes)) * one.weight)
    worst = max(0.0, *losses)
    if expiries and terms.theta_days:
        worst = max(
            worst,
            sum(present)
            - sum(values(0.0, lambda held: held.volatility, lambda years: max(0.0, years - terms.theta_days / 365))),
        )
    if expiries and terms.basis is not None:
        basis = terms.basis
        ups, downs = (values(move, lambda held: held.volatility) for move in (basis.up, basis.down))
        each = [min(up - now, down - now, 0.0) for up, down, now in zip(ups, downs, present, strict=True)]
        weighted = zip(each, expiries, strict=True)
        worst = max(worst, -sum(loss * (basis.add + basis.each_year * years) for loss, years in weighted))

    net = abs(sum(one.coins for one in unit.linears)) * unit.spot
    longs = sum(max(0.0, one.coins) for one in unit.linears)
    shorts = sum(max(0.0, -one.coins) for one in unit.linears)
    naked = 0.0
    for place in {(one.years, one.strike) for one in unit.options}:
        naked += max(0.0, -sum(one.coins for one in unit.options if (one.years, one.strike) == place)) * unit.spot
    vegas = [sum(one.coins * delta_and_vega(one)[1] / 100 for one in group) for group in expiries.values()]
    charges = terms.linear * net + terms.offset * min(longs, shorts) * unit.spot + terms.short_option * naked
    charges += terms.vega_offset * min(sum(max(0, v) for v in vegas), sum(max(0, -v) for v in vegas))
    curve = sum(one.coins * one.price * one.years for one in unit.linears)
    curve += sum(one.coins * delta_and_vega(one)[0] * one.forward * one.years for one in unit.options)
    charges += terms.curve * abs(curve)
    charges += terms.rates * abs(sum(now * years for now, years in zip(present, expiries, strict=True)))
    initial_charges = terms.linear_initial * net + terms.short_option_initial * naked
    minimum = 0.0
    if terms.minimum is not None:
        gross = sum(abs(one.coins) * one.price for one in unit.linears)
        minimum = marginal(terms.minimum.tiers, terms.minimum.linear * gross + terms.minimum.short_option * naked)
    peg = sum(marginal(terms.peg, size) for size in unit.peg_hedges) if terms.peg else 0.0
    maintenance = max(terms.loss_factor * worst + charges, minimum) + peg
    own = terms.initial_factor if factor is None else factor
    return {
        "maintenance": maintenance,
        "initial": max(terms.initial_multiple * maintenance, own * worst + charges + initial_charges + peg),
        "worst_loss": worst,
        "charges": charges,
        "initial_charges": initial_charges,
        "minimum_charge": minimum,
        "option_value": sum(present),
    }
