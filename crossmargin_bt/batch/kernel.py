# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled loop: bars in which nothing can happen to an account but its own fills and its funding.

Whatever is not sure here stops the loop, and the broker works that bar through. What decides is on the safe side: requirements are
bounded from above, what is free from below. What is booked is booked by the engine's own formulas, compiled, in the engine's
order of operations.
"""

import math

import numpy as np
from numba import njit

from crossmargin_bt.engine import formulas

_jit = njit(cache=True, nogil=True, error_model="numpy")
_value, _inverse_value = _jit(formulas.value), _jit(formulas.inverse_value)
_profit, _inverse_profit = _jit(formulas.unrealised_profit), _jit(formulas.inverse_profit)
_entry, _inverse_entry = _jit(formulas.average_entry), _jit(formulas.inverse_average_entry)
_fee, _funding, _in_slices = _jit(formulas.fee), _jit(formulas.funding), _jit(formulas.in_slices)
_initial_rate = _jit(formulas.initial_rate)

# Where a target says nothing: leave the position as it is.
LEAVE = np.iinfo(np.int64).min
# Bounds are widened by this part, which is more than rounding.
HAIR = 1e-9
# An opening fee, a closing fee at up to twice the value, and one more.
FEES = 4.0
# Lots are counted twice, see `crossmargin_bt.engine.room`.
TWICE = 2.0

# Places in the arrays of an account's money and counts.
BALANCE, FEES_PAID, FUNDING, PEAK, DRAWDOWN = range(5)
FILLS, REFUSED = range(2)


@_jit
def _worth(lots, price, units, inverse):
    size = abs(lots) * units
    return _inverse_value(size, price) if inverse else _value(size, price)


@_jit
def _gain(lots, entry, price, units, inverse):
    size = lots * units
    return _inverse_profit(size, entry, price) if inverse else _profit(size, entry, price)


@_jit
def _tier(bounds, worth):
    n = len(bounds) - 1
    while n > 0 and worth < bounds[n]:
        n -= 1
    return n


@_jit
def _least(price, other, inverse):
    """Return the price, of two, at which a lot is worth more."""
    return min(price, other) if inverse else max(price, other)


@_jit
def run(
    start, last, mark, funding, pays, wanted, contracts, tables, rules, leverage, isolated, lots, entry, margin, money, counts, curve,
):  # fmt: skip
    """Go on from the end of bar `start`; return the bar at whose end the account still stands, from which it is not sure.

    Args:
        start: the bar at whose end the account stands.
        last, mark: shape (instruments, bars, 4), float64: open, high, low, close.
        funding: shape (instruments, bars), float64, 0 where none is due.
        pays: whether any funding is due at all.
        wanted: shape (bars, instruments), int64: lots wanted at each bar's end, or LEAVE.
        contracts: shape (instruments, 4), float64: units a lot, 1 when inverse, taker fee, maker fee.
        tables: shape (instruments, 4, tiers), float64: bounds, maintenance rates, deductions, floors of the initial rate.
        rules: shape (5,): 1 where a floor raises the initial rate, 1 where the requirement has a closing fee, the smallest value
            that may be opened, 1 where floating profit pays for nothing, and by how much a sell order is marked up.
        leverage, isolated: of the account.
        lots, entry, margin: shape (instruments,), its position, changed in place.
        money, counts: its sums and counts, changed in place.
        curve: shape (bars,) or (0,): equity at the end of every bar.
    """
    many, bars = last.shape[0], last.shape[1]
    new_lots, new_entry, new_margin = np.empty(many, np.int64), np.empty(many), np.empty(many)
    raises, closing_fee, least, gains_pay_nothing, markup = (
        rules[0] != 0,
        rules[1] != 0,
        rules[2],
        rules[3] != 0,
        rules[4],
    )
    for bar in range(start + 1, bars):
        balance, fees, received = money[BALANCE], money[FEES_PAID], money[FUNDING]
        fills, refused = 0, 0
        for i in range(many):
            new_lots[i], new_entry[i], new_margin[i] = lots[i], entry[i], margin[i]
        if pays:
            for i in range(many):
                rate = funding[i, bar]
                if rate != 0 and lots[i] != 0:
                    worth = _worth(lots[i], mark[i, bar, 0], contracts[i, 0], contracts[i, 1] != 0)
                    amount = _funding(math.copysign(worth, lots[i]), rate)
                    received += amount
                    if isolated:
                        new_margin[i] += amount
                    else:
                        balance += amount
        orders, held, need = 0, 0, 0.0
        for i in range(many):
            if lots[i] != 0:
                held += 1
            if wanted[bar - 1, i] != LEAVE and wanted[bar - 1, i] != lots[i]:
                orders += 1
        if orders:
            # What all positions and orders could lock at most, what they float at now, and whether each is surely refused.
            before, after, hopeless = 0.0, 0.0, held == 0
            for i in range(many):
                units, inverse = contracts[i, 0], contracts[i, 1] != 0
                order = wanted[bar - 1, i] - lots[i] if wanted[bar - 1, i] != LEAVE else 0
                if order == 0 and lots[i] == 0:
                    continue
                opened = last[i, bar, 0]
                closed = last[i, bar - 1, 3]
                dearest = _least(
                    _least(closed, opened, inverse), _least(mark[i, bar - 1, 3], mark[i, bar, 0], inverse), inverse
                )
                if lots[i] != 0:
                    dearest = _least(dearest, entry[i], inverse)
                worth = _worth(abs(lots[i]) + abs(order), dearest, units, inverse) * (1 + markup)
                floor = tables[i, 3, _tier(tables[i, 0], worth)]
                if floor * leverage > 1 + HAIR and not raises:
                    return bar - 1
                fee = max(abs(contracts[i, 2]), abs(contracts[i, 3]))
                need += TWICE * worth * (_initial_rate(leverage, floor) + FEES * fee)
                need += TWICE * abs(_gain(order, closed, mark[i, bar - 1, 3], units, inverse))
                need += TWICE * abs(_gain(order, opened, mark[i, bar, 0], units, inverse))
                need += TWICE * abs(_gain(order, closed, mark[i, bar, 0], units, inverse))
                if lots[i] != 0:
                    before += _gain(lots[i], entry[i], mark[i, bar - 1, 3], units, inverse)
                    after += _gain(lots[i], entry[i], mark[i, bar, 0], units, inverse)
                if order != 0:
                    opening = order if lots[i] * order >= 0 else max(0, abs(order) - abs(lots[i]))
                    if opening != 0 and _worth(opening, closed, units, inverse) < least * (1 + HAIR):
                        return bar - 1
                    cheapest = min(
                        _worth(order, closed, units, inverse), _worth(order, mark[i, bar - 1, 3], units, inverse)
                    )
                    away = abs(_gain(order, closed, mark[i, bar - 1, 3], units, inverse))
                    if cheapest / leverage * (1 - HAIR) - away - HAIR <= max(balance, 0.0) * (1 + HAIR):
                        hopeless = False
            if hopeless:
                refused = orders
            else:
                profit = min(before, after, 0.0) if isolated or gains_pay_nothing else min(before, after)
                if isolated:
                    profit = 0.0
                if not need * (1 + HAIR) < min(money[BALANCE], balance) + profit:
                    return bar - 1
                for i in range(many):
                    order = wanted[bar - 1, i] - lots[i] if wanted[bar - 1, i] != LEAVE else 0
                    if order == 0:
                        continue
                    units, inverse, taker = contracts[i, 0], contracts[i, 1] != 0, contracts[i, 2]
                    price = last[i, bar, 0]
                    fee = _fee(_worth(order, price, units, inverse), taker)
                    have = new_lots[i]
                    closing, opening = 0, order
                    if have != 0 and (have > 0) != (order > 0):
                        closing = order if abs(order) <= abs(have) else -have
                        opening = order - closing
                    realised = _gain(-closing, new_entry[i], price, units, inverse) if closing != 0 else 0.0
                    kept = have + closing
                    at = new_entry[i]
                    if opening == 0:
                        at = new_entry[i] if kept != 0 else 0.0
                    elif kept != 0:
                        if inverse:
                            at = _inverse_entry(float(kept), new_entry[i], float(opening), price)
                        else:
                            at = _entry(float(kept), new_entry[i], float(opening), price)
                    else:
                        at = price
                    moved = 0.0
                    if isolated:
                        released = 0.0
                        if closing != 0:
                            released = new_margin[i] if closing == -have else new_margin[i] * abs(closing) / abs(have)
                            if released + realised < 0:
                                return bar - 1
                        if opening != 0:
                            floor = 0.0
                            if raises:
                                there = _worth(kept + opening, mark[i, bar, 0], units, inverse)
                                floor = tables[i, 3, _tier(tables[i, 0], there)]
                            moved = _worth(opening, price, units, inverse) * _initial_rate(leverage, floor)
                        moved = moved - released
                        new_margin[i] = new_margin[i] + moved if kept + opening != 0 else 0.0
                    new_lots[i], new_entry[i] = kept + opening, at
                    balance += realised - fee - moved - 0.0
                    fees += fee
                    fills += 1
                if balance < 0:
                    return bar - 1
        # Whether a position could come to its requirement within the bar: before its orders at the open, and after them.
        collateral, first, required, before_required = balance, money[BALANCE], 0.0, 0.0
        isolated_total, profit = 0.0, 0.0
        for i in range(many):
            units, inverse = contracts[i, 0], contracts[i, 1] != 0
            table = tables[i]
            if new_lots[i] != 0:
                worst = mark[i, bar, 2] if new_lots[i] > 0 else mark[i, bar, 1]
                dear = _least(_least(mark[i, bar, 1], mark[i, bar, 2], inverse), new_entry[i], inverse)
                worth = _worth(new_lots[i], dear, units, inverse)
                n = _tier(table[0], worth)
                needs = _in_slices(worth, table[1, n], table[2, n])
                if closing_fee:
                    needs += TWICE * worth * abs(contracts[i, 2])
                floating = _gain(new_lots[i], new_entry[i], worst, units, inverse)
                if isolated:
                    if not new_margin[i] + floating > needs * (1 + HAIR):
                        return bar - 1
                else:
                    required += needs
                    collateral += floating
            if lots[i] != 0 and (orders or pays):
                worst = mark[i, bar, 0]
                worth = _worth(lots[i], _least(worst, entry[i], inverse), units, inverse)
                n = _tier(table[0], worth)
                needs = _in_slices(worth, table[1, n], table[2, n])
                if closing_fee:
                    needs += TWICE * worth * abs(contracts[i, 2])
                floating = _gain(lots[i], entry[i], worst, units, inverse)
                if isolated:
                    least_margin = min(margin[i], new_margin[i]) if new_lots[i] == lots[i] else margin[i]
                    if not least_margin + floating > needs * (1 + HAIR):
                        return bar - 1
                else:
                    before_required += needs
                    first += floating
        if not isolated:
            if required > 0 and not collateral > required * (1 + HAIR):
                return bar - 1
            paid = min(received - money[FUNDING], 0.0)
            if before_required > 0 and not first + paid - need > before_required * (1 + HAIR):
                return bar - 1
        # Nothing happened but this.
        money[BALANCE], money[FEES_PAID], money[FUNDING] = balance, fees, received
        counts[FILLS] += fills
        counts[REFUSED] += refused
        for i in range(many):
            lots[i], entry[i], margin[i] = new_lots[i], new_entry[i], new_margin[i]
            if lots[i] != 0:
                profit += _gain(lots[i], entry[i], mark[i, bar, 3], contracts[i, 0], contracts[i, 1] != 0)
                isolated_total += margin[i]
        equity = balance + 0.0 + profit + isolated_total if isolated else balance + profit
        if equity > money[PEAK]:
            money[PEAK] = equity
        elif money[PEAK] > 0 and 1 - equity / money[PEAK] > money[DRAWDOWN]:
            money[DRAWDOWN] = 1 - equity / money[PEAK]
        if len(curve):
            curve[bar] = equity
    return bars - 1
