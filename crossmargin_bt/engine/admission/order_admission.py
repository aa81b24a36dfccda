# SPDX-License-Identifier: GPL-3.0-or-later
"""Admission of orders and fills: does the account still cover its initial margin and fees with this order resting, or filled?

A refusal is a value with a reason, never an exception.
"""

import math

import msgspec

from crossmargin_bt.engine.admission import position_limits, spot_orders
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal, RefusalCode
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.lifecycle.immediate_orders import after_immediate_orders, assumed_fill
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math.tolerances import fits


def only_reduces(book: Book, order: OpenOrder) -> bool:
    """Return whether the order can do nothing but close: reduce-only, or opposite to its leg and not larger."""
    held = book.leg(order.side).lots
    return order.reduce_only or (order.lots * held < 0 and abs(order.lots) <= abs(held))


def admit(account: Account, symbol: str, order: OpenOrder, *, whole: bool = False) -> OpenOrder | Refusal:
    """Return the order as it may rest, or why it may not.

    Immediate orders that still wait for their price count as filled, as they will be before this one
    can trade; an immediate order is judged by its fill. An order that does not raise the margin in use is always
    admitted. An order that by itself can only close is never refused: where other orders
    already close the position and there is no margin for more, it is admitted as reduce-only.

    What bounds the size or value of the part that opens (a tier, an open size, a minimum) does not take along the part
    that closes: a resting order is admitted as reduce-only, an immediate one loses the part that opens at its fill. With
    `whole` such an order is refused.
    """
    if order.reduce_only and not account.books[symbol].is_fully_funded:
        return order
    after = after_immediate_orders(account)
    book = after.books[symbol]
    if order.reduce_only:
        order = msgspec.structs.replace(order, lots=position.cap_to_position(book.leg(order.side).lots, order.lots))
        if not order.lots:
            return order
    too_small = below_minimum(book, order) if book.instrument.notional_min else None
    refusal = too_small or _judged(after, symbol, order)
    if refusal is None:
        return msgspec.structs.replace(order, covered=_opening_lots(book, order))
    closed, opened = position.split_fill(book.leg(order.side).lots, order.lots)
    is_bound = refusal.kind == "rejected" and not whole
    if not closed or book.is_fully_funded or (opened and not is_bound):
        return refusal
    return order if order.immediate and opened else msgspec.structs.replace(order, reduce_only=True)


def opening_refusal(account: Account, symbol: str, order: OpenOrder) -> Refusal | None:
    """Return why a resting order may only close: what refuses the part that opens; None for one that opens nothing by itself."""
    after = after_immediate_orders(account)
    if only_reduces(after.books[symbol], order):
        return None
    return below_minimum(after.books[symbol], order) or _judged(after, symbol, order)


def _judged(account: Account, symbol: str, order: OpenOrder) -> Refusal | None:
    if order.immediate:
        return admit_fill(account, assumed_fill(account, symbol, order, order.lots), subject="order")
    book = account.books[symbol]
    if book.margin_mode == "spot":
        return spot_orders.resting_refusal(account, symbol, order)
    with_order = account.copy(symbol)
    with_order.books[symbol].orders[order.number] = order
    needed = metrics.available_margin(account, book) - metrics.available_margin(with_order, with_order.books[symbol])
    pays = _pays_a_premium(book, order.lots)
    if not _fits(needed, account, book, pays=pays):
        return _short_of("order", needed, account, book, pays=pays)
    return position_limits.limit_refusal(account, with_order, symbol, order.price)


def _opening_lots(book: Book, order: OpenOrder) -> int:
    """Return how many lots of the order would open, the others of its side having closed first."""
    held = book.leg(order.side).lots
    others = [
        other.lots
        for other in book.orders.values()
        if other.side == order.side
        and other.lots * order.lots > 0
        and not other.reduce_only
        and not _one_group(other, order)
    ]
    return position.opened_after(held, order.lots, abs(sum(others)))


