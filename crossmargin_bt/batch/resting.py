# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit orders in the compiled loop: which orders a bar fills, in which sequence, and whether that is provable.

They fill as backtrader matches them: at the open if it is at the limit price or better, otherwise at the limit price if the bar
reaches it, all instruments moving in step along their intrabar paths (`crossmargin_bt.engine.math.intrabar_path`).
"""

from crossmargin_bt.batch.bounds import BOUND_SLACK, above_threshold, orders_fit
from crossmargin_bt.batch.compiled_formulas import compiled, compiled_inline, low_comes_first, notional, opened_after
from crossmargin_bt.batch.layout import (
    ARRIVAL,
    ARRIVED,
    BALANCE,
    BEST_BUY,
    BEST_SELL,
    CLOSE,
    COVERED,
    FILLS,
    HIGH,
    HIGHEST_PRICE,
    LOTS,
    LOTS_ORDERED,
    LOW,
    LOW_FIRST,
    LOWEST_PRICE,
    MAKER,
    OPEN,
    RESTING,
    TAKER,
    UNCHANGED,
)
from crossmargin_bt.batch.trading import fill_market_orders, fill_order, market_order_lots
from crossmargin_bt.engine.math.intrabar_path import Candle

NO_ORDER = -1
# Relative price move for which `orders_fit` is proven in advance; within it the check is not repeated.
PRICE_MARGIN = 0.01
# Columns of the price band of that proof, shape (instruments, 4).
LAST_LOW, LAST_HIGH, MARK_LOW, MARK_HIGH = range(4)


@compiled
def moment_reached(last, i, bar, level, low_first):
    """Return the first moment at which a bar's price reaches a level, from 0 (open) to 3 (close).

    Restates `engine.math.intrabar_path.Path.reaches` for four prices.
    """
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


@compiled_inline
def _fills_at_open(last, i, bar, lots, price):
    """Return whether an order fills at the open."""
    return last[i, bar, OPEN] <= price if lots > 0 else last[i, bar, OPEN] >= price


@compiled_inline
def _is_reached(last, i, bar, lots, price):
    """Return whether a bar reaches the price of an order."""
    return last[i, bar, LOW] <= price if lots > 0 else last[i, bar, HIGH] >= price


@compiled
def proven_balance_in_band(
    last, mark, targets, bar, contracts, tables, terms, top_level, lots, entry, bounds, balance, band
):
    """Fill `band` with a price band and return the lowest balance for which all orders fit within it; infinity for none."""
    for i in range(len(lots)):
        band[i, LAST_LOW], band[i, LAST_HIGH] = (
            last[i, bar, LOW] * (1 - PRICE_MARGIN),
            last[i, bar, HIGH] * (1 + PRICE_MARGIN),
        )
        band[i, MARK_LOW], band[i, MARK_HIGH] = (
            mark[i, bar, LOW] * (1 - PRICE_MARGIN),
            mark[i, bar, HIGH] * (1 + PRICE_MARGIN),
        )
    fits = orders_fit(
        last,
        mark,
        targets,
        bar,
        HIGH,
        LOW,
        PRICE_MARGIN,
        contracts,
        tables,
        terms,
        top_level,
        lots,
        entry,
        bounds,
        balance,
    )
    return balance if fits else float("inf")


@compiled_inline
def is_within_band(last, mark, bar, bounds, band):
    """Return whether a bar stays within the proven price band and reaches no order."""
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
def aggregate_orders(orders, prices, bounds):
    """Write the summary of the resting orders of every instrument into `bounds`; return the number of orders."""
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
        bounds[i, LOTS_ORDERED], bounds[i, BEST_BUY], bounds[i, BEST_SELL] = lots, buy, sell
        bounds[i, LOWEST_PRICE], bounds[i, HIGHEST_PRICE] = lowest, highest
    return count


@compiled
def _reaches_an_order(last, bar, bounds):
    """Return whether a bar reaches the price of any order."""
    for i in range(bounds.shape[0]):
        low, high = min(last[i, bar, LOW], last[i, bar, OPEN]), max(last[i, bar, HIGH], last[i, bar, OPEN])
        if low <= bounds[i, BEST_BUY] or high >= bounds[i, BEST_SELL]:
            return True
    return False


@compiled
def _covered_lots(lots, market, orders, i, k):
    """Return how many lots of a new order would open if all earlier orders close first.

    Restates `crossmargin_bt.broker.skip.admission_bound.opening_lots`.
    """
    order, others = orders[i, k, LOTS], 0
    for other in range(orders.shape[1]):
        if other != k and (orders[i, other, LOTS] > 0) == (order > 0):
            others += abs(orders[i, other, LOTS])
    return opened_after(lots + market, order, others)


@compiled
def _place_orders(targets, limit_lots, limit_prices, bar, contracts, terms, lots, orders, prices, first_arrival):
    """Cancel and place the limit orders of the previous bar's end; return the next arrival number, or NO_ORDER if uncertain."""
    for i in range(orders.shape[0]):
        for k in range(orders.shape[1]):
            if limit_lots[bar - 1, i, k] != UNCHANGED:
                orders[i, k, LOTS] = 0
    arrival = first_arrival
    for i in range(orders.shape[0]):
        market = market_order_lots(contracts, i, targets[bar - 1, i], lots[i])
        for k in range(orders.shape[1]):
            order = limit_lots[bar - 1, i, k]
            if order in (UNCHANGED, 0):
                continue
            orders[i, k, LOTS], prices[i, k] = order, limit_prices[bar - 1, i, k]
            orders[i, k, COVERED] = _covered_lots(lots[i], market, orders, i, k)
            orders[i, k, ARRIVAL] = arrival
            arrival += 1
            opening = opened_after(lots[i], order, 0)
            if opening != 0 and notional(contracts, i, opening, prices[i, k]) < terms.notional_min * (1 + BOUND_SLACK):
                return NO_ORDER
    return arrival


