# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenario margin against a second model (`scenario_margin_model`)."""

from __future__ import annotations

import math

import pytest
from budget import examples
from hypothesis import given
from hypothesis import strategies as st
from scenario_margin_model import expected

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
