# SPDX-License-Identifier: GPL-3.0-or-later
"""Safety bounds of the compiled loop: no margin threshold is crossed within a bar, and all orders fit.

Every bound is conservative: True is conclusive, False means that the broker must process the bar. `above_threshold` checks a
subset of what `between_thresholds` checks. It is a function of its own because it runs in every bar, where the complete check
makes the loop two thirds slower.
"""

from crossmargin_bt.batch.compiled_formulas import (
    compiled,
    compiled_inline,
    initial_rate,
    maintenance_lower_bound,
    maintenance_upper_bound,
    max_notional_price,
    notional,
    opened_after,
    pnl,
    tier_index,
)
from crossmargin_bt.batch.layout import (
    CLOSE,
    HIGHEST_PRICE,
    INITIAL_RATE_MIN,
    INVERSE,
    LOTS_ORDERED,
    LOWEST_PRICE,
    MAKER,
    OPEN,
    TAKER,
)
from crossmargin_bt.batch.trading import market_order_lots
from crossmargin_bt.broker.skip.admission_bound import FEE_FACTOR

# Relative safety margin of every comparison, larger than any accumulated rounding error.
BOUND_SLACK = 1e-9
# Number of price moves whose loss is counted per order: from the price it is checked at to the mark, from there to the fill price,
# and from there to the mark again.
PRICE_STEPS = 3.0


@compiled_inline
def above_threshold(mark, bar, high, low, contracts, tables, terms, level, lots, entry, margin, collateral):
    """Return whether every pool stays above margin level `level` for all marks between two columns of a bar's mark candle.

    `high` and `low` are the columns, `collateral` is the balance of the shared pool, ignored in isolated mode.
    """
    required = 0.0
    for i in range(len(lots)):
        if lots[i] == 0:
            continue
        highest, lowest = mark[i, bar, high], mark[i, bar, low]
        price = max_notional_price(contracts, i, max_notional_price(contracts, i, highest, lowest), entry[i])
        maintenance = maintenance_upper_bound(contracts, tables, i, notional(contracts, i, lots[i], price))
        unrealised = pnl(contracts, i, lots[i], entry[i], lowest if lots[i] > 0 else highest)
        if terms.isolated:
            if not margin[i] + unrealised > level * maintenance * (1 + BOUND_SLACK):
                return False
        else:
            required += maintenance
            collateral += unrealised
    return required == 0 or terms.isolated or collateral > level * required * (1 + BOUND_SLACK)


@compiled
def between_thresholds(mark, bar, high, low, contracts, tables, terms, levels, acted, lots, entry, margin, balance):
    """Return whether no pool can cross a threshold in either direction for all marks between two columns of a bar's mark candle.

    Falling, the next threshold is the highest that has not acted; rising, a pool may re-arm the lowest one that has.
    """
    required, least, worst, best = 0.0, 0.0, balance, balance
    for i in range(len(lots)):
        if lots[i] == 0:
            if acted[i] != 0 and terms.isolated:
                return False
            continue
        highest, lowest = mark[i, bar, high], mark[i, bar, low]
        values = (
            notional(contracts, i, lots[i], highest),
            notional(contracts, i, lots[i], lowest),
            notional(contracts, i, lots[i], entry[i]),
        )
        maximum = maintenance_upper_bound(contracts, tables, i, max(values))
        minimum = maintenance_lower_bound(contracts, tables, i, min(values))
        worst_mark, best_mark = (lowest, highest) if lots[i] > 0 else (highest, lowest)
        down = pnl(contracts, i, lots[i], entry[i], worst_mark)
        up = pnl(contracts, i, lots[i], entry[i], best_mark)
        if terms.isolated and not _is_between(levels, acted[i], margin[i] + down, margin[i] + up, maximum, minimum):
            return False
        required, least, worst, best = required + maximum, least + minimum, worst + down, best + up
    return terms.isolated or _is_between(levels, acted[0], worst, best, required, least)


