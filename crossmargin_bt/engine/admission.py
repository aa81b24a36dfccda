# SPDX-License-Identifier: GPL-3.0-or-later
"""Admission: with this order resting, does what it locks still fit?

A refusal is a value, never an exception.
"""

import msgspec

from crossmargin_bt.engine import events, fills, position, reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.modes import MODES
from crossmargin_bt.engine.orders import OpenOrder

# Needed and available are sums of rounded terms; a tie is a fit, down to this part of the larger of them.
TIE = 1e-12


class Refusal(msgspec.Struct, frozen=True):
    """Why an order was refused: `kind` is "margin" or "rejected".

    `needed` and `available` are margin in `currency`, 0 where margin is not the reason.
    """

    kind: str
    reason: str
    needed: float = 0.0
    available: float = 0.0
    currency: str = ""

    def __str__(self) -> str:
        return self.reason


def only_reduces(book: Book, order: OpenOrder) -> bool:
    """Return whether the order can do nothing but close: reduce-only, or opposite to its leg and not larger."""
    held = book.leg(order.side).lots
    return order.reduce_only or (order.lots * held < 0 and abs(order.lots) <= abs(held))


def admit(account: Account, symbol: str, order: OpenOrder) -> Refusal | None:
    """Return why the order may not rest, or None when it may.

    What only reduces risk is always admitted: an order that can do nothing but close, and one that
    does not raise what is locked. Immediate orders that still wait for their price count as filled,
    as they will be before this one can trade.
    """
    if only_reduces(account.books[symbol], order):
        return None
    account = after_immediate_orders(account)
    book = account.books[symbol]
    if only_reduces(book, order):
        return None
    mode = MODES[book.margin_mode]
    with_order = book.with_changes(book.legs, {**book.orders, order.number: order})
    needed = mode.in_use(with_order, account.rules) - mode.in_use(book, account.rules)
    return _unless_it_fits("order", needed, account, book)


def after_immediate_orders(account: Account) -> Account:
    """Return the account as the immediate orders leave it, each filled at the price it is valued at, in their order."""
    waiting = sorted(
        (
            (order.number, symbol)
            for symbol, book in account.books.items()
            for order in book.orders.values()
            if order.immediate
        )
    )
    if not waiting:
        return account
    after = account.copy()
    for number, symbol in waiting:
        order = after.books[symbol].orders[number]
        lots = order.lots
        if order.reduce_only:
            lots = position.capped(after.books[symbol].leg(order.side).lots, lots)
        if lots:
            after.apply(
                fills.filled(after, 0, symbol, order.side, number=number, lots=lots, price=order.price, maker=False)
            )
    return after


def admit_fill(account: Account, entry: events.Filled) -> Refusal | None:
    """Return why a fill may not happen, or None when it may.

    A fill that locks no more than its resting order had reserved always may; one that needs more,
    because price moved away from what the order was valued at, must find it free.
    """
    book = account.books[entry.symbol]
    mode = MODES[book.margin_mode]
    held = book.leg(entry.side)
    if not position.split(held.lots, entry.lots)[1]:
        return None
    effect = position.fill(
        held, entry.lots, entry.price, base_per_lot=book.instrument.base_per_lot, margin=entry.margin
    )
    left = {number: order for number, order in book.orders.items() if number != entry.number}
    after = book.with_changes({**book.legs, entry.side: effect.position}, left)
    paid = entry.margin - entry.realised
    if account.rules.order_fees_reserved or not mode.POOLED:
        paid += entry.fee
    if mode.POOLED:
        paid -= after.unrealised() - book.unrealised()
    needed = mode.in_use(after, account.rules) - mode.in_use(book, account.rules) + paid
    return _unless_it_fits("fill", needed, account, book)


def _unless_it_fits(subject: str, needed: float, account: Account, book: Book) -> Refusal | None:
    currency = book.instrument.settle
    if MODES[book.margin_mode].POOLED:
        available, name = reading.free_margin(account, currency), "free margin"
    else:
        available, name = reading.available_balance(account, currency), "available balance"
    scale = max(abs(needed), account.balances[currency], book.instrument.value(1, book.long_mark))
    if needed <= max(available, 0.0) + TIE * scale:
        return None
    reason = (
        f"{subject} needs {needed:.2f} {currency} of margin and fees, {name} is {available:.2f} {currency} "
        f"(short by {needed - available:.2f}); lower the size or raise the leverage of {book.instrument.symbol} "
        f"(now {book.leverage:g}x)"
    )
    return Refusal("margin", reason, needed, available, currency)


def opening_value(book: Book, order: OpenOrder) -> float:
    """Return the value of what the order would open against its leg alone, at the order's price."""
    _, opened = position.split(book.leg(order.side).lots, order.lots)
    return 0.0 if order.reduce_only else book.instrument.value(opened, order.price)


def below_minimum(book: Book, order: OpenOrder) -> Refusal | None:
    """Return why an order that opens less than the instrument's minimum value is refused, or None."""
    opened = opening_value(book, order)
    if not opened or opened >= book.instrument.notional_min:
        return None
    needed, settle = book.instrument.notional_min, book.instrument.settle
    reason = (
        f"order opens {opened:.2f} {settle} of {book.instrument.symbol}, the venue's minimum is {needed:g} {settle}"
    )
    return Refusal("rejected", reason)
