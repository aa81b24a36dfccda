# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fill does to an account of the compiled loop."""

from crossmargin_bt.batch.figuring import (
    average_entry,
    compiled,
    compiled_in_place,
    fee_of,
    gain_of,
    initial_rate,
    inverse_average_entry,
    split,
    tier_of,
    worth_of,
)
from crossmargin_bt.batch.layout import BALANCE, FEES_PAID, FLOOR, INVERSE, LEAVE


@compiled_in_place
def ordered(wanted, lots):
    """Return the lots ordered towards a target at a bar's end."""
    return 0 if wanted == LEAVE else wanted - lots


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
