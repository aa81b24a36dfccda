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

import numpy as np
from numba import njit

from crossmargin_bt.batch import bounds, compiled_formulas, layout, resting, trading
from crossmargin_bt.batch.bounds import HAIR, fit, stands, stands_between
from crossmargin_bt.batch.compiled_formulas import (
    compiled,
    compiled_in_place,
    funding_of,
    gain_of,
    size_of_lots,
    worth_of,
)
from crossmargin_bt.batch.layout import (
    BALANCE,
    CLOSE,
    DRAWDOWN,
    FEES_PAID,
    FILLS,
    HIGH,
    LOT,
    LOW,
    OPEN,
    PEAK,
    PER_CONTRACT,
    RECEIVED,
    REFUSED,
    RESTING,
    TAKER,
)
from crossmargin_bt.batch.resting import is_among, prove, work
from crossmargin_bt.batch.trading import is_too_small, ordered, trade_at_market
from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.math import formulas, intrabar_path


@compiled
def _fund(mark, rates, bar, contracts, isolated, lots, new_margin, money):
    """Settle the funding due at the open; isolated margins receive their own."""
    for i in range(len(lots)):
        if rates[i, bar] != 0 and lots[i] != 0:
            worth = worth_of(contracts, i, lots[i], mark[i, bar, OPEN])
            amount = funding_of(math.copysign(worth, lots[i]), rates[i, bar])
            money[RECEIVED] += amount
            if isolated:
                new_margin[i] += amount
            else:
                money[BALANCE] += amount


@compiled
def _is_hopeless(contracts, i, terms, order, closed, mark_closed, balance):
    """Return whether an account without positions surely cannot open an order."""
    values = (worth_of(contracts, i, order, closed), worth_of(contracts, i, order, mark_closed))
    rebate = max(0.0, -contracts[i, TAKER]) * max(values)
    least = min(values) / terms.leverage * (1 - HAIR) - rebate * (1 + HAIR)
    return least - abs(gain_of(contracts, i, order, closed, mark_closed)) - HAIR > max(balance, 0.0) * (1 + HAIR)


@compiled
def _all_are_hopeless(last, mark, wanted, bar, contracts, terms, lots, balance):
    """Return whether an account that holds nothing surely cannot open any of its orders."""
    for i in range(len(lots)):
        order = ordered(contracts, i, wanted[bar - 1, i], lots[i])
        closed, mark_closed = last[i, bar - 1, CLOSE], mark[i, bar - 1, CLOSE]
        if lots[i] != 0 or (order != 0 and not _is_hopeless(contracts, i, terms, order, closed, mark_closed, balance)):
            return False
    return True


@compiled
def _trade_all(
    last, mark, wanted, bar, contracts, tables, terms, highest, before, lots, entry, new_lots, new_entry, new_margin, money,
    counts, bounds,
):  # fmt: skip
    """Let the bar's orders trade; False where that is not sure."""
    balance = min(before, money[BALANCE])
    if _all_are_hopeless(last, mark, wanted, bar, contracts, terms, lots, balance):
        for i in range(len(lots)):
            counts[REFUSED] += ordered(contracts, i, wanted[bar - 1, i], lots[i]) != 0
        return True
    # Before they trade the venue looks at the open; funding has been settled by then.
    if not (
        fit(last, mark, wanted, bar, OPEN, OPEN, 0.0, contracts, tables, terms, highest, lots, entry, bounds, balance)
        and stands(mark, bar, OPEN, OPEN, contracts, tables, terms, highest, lots, entry, new_margin, balance)
    ):
        return False
    return trade_at_market(
        last, mark, wanted, bar, contracts, tables, terms, lots, new_lots, new_entry, new_margin, money, counts
    )  # fmt: skip


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
    parts = (compiled_formulas, formulas, layout, intrabar_path, position, resting, bounds, trading)
    files = [__file__, *(part.__file__ for part in parts)]
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in files))


