# SPDX-License-Identifier: GPL-3.0-or-later
"""An upper bound on the margin an order can take, so that orders far from the limit need no exact admission.

Why the bound holds: an order of N lots opens at most N lots. Where it closes a position that another order was to close, that
order opens as many lots instead, so closed and opened lots together stay within N. Each is valued at most at the highest
price that anything on its side is valued at; beyond margin an order costs fees and the distance between its price and the mark.
"""

import math

import msgspec

from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.admission.order_admission import ExactAdmission
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES

# The opening fee, a closing fee at a bankruptcy price of up to twice the value, and one more.
FEE_FACTOR = 4.0

CostRates = dict[str, tuple[tuple[object, ...], float | None]]
"""By symbol, the settings of a book and its highest margin and fees per unit of value under them."""


class BoundedAdmission(ExactAdmission):
    """Admits orders by an upper bound on their cost where it fits, and by the exact sums where it does not.

    Holds for one set of marks: free margin is reserved for what was admitted, until an order is admitted exactly.
    """

    def __init__(self, account: Account, rates: CostRates, balance: metrics.PoolBalance | None = None) -> None:
        """Begin with nothing reserved; `balance` is that of the account's only pool where it is known."""
        self._account, self._rates, self._balance = account, rates, balance
        self._price_range: dict[tuple[str, str], tuple[float, float]] = {}
        """By symbol and side, the lowest and highest price of resting orders and of those admitted."""
        self._free: dict[tuple[str, bool], float] = {}
        self._exact: set[tuple[str, bool]] = set()
        self._is_closed = False

    def close(self) -> None:
        """Use no bound from now on: something was admitted whose cost is not reserved here."""
        self._is_closed = True

    def admit(self, symbol: str, order: OpenOrder) -> OpenOrder | Refusal:
        """Return the order as it may rest, or why it may not."""
        book = self._account.books[symbol]
        only_closes = order.reduce_only and not book.is_fully_funded
        # Members of a group close the same lots, so they do not count against each other.
        may_be_small = book.instrument.notional_min and (
            book.orders.immediate or order_admission.below_minimum(book, order) is not None
        )
        is_bounded = not (only_closes or may_be_small or book.orders.reducing or order.group in book.orders.groups)
        if is_bounded and self.try_reserve(book, order.side, order.lots, order.price):
            return msgspec.structs.replace(order, covered=opening_lots(book, order.side, order.lots))
        admitted = order_admission.admit(self._account, symbol, order)
        if order.immediate if only_closes else not isinstance(admitted, Refusal):
            self.close()
        return admitted

    def admit_fill(self, entry: events.Filled) -> Refusal | None:
        """Return why a fill may not happen, or None when it may."""
        book = self._account.books[entry.symbol]
        if book.margin_mode != "spot":
            closed, opened = position.split_fill(book.leg(entry.side).lots, entry.lots)
            if not opened:
                return None
            may_be_small = closed and book.instrument.notional_min
            if not may_be_small and self.try_reserve(book, entry.side, entry.lots, entry.price):
                return None
            self.close()
        return order_admission.admit_fill(self._account, entry)

    def try_reserve(self, book: Book, side: str, lots: int, price: float) -> bool:
        """Reserve the order's cost upper bound if it fits. True is conclusive; False means: run the exact check."""
        cost_rate = None if self._is_closed else _cost_rate(self._account, book, self._rates)
        if cost_rate is None or _may_uncover_losses(book, side, lots):
            return False
        most = self.cost_upper_bound(book, side, lots, price, cost_rate)
        settle = book.instrument.settle
        key = (settle, MODES[book.margin_mode].POOLED)
        if key not in self._free:
            known = self._balance
            self._free[key] = (
                margin_lower_bound(self._account, book, self._rates)
                if known is None
                else known.available_for(MODES[book.margin_mode].ORDER_USE)
            )
        if not most < self._free[key]:
            if self._balance is not None or key in self._exact:
                return False
            self._exact.add(key)
            self._free[key] = metrics.available_margin(self._account, book)
        if not most < self._free[key]:
            return False
        for other in self._free:
            if other[0] == settle:
                self._free[other] -= most
        return True

    def cost_upper_bound(self, book: Book, side: str, lots: int, price: float, cost_rate: float) -> float:
        """Return an upper bound on how much an order lowers the available margin, in the settle currency."""
        instrument = book.instrument
        at = (instrument.symbol, side)
        known = self._price_range.get(at)
        if known is None:
            prices = [price, *book.orders.price_extremes(side)]
            known = self._price_range[at] = min(prices), max(prices)
        elif not known[0] <= price <= known[1]:
            known = self._price_range[at] = min(known[0], price), max(known[1], price)
        mark, last = book.long_mark, book.last or price
        value = instrument.value(lots, min(known[0], mark, last) if instrument.inverse else max(known[1], mark, last))
        away = instrument.profit(lots, price, mark)
        return value * cost_rate + (away if away > 0 else -away)


