# SPDX-License-Identifier: GPL-3.0-or-later
"""Repayment of the debts of a multi-currency pool out of its other currencies.

A spot position whose market settles in the borrowed currency is sold there, as a forced close. Other holdings are converted at
their marks, less the taker fee.

Assumption: the holding with the highest collateral rate (collateral value / value) is converted first.
"""

import math
from collections.abc import Callable, Iterator

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation.forced_close import Close
from crossmargin_bt.engine.margin import currencies
from crossmargin_bt.engine.margin.currencies import Holding
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.tolerances import LOT_TOL, REL_TOL

# Upper bound of the passes over all debts: repaying one currency may create a debt in another.
PASSES_MAX = 4


def repayments(
    account: Account, time_ms: int, price: Callable[[Close], float], reason: events.Cause
) -> Iterator[events.Filled | events.Converted]:
    """Yield the fills and conversions that repay the debts of a multi-currency pool, as far as its holdings suffice.

    `price` returns the price of a forced close. Lazy: apply each entry before requesting the next.
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
    """Return whether any debt can be repaid out of what else is held: what a trade in a spot market pays with is held too."""
    owing = [one.currency for one in currencies.holdings(account) if one.debt > 0]
    return any(_exchangeable_holdings(account, currency) for currency in owing)


def _exchangeable_holdings(account: Account, currency: str) -> list[Holding]:
    """Return the holdings that can be converted to repay a debt; none if the debt is a rounding error beside them."""
    borrowed = _holding(account, currency)
    candidates = [
        one
        for one in currencies.holdings(account)
        if one.debt == 0 and one.value > REL_TOL * abs(borrowed.value) and account.balances[one.currency] > 0
    ]
    return candidates if borrowed.debt * borrowed.price > REL_TOL * sum(one.value for one in candidates) else []


def _repay(
    account: Account, time_ms: int, currency: str, price: Callable[[Close], float], reason: events.Cause
) -> Iterator[events.Filled | events.Converted]:
    for symbol, book in account.books.items():
        if book.margin_mode == "spot" and "net" in book.legs:
            lots = _lots_to_trade(account, symbol, currency, price)
            if lots:
                yield _spot_fill(account, time_ms, symbol, lots, price, reason=reason)
    while (entry := _next_repayment(account, time_ms, currency, price, reason)) is not None:
        yield entry


def _lots_to_trade(account: Account, symbol: str, currency: str, price: Callable[[Close], float]) -> int:
    """Return the signed lots of a spot market that repay a debt: a short bought back, or a long sold for the borrowed currency."""
    book = account.books[symbol]
    held, units = book.legs["net"].lots, book.instrument.units_per_lot
    debt = _holding(account, currency).debt
    if held < 0 and book.instrument.base_currency == currency:
        quote = book.instrument.settle
        per_lot = book.instrument.value(1, price(Close(symbol, "net", -held))) * (1 + book.taker)
        available = max(0.0, min(account.balances[quote], _holding(account, quote).amount))
        return min(-held, math.ceil(debt / units - LOT_TOL), math.floor(available / per_lot))
    if held > 0 and book.instrument.settle == currency:
        return -_lots_to_sell(account, symbol, debt, price)
    return 0


def _lots_to_sell(account: Account, symbol: str, proceeds: float, price: Callable[[Close], float]) -> int:
    """Return the lots of a long whose sale pays `proceeds` of the settle currency, limited by the coins available."""
    book = account.books[symbol]
    available = account.balances[book.instrument.base_currency] / book.instrument.units_per_lot
    held = min(book.legs["net"].lots, math.floor(available + LOT_TOL))
    if held <= 0 or proceeds <= 0:
        return 0
    per_lot = book.instrument.value(1, price(Close(symbol, "net", held))) * (1 - book.taker)
    return min(held, math.ceil(proceeds / per_lot - LOT_TOL))


def _spot_fill(
    account: Account, time_ms: int, symbol: str, lots: int, price: Callable[[Close], float], *, reason: events.Cause
) -> events.Filled:
    book, at = account.books[symbol], price(Close(symbol, "net", abs(lots)))
    fee = formulas.fee(book.instrument.value(lots, at), book.taker)
    return fills.fill_entry(book, time_ms, "net", lots=lots, price=at, fee=fee, cause=reason)


def _sale_of_coin(
    account: Account,
    time_ms: int,
    coin: str,
    target_value: float,
    price: Callable[[Close], float],
    *,
    reason: events.Cause,
) -> events.Filled | None:
    """Return the sale of a coin in its spot market for proceeds of `target_value` in the pool's currency; None without a position."""
    for symbol, book in account.books.items():
        if book.margin_mode == "spot" and book.instrument.base_currency == coin and book.leg("net").lots > 0:
            rate = account.conversion_rate(book.instrument.settle)
            lots = _lots_to_sell(account, symbol, target_value / rate if rate else 0.0, price)
            if lots:
                return _spot_fill(account, time_ms, symbol, -lots, price, reason=reason)
    return None


def _next_repayment(
    account: Account, time_ms: int, currency: str, price: Callable[[Close], float], reason: events.Cause
) -> events.Filled | events.Converted | None:
    """Return the next entry that repays a debt from the holding with the highest collateral rate; None when done.

    A coin held as a spot position is sold in its market first; the proceeds are converted next.
    """
    borrowed, candidates = _holding(account, currency), _exchangeable_holdings(account, currency)
    if not candidates:
        return None
    best = max(candidates, key=lambda one: one.collateral_value / one.value)
    taker = account.rules.taker
    target_value = borrowed.debt * borrowed.price / (1 - taker)
    sale = _sale_of_coin(account, time_ms, best.currency, target_value, price, reason=reason)
    if sale is not None:
        proceeds_currency = account.books[sale.symbol].instrument.settle
        sufficient = next(
            (one for one in candidates if one.currency == proceeds_currency and one.value >= target_value), None
        )
        if sufficient is None:
            return sale
        best = sufficient  # the proceeds of an earlier sale suffice
    rate = best.price / borrowed.price * (1 - taker)
    available = min(best.amount, account.balances[best.currency])
    amount = min(available, borrowed.debt / rate)
    received = borrowed.debt if amount < available else amount * rate
    return events.Converted(
        time_ms=time_ms, currency=best.currency, amount=amount, into=currency, received=received, reason=reason
    )


def _holding(account: Account, currency: str) -> Holding:
    return next(one for one in currencies.holdings(account) if one.currency == currency)
