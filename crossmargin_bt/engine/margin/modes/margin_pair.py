# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin pairs: spot margin trading, where a position is financed by a loan of its own.

A long holds coins and owes the quote currency; a short holds the quote currency and owes coins. The margin is in the settle
currency of the instrument: the quote currency or the coin. Initial and maintenance margin are fractions of the debt,
interest included, converted to the margin's currency. Source: docs/sources.md#okx-margin-pairs.
"""

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import Position
from crossmargin_bt.engine.math import formulas


def currency(book: Book, position: Position) -> str:
    """Return the currency a position has borrowed."""
    return book.instrument.quote_currency if position.lots > 0 else book.instrument.base_currency


def assets(book: Book, position: Position) -> float:
    """Return the assets of a position: coins for a long, an amount of the quote currency for a short."""
    coins = abs(position.lots) * book.instrument.units_per_lot
    return coins if position.lots > 0 else formulas.value(coins, position.entry)


def principal(book: Book, position: Position) -> float:
    """Return the principal of a position's loan, without interest, in the borrowed currency."""
    coins = abs(position.lots) * book.instrument.units_per_lot
    return formulas.value(coins, position.entry) if position.lots > 0 else coins


def debt_value(book: Book, position: Position, price: float) -> float:
    """Return the value of a position's debt at a price, interest included, in its margin's currency."""
    if not position.lots:
        return 0.0
    return book.instrument.interest_cost(position.lots, principal(book, position) + position.interest, price)


def maintenance(book: Book, position: Position, price: float) -> float:
    """Return the maintenance margin of a position at a price, in its margin's currency."""
    value = debt_value(book, position, price)
    return book.scale * book.maintenance.margin(value, book.instrument.base_quantity(position.lots, price))


def closing_fee(book: Book, value: float, margin: float) -> float:
    """Return the fee of repaying a debt of `value`: (value + maintenance margin) x taker fee.

    Source: docs/sources.md#okx-margin-pairs (liquidation at assets = (debt + interest) x (1 + MMR) x (1 + fee)).
    """
    return formulas.fee(value + margin, book.taker)


def side_maintenance(book: Book, direction: int, lots: int, mark: float) -> float:
    """Return the maintenance margin of one side of a book, its closing fee included where the venue counts it.

    `lots` beyond the position are those of orders that count; their debt is as if borrowed at `mark`.
    """
    held = next((leg for leg in book.legs.values() if leg.lots * direction > 0), None)
    opened = max(0, lots - (abs(held.lots) if held is not None else 0))
    value, margin = book.instrument.value(opened, mark), book.maintenance_of(opened, mark)
    if held is not None:
        at = book.mark_of(held.lots)
        value += debt_value(book, held, at)
        margin += maintenance(book, held, at)
    charged = book.rules.closing_fee_in_maintenance != "none"
    return margin + (closing_fee(book, value, margin) if charged else 0.0)


def leg_breakpoints(book: Book, position: Position) -> list[tuple[int, float]]:
    """Return the (direction, mark) at which the value of a position's debt reaches a breakpoint of the maintenance rule."""
    owes_coins = position.lots < 0
    if owes_coins == book.instrument.in_coin:
        return []  # the debt is in the margin's currency: its value does not depend on the price
    debt = principal(book, position) + position.interest
    bounds = book.maintenance.breakpoints
    return [(-1, bound / debt) for bound in bounds] if owes_coins else [(1, debt / bound) for bound in bounds]


def closable(book: Book, position: Position, *, has_initial_margin: bool) -> float:
    """Return the maximum quantity of coins that may be traded to close a position.

    If the assets are in the currency of the margin: debt x (1 + rate), in coins, where the rate is the initial rate
    while equity covers the initial margin and the maintenance rate below that. Otherwise the size of the position.
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
