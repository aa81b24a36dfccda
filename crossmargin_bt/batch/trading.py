# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fill does to an account of the compiled loop."""

from crossmargin_bt.batch.compiled_formulas import (
    average_entry,
    compiled,
    compiled_in_place,
    fee_of,
    gain_of,
    initial_rate,
    inverse_average_entry,
    missing,
    split,
    tier_of,
    whole_lots,
    worth_of,
)
from crossmargin_bt.batch.layout import BALANCE, FEES_PAID, FILLS, FLOOR, INVERSE, LOT, OPEN, PER_CONTRACT, TAKER
from crossmargin_bt.engine.terms.instrument import DUST


@compiled_in_place
def ordered(contracts, i, wanted, lots):
    """Return the lots ordered towards a target at a bar's end; what separates from it is cut to whole ones."""
    size = missing(contracts, i, wanted, lots)
    if size == 0 or size != size:  # noqa: PLR0124 - a NaN leaves the position
        return 0
    return whole_lots(size, contracts[i, LOT], contracts[i, PER_CONTRACT])


@compiled_in_place
def is_too_small(contracts, i, wanted, lots):
    """Return whether what separates a position from a target is less than a lot, and more than rounding."""
    size = abs(missing(contracts, i, wanted, lots))
    return DUST * contracts[i, LOT] <= size < contracts[i, LOT] and ordered(contracts, i, wanted, lots) == 0


@compiled
def _fill(contracts, i, order, price, have, entry):
    """Return what of an order closes and opens, what that realises, and the entry after it."""
    closing, opening = split(have, order)
    realised = gain_of(contracts, i, -closing, entry, price) if closing != 0 else 0.0
    kept = have + closing
    after = price
    if opening == 0:
        after = entry if kept != 0 else 0.0
    elif kept != 0 and contracts[i, INVERSE]:
        after = inverse_average_entry(float(kept), entry, float(opening), price)
    elif kept != 0:
        after = average_entry(float(kept), entry, float(opening), price)
    return closing, opening, realised, after


@compiled
def _moved(contracts, i, terms, floor, have, margin, closing, opening, price):
    """Return what an isolated fill moves from the balance to the position's margin, and what of it is set free."""
    released = 0.0
    if closing != 0:
        released = margin if closing == -have else margin * abs(closing) / abs(have)
    opened = 0.0
    if opening != 0:
        opened = worth_of(contracts, i, opening, price) * initial_rate(terms.leverage, floor)
    return opened - released, released


@compiled
def trade(contracts, tables, i, terms, order, price, marks, charged, lots, entry, margin, money):
    """Fill an order of signed lots; return whether that is sure, and leaves nothing for the venue to settle.

    `marks` are two prices between which the mark stands then, `charged` is the rate of the fee; the loop tells of the others.
    """
    have = lots[i]
    fee = fee_of(worth_of(contracts, i, order, price), charged)
    closing, opening, realised, after = _fill(contracts, i, order, price, have, entry[i])
    moved = 0.0
    if terms.isolated:
        floor = 0.0
        if terms.floor_raises and opening != 0:
            floor = tables[i, FLOOR, tier_of(tables, i, worth_of(contracts, i, have + order, marks[0]))]
            if floor != tables[i, FLOOR, tier_of(tables, i, worth_of(contracts, i, have + order, marks[1]))]:
                return False
        moved, released = _moved(contracts, i, terms, floor, have, margin[i], closing, opening, price)
        if closing != 0 and released + realised < 0:
            return False
        margin[i] = margin[i] + moved if have + order != 0 else 0.0
    lots[i], entry[i] = have + order, after
    money[BALANCE] += realised - fee - moved - 0.0
    money[FEES_PAID] += fee
    return True


@compiled_in_place
def trade_at_market(
    last, mark, wanted, bar, contracts, tables, terms, held, lots, entry, margin, money, counts
):  # fmt: skip
    """Let what separates positions `held` at the bar's end before from their targets trade at the open; return whether that is sure."""
    for i in range(len(held)):
        order = ordered(contracts, i, wanted[bar - 1, i], held[i])
        if order == 0:
            continue
        counts[FILLS] += 1
        price, marks = last[i, bar, OPEN], (mark[i, bar, OPEN], mark[i, bar, OPEN])
        if not trade(contracts, tables, i, terms, order, price, marks, contracts[i, TAKER], lots, entry, margin, money):
            return False
    return money[BALANCE] >= 0