@compiled
def _is_between(levels, acted, worst, best, maximum, least):
    """Return whether a pool within these bounds neither falls to its next threshold nor re-arms the last that acted."""
    if not (maximum == 0 or worst > levels[acted] * maximum * (1 + BOUND_SLACK)):
        return False
    return acted == 0 or best < levels[acted - 1] * least * (1 - BOUND_SLACK)


@compiled
def orders_fit(
    last, mark, targets, bar, high, low, price_margin, contracts, tables, terms, level, lots, entry, bounds, balance
):
    """Return whether all orders may be accepted and may fill, in any sequence, at prices between the previous close and this bar.

    The price range spans the previous close and columns `high` and `low` of the bar, widened by the fraction `price_margin`.
    If True, margin in use stays within the available margin and the shared pool stays above margin level `level` whichever orders
    fill. Upper bound: all positions and orders at the price of maximum notional, all fees paid, every price move lost, and no
    profit of one position offsets the loss of another where unrealised profit does not count as margin.
    """
    initial_margin, maintenance, costs, unrealised = 0.0, 0.0, 0.0, 0.0
    opening_notional_min = terms.notional_min * (1 + BOUND_SLACK)
    for i in range(len(lots)):
        order = market_order_lots(contracts, i, targets[bar - 1, i], lots[i])
        resting = bounds[i, LOTS_ORDERED]
        if lots[i] == 0 and order == 0 and resting == 0:
            continue
        opening = opened_after(lots[i], order, 0)
        if opening != 0 and notional(contracts, i, opening, last[i, bar - 1, CLOSE]) < opening_notional_min:
            return False
        # A closing order may remove the offset of the orders resting beside it; an order under check is itself not in the market.
        added = resting + (opening if resting == 0 else abs(order))
        locked = abs(lots[i]) + added
        if terms.isolated:
            locked = added
        elif resting == 0 and (terms.nets_orders or len(lots) == 1):
            locked = max(abs(lots[i]), abs(lots[i] + order))
        mark_low = min(mark[i, bar, low], mark[i, bar - 1, CLOSE]) * (1 - price_margin)
        mark_high = max(mark[i, bar, high], mark[i, bar - 1, CLOSE]) * (1 + price_margin)
        opened, closed = last[i, bar, OPEN], last[i, bar - 1, CLOSE]
        lowest = min(mark_low, min(last[i, bar, low], opened, closed) * (1 - price_margin), bounds[i, LOWEST_PRICE])
        highest = max(mark_high, max(last[i, bar, high], opened, closed) * (1 + price_margin), bounds[i, HIGHEST_PRICE])
        price_loss = abs(pnl(contracts, i, abs(order) + resting, lowest, highest))
        if lots[i] != 0:
            lowest, highest = min(lowest, entry[i]), max(highest, entry[i])
            profit = pnl(contracts, i, lots[i], entry[i], mark_low if lots[i] > 0 else mark_high)
            unrealised += profit if terms.profit_pays else min(profit, 0.0)
        worst_price = lowest if contracts[i, INVERSE] else highest
        value = notional(contracts, i, abs(lots[i]) + added, worst_price) * (1 + terms.sell_markup)
        floor = tables[i, INITIAL_RATE_MIN, tier_index(tables, i, value)]
        if floor * terms.leverage > 1 + BOUND_SLACK and not terms.tier_raises_rate:
            return False
        rate = initial_rate(terms.leverage, floor)
        costs += PRICE_STEPS * price_loss + value * FEE_FACTOR * max(abs(contracts[i, TAKER]), abs(contracts[i, MAKER]))
        initial_margin += rate * notional(contracts, i, locked, worst_price) * (1 + terms.sell_markup)
        maintenance += maintenance_upper_bound(contracts, tables, i, value)
    if terms.isolated:
        return (initial_margin + costs) * (1 + BOUND_SLACK) < balance
    available = balance + unrealised - costs
    return available > initial_margin * (1 + BOUND_SLACK) and available > level * maintenance * (1 + BOUND_SLACK)
