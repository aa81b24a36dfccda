# SPDX-License-Identifier: GPL-3.0-or-later
"""Currencies of an account: value, collateral value, debt, and the amounts reserved by resting spot orders.

In a multi-currency pool a currency is in debt if its balance plus unrealised profit is negative. Source: docs/sources.md#collateral.
"""

from typing import NamedTuple

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin.modes import MODES, spot
from crossmargin_bt.engine.math.tolerances import DEBT_MIN
from crossmargin_bt.engine.terms.collateral import collateral_terms


class Holding(NamedTuple):
    """One currency of a multi-currency pool. `amount` and `debt` are in the currency itself, the rest in the pool's currency."""

    currency: str
    amount: float
    """Balance + unrealised profit of the cross positions that settle in it (+ option value in a portfolio account)."""
    price: float
    value: float
    collateral_value: float
    """Value after the haircut."""
    debt: float
    """The amount borrowed, 0 or above."""
    initial_margin: float
    """The margin in use of the debt, of the potential debt of resting orders, of the set-aside amount, and of the
    initial haircut."""
    maintenance_margin: float
    """The maintenance margin of the debt."""


def holdings(account: Account) -> list[Holding]:
    """Return every currency of a multi-currency pool."""
    reserved = dict.fromkeys(account.balances, 0.0)
    for book in coin_books(account):
        sells, buys = spot.reserved(book)
        reserved[book.instrument.base_currency] += sells
        reserved[book.instrument.settle] += buys
    return [_holding(account, currency, amount, reserved[currency]) for currency, amount in _amounts(account).items()]


def _amounts(account: Account) -> dict[str, float]:
    """Return `Holding.amount` by currency."""
    profits = dict.fromkeys(account.balances, 0.0)
    for book in account.books.values():
        mode = MODES[book.margin_mode]
        if book.legs and mode.POOLED:
            profits[book.instrument.settle] += book.unrealised()
            if account.options_count:
                profits[book.instrument.settle] += mode.option_value(book)
    return {currency: balance + profits[currency] for currency, balance in account.balances.items()}


def _debt(amount: float, price: float) -> float:
    """Return the debt in a currency, in the currency itself."""
    return -amount if -amount * price > DEBT_MIN else 0.0


def _holding(account: Account, currency: str, amount: float, reserved: float) -> Holding:
    price = account.conversion_rate(currency, owed=amount < 0)
    terms = collateral_terms(currency, account.rules.collateral)
    debt = _debt(amount, price)
    set_aside = account.set_aside.get(currency, 0.0)
    potential_debt = max(0.0, reserved - amount) if reserved else debt
    initial = maintenance = 0.0
    borrowing = account.rules.borrowing
    if borrowing is not None and potential_debt:
        initial, maintenance = borrowing.margins(currency, debt, potential_debt, price)
    return Holding(
        currency,
        amount,
        price,
        amount * price,
        terms.collateral_value(amount, price),
        debt,
        initial
        + terms.collateral_value(amount, price)
        - terms.collateral_value(amount - set_aside, price)
        + terms.initial_haircut * max(0.0, amount * price),
        maintenance,
    )


def is_in_debt(account: Account) -> bool:
    """Return whether any currency of a multi-currency pool is in debt."""
    return any(
        amount < 0 and _debt(amount, account.conversion_rate(currency, owed=True)) > 0
        for currency, amount in _amounts(account).items()
    )


def reserved(account: Account, currency: str) -> float:
    """Return the amount of a single-currency pool that resting spot orders reserve, as coin sold or as payment."""
    return reserved_coins(account, currency) + reserved_quote(account, currency)


def reserved_coins(account: Account, currency: str) -> float:
    """Return the amount of a coin reserved by resting spot sells."""
    return sum(spot.reserved(book)[0] for book in coin_books(account) if book.instrument.base_currency == currency)


def reserved_quote(account: Account, currency: str) -> float:
    """Return the amount of a quote currency reserved by resting spot buys."""
    return sum(spot.reserved(book)[1] for book in coin_books(account) if book.instrument.settle == currency)


def coin_books(account: Account) -> list[Book]:
    """Return the spot books with resting orders."""
    return [book for book in account.books.values() if book.orders and book.margin_mode == "spot"]
