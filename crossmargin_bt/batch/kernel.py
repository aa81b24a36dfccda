# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled loop: bars in which nothing can happen to an account but its own fills and its funding.

Whatever is not sure here stops the loop, and the broker works that bar through. What decides is on the safe side: requirements are
bounded from above, what is free from below. What is booked is booked by the engine's own formulas, compiled, in the engine's
order of operations.
"""

import math
import zlib
from pathlib import Path
from typing import Any

from numba import njit

from crossmargin_bt.batch import figuring, layout, resting, standing, trading
from crossmargin_bt.batch.figuring import (
    compiled,
    compiled_in_place,
    dearer,
    funding_of,
    gain_of,
    initial_rate,
    tier_of,
    worth_of,
)
from crossmargin_bt.batch.layout import (
    BALANCE,
    CLOSE,
    DRAWDOWN,
    FEES_PAID,
    FILLS,
    FLOOR,
    HIGH,
    LOW,
    MAKER,
    OPEN,
    PEAK,
    RECEIVED,
    REFUSED,
    RESTING,
    TAKER,
)
from crossmargin_bt.batch.resting import FEES, TWICE, work
from crossmargin_bt.batch.standing import HAIR, stands, stands_between
from crossmargin_bt.batch.trading import ordered, trade
from crossmargin_bt.engine import formulas, path, position

# What a look at the orders of a bar finds.
UNSURE, FITS, HOPELESS = range(3)


@compiled
def _fund(mark, rates, bar, contracts, isolated, lots, new_margin, money):
    """Settle the funding due at the open; return what the balance received of it. Isolated margins receive their own."""
    total = 0.0
    for i in range(len(lots)):
        if rates[i, bar] != 0 and lots[i] != 0:
            worth = worth_of(contracts, i, lots[i], mark[i, bar, OPEN])
            amount = funding_of(math.copysign(worth, lots[i]), rates[i, bar])
            money[RECEIVED] += amount
            if isolated:
                new_margin[i] += amount
            else:
                total += amount
                money[BALANCE] += amount
    return total


@compiled
def _need(contracts, tables, i, terms, lots, entry, order, closed, opened, mark_closed, mark_opened):
    """Return the most a position and its order lock, cost or lose against the mark; infinity where that is not sure."""
    price = dearer(contracts, i, dearer(contracts, i, closed, opened), dearer(contracts, i, mark_closed, mark_opened))
    if lots != 0:
        price = dearer(contracts, i, price, entry)
    worth = worth_of(contracts, i, abs(lots) + abs(order), price) * (1 + terms.markup)
    floor = tables[i, FLOOR, tier_of(tables, i, worth)]
    if floor * terms.leverage > 1 + HAIR and not terms.floor_raises:
        return math.inf
    opening = order if lots * order >= 0 else max(0, abs(order) - abs(lots))
    if opening != 0 and worth_of(contracts, i, opening, closed) < terms.smallest * (1 + HAIR):
        return math.inf
    fee = max(abs(contracts[i, TAKER]), abs(contracts[i, MAKER]))
    away = abs(gain_of(contracts, i, order, closed, mark_closed)) + abs(
        gain_of(contracts, i, order, closed, mark_opened)
    )
    away += abs(gain_of(contracts, i, order, opened, mark_opened))
    return TWICE * (worth * (initial_rate(terms.leverage, floor) + FEES * fee) + away)


@compiled
def _is_hopeless(contracts, i, terms, order, closed, mark_closed, balance):
    """Return whether an account without positions surely cannot open an order."""
    values = (worth_of(contracts, i, order, closed), worth_of(contracts, i, order, mark_closed))
    rebate = max(0.0, -contracts[i, TAKER]) * max(values)
    least = min(values) / terms.leverage * (1 - HAIR) - rebate * (1 + HAIR)
    return least - abs(gain_of(contracts, i, order, closed, mark_closed)) - HAIR > max(balance, 0.0) * (1 + HAIR)


@compiled
def _look_at_orders(last, mark, wanted, bar, contracts, tables, terms, lots, entry, balance):
    """Return whether the bar's orders surely fit, are surely refused, or neither; and what they need at most."""
    need, before, after, is_flat, all_hopeless = 0.0, 0.0, 0.0, True, True
    for i in range(len(lots)):
        order = ordered(wanted[bar - 1, i], lots[i])
        closed, mark_closed, mark_opened = last[i, bar - 1, CLOSE], mark[i, bar - 1, CLOSE], mark[i, bar, OPEN]
        if lots[i] != 0:
            is_flat = False
            before += gain_of(contracts, i, lots[i], entry[i], mark_closed)
            after += gain_of(contracts, i, lots[i], entry[i], mark_opened)
        if order != 0 or lots[i] != 0:
            opened = last[i, bar, OPEN]
            need += _need(
                contracts, tables, i, terms, lots[i], entry[i], order, closed, opened, mark_closed, mark_opened
            )
        if order != 0 and not _is_hopeless(contracts, i, terms, order, closed, mark_closed, balance):
            all_hopeless = False
    if is_flat and all_hopeless:
        return HOPELESS, 0.0
    profit = min(before, after) if terms.gains_pay else min(before, after, 0.0)
    if terms.isolated:
        profit = 0.0
    return (FITS if need * (1 + HAIR) < balance + profit else UNSURE), need