def admit_fill(account: Account, entry: events.Filled, *, subject: str = "fill") -> Refusal | None:
    """Return why a fill may not happen, or None when it may.

    The part that closes is always accepted. The part that opens is judged by itself, after it: it must fit. A resting
    order had the margin of its covered lots reserved when it was admitted, so their fill may also use that
    reservation, unless the account would not survive it. Orders of its group end with the fill and lock nothing against it.
    """
    symbol = entry.symbol
    if account.books[symbol].margin_mode == "spot":
        return spot_orders.fill_refusal(account, entry, subject=subject)
    closed, opened = position.split_fill(account.books[symbol].leg(entry.side).lots, entry.lots)
    if not opened:
        return None
    order = account.books[symbol].orders.get(entry.number)
    too_small = (
        below_minimum(account.books[symbol], order) if closed and order is not None and order.immediate else None
    )
    if too_small is not None:
        return too_small
    before = without_orders_of(account, entry)
    book = before.books[symbol]
    reserved = metrics.available_margin(before, book) - metrics.available_margin(account, account.books[symbol])
    if closed:
        before.apply(part_of(book, entry, closed))
    opening = part_of(book, entry, opened)
    after = before.copy(symbol)
    after.apply(opening)
    needed = metrics.available_margin(before, book) - metrics.available_margin(after, after.books[symbol])
    if MODES[book.margin_mode].POOLED and not account.rules.order_fees_reserved:
        needed -= opening.fee * account.conversion_rate(book.instrument.settle)
    rested = order is not None and not order.immediate and abs(opened) <= order.covered
    pays = _pays_a_premium(book, opened)
    if _fits(needed, before, book, pays=pays):
        return None if rested else position_limits.limit_refusal(before, after, symbol, entry.price)
    if rested and fits(needed, reserved, *_scales(account, book)) and _survives(after, book.instrument.settle):
        return None
    return _short_of(subject, needed, before, book, pays=pays)


def _pays_a_premium(book: Book, lots: int) -> bool:
    """Return whether buying these lots is paid for in full, out of the available balance: a long option."""
    return book.margin_mode == "option" and lots > 0


def without_orders_of(account: Account, entry: events.Filled) -> Account:
    """Return a copy of the account without the order of a fill, those that end with it, and those it does not wait for.

    A fill is not judged by the immediate orders entered after its order: they were admitted with it counted, and are judged
    at their own fill. The fill of an immediate order is not judged by any order entered after it.
    """
    order = account.books[entry.symbol].orders.get(entry.number)
    own = entry.number if order is not None else math.inf
    is_immediate = order is not None and order.immediate
    gone: dict[str, list[int]] = {entry.symbol: []}
    for symbol, book in account.books.items():
        for number, other in book.orders.items():
            is_later = number > own and (is_immediate or other.immediate)
            ends = symbol == entry.symbol and (number == own or (order is not None and _one_group(other, order)))
            if is_later or ends:
                gone.setdefault(symbol, []).append(number)
    without = account.copy(*gone)
    for symbol, numbers in gone.items():
        for number in numbers:
            del without.books[symbol].orders[number]
    return without


def part_of(book: Book, entry: events.Filled, lots: int) -> events.Filled:
    """Return `lots` of a fill, with their part of its fee."""
    fee = entry.fee * lots / entry.lots
    return fills.fill_entry(book, entry.time_ms, entry.side, number=entry.number, lots=lots, price=entry.price, fee=fee)


def _one_group(order: OpenOrder, other: OpenOrder) -> bool:
    return order.group is not None and order.group == other.group


def _survives(account: Account, currency: str) -> bool:
    """Return whether no pool of the currency would be liquidated, and the shared balance owes nothing it cannot carry."""
    shared = account.pool_of(currency)
    gaps = [metrics.risk(account, pool).gap for pool in metrics.pools(account) if pool.currency in (currency, shared)]
    return min(gaps) > 0 and account.balance(shared) + metrics.cross_profit(account, shared) >= 0


def _fits(needed: float, account: Account, book: Book, *, pays: bool) -> bool:
    if needed <= 0:
        return True
    available = max(metrics.available_margin(account, book, pays=pays), 0.0)
    return fits(needed, available, *_scales(account, book))


