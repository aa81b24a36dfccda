# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's formulas compiled with numba, and the same formulas applied to one instrument of the compiled loop.

`contracts` and `tables` are the arrays of `crossmargin_bt.batch.layout`; `i` is the index of the instrument.
"""

from typing import Any

from numba import njit

from crossmargin_bt.batch.layout import (
    CLOSING_COST_RATE,
    DEDUCTION,
    INVERSE,
    LOT,
    LOTS_PER_CONTRACT,
    MAINTENANCE_RATE,
    NOTIONAL_MIN,
    TAKER,
    UNITS,
)
from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.math import formulas, intrabar_path
from crossmargin_bt.engine.terms import instrument

compiled = njit(nogil=True, error_model="numpy")
# Functions called in every bar are inlined: passing this many arrays costs more than the work itself.
compiled_inline = njit(nogil=True, error_model="numpy", inline="always")
value_of, inverse_value_of = compiled(formulas.value), compiled(formulas.inverse_value)
profit_of, inverse_profit_of = compiled(formulas.unrealised_profit), compiled(formulas.inverse_profit)
average_entry, inverse_average_entry = compiled(formulas.average_entry), compiled(formulas.inverse_average_entry)
fee_of, funding_of, tiered_amount = compiled(formulas.fee), compiled(formulas.funding), compiled(formulas.tiered_amount)
initial_rate = compiled(formulas.initial_rate)
whole_lots, size_of_lots = compiled(instrument.whole_lots), compiled(instrument.size_of_lots)
split, opened_after = compiled(position.split_fill), compiled(position.opened_after)
low_comes_first = compiled(intrabar_path.low_comes_first)


@compiled_inline
def size_to_target(contracts: Any, i: int, target: float, lots: int) -> float:
    """Return the signed size that takes a position of `lots` to its target, in contracts."""
    return target - size_of_lots(lots, contracts[i, LOT], contracts[i, LOTS_PER_CONTRACT])


@compiled_inline
def notional(contracts: Any, i: int, lots: int, price: float) -> float:
    """Return the unsigned notional of `lots` at a price, in the settle currency."""
    size = abs(lots) * contracts[i, UNITS]
    return inverse_value_of(size, price) if contracts[i, INVERSE] else value_of(size, price)


@compiled_inline
def pnl(contracts: Any, i: int, lots: int, entry: float, price: float) -> float:
    """Return the profit of signed lots from an entry price to a price, in the settle currency."""
    size = lots * contracts[i, UNITS]
    return inverse_profit_of(size, entry, price) if contracts[i, INVERSE] else profit_of(size, entry, price)


@compiled_inline
def max_notional_price(contracts: Any, i: int, price: float, other: float) -> float:
    """Return whichever of two prices gives the larger notional: the lower one for an inverse contract."""
    return min(price, other) if contracts[i, INVERSE] else max(price, other)


@compiled_inline
def tier_index(tables: Any, i: int, value: float) -> int:
    """Return the index of the tier that a notional falls into."""
    n = tables.shape[2] - 1
    while n > 0 and value < tables[i, NOTIONAL_MIN, n]:
        n -= 1
    return n


@compiled_inline
def maintenance_upper_bound(contracts: Any, tables: Any, i: int, value: float) -> float:
    """Return an upper bound on the maintenance requirement of a position of this notional, closing fee included."""
    n = tier_index(tables, i, value)
    margin = tiered_amount(value, tables[i, MAINTENANCE_RATE, n], tables[i, DEDUCTION, n])
    return margin + value * contracts[i, CLOSING_COST_RATE]


@compiled_inline
def maintenance_lower_bound(contracts: Any, tables: Any, i: int, value: float) -> float:
    """Return a lower bound on the maintenance requirement of a position of this notional; only a rebate lowers it."""
    n = tier_index(tables, i, value)
    rebate = contracts[i, CLOSING_COST_RATE] if contracts[i, TAKER] < 0 else 0.0
    return tiered_amount(value, tables[i, MAINTENANCE_RATE, n], tables[i, DEDUCTION, n]) - value * rebate