@compiled
def _trade_all(
    last,
    mark,
    wanted,
    bar,
    contracts,
    tables,
    terms,
    highest,
    before,
    received,
    lots,
    entry,
    new_lots,
    new_entry,
    new_margin,
    money,
    counts,
):
    """Let the bar's orders trade; False where that is not sure."""
    balance = min(before, money[BALANCE])
    found, need = _look_at_orders(last, mark, wanted, bar, contracts, tables, terms, lots, entry, balance)
    if found == UNSURE:
        return False
    # Before they trade the venue looks at the open; funding has been settled by then.
    left = before + min(received, 0.0) - need
    if found == FITS and not stands(
        mark, bar, OPEN, OPEN, contracts, tables, terms, highest, lots, entry, new_margin, left
    ):
        return False
    for i in range(len(lots)):
        order = ordered(wanted[bar - 1, i], lots[i])
        if order == 0:
            continue
        counts[REFUSED if found == HOPELESS else FILLS] += 1
        price, at = last[i, bar, OPEN], mark[i, bar, OPEN]
        if found == FITS and not trade(
            contracts,
            tables,
            i,
            terms,
            order,
            price,
            (at, at),
            contracts[i, TAKER],
            new_lots,
            new_entry,
            new_margin,
            money,
        ):
            return False
    return money[BALANCE] >= 0 or found == HOPELESS


@compiled_in_place
def _end_bar(mark, bar, contracts, isolated, lots, entry, margin, money, curve):
    """Take the equity at a bar's end."""
    balance, profit, kept = money[BALANCE], 0.0, 0.0
    for i in range(len(lots)):
        if lots[i] != 0:
            profit += gain_of(contracts, i, lots[i], entry[i], mark[i, bar, CLOSE])
            kept += margin[i]
    equity = balance + 0.0 + profit + kept if isolated else balance + profit
    if equity > money[PEAK]:
        money[PEAK] = equity
    elif money[PEAK] > 0 and 1 - equity / money[PEAK] > money[DRAWDOWN]:
        money[DRAWDOWN] = 1 - equity / money[PEAK]
    if len(curve):
        curve[bar] = equity


def _sources() -> int:
    """Return what identifies the code that is compiled into the loop."""
    parts = (figuring, formulas, layout, path, position, resting, standing, trading)
    files = [__file__, *(part.__file__ for part in parts)]
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in files))


