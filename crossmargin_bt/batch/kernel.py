# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled loop: processes bars in which an account provably has nothing but its own fills and funding.

The loop stops at the first bar that it cannot prove, and the broker processes that bar. All checks are conservative:
requirements are bounded from above, available margin from below. Bookings use the engine's own formulas, compiled, in the engine's
order of operations, so that results are equal bit for bit.
"""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from crossmargin_bt.batch import bounds, compiled_formulas, layout, resting, trading
from crossmargin_bt.batch.bounds import BOUND_SLACK, above_threshold, between_thresholds, orders_fit
from crossmargin_bt.batch.compiled_formulas import (
    compiled,
    compiled_inline,
    funding_of,
    notional,
    pnl,
    size_of_lots,
)
from crossmargin_bt.batch.layout import (
    BALANCE,
    CLOSE,
    DRAWDOWN,
    FEES_PAID,
    FILLS,
    FUNDING_RECEIVED,
    HIGH,
    LOT,
    LOTS_PER_CONTRACT,
    LOW,
    OPEN,
    PEAK,
    REFUSED,
    RESTING,
    TAKER,
)
from crossmargin_bt.batch.resting import is_within_band, process_bar, proven_balance_in_band
from crossmargin_bt.batch.trading import fill_market_orders, is_below_one_lot, market_order_lots
from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.math import formulas, intrabar_path


@compiled
def _settle_funding(mark, rates, bar, contracts, isolated, lots, new_margin, money):
    """Settle the funding due at the open; that of an isolated position goes to its margin."""
    for i in range(len(lots)):
        if rates[i, bar] != 0 and lots[i] != 0:
            value = notional(contracts, i, lots[i], mark[i, bar, OPEN])
            amount = funding_of(math.copysign(value, lots[i]), rates[i, bar])
            money[FUNDING_RECEIVED] += amount
            if isolated:
                new_margin[i] += amount
            else:
                money[BALANCE] += amount


@compiled
def _is_unaffordable(contracts, i, terms, order, closed, mark_closed, balance):
    """Return whether an account without positions provably cannot afford an order; False is inconclusive."""
    values = (notional(contracts, i, order, closed), notional(contracts, i, order, mark_closed))
    rebate = max(0.0, -contracts[i, TAKER]) * max(values)
    least = min(values) / terms.leverage * (1 - BOUND_SLACK) - rebate * (1 + BOUND_SLACK)
    return least - abs(pnl(contracts, i, order, closed, mark_closed)) - BOUND_SLACK > max(balance, 0.0) * (
        1 + BOUND_SLACK
    )


@compiled
def _all_are_unaffordable(last, mark, targets, bar, contracts, terms, lots, balance):
    """Return whether an account without positions provably cannot afford any of its orders; False is inconclusive."""
    for i in range(len(lots)):
        order = market_order_lots(contracts, i, targets[bar - 1, i], lots[i])
        closed, mark_closed = last[i, bar - 1, CLOSE], mark[i, bar - 1, CLOSE]
        if lots[i] != 0 or (
            order != 0 and not _is_unaffordable(contracts, i, terms, order, closed, mark_closed, balance)
        ):
            return False
    return True


@compiled
def _fill_market_orders(
    last, mark, targets, bar, contracts, tables, terms, top_level, balance_before, lots, entry, new_lots, new_entry, new_margin,
    money, counts, bounds,
):  # fmt: skip
    """Refuse or fill the bar's market orders; return False where the result is uncertain."""
    balance = min(balance_before, money[BALANCE])
    if _all_are_unaffordable(last, mark, targets, bar, contracts, terms, lots, balance):
        for i in range(len(lots)):
            counts[REFUSED] += market_order_lots(contracts, i, targets[bar - 1, i], lots[i]) != 0
        return True
    # The venue checks the thresholds at the open before orders fill; funding has been settled by then.
    if not (
        orders_fit(
            last, mark, targets, bar, OPEN, OPEN, 0.0, contracts, tables, terms, top_level, lots, entry, bounds, balance
        )
        and above_threshold(
            mark, bar, OPEN, OPEN, contracts, tables, terms, top_level, lots, entry, new_margin, balance
        )
    ):
        return False
    return fill_market_orders(
        last, mark, targets, bar, contracts, tables, terms, lots, new_lots, new_entry, new_margin, money, counts
    )  # fmt: skip


