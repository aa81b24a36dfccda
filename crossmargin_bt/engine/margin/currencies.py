# SPDX-License-Identifier: GPL-3.0-or-later
"""The currencies of an account: what each is worth and counts for, what is owed in it, what orders for coins reserve.

A debt in a pool of many currencies is a balance below zero, floating profit counted. Source: docs/sources.md#collateral.
"""

from typing import NamedTuple

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin.modes import MODES, option, spot
from crossmargin_bt.engine.terms.collateral import collateral_terms

# A debt worth less than this, in the account's unit, is rounding.
DEBT_MIN = 1e-9


class Holding(NamedTuple):
    """One currency of a pool of many. Amounts are in the pool's currency, but for `amount` and `owed`."""

    currency: str
    amount: float
    """Balance and floating profit of the cross positions that settle in it; in a portfolio account option value too."""
    price: float
    value: float
    collateral_value: float
    """What it counts for as collateral."""
    debt: float
    """The debt in it, in the currency itself."""
    initial_margin: float
    """What its debt, the debt that its orders may lead to, and what was set aside of it lock."""
    maintenance_margin: float
    """What its debt must keep."""


def holdings(account: Account) -> list[Holding]:
    """Return every currency of a pool of many."""
    reserved = dict.fromkeys(account.balances, 0.0)
    for book in account.books.values():
        mode = MODES[book.margin_mode]
        if book.orders and not mode.POOLED and not mode.ISOLATED:
            sells, buys = spot.reserved(book)
            reserved[book.instrument.base_currency] += sells
            reserved[book.instrument.settle] += buys
    return [_holding(account, currency, amount, reserved[currency]) for currency, amount in _amounts(account).items()]


def _amounts(account: Account) -> dict[str, float]:
    """Return `Holding.amount` of every currency."""
    profits = dict.fromkeys(account.balances, 0.0)
    for book in account.books.values():
        mode = MODES[book.margin_mode]
        if book.legs and mode.POOLED:
            profits[book.instrument.settle] += book.unrealised()
            if account.options_count and mode.FULLY_FUNDED:
                profits[book.instrument.settle] += option.value(book)
    return {currency: balance + profits[currency] for currency, balance in account.balances.items()}


def _debt(amount: float, price: float) -> float:
    """Return the debt in a currency, in the currency itself."""
    return -amount if -amount * price > DEBT_MIN else 0.0


def _holding(account: Account, currency: str, amount: float, reserved: float) -> Holding:
    price = account.conversion_rate(currency, owed=amount < 0)
    terms = collateral_terms(currency, account.rules.collateral)
    debt = _debt(amount, price)
    aside = account.set_aside.get(currency, 0.0)
    potential = max(0.0, reserved - amount) if reserved else debt
    initial = maintenance = 0.0
    borrowing = account.rules.borrowing
    if borrowing is not None and potential:
        initial, maintenance = borrowing.margins(currency, debt, potential, price)
    return Holding(
        currency,
        amount,
        price,
        amount * price,
        terms.collateral_value(amount, price),
        debt,
        initial
        + terms.collateral_value(amount, price)
        - terms.collateral_value(amount - aside, price)
        + terms.initial_haircut * max(0.0, amount * price),
        maintenance,
    )


def is_in_debt(account: Account) -> bool:
    """Return whether anything is owed in a pool of many currencies."""
    return any(
        amount < 0 and _debt(amount, account.conversion_rate(currency, owed=True)) > 0
        for currency, amount in _amounts(account).items()
    )


def reserved(account: Account, currency: str) -> float:
    """Return what resting orders for coins reserve of a currency that is a pool of its own."""
    return reserved_coins(account, currency) + reserved_quote(account, currency)


def reserved_coins(account: Account, currency: str) -> float:
    """Return the coins that resting sells reserve."""
    return sum(spot.reserved(book)[0] for book in coin_books(account) if book.instrument.base_currency == currency)


def reserved_quote(account: Account, currency: str) -> float:
    """Return what resting buys of coins reserve of the currency they pay with."""
    return sum(spot.reserved(book)[1] for book in coin_books(account) if book.instrument.settle == currency)


def coin_books(account: Account) -> list[Book]:
    """Return the books of coins that orders rest in."""
    return [book for book in account.books.values() if book.orders and book.margin_mode == "spot"]
