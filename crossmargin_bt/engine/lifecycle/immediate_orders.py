# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders in flight: immediate orders that wait for the next price, and the account as they will leave it."""

from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills


def immediate_orders(account: Account) -> list[tuple[int, str]]:
    """Return the (number, symbol) of the orders that take the next price there is, the oldest first."""
    found: list[tuple[int, str]] = []
    for symbol, book in account.books.items():
        if book.orders.immediate:
            found += [(order.number, symbol) for order in book.orders.values() if order.immediate]
    return sorted(found)


def after_immediate_orders(account: Account) -> Account:
    """Return the account as the immediate orders leave it, each filled at the price it is valued at, in their order."""
    waiting = immediate_orders(account)
    if not waiting:
        return account
    after = account.copy(*dict.fromkeys(symbol for _, symbol in waiting))
    for number, symbol in waiting:
        order = after.books[symbol].orders[number]
        lots = order.lots
        if order.reduce_only:
            lots = position.cap_to_position(after.books[symbol].leg(order.side).lots, lots)
        if lots:
            after.apply(assumed_fill(after, symbol, order, lots))
    return after


def assumed_fill(account: Account, symbol: str, order: OpenOrder, lots: int) -> events.Filled:
    """Return the fill of `lots` of an order at the price it is valued at."""
    return fills.order_fill(
        account, 0, symbol, order.side, number=order.number, lots=lots, price=order.price, maker=False
    )