@compiled_inline
def _record_equity(mark, bar, contracts, isolated, lots, entry, margin, money, curve):
    """Record the equity at a bar's end: peak, drawdown and curve."""
    balance, profit, isolated_margin = money[BALANCE], 0.0, 0.0
    for i in range(len(lots)):
        if lots[i] != 0:
            profit += pnl(contracts, i, lots[i], entry[i], mark[i, bar, CLOSE])
            isolated_margin += margin[i]
    equity = balance + 0.0 + profit + isolated_margin if isolated else balance + profit
    if equity > money[PEAK]:
        money[PEAK] = equity
    elif money[PEAK] > 0 and 1 - equity / money[PEAK] > money[DRAWDOWN]:
        money[DRAWDOWN] = 1 - equity / money[PEAK]
    if len(curve):
        curve[bar] = equity


def _source_checksum() -> int:
    """Return a checksum of all source files that are compiled into the loop."""
    parts = (compiled_formulas, formulas, layout, intrabar_path, position, resting, bounds, trading)
    files = [__file__, *(part.__file__ for part in parts)]
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in files))


def _compiled_for(checksum: int) -> Any:  # noqa: C901 - one loop over bars
    """Return the loop, cached on disk for this checksum of its sources.

    numba itself invalidates its cache by the file of the cached function, not by the files of the functions it calls.
    """

    @njit(cache=True, nogil=True, error_model="numpy")
    def run(  # noqa: C901, PLR0912 - as above
        start, end, last, mark, funding, has_funding, targets, contracts, tables, levels, terms,
        lots, entry, margin, acted, money, counts, curve, bounds,
        limit_lots=None, limit_prices=None, has_limits=None, orders=None, prices=None,
    ):  # fmt: skip
        """Continue after bar `start`; return the last bar processed, after which a bar is uncertain or `end` is reached.

        Arrays are separate parameters because numba counts references to arrays inside tuples in every bar.

        Args:
            start: index of the last bar processed before.
            end: index after the last bar to process: the number of bars, or the first bar with other terms.
            last: shape (instruments, bars, 4), float64: open, high, low, close.
            mark: the same for the mark price.
            funding: shape (instruments, bars), float64: the rate due at the bar's open, 0 for none.
            has_funding: whether any rate is due at all.
            targets: shape (bars, instruments), float64: target positions at the bar's end; NaN keeps the position.
            contracts: shape (instruments, 7), float64, see UNITS; CLOSING_COST_RATE is the upper bound of the closing fee as a
                fraction of the notional, 0 where the requirement includes no such fee.
            tables: shape (instruments, 4, tiers), float64, see NOTIONAL_MIN.
            levels: shape (thresholds,), float64: margin levels of the venue's thresholds, in descending order.
            terms: further terms of the account.
            lots: shape (instruments,), int64: signed positions; changed in place, as are all arrays that follow unless stated.
            entry: shape (instruments,), float64.
            margin: shape (instruments,), float64: of isolated positions.
            acted: shape (instruments,), int64: number of thresholds of each pool that have acted; the shared pool of a
                cross account is element 0. Not changed.
            money: shape (5,), float64, see BALANCE; settle currency, DRAWDOWN is a fraction.
            counts: shape (4,), int64, see FILLS.
            curve: shape (bars,), float64: equity at the end of every bar; shape (0,) if not requested.
            bounds: shape (instruments, 6), float64: summary of the resting limit orders, see `RestingOrders`.
            limit_lots: shape (bars, instruments, slots), int64: signed lots of the limit orders placed at the bar's end, or
                UNCHANGED. None, as all that follows, without limit orders; numba compiles a separate loop for that case. Not changed.
            limit_prices: shape (bars, instruments, slots), float64: their prices. Not changed.
            has_limits: shape (bars,): whether a bar changes any slot. Not changed.
            orders: shape (instruments, slots, 3), int64: resting limit orders.
            prices: shape (instruments, slots), float64: their prices.
        """
        assert checksum >= 0
        new_lots, new_entry, new_margin = lots.copy(), entry.copy(), margin.copy()
        sizes = np.array(
            [size_of_lots(lots[i], contracts[i, LOT], contracts[i, LOTS_PER_CONTRACT]) for i in range(len(lots))]
        )
        top_level, has_acted = levels[0], acted.any()
        if limit_lots is not None:
            new_orders, new_prices, new_bounds = orders.copy(), prices.copy(), bounds.copy()
            band, proven_balance = np.empty((len(lots), 4)), np.inf
        for bar in range(start + 1, end):
            balance, fees, funded, fills, refused = (
                money[BALANCE],
                money[FEES_PAID],
                money[FUNDING_RECEIVED],
                counts[FILLS],
                counts[REFUSED],
            )
            has_market_orders, is_proven = False, True
            for i in range(len(lots)):
                new_lots[i], new_entry[i], new_margin[i] = lots[i], entry[i], margin[i]
                if targets[bar - 1, i] != sizes[i]:  # avoids the division in most bars
                    has_market_orders = (
                        has_market_orders or market_order_lots(contracts, i, targets[bar - 1, i], lots[i]) != 0
                    )
                    counts[REFUSED] += is_below_one_lot(contracts, i, targets[bar - 1, i], lots[i])
            if has_funding:
                _settle_funding(mark, funding, bar, contracts, terms.isolated, lots, new_margin, money)
            has_orders = False
            if limit_lots is not None:  # this form lets numba remove the branch where it is None
                has_orders = counts[RESTING] > 0 or has_limits[bar - 1]
                is_unchanged = not (has_acted or has_market_orders or has_limits[bar - 1])
                if is_unchanged and min(balance, money[BALANCE]) >= proven_balance:
                    has_orders = has_orders and not is_within_band(last, mark, bar, bounds, band)
            if has_acted:
                is_proven = not (has_market_orders or has_orders) and between_thresholds(
                    mark, bar, HIGH, LOW, contracts, tables, terms, levels, acted, new_lots, new_entry, new_margin,
                    money[BALANCE],
                )  # fmt: skip
            elif has_orders:
                if limit_lots is not None:
                    is_proven = process_bar(
                        last, mark, targets, bar, contracts, tables, terms, top_level, balance, has_market_orders, lots, new_lots,
                        new_entry, new_margin, money, counts, limit_lots, limit_prices, has_limits, orders, prices, bounds,
                        new_orders, new_prices, new_bounds,
                    )  # fmt: skip
            elif has_market_orders:
                is_proven = _fill_market_orders(
                    last, mark, targets, bar, contracts, tables, terms, top_level, balance, lots, entry, new_lots, new_entry,
                    new_margin, money, counts, bounds,
                )  # fmt: skip
            if not is_proven or not (has_acted or has_orders or above_threshold(
                mark, bar, HIGH, LOW, contracts, tables, terms, top_level, new_lots, new_entry, new_margin, money[BALANCE],
            )):  # fmt: skip
                money[BALANCE], money[FEES_PAID], money[FUNDING_RECEIVED], counts[FILLS], counts[REFUSED] = (
                    balance,
                    fees,
                    funded,
                    fills,
                    refused,
                )
                return bar - 1
            for i in range(len(lots)):
                if lots[i] != new_lots[i]:
                    sizes[i] = size_of_lots(new_lots[i], contracts[i, LOT], contracts[i, LOTS_PER_CONTRACT])
                lots[i], entry[i], margin[i] = new_lots[i], new_entry[i], new_margin[i]
            if has_orders:  # noqa: SIM102 - see above
                if limit_lots is not None:
                    proven_balance = proven_balance_in_band(
                        last, mark, targets, bar, contracts, tables, terms, top_level, lots, entry, bounds, money[BALANCE], band,
                    )  # fmt: skip
            _record_equity(mark, bar, contracts, terms.isolated, lots, entry, margin, money, curve)
        return max(start, end - 1)

    return run


run = _compiled_for(_source_checksum())
