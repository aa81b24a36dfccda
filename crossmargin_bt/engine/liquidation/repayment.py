# SPDX-License-Identifier: GPL-3.0-or-later
"""Paying debts of a pool of many currencies back out of the currencies it holds.

A coin that was bought in a market against the currency owed is sold there, as a forced close; other holdings are exchanged at
the marks, less the taker fee.

Assumption: what counts for most of its value as collateral goes first.
"""

import math
from collections.abc import Callable, Iterator

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation.forced_close import LOT_HAIR, Close
from crossmargin_bt.engine.margin import currencies
from crossmargin_bt.engine.margin.currencies import Holding
from crossmargin_bt.engine.math import formulas

# An amount below this part of a whole is rounding.
RELATIVE_DUST = 1e-12
# Buying one currency back may leave a debt in another: so often all of them are looked at.
PASSES_MAX = 4


def repayments(
    account: Account, time_ms: int, price: Callable[[Close], float], reason: events.Cause
) -> Iterator[events.Filled | events.Converted]:
    """Yield what pays the debts of a pool of many currencies back, as far as its holdings reach.

    `price` is that of a forced close. Apply each entry before asking for the next.
    """
    for _ in range(PASSES_MAX):
        paid = False
        for currency in [one.currency for one in currencies.holdings(account) if one.debt > 0]:
            for entry in _repay(account, time_ms, currency, price, reason):
                paid = True
                yield entry
        if not paid:
            return


def can_repay(account: Account) -> bool:
    """Return whether there is anything that would pay any debt back, sold at its mark or exchanged."""
    owing = [one.currency for one in currencies.holdings(account) if one.debt > 0]
    return any(_exchangeable_holdings(account, currency) or _tradable_markets(account, currency) for currency in owing)


def _tradable_markets(account: Account, currency: str) -> list[str]:
    """Return the coins' markets in which something could be traded against a debt, at the marks."""
    return [
        symbol
        for symbol, book in account.books.items()
        if book.margin_mode == "spot" and "net" in book.legs
        and _lots_to_trade(account, symbol, currency, lambda close: account.books[close.symbol].long_mark)
    ]  # fmt: skip


def _exchangeable_holdings(account: Account, currency: str) -> list[Holding]:
    """Return the currencies that may be exchanged for one that is owed; none where it is not worth while."""
    debt = _holding(account, currency)
    found = [
        one
        for one in currencies.holdings(account)
        if one.debt == 0 and one.value > RELATIVE_DUST * abs(debt.value) and account.balances[one.currency] > 0
    ]
    return found if debt.debt * debt.price > RELATIVE_DUST * sum(one.value for one in found) else []


def _repay(
    account: Account, time_ms: int, currency: str, price: Callable[[Close], float], reason: events.Cause
) -> Iterator[events.Filled | events.Converted]:
    for symbol, book in account.books.items():
        if book.margin_mode == "spot" and "net" in book.legs:
            lots = _lots_to_trade(account, symbol, currency, price)
            if lots:
                yield _spot_fill(account, time_ms, symbol, lots, price, reason=reason)
    while (entry := _conversion(account, time_ms, currency, price, reason)) is not None:
        yield entry


def _lots_to_trade(account: Account, symbol: str, currency: str, price: Callable[[Close], float]) -> int:
    """Return the signed lots of a coin's market that pay a debt: a short bought back, or a long sold for the currency owed."""
    book = account.books[symbol]
    held, units = book.legs["net"].lots, book.instrument.units_per_lot
    debt = _holding(account, currency).debt
    if held < 0 and book.instrument.base_currency == currency:
        quote = book.instrument.settle
        per_lot = book.instrument.value(1, price(Close(symbol, "net", -held))) * (1 + book.taker)
        there = max(0.0, min(account.balances[quote], _holding(account, quote).amount))
        return min(-held, math.ceil(debt / units - LOT_HAIR), math.floor(there / per_lot))
    if held > 0 and book.instrument.settle == currency:
        return -_lots_to_sell(account, symbol, debt, price)
    return 0


def _lots_to_sell(account: Account, symbol: str, wanted: float, price: Callable[[Close], float]) -> int:
    """Return the lots of a long that bring `wanted` of the currency its market pays in, no more than coins are there."""
    book = account.books[symbol]
    there = account.balances[book.instrument.base_currency] / book.instrument.units_per_lot
    held = min(book.legs["net"].lots, math.floor(there + LOT_HAIR))
    if held <= 0 or wanted <= 0:
        return 0
    per_lot = book.instrument.value(1, price(Close(symbol, "net", held))) * (1 - book.taker)
    return min(held, math.ceil(wanted / per_lot - LOT_HAIR))


def _spot_fill(
    account: Account, time_ms: int, symbol: str, lots: int, price: Callable[[Close], float], *, reason: events.Cause
) -> events.Filled:
    book, at = account.books[symbol], price(Close(symbol, "net", abs(lots)))
    fee = formulas.fee(book.instrument.value(lots, at), book.taker)
    return fills.fill_entry(book, time_ms, "net", lots=lots, price=at, fee=fee, cause=reason)


def _sale_of_coin(
    account: Account, time_ms: int, coin: str, worth: float, price: Callable[[Close], float], *, reason: events.Cause
) -> events.Filled | None:
    """Return the sale of a coin that was bought in a market, for as much as is `worth` so much in the pool's currency."""
    for symbol, book in account.books.items():
        if book.margin_mode == "spot" and book.instrument.base_currency == coin and book.leg("net").lots > 0:
            rate = account.conversion_rate(book.instrument.settle)
            lots = _lots_to_sell(account, symbol, worth / rate if rate else 0.0, price)
            if lots:
                return _spot_fill(account, time_ms, symbol, -lots, price, reason=reason)
    return None


def _conversion(
    account: Account, time_ms: int, currency: str, price: Callable[[Close], float], reason: events.Cause
) -> events.Filled | events.Converted | None:
    """Return the exchange of the holding that counts for most against what is owed in a currency; None when done.

    A coin that was bought in a market is sold there first, and what that brings is exchanged next.
    """
    debt, found = _holding(account, currency), _exchangeable_holdings(account, currency)
    if not found:
        return None
    best = max(found, key=lambda one: one.collateral_value / one.value)
    taker = account.rules.taker
    worth = debt.debt * debt.price / (1 - taker)
    sold = _sale_of_coin(account, time_ms, best.currency, worth, price, reason=reason)
    if sold is not None:
        brings = account.books[sold.symbol].instrument.settle
        enough = next((one for one in found if one.currency == brings and one.value >= worth), None)
        if enough is None:
            return sold
        best = enough  # an earlier sale has brought it
    rate = best.price / debt.price * (1 - taker)
    there = min(best.amount, account.balances[best.currency])
    amount = min(there, debt.debt / rate)
    received = debt.debt if amount < there else amount * rate
    return events.Converted(
        time_ms=time_ms, currency=best.currency, amount=amount, into=currency, received=received, reason=reason
    )


def _holding(account: Account, currency: str) -> Holding:
    return next(one for one in currencies.holdings(account) if one.currency == currency)