@compiled
def _next_fill_at_open(last, bar, orders, prices, since, until):
    """Return instrument and slot of the earliest order that fills at the open, of arrival numbers from `since` up to `until`."""
    found, at, slot = until, NO_ORDER, NO_ORDER
    for i in range(orders.shape[0]):
        for k in range(orders.shape[1]):
            lots, arrival = orders[i, k, LOTS], orders[i, k, ARRIVAL]
            if lots != 0 and since <= arrival < found and _fills_at_open(last, i, bar, lots, prices[i, k]):
                found, at, slot = arrival, i, k
    return at, slot


@compiled
def _next_fill_on_path(last, bar, orders, prices, bounds):
    """Return instrument and slot of the order that the intrabar paths reach first; ties go to the earliest arrival."""
    soonest, arrived, at, slot = 4.0, 0, NO_ORDER, NO_ORDER
    for i in range(orders.shape[0]):
        for k in range(orders.shape[1]):
            lots = orders[i, k, LOTS]
            if lots == 0 or not _is_reached(last, i, bar, lots, prices[i, k]):
                continue
            moment = moment_reached(last, i, bar, prices[i, k], bounds[i, LOW_FIRST] != 0)
            if moment < soonest or (moment == soonest and orders[i, k, ARRIVAL] < arrived):
                soonest, arrived, at, slot = moment, orders[i, k, ARRIVAL], i, k
    return at, slot


@compiled
def _fill(contracts, tables, i, k, terms, price, marks, charged, lots, entry, margin, money, counts, orders):
    """Fill a limit order; return False where the result is uncertain."""
    order = orders[i, k, LOTS]
    orders[i, k, LOTS] = 0
    counts[FILLS] += 1
    return (
        fill_order(contracts, tables, i, terms, order, price, marks, charged, lots, entry, margin, money)
        and money[BALANCE] >= 0
    )


@compiled
def _fill_at_open(
    last, mark, bar, contracts, tables, terms, charged, since, until, lots, entry, margin, money, counts, orders, prices
):  # fmt: skip
    """Fill the orders that the open reaches, of arrival numbers from `since` up to `until`; return False where uncertain."""
    i, k = _next_fill_at_open(last, bar, orders, prices, since, until)
    while i != NO_ORDER:
        marks = (mark[i, bar, OPEN], mark[i, bar, OPEN])
        if not _fill(
            contracts, tables, i, k, terms, last[i, bar, OPEN], marks, contracts[i, charged], lots, entry, margin, money,
            counts, orders,
        ):  # fmt: skip
            return False
        i, k = _next_fill_at_open(last, bar, orders, prices, since, until)
    return True


