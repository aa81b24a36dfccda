# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the positions of an account surely keep between the thresholds they stand between, and its orders surely fit.

What `stands` looks at is a part of what `stands_between` does. It is written by itself because it runs in every bar: the whole
of it there makes the loop two thirds slower.
"""

from crossmargin_bt.batch.compiled_formulas import (
    compiled,
    compiled_in_place,
    dearer,
    gain_of,
    initial_rate,
    least_requirement_of,
    opened_after,
    requirement_of,
    tier_of,
    worth_of,
)
from crossmargin_bt.batch.layout import CLOSE, FLOOR, HIGHEST, INVERSE, LOWEST, MAKER, OPEN, ORDERED, TAKER
from crossmargin_bt.batch.trading import ordered
from crossmargin_bt.broker.skip.order_bound import FEES

# Bounds are widened by this part, which is more than rounding.
HAIR = 1e-9
# From the price an order is judged at to the mark, from there to what it trades at, and from there to the mark again.
STEPS = 3.0


@compiled_in_place
def stands(mark, bar, high, low, contracts, tables, terms, level, lots, entry, margin, collateral):
    """Return whether no pool can come down to a margin level while marks lie between two of a bar's."""
    required = 0.0
    for i in range(len(lots)):
        if lots[i] == 0:
            continue
        highest, lowest = mark[i, bar, high], mark[i, bar, low]
        price = dearer(contracts, i, dearer(contracts, i, highest, lowest), entry[i])
        needs = requirement_of(contracts, tables, i, worth_of(contracts, i, lots[i], price))
        floating = gain_of(contracts, i, lots[i], entry[i], lowest if lots[i] > 0 else highest)
        if terms.isolated:
            if not margin[i] + floating > level * needs * (1 + HAIR):
                return False
        else:
            required += needs
            collateral += floating
    return required == 0 or terms.isolated or collateral > level * required * (1 + HAIR)


@compiled
def stands_between(mark, bar, high, low, contracts, tables, terms, levels, acted, lots, entry, margin, balance):
    """Return whether no pool can come to a threshold, or back above one that has acted, while marks lie between two of a bar's."""
    required, least, worst, best = 0.0, 0.0, balance, balance
    for i in range(len(lots)):
        if lots[i] == 0:
            if acted[i] != 0 and terms.isolated:
                return False
            continue
        highest, lowest = mark[i, bar, high], mark[i, bar, low]
        values = (
            worth_of(contracts, i, lots[i], highest),
            worth_of(contracts, i, lots[i], lowest),
            worth_of(contracts, i, lots[i], entry[i]),
        )
        most = requirement_of(contracts, tables, i, max(values))
        fewest = least_requirement_of(contracts, tables, i, min(values))
        against, for_it = (lowest, highest) if lots[i] > 0 else (highest, lowest)
        down = gain_of(contracts, i, lots[i], entry[i], against)
        up = gain_of(contracts, i, lots[i], entry[i], for_it)
        if terms.isolated and not _is_between(levels, acted[i], margin[i] + down, margin[i] + up, most, fewest):
            return False
        required, least, worst, best = required + most, least + fewest, worst + down, best + up
    return terms.isolated or _is_between(levels, acted[0], worst, best, required, least)


@compiled
def _is_between(levels, acted, worst, best, most, least):
    """Return whether collateral and requirement within these bounds meet no threshold, and leave those met as they are."""
    if not (most == 0 or worst > levels[acted] * most * (1 + HAIR)):
        return False
    return acted == 0 or best < levels[acted - 1] * least * (1 - HAIR)


@compiled
def fit(last, mark, wanted, bar, high, low, room, contracts, tables, terms, level, lots, entry, bounds, balance):
    """Return whether everything ordered may rest and trade, in any order, between the close before and two prices of a bar.

    With `room` these prices are that part of themselves farther away.
    Whatever trades, no more is in use than there is, and the shared pool keeps above a margin level. Everything that is held or may
    be opened is counted at the dearest price around, every fee is paid, every step from one of these prices to another is lost,
    and profit that one position has does not make up for what another may lose where gains do not pay.
    """
    need, required, lost, floating = 0.0, 0.0, 0.0, 0.0
    for i in range(len(lots)):
        order = ordered(contracts, i, wanted[bar - 1, i], lots[i])
        resting = bounds[i, ORDERED]
        if lots[i] == 0 and order == 0 and resting == 0:
            continue
        opening = opened_after(lots[i], order, 0)
        if opening != 0 and worth_of(contracts, i, opening, last[i, bar - 1, CLOSE]) < terms.smallest * (1 + HAIR):
            return False
        # What closes may uncover what rests beside it; an order that is judged is not yet, or no longer, in the market itself.
        more = resting + (opening if resting == 0 else abs(order))
        locked = abs(lots[i]) + more
        if terms.isolated:
            locked = more
        elif resting == 0 and (terms.nets or len(lots) == 1):
            locked = max(abs(lots[i]), abs(lots[i] + order))
        mark_low = min(mark[i, bar, low], mark[i, bar - 1, CLOSE]) * (1 - room)
        mark_high = max(mark[i, bar, high], mark[i, bar - 1, CLOSE]) * (1 + room)
        opened, closed = last[i, bar, OPEN], last[i, bar - 1, CLOSE]
        lowest = min(mark_low, min(last[i, bar, low], opened, closed) * (1 - room), bounds[i, LOWEST])
        highest = max(mark_high, max(last[i, bar, high], opened, closed) * (1 + room), bounds[i, HIGHEST])
        away = abs(gain_of(contracts, i, abs(order) + resting, lowest, highest))
        if lots[i] != 0:
            lowest, highest = min(lowest, entry[i]), max(highest, entry[i])
            profit = gain_of(contracts, i, lots[i], entry[i], mark_low if lots[i] > 0 else mark_high)
            floating += profit if terms.gains_pay else min(profit, 0.0)
        dearest = lowest if contracts[i, INVERSE] else highest
        worth = worth_of(contracts, i, abs(lots[i]) + more, dearest) * (1 + terms.markup)
        floor = tables[i, FLOOR, tier_of(tables, i, worth)]
        if floor * terms.leverage > 1 + HAIR and not terms.floor_raises:
            return False
        rate = initial_rate(terms.leverage, floor)
        lost += STEPS * away + worth * FEES * max(abs(contracts[i, TAKER]), abs(contracts[i, MAKER]))
        need += rate * worth_of(contracts, i, locked, dearest) * (1 + terms.markup)
        required += requirement_of(contracts, tables, i, worth)
    if terms.isolated:
        return (need + lost) * (1 + HAIR) < balance
    left = balance + floating - lost
    return left > need * (1 + HAIR) and left > level * required * (1 + HAIR)
