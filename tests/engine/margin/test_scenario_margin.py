# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenario margin against a second model: loops over plain floats, written from the sentences of `UnitTerms`."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from budget import examples
from hypothesis import given
from hypothesis import strategies as st

from crossmargin_bt.engine.margin import scenarios
from crossmargin_bt.engine.margin.scenarios import LinearPosition, OptionPosition, RiskUnit
from crossmargin_bt.engine.terms.portfolio_terms import (
    BasisContingency,
    ChargeTier,
    Discounting,
    Grid,
    MinimumCharge,
    Scenario,
    SkewShock,
    UnitTerms,
    VolatilityShock,
)

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


share = st.floats(0.01, 0.5)
KINDS = st.sampled_from(["same", "up", "down", "linear", "absolute"])
MOVES = st.floats(-0.6, 0.6)
TIERS = st.tuples(
    st.builds(ChargeTier, st.just(0.0), share),
    st.builds(ChargeTier, st.floats(1e3, 1e4), share),
    st.builds(ChargeTier, st.floats(2e4, 1e5), share),
)
TERMS = st.builds(
    UnitTerms,
    scenarios=st.lists(st.builds(Scenario, MOVES, KINDS, st.sampled_from([0.5, 1.0])), max_size=3).map(tuple),
    grids=st.tuples(
        st.builds(Grid, st.lists(share, min_size=1, max_size=2).map(tuple), st.just(("up", "same", "down")), share)
    ),
    volatility=st.builds(
        VolatilityShock, up=share, down=st.floats(0.1, 2.0), short_power=share, long_power=share,
        days_min=st.sampled_from([1.0, 20.0]), shocked_min=st.sampled_from([0.0, 0.9]),
    ),
    skew=st.builds(
        SkewShock, linear_cap=share, linear_slope=share, absolute_cap=share, absolute_slope=share, width=share,
        level=st.floats(0.5, 2.0), level_slope=share, least_width=share,
    ),
    discounting=st.none() | st.builds(
        Discounting, asset=st.floats(0.8, 1.0), asset_rate_scale=share, asset_rate=share, debt=st.floats(1.0, 1.2),
        debt_rate_scale=share, debt_rate=share,
    ),
    basis=st.none() | st.builds(BasisContingency, up=share, down=share.map(lambda x: -x), add=st.floats(0.5, 3.0), each_year=st.floats(0.5, 3.0)),
    theta_days=st.sampled_from([0.0, 1.0, 60.0]),
    linear=share, linear_initial=share, offset=share, short_option=share, short_option_initial=share, vega_offset=share,
    curve=share, rates=share,
    minimum=st.none() | st.builds(MinimumCharge, linear=st.floats(0.1, 1.0), short_option=st.floats(0.1, 1.0), tiers=TIERS),
    peg=st.just(()) | TIERS,
    loss_factor=st.floats(0.5, 1.0), initial_factor=st.floats(1.0, 1.5), initial_multiple=st.floats(0.5, 1.5),
)  # fmt: skip
COINS = st.sampled_from([-3.0, -1.5, -0.5, 0.5, 1.0, 2.5])
YEARS = st.sampled_from([10 / 365, 0.25, 1.0])


@st.composite
def units(draw: st.DrawFn) -> RiskUnit:
    """Return a unit of perpetuals, futures and options, each expiry with a rate of its own."""
    rates = {years: draw(st.floats(0.0, 0.1)) for years in (10 / 365, 0.25, 1.0)}
    linears = draw(
        st.lists(st.builds(LinearPosition, COINS, st.floats(90.0, 110.0), st.sampled_from([0.0, 0.25])), max_size=3)
    )
    options = []
    for _ in range(draw(st.integers(0, 4))):
        years = draw(YEARS)
        options.append(
            OptionPosition(
                draw(COINS), draw(st.sampled_from([80.0, 100.0, 125.0])), draw(st.sampled_from([1, -1])),
                draw(st.floats(95.0, 105.0)), years, draw(st.floats(0.2, 1.2)), math.exp(-rates[years] * years), rates[years],
            )
        )  # fmt: skip
    return RiskUnit(
        draw(st.floats(95.0, 105.0)), tuple(linears), tuple(options), draw(st.sampled_from([0.0, 1.0, -0.7])),
        draw(st.just(()) | st.tuples(st.floats(0.0, 2e5), st.just(0.0), st.floats(0.0, 1e4))),
    )  # fmt: skip


@examples(60)
@given(terms=TERMS, unit=units(), factor=st.none() | st.floats(1.0, 2.0))
def test_the_margin_of_a_unit_is_what_its_sentences_say(terms: UnitTerms, unit: RiskUnit, factor: float | None) -> None:
    """Every figure of random terms and positions, without NumPy and without the engine's prices."""
    found = scenarios.scenario_margin(terms, unit, initial_factor=factor)
    assert {name: getattr(found, name) for name in expected(terms, unit, factor)} == pytest.approx(
        expected(terms, unit, factor), rel=1e-9, abs=1e-7
    )


def test_the_worst_scenario_is_named() -> None:
    """Of a long the lowest move, of a bought straddle at the forward a fall of both, and none where time costs more."""
    terms = UnitTerms(
        grids=(Grid((0.0, 0.1)),), volatility=VolatilityShock(up=0.2, down=0.2, short_power=0.0, long_power=0.0)
    )
    long = scenarios.scenario_margin(terms, RiskUnit(100.0, (LinearPosition(2.0, 100.0),)))
    assert (long.worst_scenario, long.worst_loss) == (Scenario(-0.1, "up"), 20.0)
    straddle = tuple(OptionPosition(1.0, 100.0, sign, 100.0, 1.0, 0.5) for sign in (1, -1))
    assert scenarios.scenario_margin(terms, RiskUnit(100.0, (), straddle)).worst_scenario == Scenario(-0.1, "down")
    slow = UnitTerms(grids=(Grid((0.0,), ("same",)),), volatility=VolatilityShock(up=0.0, down=0.0), theta_days=90.0)
    assert scenarios.scenario_margin(slow, RiskUnit(100.0, (), straddle)).worst_scenario is None
