# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin pairs: a coin bought with borrowed money, or sold after it was borrowed.

A long holds coins and owes the quote currency, a short holds the quote currency and owes coins; the margin is kept in the
quote currency or in the coin, whichever the instrument settles in. What is required is a share of the debt, interest included,
worth of it in the margin's currency. Source: docs/sources.md#okx-margin-pairs.
"""

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import Position
from crossmargin_bt.engine.math import formulas


def currency(book: Book, position: Position) -> str:
    """Return the currency a position owes."""
    return book.instrument.quote_currency if position.lots > 0 else book.instrument.base_currency


def assets(book: Book, position: Position) -> float:
    """Return what a position holds: coins of a long, the quote currency of a short."""
    coins = abs(position.lots) * book.instrument.units_per_lot
    return coins if position.lots > 0 else formulas.value(coins, position.entry)


def principal(book: Book, position: Position) -> float:
    """Return what a position has borrowed, without interest, in the currency it owes."""
    coins = abs(position.lots) * book.instrument.units_per_lot
    return formulas.value(coins, position.entry) if position.lots > 0 else coins


def debt_value(book: Book, position: Position, price: float) -> float:
    """Return what a position owes, interest included, in its margin's currency at a price."""
    if not position.lots:
        return 0.0
    return book.instrument.interest_cost(position.lots, principal(book, position) + position.interest, price)


def maintenance(book: Book, position: Position, price: float) -> float:
    """Return the maintenance margin of a position at a price, in its margin's currency."""
    value = debt_value(book, position, price)
    return book.scale * book.maintenance.margin(value, book.instrument.base_quantity(position.lots, price))


def closing_fee(book: Book, value: float, margin: float) -> float:
    """Return the fee of paying a debt worth `value` back: on it and on its maintenance margin.

    Source: docs/sources.md#okx-margin-pairs (liquidation at assets = (debt + interest) x (1 + MMR) x (1 + fee)).
    """
    return formulas.fee(value + margin, book.taker)


def breakpoints(book: Book, position: Position) -> list[float]:
    """Return the marks at which what is owed comes to a bound of the maintenance rule."""
    owes_coins = position.lots < 0
    if owes_coins == book.instrument.in_coin:
        return []  # owed in the margin's currency: no price changes it
    debt = principal(book, position) + position.interest
    bounds = book.maintenance.breakpoints
    return [bound / debt for bound in bounds] if owes_coins else [debt / bound for bound in bounds]


def closable(book: Book, position: Position, *, has_initial_margin: bool) -> float:
    """Return the most coins that may be traded to close a position.

    Where what it holds is its margin too, as much as pays the debt with the initial rate on top while equity is at
    or above the initial margin, with the maintenance rate below that; otherwise what it holds.
    Source: docs/sources.md#okx-margin-pairs.
    """
    holds_margin = (position.lots > 0) == book.instrument.in_coin
    mark = book.mark_of(position.lots)
    if not holds_margin:
        return abs(position.lots) * book.instrument.units_per_lot
    debt = principal(book, position) + position.interest
    value = debt_value(book, position, mark)
    rate = book.initial_rate(position.lots)
    if not has_initial_margin:
        rate = book.maintenance.margin(value, value) / value
    coins = formulas.inverse_value(debt, mark) if position.lots > 0 else debt
    return coins * (1 + rate)