def _loop(sources: int) -> Any:  # noqa: C901 - one loop over bars
    """Return the loop; what is kept of it on disk is kept for these sources alone.

    numba itself looks at the file of the function it keeps, not at those of what it calls.
    """

    @njit(cache=True, nogil=True, error_model="numpy")
    def run(  # noqa: C901, PLR0912 - as above
        start, last, mark, funding, pays, wanted, contracts, tables, levels, terms,
        lots, entry, margin, acted, money, counts, curve, bounds, quotes=None, limits=None, quoted=None, orders=None, prices=None,
    ):  # fmt: skip
        """Go on from the end of bar `start`; return the bar at whose end the account stands, after which it is not sure.

        Arrays come one by one: numba counts references to those inside of tuples, in every bar.

        Args:
            start: the bar at whose end the account stands.
            last: shape (instruments, bars, 4), float64: open, high, low, close.
            mark: the same of the mark price.
            funding: shape (instruments, bars), float64: the rate due at the bar's open, 0 where none is.
            pays: whether any is due at all.
            wanted: shape (bars, instruments), float64: the sizes wanted at the bar's end; NaN leaves what is held.
            contracts: shape (instruments, 7), float64, see UNITS; KEPT is the most of its value that closing costs, 0 where the
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
            bounds: shape (instruments, 6), float64: what the limit orders that rest come to, see `Resting`; changed in place.
            quotes: shape (bars, instruments, slots), int64: the signed lots of limit orders given at the bar's end, or LEAVE. None,
                as all that follows, which makes a loop of its own, where nobody places any.
            limits: shape (bars, instruments, slots), float64: their prices.
            quoted: shape (bars,): whether any are given.
            orders: shape (instruments, slots, 3), int64: the limit orders that rest; changed in place.
            prices: shape (instruments, slots), float64; changed in place.
        """
        assert sources >= 0
        new_lots, new_entry, new_margin = lots.copy(), entry.copy(), margin.copy()
        sizes = np.array(
            [size_of_lots(lots[i], contracts[i, LOT], contracts[i, PER_CONTRACT]) for i in range(len(lots))]
        )
        highest, waits = levels[0], acted.any()
        if quotes is not None:
            new_orders, new_prices, new_bounds = orders.copy(), prices.copy(), bounds.copy()
            band, proven = np.empty((len(lots), 4)), np.inf
        for bar in range(start + 1, last.shape[1]):
            balance, fees, funded, fills, refused = (
                money[BALANCE],
                money[FEES_PAID],
                money[RECEIVED],
                counts[FILLS],
                counts[REFUSED],
            )
            trades, is_sure = False, True
            for i in range(len(lots)):
                new_lots[i], new_entry[i], new_margin[i] = lots[i], entry[i], margin[i]
                if wanted[bar - 1, i] != sizes[i]:  # spares the division in most bars
                    trades = trades or ordered(contracts, i, wanted[bar - 1, i], lots[i]) != 0
                    counts[REFUSED] += is_too_small(contracts, i, wanted[bar - 1, i], lots[i])
            if pays:
                _fund(mark, funding, bar, contracts, terms.isolated, lots, new_margin, money)
            has_orders = False
            if quotes is not None:  # written so that numba leaves it out where it is None
                has_orders = counts[RESTING] > 0 or quoted[bar - 1]
                if not (waits or trades or quoted[bar - 1]) and min(balance, money[BALANCE]) >= proven:
                    has_orders = has_orders and not is_among(last, mark, bar, bounds, band)
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
                    last, mark, wanted, bar, contracts, tables, terms, highest, balance, lots, entry, new_lots, new_entry,
                    new_margin, money, counts, bounds,
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
                if lots[i] != new_lots[i]:
                    sizes[i] = size_of_lots(new_lots[i], contracts[i, LOT], contracts[i, PER_CONTRACT])
                lots[i], entry[i], margin[i] = new_lots[i], new_entry[i], new_margin[i]
            if has_orders:  # noqa: SIM102 - see above
                if quotes is not None:
                    proven = prove(
                        last,
                        mark,
                        wanted,
                        bar,
                        contracts,
                        tables,
                        terms,
                        highest,
                        lots,
                        entry,
                        bounds,
                        money[BALANCE],
                        band,
                    )
            _end_bar(mark, bar, contracts, terms.isolated, lots, entry, margin, money, curve)
        return last.shape[1] - 1

    return run


run = _loop(_sources())
