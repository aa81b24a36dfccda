# SPDX-License-Identifier: GPL-3.0-or-later
"""Admission of orders for coins: they take what is there of the currency they pay with, never floating profit.

In a pool of many currencies with borrowing, what is missing is borrowed, as long as the pool's free margin carries the debt.
Source: docs/sources.md#okx-free-margin (available balance), docs/sources.md#collateral (potential borrowing).
"""

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.modes import spot
from crossmargin_bt.engine.math.tolerances import REL_TOL, fits


def available(account: Account, currency: str) -> float:
    """Return what of a currency an order for coins may take without borrowing, in that currency."""
    if not account.pooled:
        return metrics.pool_balance(account, currency).available_balance
    held = account.balances[currency] - account.set_aside.get(currency, 0.0)
    return max(0.0, held - currencies.reserved(account, currency))


def resting_refusal(account: Account, symbol: str, order: OpenOrder) -> Refusal | None:
    """Return why an order for coins may not rest, or None."""
    book = account.books[symbol]
    with_order = account.copy(symbol)
    with_order.books[symbol].orders[order.number] = order
    before, after = spot.reserved(book), spot.reserved(with_order.books[symbol])
    side = 0 if order.lots < 0 else 1
    return _refused(account, with_order, book, after[side] - before[side], order.lots, subject="order")


def fill_refusal(account: Account, entry: events.Filled, *, subject: str) -> Refusal | None:
    """Return why a fill of coins may not happen, or None; the order it is of reserves nothing against it."""
    before = account.copy(entry.symbol)
    book = before.books[entry.symbol]
    order = book.orders.pop(entry.number, None)
    if order is not None and order.group is not None:
        for number in [n for n, other in book.orders.items() if other.group == order.group]:
            del book.orders[number]
    after = before.copy(entry.symbol)
    after.apply(entry)
    needed = -entry.received if entry.lots < 0 else entry.received * entry.price + entry.fee
    return _refused(before, after, book, needed, entry.lots, subject=subject)


def _refused(account: Account, after: Account, book: Book, needed: float, lots: int, *, subject: str) -> Refusal | None:
    instrument = book.instrument
    currency = instrument.settle if lots > 0 else instrument.base_currency
    there = available(account, currency)
    borrows = account.pooled and account.rules.borrowing is not None
    if not (borrows or fits(needed, there)):
        wanted = f"{subject} needs {needed:.8g} {currency}, available balance is {there:.8g} {currency}"
        reason = f"{wanted} (short by {needed - there:.8g}); floating profit buys no coins, lower the size"
        return Refusal("margin", "insufficient_balance", reason, needed, there, currency)
    if not account.pooled:
        return None
    left, was = metrics.available_margin(after, after.books[instrument.symbol]), metrics.available_margin(account, book)
    if left >= 0 or left >= was - REL_TOL * abs(was):
        return None
    unit = account.valuation.unit
    reason = (
        f"{subject} would need {was - left:.2f} {unit} of free margin, for debts and haircuts of the currencies it moves; "
        f"there are {max(was, 0.0):.2f} {unit} (short by {-left:.2f}); lower the size"
    )
    return Refusal("margin", "insufficient_margin", reason, was - left, max(was, 0.0), unit)
