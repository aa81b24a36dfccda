# SPDX-License-Identifier: GPL-3.0-or-later
"""Account views of one currency and of one margin pair, under the terms the exchanges use.

docs/whole-account.md defines each term with an example.
"""

from typing import NamedTuple

from crossmargin_bt.engine.admission import spot_orders
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import Position
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.modes import MODES, margin_pair


class CurrencyView(NamedTuple):
    """One currency of an account. Amounts are in that currency; `price`, `value` and `collateral_value` are in the account's currency."""

    currency: str
    balance: float
    floating_profit: float
    """Unrealised profit of all positions that settle in it, including isolated ones."""
    isolated_margin: float
    option_value: float
    equity: float
    """Balance + unrealised profit + isolated margins + option value."""
    in_use: float
    """Margin in use of positions and orders + the amount set aside; in a multi-currency pool, the amounts set aside and reserved."""
    available_balance: float
    """Available for spot orders, isolated positions and option premiums: unrealised profit excluded."""
    free_margin: float
    """Available for cross orders; in a multi-currency pool, that of the pool converted to this currency."""
    liability: float
    """The amount borrowed: the negative of balance + unrealised cross profit, if that is below zero."""
    leverage: float
    """Notional of the cross positions that settle in it / (balance + unrealised profit of cross positions)."""
    price: float
    value: float
    collateral_value: float
    """What it counts for as collateral: in a multi-currency pool its value after the haircut; in a pool of its own, balance +
    unrealised profit of cross positions, which back that currency's positions alone."""


def currency_view(account: Account, name: str) -> CurrencyView:
    """Return the view of one currency.

    Raises:
        KeyError: the account has no such currency.
        FeedError: no feed prices it.
    """
    balance = account.balances[name]
    cross = isolated = margin = options = value = 0.0
    for book in account.books.values():
        if book.instrument.settle != name or not book.legs:
            continue
        mode = MODES[book.margin_mode]
        options += mode.option_value(book)
        if mode.POOLED:
            cross += book.unrealised()
            value += sum(book.value(leg) for leg in book.legs.values() if not book.is_fully_funded)
        elif mode.ISOLATED:
            isolated += book.unrealised()
            margin += sum(leg.margin for leg in book.legs.values())
    price = account.price(name)
    total = metrics.pool_balance(account, account.pool_of(name))
    if account.pooled:
        in_use = account.set_aside.get(name, 0.0) + currencies.reserved(account, name)
        free = total.free_margin / price if price else 0.0
    else:
        in_use, free = total.in_use, total.free_margin
    equity = balance + cross + isolated + margin + options
    carried = balance + cross
    return CurrencyView(
        currency=name,
        balance=balance,
        floating_profit=cross + isolated,
        isolated_margin=margin,
        option_value=options,
        equity=equity,
        in_use=in_use,
        available_balance=spot_orders.available(account, name),
        free_margin=free,
        liability=max(0.0, -(balance + cross)),
        leverage=value / carried if carried > 0 else 0.0,
        price=price,
        value=equity * price,
        collateral_value=_collateral_value(account, name, carried * price),
    )


def _collateral_value(account: Account, name: str, alone: float) -> float:
    """Return what a currency counts for in its pool; `alone` is its value in a pool of its own."""
    if not account.pooled:
        return alone
    return next(one.collateral_value for one in currencies.holdings(account) if one.currency == name)


class LoanView(NamedTuple):
    """The loan of a margin pair: its assets, its liability, and the quantity that may be traded to close it.

    `assets` and `available_assets` are amounts of `asset` (the coin for a long, the quote currency for a short);
    `liability` (principal) and `interest` (accrued) are amounts of `liability_currency`; `closable` is in coins.
    """

    asset: str
    assets: float
    available_assets: float
    liability_currency: str
    liability: float
    interest: float
    average_open_price: float
    closable: float


def loan_view(account: Account, book: Book, position: Position) -> LoanView:
    """Return the loan of a margin pair's position; the assets its closing orders would sell are not available."""
    instrument = book.instrument
    closing = sum(
        abs(order.lots) * instrument.units_per_lot for order in book.orders.values() if order.lots * position.lots < 0
    )
    assets = margin_pair.assets(book, position)
    sold = closing if position.lots > 0 else closing * position.entry
    initial = margin_pair.debt_value(book, position, book.mark_of(position.lots)) * book.initial_rate(position.lots)
    alone = MODES[book.margin_mode].ISOLATED
    has_initial = (
        position.margin + book.profit(position) >= initial if alone else metrics.available_margin(account, book) >= 0
    )
    return LoanView(
        asset=instrument.base_currency if position.lots > 0 else instrument.quote_currency,
        assets=assets,
        available_assets=max(0.0, assets - sold),
        liability_currency=margin_pair.currency(book, position),
        liability=margin_pair.principal(book, position),
        interest=position.interest,
        average_open_price=position.entry,
        closable=margin_pair.closable(book, position, has_initial_margin=has_initial),
    )