def margin_lower_bound(account: Account, book: Book, rates: CostRates) -> float:
    """Return a lower bound on the margin available to orders of a book, in its settle currency.

    Positions and orders count at their highest value and without any offset. Cheaper than the available margin itself;
    minus infinity where the bound does not apply.
    """
    if not account.is_plain or account.set_aside:
        return -math.inf
    settle = book.instrument.settle
    gains = MODES[book.margin_mode].POOLED and MODES[book.margin_mode].ORDER_USE in book.rules.profit_pays_for
    left = account.balances[settle]
    for other in account.busy_books(settle):
        cost_rate = _cost_rate(account, other, rates)
        if cost_rate is None:
            return -math.inf
        value = other.orders.notional_upper_bound(other.long_mark) if other.orders else 0.0
        for leg in other.legs.values():
            prices = (other.mark_of(leg.lots), other.last or leg.entry, leg.entry)
            value += other.instrument.value(leg.lots, min(prices) if other.instrument.inverse else max(prices))
        profit = other.unrealised()
        left += profit if gains and MODES[other.margin_mode].POOLED else min(profit, 0.0)
        left -= value * cost_rate
    return left


def _may_uncover_losses(book: Book, side: str, lots: int) -> bool:
    """Return whether a loss to be realised may have been offset by profit that the venue does not count."""
    return MODES[book.margin_mode].ORDER_USE not in book.rules.profit_pays_for and book.leg(side).lots * lots < 0


def _cost_rate(account: Account, book: Book, rates: CostRates) -> float | None:
    """Return an upper bound on margin and fees per unit of value; None where an order's cost depends on the rest of the account."""
    if book.orders and not book.orders.is_plain:
        return None
    setting = (book.leverage, book.scale, book.rates, book.margin_mode, book.rules)
    known = rates.get(book.instrument.symbol)
    if known is None or known[0] != setting:
        known = rates[book.instrument.symbol] = (setting, _cost_rate_of_setting(account, book))
    return known[1]


def _cost_rate_of_setting(account: Account, book: Book) -> float | None:
    depends = (
        account.pooled
        or account.has_options
        or book.is_fully_funded
        or book.rules.values_orders_at_market
        or book.maintenance.has_initial_floor
        or book.instrument.kind == "margin"
    )
    return None if depends else book.initial_rate(0) + FEE_FACTOR * max(abs(book.taker), abs(book.maker))


def opening_lots(book: Book, side: str, lots: int) -> int:
    """Return how many lots of a plain order would open once immediate orders have traded and the others of its side have closed."""
    held = book.leg(side).lots
    if book.orders.immediate:
        held += sum(order.lots for order in book.orders.values() if order.immediate and order.side == side)
    return position.opened_after(held, lots, book.orders.resting_lots(side, buys=lots > 0))
