# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit orders in the compiled loop: which of them a bar reaches, in which order, and whether all of it is sure.

They trade as backtrader matches them: at the open where that is at the limit or better, otherwise at the limit where the bar
comes to it, all instruments moving in step along their paths (`crossmargin_bt.engine.math.intrabar_path`).
"""

from crossmargin_bt.batch.bounds import HAIR, fit, stands
from crossmargin_bt.batch.compiled_formulas import compiled, compiled_in_place, low_comes_first, opened_after, worth_of
from crossmargin_bt.batch.layout import (
    ARRIVED,
    BALANCE,
    BEST_BUY,
    BEST_SELL,
    CLOSE,
    COVERED,
    FILLS,
    HIGH,
    HIGHEST,
    LEAVE,
    LOTS,
    LOW,
    LOW_FIRST,
    LOWEST,
    MAKER,
    OPEN,
    ORDERED,
    PLACE,
    RESTING,
    TAKER,
)
from crossmargin_bt.batch.trading import ordered, trade, trade_at_market
from crossmargin_bt.engine.math.intrabar_path import Candle

NOBODY = -1
# So far prices may move, as a part of themselves, before all is looked at anew.
ROOM = 0.01
# Places in the prices among which orders rest and positions stand, shape (instruments, 4).
LAST_LOW, LAST_HIGH, MARK_LOW, MARK_HIGH = range(4)


@compiled
def moment_reached(last, i, bar, level, low_first):
    """Return the first moment at which a bar's price is at a level: what `engine.path.Path.reaches` says of four prices."""
    second, third = (LOW, HIGH) if low_first else (HIGH, LOW)
    before = last[i, bar, OPEN]
    if before == level:
        return 0.0
    for n, turn in enumerate((second, third, CLOSE)):
        after = last[i, bar, turn]
        if before == level:
            return float(n)
        if (before - level) * (after - level) <= 0:
            return n + (level - before) / (after - before)
        before = after
    return 3.0


@compiled_in_place
def _opens_beyond(last, i, bar, lots, price):
    """Return whether an order trades at the open."""
    return last[i, bar, OPEN] <= price if lots > 0 else last[i, bar, OPEN] >= price


@compiled_in_place
def _is_within(last, i, bar, lots, price):
    """Return whether a bar comes to the price of an order."""
    return last[i, bar, LOW] <= price if lots > 0 else last[i, bar, HIGH] >= price


@compiled
def prove(last, mark, wanted, bar, contracts, tables, terms, highest, lots, entry, bounds, balance, band):
    """Return down to which balance all fits while prices stay within `band`, which is filled; infinity where it is none."""
    for i in range(len(lots)):
        band[i, LAST_LOW], band[i, LAST_HIGH] = last[i, bar, LOW] * (1 - ROOM), last[i, bar, HIGH] * (1 + ROOM)
        band[i, MARK_LOW], band[i, MARK_HIGH] = mark[i, bar, LOW] * (1 - ROOM), mark[i, bar, HIGH] * (1 + ROOM)
    fits = fit(
        last, mark, wanted, bar, HIGH, LOW, ROOM, contracts, tables, terms, highest, lots, entry, bounds, balance
    )
    return balance if fits else float("inf")


@compiled_in_place
def is_among(last, mark, bar, bounds, band):
    """Return whether a bar stays within the prices that were proven, and reaches no order."""
    for i in range(len(band)):
        low, high = min(last[i, bar, LOW], last[i, bar, OPEN]), max(last[i, bar, HIGH], last[i, bar, OPEN])
        if not (
            max(band[i, LAST_LOW], bounds[i, BEST_BUY]) < low
            and high < min(band[i, LAST_HIGH], bounds[i, BEST_SELL])
            and band[i, MARK_LOW] < mark[i, bar, LOW]
            and mark[i, bar, HIGH] < band[i, MARK_HIGH]
        ):
            return False
    return True


@compiled
def sum_up(orders, prices, bounds):
    """Put what the orders of every contract come to into `bounds`; return how many there are."""
    count = 0
    for i in range(orders.shape[0]):
        lots, buy, sell, lowest, highest = 0, 0.0, float("inf"), float("inf"), 0.0
        for k in range(orders.shape[1]):
            if orders[i, k, LOTS] == 0:
                continue
            count += 1
            lots += abs(orders[i, k, LOTS])
            price = prices[i, k]
            lowest, highest = min(lowest, price), max(highest, price)
            if orders[i, k, LOTS] > 0:
                buy = max(buy, price)
            else:
                sell = min(sell, price)
        bounds[i, ORDERED], bounds[i, BEST_BUY], bounds[i, BEST_SELL] = lots, buy, sell
        bounds[i, LOWEST], bounds[i, HIGHEST] = lowest, highest
    return count