def _loop(sources: int) -> Any:  # noqa: C901 - one loop over bars
    """Return the loop; what is kept of it on disk is kept for these sources alone.

    numba itself looks at the file of the function it keeps, not at those of what it calls.
    """

    @njit(cache=True, nogil=True, error_model="numpy")
    def run(  # noqa: C901 - as above
        start, last, mark, funding, pays, wanted, contracts, tables, levels, terms,
        lots, entry, margin, acted, money, counts, curve, quotes=None, limits=None, quoted=None, orders=None, prices=None, bounds=None,
    ):  # fmt: skip
        """Go on from the end of bar `start`; return the bar at whose end the account stands, after which it is not sure.

        Arrays come one by one: numba counts references to those inside of tuples, in every bar.

        Args:
            start: the bar at whose end the account stands.
            last: shape (instruments, bars, 4), float64: open, high, low, close.
            mark: the same of the mark price.
            funding: shape (instruments, bars), float64: the rate due at the bar's open, 0 where none is.
            pays: whether any is due at all.
            wanted: shape (bars, instruments), int64: lots wanted at the bar's end, or LEAVE.
            contracts: shape (instruments, 5), float64, see UNITS; KEPT is the most of its value that closing costs, 0 where the
                requirement has no such fee.
            tables: shape (instruments, 4, tiers), float64, see BEGINS.
            levels: shape (thresholds,), float64: margin levels at which something happens to a pool, the highest first.
            terms: what else the account trades under.
            lots: shape (instruments,), int64: its positions, changed in place as all that follows.
            entry: shape (instruments,), float64.
            margin: shape (instruments,), float64: of isolated positions.
            acted: shape (instruments,), int64: how many thresholds of each pool have acted; the shared pool of a cross account is
                the first. Does not change here.
            money: shape (5,), float64, see BALANCE.
            counts: shape (4,), int64, see FILLS.
            curve: shape (bars,), float64: equity at the end of every bar; (0,) where it is not wanted.
            quotes: shape (bars, instruments, slots), int64: the signed lots of limit orders given at the bar's end, or LEAVE.
            limits: shape (bars, instruments, slots), float64: their prices.
            quoted: shape (bars,): whether any are given. All None, which makes a loop of its own, where nobody places any.
            orders: shape (instruments, slots, 3), int64: the limit orders that rest, see `Resting`; changed in place as what follows.
            prices: shape (instruments, slots), float64.
            bounds: shape (instruments, 6), float64.
        """
        assert sources >= 0
        new_lots, new_entry, new_margin = lots.copy(), entry.copy(), margin.copy()
        highest, waits = levels[0], acted.any()
        if quotes is not None:
            new_orders, new_prices, new_bounds = orders.copy(), prices.copy(), bounds.copy()
        for bar in range(start + 1, last.shape[1]):
            balance, fees, funded, fills, refused = (
                money[BALANCE],
                money[FEES_PAID],
                money[RECEIVED],
                counts[FILLS],
                counts[REFUSED],
            )
            received, trades, is_sure = 0.0, False, True
            for i in range(len(lots)):
                new_lots[i], new_entry[i], new_margin[i] = lots[i], entry[i], margin[i]
                trades = trades or ordered(wanted[bar - 1, i], lots[i]) != 0
            if pays:
                received = _fund(mark, funding, bar, contracts, terms.isolated, lots, new_margin, money)
            has_orders = False
            if quotes is not None:  # written so that numba leaves it out where it is None
                has_orders = counts[RESTING] > 0 or quoted[bar - 1]
            if waits:
                is_sure = not (trades or has_orders) and stands_between(
                    mark, bar, HIGH, LOW, contracts, tables, terms, levels, acted, new_lots, new_entry, new_margin,
                    money[BALANCE],
                )  # fmt: skip
            elif has_orders:
                if quotes is not None:
                    is_sure = work(
                        last, mark, wanted, bar, contracts, tables, terms, highest, balance, trades, lots, new_lots, new_entry,
                        new_margin, money, counts, quotes, limits, quoted, orders, prices, bounds, new_orders, new_prices,
                        new_bounds,
                    )  # fmt: skip
            elif trades:
                is_sure = _trade_all(
                    last, mark, wanted, bar, contracts, tables, terms, highest, balance, received, lots, entry,
                    new_lots, new_entry, new_margin, money, counts,
                )  # fmt: skip
            if not is_sure or not (waits or has_orders or stands(
                mark, bar, HIGH, LOW, contracts, tables, terms, highest, new_lots, new_entry, new_margin, money[BALANCE],
            )):  # fmt: skip
                money[BALANCE], money[FEES_PAID], money[RECEIVED], counts[FILLS], counts[REFUSED] = (
                    balance,
                    fees,
                    funded,
                    fills,
                    refused,
                )
                return bar - 1
            for i in range(len(lots)):
                lots[i], entry[i], margin[i] = new_lots[i], new_entry[i], new_margin[i]
            _end_bar(mark, bar, contracts, terms.isolated, lots, entry, margin, money, curve)
        return last.shape[1] - 1

    return run


run = _loop(_sources())
