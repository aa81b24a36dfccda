# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders that surely fit: a bound on what an order can take, against what the account has free.

Most orders are far from what an account can carry. What they may take at most is a few multiplications; the exact
judgement (`engine.admission`) is needed where that bound does not fit, and wherever rates depend on the size held.

Why the bound holds: an order of so many lots moves what positions and orders add up to by at most so many lots, each
worth at most the highest price anything of its side is valued at, twice where what it closes uncovers another; what it
costs besides are fees and the distance between its price and the mark.
"""

import math

from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES

# Lots are counted twice: what closes may uncover another order.
TWICE = 2.0
# An opening fee, a closing fee at a bankruptcy price of up to twice the value, and one more.
FEES = 4.0


class OrderBound:
    """What an account has free at the present marks, less what orders or fills admitted since may take of it."""

    def __init__(self, account: Account, totals: metrics.PoolBalance | None = None) -> None:
        """Begin with nothing taken; `totals` are those of the account's only pool, where they are known."""
        self._account = account
        self._totals = totals
        self._ends: dict[tuple[str, str], tuple[float, float]] = {}
        """By symbol and side, the lowest and the highest price of what rests and of what was taken."""
        self._free: dict[tuple[str, bool], float] = {}
        self._exact: set[tuple[str, bool]] = set()
        self._is_closed = False

    def close(self) -> None:
        """Take no more orders: one was admitted whose need is not counted here."""
        self._is_closed = True

    def takes(self, book: Book, side: str, lots: int, price: float) -> bool:
        """Return whether an order surely fits, and count it; False says nothing."""
        dearness = None if self._is_closed else _dearness(self._account, book)
        if dearness is None or _may_uncover_losses(book, side, lots):
            return False
        most = self._most(book, side, lots, price, dearness)
        settle = book.instrument.settle
        key = (settle, MODES[book.margin_mode].POOLED)
        if key not in self._free:
            totals = self._totals
            self._free[key] = (
                _least_headroom(self._account, book) if totals is None else totals.available_for(_use(book))
            )
        if not most < self._free[key]:
            if self._totals is not None or key in self._exact:
                return False
            self._exact.add(key)
            self._free[key] = metrics.available_margin(self._account, book)
        if not most < self._free[key]:
            return False
        for other in self._free:
            if other[0] == settle:
                self._free[other] -= most
        return True

    def _most(self, book: Book, side: str, lots: int, price: float, dearness: float) -> float:
        """Return the most that an order can take of what is free."""
        instrument = book.instrument
        at = (instrument.symbol, side)
        known = self._ends.get(at)
        if known is None:
            prices = [price, *book.orders.price_extremes(side)]
            known = self._ends[at] = min(prices), max(prices)
        elif not known[0] <= price <= known[1]:
            known = self._ends[at] = min(known[0], price), max(known[1], price)
        mark, last = book.long_mark, book.last or price
        dearest = instrument.value(lots, min(known[0], mark, last) if instrument.inverse else max(known[1], mark, last))
        away = instrument.profit(lots, price, mark)
        return TWICE * (dearest * dearness + (away if away > 0 else -away))


def _least_headroom(account: Account, book: Book) -> float:
    """Return no more than the headroom for orders of a book, positions and orders counted at their dearest, without any offset.

    Sooner said than the headroom itself; minus infinity where it is not sure.
    """
    if not account.is_plain or account.set_aside:
        return -math.inf
    settle = book.instrument.settle
    gains = MODES[book.margin_mode].POOLED and _use(book) in book.rules.profit_pays_for
    left = account.balances[settle]
    for other in account.busy_books(settle):
        dearness = _dearness(account, other)
        if dearness is None:
            return -math.inf
        value = other.orders.notional_upper_bound(other.long_mark) if other.orders else 0.0
        for leg in other.legs.values():
            prices = (other.mark_of(leg.lots), other.last or leg.entry, leg.entry)
            value += other.instrument.value(leg.lots, min(prices) if other.instrument.inverse else max(prices))
        profit = other.unrealised()
        left += profit if gains and MODES[other.margin_mode].POOLED else min(profit, 0.0)
        left -= value * dearness
    return left


def _use(book: Book) -> str:
    return "cross_orders" if MODES[book.margin_mode].POOLED else "isolated_orders"


def _may_uncover_losses(book: Book, side: str, lots: int) -> bool:
    """Return whether a loss that is realised may have been outweighed by profit that does not count."""
    return _use(book) not in book.rules.profit_pays_for and book.leg(side).lots * lots < 0


def _dearness(account: Account, book: Book) -> float | None:
    """Return the most that margin and fees of what a value stands for may come to, as a part of it.

    None where what an order takes depends on what else there is.
    """
    if book.orders and not book.orders.is_plain:
        return None
    setting = (book.leverage, book.scale, book.rates, book.margin_mode)
    known = account.dearness.get(book.instrument.symbol)
    if known is None or known[0] != setting:
        known = account.dearness[book.instrument.symbol] = (setting, _dearness_of_setting(account, book))
    return known[1]


def _dearness_of_setting(account: Account, book: Book) -> float | None:
    depends = (
        account.pooled
        or account.has_options
        or book.is_fully_funded
        or book.rules.values_orders_at_market
        or book.maintenance.has_initial_floor
        or book.instrument.kind == "margin"
    )
    return None if depends else book.initial_rate(0) + FEES * max(abs(book.taker), abs(book.maker))


def opening_lots(book: Book, side: str, lots: int) -> int:
    """Return how many lots of a plain order would open once what takes the next price has traded and others have closed."""
    held = book.leg(side).lots
    if book.orders.immediate:
        held += sum(order.lots for order in book.orders.values() if order.immediate and order.side == side)
    return position.opened_after(held, lots, book.orders.resting_lots(side, buys=lots > 0))
