# SPDX-License-Identifier: GPL-3.0-or-later
"""Formulas run on floats and on fractions; tier tables and rules."""

from fractions import Fraction

import pytest
from budget import examples
from hypothesis import given
from hypothesis import strategies as st

from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.intrabar_path import Candle, PricePath, first_breach, low_comes_first
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rates import SizeRate, Tier, TierTable, flat_rate, tier_table
from crossmargin_bt.errors import RuleError

AMOUNTS = st.floats(0.01, 1e7)
SIGNED = st.floats(-1e6, 1e6).filter(lambda size: abs(size) > 1e-3)
RATES = st.floats(1e-5, 0.5)

CASES = [
    (formulas.average_entry, (AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.unrealised_profit, (SIGNED, AMOUNTS, AMOUNTS)),
    (formulas.value, (SIGNED, AMOUNTS)),
    (formulas.inverse_average_entry, (AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.inverse_profit, (SIGNED, AMOUNTS, AMOUNTS)),
    (formulas.inverse_value, (SIGNED, AMOUNTS)),
    (formulas.initial_rate, (st.floats(1, 125), RATES)),
    (formulas.tiered_amount, (AMOUNTS, RATES, st.floats(0, 100))),
    (formulas.next_deduction, (AMOUNTS, AMOUNTS, RATES, RATES)),
    (formulas.size_dependent_rate, (AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.power_rate, (AMOUNTS, RATES, RATES, st.floats(0.1, 1.0))),
    (formulas.linear_rate, (AMOUNTS, RATES, RATES)),
    (formulas.largest_open_size, (AMOUNTS, st.floats(1, 125), AMOUNTS, AMOUNTS)),
    (formulas.inverse_largest_open_size, (AMOUNTS, st.floats(1, 125), AMOUNTS, AMOUNTS)),
    (formulas.value_at_bankruptcy, (AMOUNTS, st.sampled_from([1.0, -1.0]), st.floats(1, 125))),
    (formulas.pro_rata, (AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.summed_margin, (AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.larger_side_margin, (AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.worst_net_size, (SIGNED, AMOUNTS, AMOUNTS)),
    (formulas.worst_gross_size, (AMOUNTS, AMOUNTS, AMOUNTS)),
    (formulas.available_margin, (AMOUNTS, SIGNED, AMOUNTS)),
    (formulas.free_margin, (AMOUNTS, SIGNED, AMOUNTS)),
    (formulas.fee, (AMOUNTS, RATES)),
    (formulas.funding, (SIGNED, RATES)),
    (formulas.bankruptcy_price, (SIGNED, AMOUNTS, AMOUNTS)),
    (formulas.inverse_bankruptcy_price, (AMOUNTS, AMOUNTS, AMOUNTS)),
]


def test_every_formula_is_checked() -> None:
    """A formula added later is added here too."""
    public = {
        value
        for name, value in vars(formulas).items()
        if callable(value) and getattr(value, "__module__", "") == formulas.__name__
    }
    assert public == {formula for formula, _ in CASES}


@pytest.mark.parametrize(("formula", "arguments"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_floats_agree_with_exact_arithmetic(formula, arguments) -> None:
    """The same code on fractions is the exact answer; floats stay within rounding of their largest term."""

    @examples(20)
    @given(st.tuples(*arguments))
    def agree(numbers) -> None:
        exact = formula(*(Fraction(number) for number in numbers))
        terms = max(1.0, *(abs(number) for number in numbers)) * max(1.0, *(abs(number) for number in numbers))
        assert formula(*numbers) == pytest.approx(float(exact), rel=1e-12, abs=1e-12 * terms)

    agree()


@examples(40)
@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0.001, 0.02)), min_size=1, max_size=5), AMOUNTS)
def test_marginal_margin_is_the_sum_of_its_slices(steps, value: float) -> None:
    """Deductions say the same as adding slices up, and the margin never jumps."""
    bound, rate, rows = 0.0, 0.0, []
    for width, step in steps:
        rate += step
        rows.append((bound, rate, None))
        bound += width
    tiers = tier_table(rows, marginal=True)
    slices = 0.0
    for n, (lower, rate_of_slice, _) in enumerate(rows):
        upper = rows[n + 1][0] if n + 1 < len(rows) else float("inf")
        slices += max(0.0, min(value, upper) - lower) * rate_of_slice
    assert tiers.margin(value, 0.0) == pytest.approx(slices, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "tiers",
    [
        (),
        (Tier(1.0, 0.01),),
        (Tier(0.0, 0.01), Tier(0.0, 0.02)),
        (Tier(0.0, 0.02), Tier(10.0, 0.01)),
        (Tier(0.0, 0.0),),
        (Tier(0.0, 0.05, 50.0),),
    ],
)
def test_contradicting_tables_are_refused(tiers) -> None:
    """A table starts at zero, rises, and never keeps more than it asked for at the start."""
    with pytest.raises(RuleError):
        TierTable(tiers)


def test_size_rate_has_a_cap_and_a_floor_for_the_start() -> None:
    """The rate grows to its cap; the initial rate follows it by the factor."""
    rule = SizeRate(doubling=300.0, leverage_constant=125.0, cap=0.3, initial_factor=1.3)
    assert rule.rate(1e9) == 0.3
    assert rule.initial_floor(0.0, 300.0) == pytest.approx(1.3 * 0.008)
    with pytest.raises(RuleError):
        SizeRate(doubling=0.0, leverage_constant=125.0, cap=0.3, initial_factor=1.3)


@given(st.integers(-(10**9), 10**9), st.sampled_from([1.0, 0.1, 0.001, 1e-8, 5.0, 100.0, 0.25]))
def test_lots_and_sizes_are_inverse(lots: int, lot: float) -> None:
    """Whatever the step, whole lots survive the way to a size and back."""
    instrument = Instrument(symbol="A", lot=lot)
    assert instrument.lots(instrument.size(lots)) == lots


@given(st.floats(-1e6, 1e6), st.sampled_from([1.0, 0.1, 0.001, 5.0]))
def test_sizes_round_toward_zero(size: float, lot: float) -> None:
    """Never more than asked for, but for a hair of rounding."""
    instrument = Instrument(symbol="A", lot=lot)
    assert abs(instrument.size(instrument.lots(size))) <= abs(size) * (1 + 1e-13) + 1e-8 * lot


def test_instruments_are_checked() -> None:
    """A contract without size or with a fee of 5 is a mistake."""
    for wrong in ({"lot": 0.0}, {"contract_size": -1.0}, {"taker": 5.0}, {"leverage_max": 0.5}, {"symbol": ""}):
        with pytest.raises(RuleError):
            Instrument(**{"symbol": "A", **wrong})


POINTS = st.floats(1.0, 100.0)


@given(st.tuples(POINTS, POINTS, POINTS, POINTS), POINTS, st.floats(0.0, 3.0))
def test_a_path_reaches_what_lies_on_it(corners, level: float, since: float) -> None:
    """The moment found is on the path, not before `since`, and nothing earlier is on the level."""
    path = PricePath(*corners)
    moment = path.reaches(level, since)
    if moment is None:
        marks = [path.at(since), *(path[n] for n in range(4) if n >= since)]
        assert all(mark > level for mark in marks) or all(mark < level for mark in marks)
    else:
        assert since - 1e-12 <= moment <= 3.0
        assert path.at(moment) == pytest.approx(level, rel=1e-9)


@given(st.tuples(POINTS, POINTS, POINTS, POINTS))
def test_the_nearer_extreme_comes_first(prices) -> None:
    """Mirrored candles take mirrored paths."""
    low, first, second, high = sorted(prices)
    candle = Candle(first, high, low, second)
    if (first - low) != (high - first):
        assert low_comes_first(candle) == (first - low < high - first)


def test_a_breach_at_a_jump_is_found() -> None:
    """Behind a jump the stretch is read by itself."""
    assert first_breach(lambda at: 5.0 - 4 * (at >= 0.5) - 2 * at, 0.0, 1.0, [0.5]) == pytest.approx(0.5)
    assert first_breach(lambda at: 5.0 - 3 * (at >= 0.5) - 2 * at, 0.0, 1.0, [0.5]) == pytest.approx(1.0)
    assert first_breach(lambda at: 5.0 - at, 0.0, 1.0, [0.5]) is None
    assert first_breach(lambda at: -1.0, 0.25, 1.0, []) == 0.25


def test_flat_rule_is_one_rate() -> None:
    """For every size."""
    assert flat_rate(0.005).margin(1e9, 1.0) == 5e6