@compiled
def _is_reached(last, bar, bounds):
    """Return whether a bar comes to the price of any order."""
    for i in range(bounds.shape[0]):
        low, high = min(last[i, bar, LOW], last[i, bar, OPEN]), max(last[i, bar, HIGH], last[i, bar, OPEN])
        if low <= bounds[i, BEST_BUY] or high >= bounds[i, BEST_SELL]:
            return True
    return False


@compiled
def _covered(lots, market, orders, i, k):
    """Return how many lots of an order that comes now would open, those before it closing first; see `engine.room`."""
    order, others = orders[i, k, LOTS], 0
    for other in range(orders.shape[1]):
        if other != k and (orders[i, other, LOTS] > 0) == (order > 0):
            others += abs(orders[i, other, LOTS])
    return opened_after(lots + market, order, others)


@compiled
def _take_in(wanted, quotes, limits, bar, contracts, terms, lots, orders, prices, first):
    """Cancel and place what was said at the bar's end before; return the next place in the queue, or NOBODY where it is not sure."""
    for i in range(orders.shape[0]):
        for k in range(orders.shape[1]):
            if quotes[bar - 1, i, k] != LEAVE:
                orders[i, k, LOTS] = 0
    place = first
    for i in range(orders.shape[0]):
        market = ordered(contracts, i, wanted[bar - 1, i], lots[i])
        for k in range(orders.shape[1]):
            order = quotes[bar - 1, i, k]
            if order in (LEAVE, 0):
                continue
            orders[i, k, LOTS], prices[i, k] = order, limits[bar - 1, i, k]
            orders[i, k, COVERED] = _covered(lots[i], market, orders, i, k)
            orders[i, k, PLACE] = place
            place += 1
            opening = opened_after(lots[i], order, 0)
            if opening != 0 and worth_of(contracts, i, opening, prices[i, k]) < terms.smallest * (1 + HAIR):
                return NOBODY
    return place


@compiled
def _first_open(last, bar, orders, prices, since, until):
    """Return the instrument and slot of the order that came first, of those from one place to another which the open reaches."""
    found, at, slot = until, NOBODY, NOBODY
    for i in range(orders.shape[0]):
        for k in range(orders.shape[1]):
            lots, place = orders[i, k, LOTS], orders[i, k, PLACE]
            if lots != 0 and since <= place < found and _opens_beyond(last, i, bar, lots, prices[i, k]):
                found, at, slot = place, i, k
    return at, slot


@compiled
def _first_inside(last, bar, orders, prices, bounds):
    """Return the instrument and slot of the order that the paths reach first; of several at once the one that came first."""
    soonest, came, at, slot = 4.0, 0, NOBODY, NOBODY
    for i in range(orders.shape[0]):
        for k in range(orders.shape[1]):
            lots = orders[i, k, LOTS]
            if lots == 0 or not _is_within(last, i, bar, lots, prices[i, k]):
                continue
            moment = moment_reached(last, i, bar, prices[i, k], bounds[i, LOW_FIRST] != 0)
            if moment < soonest or (moment == soonest and orders[i, k, PLACE] < came):
                soonest, came, at, slot = moment, orders[i, k, PLACE], i, k
    return at, slot


@compiled
def _fill(contracts, tables, i, k, terms, price, marks, charged, lots, entry, margin, money, counts, orders):
    """Fill a limit order; return whether that is sure."""
    order = orders[i, k, LOTS]
    orders[i, k, LOTS] = 0
    counts[FILLS] += 1
    return (
        trade(contracts, tables, i, terms, order, price, marks, charged, lots, entry, margin, money)
        and money[BALANCE] >= 0
    )


@compiled
def _fill_at_open(
    last, mark, bar, contracts, tables, terms, charged, since, until, lots, entry, margin, money, counts, orders, prices
):  # fmt: skip
    """Fill the orders from one place in the queue to another that the open reaches; return whether that is sure."""
    i, k = _first_open(last, bar, orders, prices, since, until)
    while i != NOBODY:
        marks = (mark[i, bar, OPEN], mark[i, bar, OPEN])
        if not _fill(
            contracts, tables, i, k, terms, last[i, bar, OPEN], marks, contracts[i, charged], lots, entry, margin, money,
            counts, orders,
        ):  # fmt: skip
            return False
        i, k = _first_open(last, bar, orders, prices, since, until)
    return True


