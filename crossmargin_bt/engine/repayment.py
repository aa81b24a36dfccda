# SPDX-License-Identifier: GPL-3.0-or-later
"""Paying debts of a pool of many currencies back out of the currencies it holds.

A coin that was bought in a market against the currency owed is sold there, as a forced close; other holdings are exchanged at
the marks, less the taker fee.

Assumption: what counts for most of its value as collateral goes first.
"""

import math
from collections.abc import Callable, Iterator

from crossmargin_bt.engine import currencies, events, fills, formulas
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.closing import LOT_HAIR, Close
from crossmargin_bt.engine.currencies import Holding

# An amount below this part of a whole is rounding.
DUST = 1e-12


def repayments(
    account: Account, time_ms: int, price: Callable[[Close], float], reason: str
) -> Iterator[events.Filled | events.Converted]:
    """Yield what pays the debts of a pool of many currencies back, as far as its holdings reach.

    `price` is that of a forced close. Apply each entry before asking for the next.
    """
    for currency in [one.currency for one in currencies.holdings(account) if one.owed > 0]:
        for symbol, book in account.books.items():
            sells = book.instrument.base_currency
            if book.margin_mode == "spot" and book.instrument.settle == currency and "net" in book.legs:
                lots = _lots_to_sell(account, symbol, sells, currency, price)
                if lots:
                    yield _sold(account, time_ms, symbol, lots, price)
        while (entry := _exchanged(account, time_ms, currency, reason)) is not None:
            yield entry


def _lots_to_sell(account: Account, symbol: str, coin: str, currency: str, price: Callable[[Close], float]) -> int:
    book = account.books[symbol]
    held = min(book.legs["net"].lots, math.floor(account.balances[coin] / book.instrument.units_per_lot + LOT_HAIR))
    owed = _of(account, currency).owed
    if held <= 0 or owed <= 0:
        return 0
    per_lot = book.instrument.value(1, price(Close(symbol, "net", held))) * (1 - book.taker)
    return min(held, math.ceil(owed / per_lot - LOT_HAIR))


def _sold(account: Account, time_ms: int, symbol: str, lots: int, price: Callable[[Close], float]) -> events.Filled:
    book, at = account.books[symbol], price(Close(symbol, "net", lots))
    fee = formulas.fee(book.instrument.value(lots, at), book.taker)
    return fills.entry_of(book, time_ms, "net", number=0, lots=-lots, price=at, fee=fee)


def _exchanged(account: Account, time_ms: int, currency: str, reason: str) -> events.Converted | None:
    """Return the exchange of the holding that counts for most against what is owed in a currency; None when done."""
    debt = _of(account, currency)
    found = [
        one
        for one in currencies.holdings(account)
        if one.owed == 0 and one.worth > DUST * abs(debt.worth) and account.balances[one.currency] > 0
    ]
    if debt.owed * debt.price <= DUST * sum(one.worth for one in found) or not found:
        return None
    best = max(found, key=lambda one: one.counted / one.worth)
    taker = account.rules.taker
    rate = best.price / debt.price * (1 - taker)
    there = min(best.amount, account.balances[best.currency])
    amount = min(there, debt.owed / rate)
    received = debt.owed if amount < there else amount * rate
    return events.Converted(
        time_ms=time_ms, currency=best.currency, amount=amount, into=currency, received=received, reason=reason
    )


def _of(account: Account, currency: str) -> Holding:
    return next(one for one in currencies.holdings(account) if one.currency == currency)
