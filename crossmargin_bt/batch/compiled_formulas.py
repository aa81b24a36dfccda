# SPDX-License-Identifier: GPL-3.0-or-later
"""What the compiled loop reckons with: the engine's formulas, compiled, and what they make of one instrument."""

from typing import Any

from numba import njit

from crossmargin_bt.batch.layout import BEGINS, DEDUCTION, INVERSE, KEPT, LOT, PER_CONTRACT, RATE, TAKER, UNITS
from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.math import formulas, intrabar_path
from crossmargin_bt.engine.terms import instrument

compiled = njit(nogil=True, error_model="numpy")
# What is called in every bar is put in its place: handing so many arrays over takes longer than the work.
compiled_in_place = njit(nogil=True, error_model="numpy", inline="always")
value_of, inverse_value_of = compiled(formulas.value), compiled(formulas.inverse_value)
profit_of, inverse_profit_of = compiled(formulas.unrealised_profit), compiled(formulas.inverse_profit)
average_entry, inverse_average_entry = compiled(formulas.average_entry), compiled(formulas.inverse_average_entry)
fee_of, funding_of, tiered_amount = compiled(formulas.fee), compiled(formulas.funding), compiled(formulas.tiered_amount)
initial_rate = compiled(formulas.initial_rate)
whole_lots, size_of_lots = compiled(instrument.whole_lots), compiled(instrument.size_of_lots)
split, opened_after = compiled(position.split_fill), compiled(position.opened_after)
low_comes_first = compiled(intrabar_path.low_comes_first)


@compiled_in_place
def missing(contracts: Any, i: int, wanted: float, lots: int) -> float:
    """Return the size that separates a position from a target."""
    return wanted - size_of_lots(lots, contracts[i, LOT], contracts[i, PER_CONTRACT])


@compiled_in_place
def worth_of(contracts: Any, i: int, lots: int, price: float) -> float:
    """Return the unsigned value of lots at a price."""
    size = abs(lots) * contracts[i, UNITS]
    return inverse_value_of(size, price) if contracts[i, INVERSE] else value_of(size, price)


@compiled_in_place
def gain_of(contracts: Any, i: int, lots: int, entry: float, price: float) -> float:
    """Return the profit of signed lots from an entry to a price."""
    size = lots * contracts[i, UNITS]
    return inverse_profit_of(size, entry, price) if contracts[i, INVERSE] else profit_of(size, entry, price)


@compiled_in_place
def dearer(contracts: Any, i: int, price: float, other: float) -> float:
    """Return the price, of two, at which a lot is worth more."""
    return min(price, other) if contracts[i, INVERSE] else max(price, other)


@compiled_in_place
def tier_of(tables: Any, i: int, worth: float) -> int:
    """Return the tier that a value stands in."""
    n = tables.shape[2] - 1
    while n > 0 and worth < tables[i, BEGINS, n]:
        n -= 1
    return n


@compiled_in_place
def requirement_of(contracts: Any, tables: Any, i: int, worth: float) -> float:
    """Return no less than what a position of that worth must keep."""
    n = tier_of(tables, i, worth)
    return tiered_amount(worth, tables[i, RATE, n], tables[i, DEDUCTION, n]) + worth * contracts[i, KEPT]


@compiled_in_place
def least_requirement_of(contracts: Any, tables: Any, i: int, worth: float) -> float:
    """Return no more than what a position of that worth must keep."""
    n = tier_of(tables, i, worth)
    kept = contracts[i, KEPT] if contracts[i, TAKER] < 0 else 0.0
    return tiered_amount(worth, tables[i, RATE, n], tables[i, DEDUCTION, n]) - worth * kept