@compiled
def _trade_at_open(
    last, mark, wanted, bar, contracts, tables, terms, first, after, held, lots, entry, margin, money, counts, orders, prices
):  # fmt: skip
    """Let everything trade that the open reaches, first come first: what rested, orders at market, what is new."""
    if not _fill_at_open(
        last, mark, bar, contracts, tables, terms, MAKER, 0, first, lots, entry, margin, money, counts, orders, prices
    ):  # fmt: skip
        return False
    return trade_at_market(
        last, mark, wanted, bar, contracts, tables, terms, held, lots, entry, margin, money, counts
    ) and _fill_at_open(
        last, mark, bar, contracts, tables, terms, TAKER, first, after, lots, entry, margin, money, counts, orders, prices
    )  # fmt: skip


@compiled
def _trade_inside(
    last, mark, bar, contracts, tables, terms, highest, lots, entry, margin, money, counts, orders, prices, bounds
):  # fmt: skip
    """Let everything trade that prices reach after the open; return whether that is sure, and nothing else happens."""
    for i in range(len(lots)):
        candle = Candle(last[i, bar, OPEN], last[i, bar, HIGH], last[i, bar, LOW], last[i, bar, CLOSE])
        bounds[i, LOW_FIRST] = lots[i] > 0 if terms.adverse and lots[i] != 0 else low_comes_first(candle)
    while stands(mark, bar, HIGH, LOW, contracts, tables, terms, highest, lots, entry, margin, money[BALANCE]):
        i, k = _first_inside(last, bar, orders, prices, bounds)
        if i == NOBODY:
            return True
        marks = (mark[i, bar, LOW], mark[i, bar, HIGH])
        if not _fill(
            contracts, tables, i, k, terms, prices[i, k], marks, contracts[i, MAKER], lots, entry, margin, money, counts,
            orders,
        ):  # fmt: skip
            return False
    return False


@compiled
def work(
    last, mark, wanted, bar, contracts, tables, terms, highest, before, trades, held, lots, entry, margin, money, counts,
    quotes, limits, quoted, orders, prices, bounds, new_orders, new_prices, new_bounds,
):  # fmt: skip
    """Take a bar of an account with limit orders; return whether all of it is sure, otherwise its orders stay as they were.

    `before` is the balance before the bar's funding, `trades` whether anything is ordered at market, `held` are the positions at
    the end of the bar before; `lots`, `entry` and `margin`, the same after funding, change in place, and `new_orders`,
    `new_prices` and `new_bounds` are room to work in. The loop tells of the others.
    """
    balance = min(before, money[BALANCE])
    if not (trades or quoted[bar - 1] or _is_reached(last, bar, bounds)):
        return fit(
            last, mark, wanted, bar, HIGH, LOW, 0.0, contracts, tables, terms, highest, lots, entry, bounds, balance
        ) and stands(mark, bar, HIGH, LOW, contracts, tables, terms, highest, lots, entry, margin, money[BALANCE])
    new_orders[:], new_prices[:] = orders, prices
    first = counts[ARRIVED]
    after = _take_in(wanted, quotes, limits, bar, contracts, terms, held, new_orders, new_prices, first)
    if after == NOBODY:
        return False
    sum_up(new_orders, new_prices, new_bounds)
    is_sure = (
        fit(last, mark, wanted, bar, HIGH, LOW, 0.0, contracts, tables, terms, highest, lots, entry, new_bounds, balance)
        and stands(mark, bar, OPEN, OPEN, contracts, tables, terms, highest, lots, entry, margin, money[BALANCE])
        and _trade_at_open(
            last, mark, wanted, bar, contracts, tables, terms, first, after, held, lots, entry, margin, money, counts,
            new_orders, new_prices,
        )
        and _trade_inside(
            last, mark, bar, contracts, tables, terms, highest, lots, entry, margin, money, counts, new_orders, new_prices,
            new_bounds,
        )
    )  # fmt: skip
    if is_sure:
        orders[:], prices[:] = new_orders, new_prices
        counts[ARRIVED], counts[RESTING] = after, sum_up(orders, prices, bounds)
    return is_sure