def _scales(account: Account, book: Book) -> tuple[float, float]:
    """Return the amounts that enter the sums of margin: the pool's balance, and the value of one lot."""
    settle = book.instrument.settle
    lot_value = account.conversion_rate(settle) * book.instrument.value(1, book.long_mark)
    return account.balance(account.pool_of(settle)), lot_value


def _short_of(subject: str, needed: float, account: Account, book: Book, *, pays: bool) -> Refusal:
    currency = account.pool_of(book.instrument.settle)
    available = max(metrics.available_margin(account, book, pays=pays), 0.0)
    from_margin = MODES[book.margin_mode].POOLED and not pays
    name = "free margin" if from_margin else "available balance"
    reason = (
        f"{subject} needs {needed:.2f} {currency} of margin and fees, {name} is {available:.2f} {currency} "
        f"(short by {needed - available:.2f}); lower the size or raise the leverage of {book.instrument.symbol} "
        f"(now {book.leverage:g}x)"
    )
    code: RefusalCode = "insufficient_margin" if from_margin else "insufficient_balance"
    return Refusal("margin", code, reason, needed, available, currency)


def margin_move_refusal(account: Account, book: Book, side: str, amount: float) -> Refusal | None:
    """Return why `amount` may not go from the shared balance to an isolated leg (or back, when negative), or None.

    Assumption: margin may be taken back down to the leg's initial margin at its entry, floating losses counted, or to the
    venue's share of its notional value (`Rules.withdrawal_notional_share`).
    """
    settle = book.instrument.settle
    if amount > 0:
        available = max(0.0, metrics.available_margin(account, book)) / (account.conversion_rate(settle) or 1.0)
        if account.pooled and account.rules.borrowing is None:
            available = min(available, max(0.0, account.balances[settle]))
        if fits(amount, available, account.balances[settle]):
            return None
        text = f"{amount:.2f} {settle} are to be added, available balance is {available:.2f} {settle}"
        return Refusal("margin", "insufficient_balance", text, amount, available, settle)
    leg = book.legs[side]
    initial = book.instrument.value(leg.lots, leg.entry) * book.initial_rate(leg.lots)
    initial = max(initial, (account.rules.withdrawal_notional_share or 0.0) * book.value(leg))
    pool = next(pool for pool in metrics.pools(account) if (book.instrument.symbol, side) in pool.legs)
    spare = max(0.0, min(leg.margin + min(0.0, book.profit(leg)) - initial, metrics.risk(account, pool).gap))
    if fits(-amount, spare, leg.margin):
        return None
    text = f"{-amount:.2f} {settle} are to be taken back, {spare:.2f} {settle} are above the initial margin"
    return Refusal("margin", "removal_above_spare_margin", text, -amount, spare, settle)


def opening_value(book: Book, order: OpenOrder) -> float:
    """Return the value of what the order would open against its leg alone, at the order's price."""
    _, opened = position.split_fill(book.leg(order.side).lots, order.lots)
    return 0.0 if order.reduce_only else book.instrument.value(opened, order.price)


def below_minimum(book: Book, order: OpenOrder) -> Refusal | None:
    """Return why an order that opens less than the instrument's minimum value is refused, or None."""
    if not book.instrument.notional_min:
        return None
    opened = opening_value(book, order)
    if not opened or opened >= book.instrument.notional_min:
        return None
    needed, settle = book.instrument.notional_min, book.instrument.settle
    reason = (
        f"order opens {opened:.2f} {settle} of {book.instrument.symbol}, the venue's minimum is {needed:g} {settle}"
    )
    return Refusal("rejected", "below_minimum_value", reason)


class ExactAdmission:
    """Admits orders and fills one after the other, each by the exact sums of the account as it is then."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def admit(self, symbol: str, order: OpenOrder) -> OpenOrder | Refusal:
        """Return the order as it may rest, or why it may not; see `admit`."""
        return admit(self._account, symbol, order)

    def admit_fill(self, entry: events.Filled) -> Refusal | None:
        """Return why a fill may not happen, or None when it may; see `admit_fill`."""
        return admit_fill(self._account, entry)

    def close(self) -> None:
        """End the batch: something beyond admitted orders and fills has changed the account."""