@compiled
def _fill_all_at_open(
    last, mark, targets, bar, contracts, tables, terms, first_arrival, next_arrival, previous_lots, lots, entry, margin, money,
    counts, orders, prices,
):  # fmt: skip
    """Fill at the open, in order of arrival: resting limit orders as maker, market orders, new limit orders as taker."""
    if not _fill_at_open(
        last, mark, bar, contracts, tables, terms, MAKER, 0, first_arrival, lots, entry, margin, money, counts, orders, prices
    ):  # fmt: skip
        return False
    return fill_market_orders(
        last, mark, targets, bar, contracts, tables, terms, previous_lots, lots, entry, margin, money, counts
    ) and _fill_at_open(
        last, mark, bar, contracts, tables, terms, TAKER, first_arrival, next_arrival, lots, entry, margin, money, counts, orders,
        prices,
    )  # fmt: skip


@compiled
def _fill_on_path(
    last, mark, bar, contracts, tables, terms, top_level, lots, entry, margin, money, counts, orders, prices, bounds
):  # fmt: skip
    """Fill the orders that the intrabar path reaches; return whether that is provable and no threshold is reached."""
    for i in range(len(lots)):
        candle = Candle(last[i, bar, OPEN], last[i, bar, HIGH], last[i, bar, LOW], last[i, bar, CLOSE])
        bounds[i, LOW_FIRST] = lots[i] > 0 if terms.is_adverse and lots[i] != 0 else low_comes_first(candle)
    while above_threshold(
        mark, bar, HIGH, LOW, contracts, tables, terms, top_level, lots, entry, margin, money[BALANCE]
    ):
        i, k = _next_fill_on_path(last, bar, orders, prices, bounds)
        if i == NO_ORDER:
            return True
        marks = (mark[i, bar, LOW], mark[i, bar, HIGH])
        if not _fill(
            contracts, tables, i, k, terms, prices[i, k], marks, contracts[i, MAKER], lots, entry, margin, money, counts,
            orders,
        ):  # fmt: skip
            return False
    return False


@compiled
def process_bar(
    last, mark, targets, bar, contracts, tables, terms, top_level, balance_before, has_market_orders, previous_lots, lots, entry,
    margin, money, counts, limit_lots, limit_prices, has_limits, orders, prices, bounds, new_orders, new_prices, new_bounds,
):  # fmt: skip
    """Process a bar of an account with limit orders; return whether all of it is provable. If not, its orders do not change.

    `balance_before` is the balance before the bar's funding, `has_market_orders` whether there are market orders, `previous_lots`
    are the positions at the end of the previous bar. `lots`, `entry` and `margin`, the positions after funding, change in place;
    `new_orders`, `new_prices` and `new_bounds` are scratch arrays. The other parameters are those of the loop (`kernel.run`).
    """
    balance = min(balance_before, money[BALANCE])
    if not (has_market_orders or has_limits[bar - 1] or _reaches_an_order(last, bar, bounds)):
        return orders_fit(
            last, mark, targets, bar, HIGH, LOW, 0.0, contracts, tables, terms, top_level, lots, entry, bounds, balance
        ) and above_threshold(
            mark, bar, HIGH, LOW, contracts, tables, terms, top_level, lots, entry, margin, money[BALANCE]
        )
    new_orders[:], new_prices[:] = orders, prices
    first_arrival = counts[ARRIVED]
    next_arrival = _place_orders(
        targets, limit_lots, limit_prices, bar, contracts, terms, previous_lots, new_orders, new_prices, first_arrival
    )
    if next_arrival == NO_ORDER:
        return False
    aggregate_orders(new_orders, new_prices, new_bounds)
    is_proven = (
        orders_fit(last, mark, targets, bar, HIGH, LOW, 0.0, contracts, tables, terms, top_level, lots, entry, new_bounds, balance)
        and above_threshold(mark, bar, OPEN, OPEN, contracts, tables, terms, top_level, lots, entry, margin, money[BALANCE])
        and _fill_all_at_open(
            last, mark, targets, bar, contracts, tables, terms, first_arrival, next_arrival, previous_lots, lots, entry, margin,
            money, counts, new_orders, new_prices,
        )
        and _fill_on_path(
            last, mark, bar, contracts, tables, terms, top_level, lots, entry, margin, money, counts, new_orders, new_prices,
            new_bounds,
        )
    )  # fmt: skip
    if is_proven:
        orders[:], prices[:] = new_orders, new_prices
        counts[ARRIVED], counts[RESTING] = next_arrival, aggregate_orders(orders, prices, bounds)
    return is_proven
