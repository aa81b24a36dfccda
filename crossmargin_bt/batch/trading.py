# SPDX-License-Identifier: GPL-3.0-or-later
"""Market orders and fills in the compiled loop.

The effect of a fill restates `engine.ledger.position.apply_fill` and the isolated margin of `engine.lifecycle.fills`, composed of
the same compiled formulas, because numba cannot compile the engine's position type.
"""

from crossmargin_bt.batch.compiled_formulas import (
    average_entry,
    compiled,
    compiled_inline,
    fee_of,
    initial_rate,
    inverse_average_entry,
    notional,
    pnl,
    size_to_target,
    split,
    tier_index,
    whole_lots,
)
from crossmargin_bt.batch.layout import (
    BALANCE,
    FEES_PAID,
    FILLS,
    INITIAL_RATE_MIN,
    INVERSE,
    LOT,
    LOTS_PER_CONTRACT,
    OPEN,
    TAKER,
)
from crossmargin_bt.engine.math.tolerances import LOT_REMAINDER_MIN


@compiled_inline
def market_order_lots(contracts, i, target, lots):
    """Return the signed lots of the market order towards a target at a bar's end, rounded toward zero."""
    size = size_to_target(contracts, i, target, lots)
    if size == 0 or size != size:  # noqa: PLR0124 - a NaN keeps the position
        return 0
    return whole_lots(size, contracts[i, LOT], contracts[i, LOTS_PER_CONTRACT])


@compiled_inline
def is_below_one_lot(contracts, i, target, lots):
    """Return whether the order towards a target is smaller than one lot but larger than a rounding error."""
    size = abs(size_to_target(contracts, i, target, lots))
    return (
        LOT_REMAINDER_MIN * contracts[i, LOT] <= size < contracts[i, LOT]
        and market_order_lots(contracts, i, target, lots) == 0
    )


@compiled
def _position_after_fill(contracts, i, order, price, before, entry):
    """Return the lots that a fill closes and opens, the realised profit, and the average entry price after it."""
    closing, opening = split(before, order)
    realised = pnl(contracts, i, -closing, entry, price) if closing != 0 else 0.0
    remaining = before + closing
    after = price
    if opening == 0:
        after = entry if remaining != 0 else 0.0
    elif remaining != 0 and contracts[i, INVERSE]:
        after = inverse_average_entry(float(remaining), entry, float(opening), price)
    elif remaining != 0:
        after = average_entry(float(remaining), entry, float(opening), price)
    return closing, opening, realised, after


@compiled
def _margin_change(contracts, i, terms, floor, before, margin, closing, opening, price):
    """Return the amount that an isolated fill moves from the balance to the position's margin, and the amount it releases."""
    released = 0.0
    if closing != 0:
        released = margin if closing == -before else margin * abs(closing) / abs(before)
    opened = 0.0
    if opening != 0:
        opened = notional(contracts, i, opening, price) * initial_rate(terms.leverage, floor)
    return opened - released, released


@compiled
def fill_order(contracts, tables, i, terms, order, price, marks, charged, lots, entry, margin, money):
    """Fill an order of signed lots; return False where the result is uncertain or leaves a deficit for the venue to settle.

    `marks` is a (low, high) range that contains the mark at the time of the fill, `charged` is the fee rate. The other parameters
    are those of the loop (`kernel.run`); `lots`, `entry`, `margin` and `money` change in place.
    """
    before = lots[i]
    fee = fee_of(notional(contracts, i, order, price), charged)
    closing, opening, realised, after = _position_after_fill(contracts, i, order, price, before, entry[i])
    moved = 0.0
    if terms.isolated:
        floor = 0.0
        if terms.tier_raises_rate and opening != 0:
            low_tier = tier_index(tables, i, notional(contracts, i, before + order, marks[0]))
            high_tier = tier_index(tables, i, notional(contracts, i, before + order, marks[1]))
            floor = tables[i, INITIAL_RATE_MIN, low_tier]
            if floor != tables[i, INITIAL_RATE_MIN, high_tier]:
                return False
        moved, released = _margin_change(contracts, i, terms, floor, before, margin[i], closing, opening, price)
        if closing != 0 and released + realised < 0:
            return False
        margin[i] = margin[i] + moved if before + order != 0 else 0.0
    lots[i], entry[i] = before + order, after
    money[BALANCE] += realised - fee - moved - 0.0
    money[FEES_PAID] += fee
    return True


@compiled_inline
def fill_market_orders(
    last, mark, targets, bar, contracts, tables, terms, previous_lots, lots, entry, margin, money, counts
):  # fmt: skip
    """Fill the market orders at the open; return False where the result is uncertain.

    `previous_lots` are the positions at the end of the previous bar, from which the orders were computed.
    """
    for i in range(len(previous_lots)):
        order = market_order_lots(contracts, i, targets[bar - 1, i], previous_lots[i])
        if order == 0:
            continue
        counts[FILLS] += 1
        price, marks = last[i, bar, OPEN], (mark[i, bar, OPEN], mark[i, bar, OPEN])
        if not fill_order(
            contracts, tables, i, terms, order, price, marks, contracts[i, TAKER], lots, entry, margin, money
        ):
            return False
    return money[BALANCE] >= 0
