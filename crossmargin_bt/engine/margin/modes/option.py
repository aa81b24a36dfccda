# SPDX-License-Identifier: GPL-3.0-or-later
"""Options under standard margin: a long is paid for in full, a short has the venue's margin requirement.

Option value is part of equity but not of the collateral; the margin of a short includes its mark instead.
Source: docs/sources.md#option-margins.
"""

from collections.abc import Iterable, Iterator, Mapping

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.position import FillEffect, Position
from crossmargin_bt.engine.margin.modes import cross
from crossmargin_bt.engine.math import pricing

POOLED = True
ISOLATED = False
ORDER_USE = "cross_orders"


def in_use(book: Book) -> float:
    """Return the initial margin of the position plus that of its orders; there is no offset between orders."""
    held = book.leg("net").lots
    total = 0.0
    if held:
        total += abs(held) * book.instrument.units_per_lot * _initial_margin(book, held, book.mark_of(held))
    return total + sum(
        _order_margin(book, order, closing) for order, closing in _with_closing_lots(held, book.orders.values())
    )


def maintenance_margin(book: Book, *, with_orders: bool) -> float:
    """Return the maintenance margin of a short position, and of sell orders that open if the venue counts orders."""
    held = book.leg("net").lots
    short = max(0, -held)
    if with_orders and book.rules.orders_in_maintenance != "none":
        resting = [order for order in book.orders.values() if not order.immediate]
        short += sum(
            abs(order.lots) - closing for order, closing in _with_closing_lots(held, resting) if order.lots < 0
        )
    if not short:
        return 0.0
    terms, instrument = book.option_terms, book.instrument
    unit = terms.short_maintenance(book.underlying_value, book.short_mark, is_call=instrument.is_call)
    return short * instrument.units_per_lot * unit


def leg_maintenance(book: Book, position: Position) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return the maintenance margin of the position, without orders."""
    return maintenance_margin(book, with_orders=False)


def option_value(book: Book) -> float:
    """Return the option value of the position at its mark, negative for a short, in the settle currency."""
    return sum(leg.lots * book.instrument.units_per_lot * book.mark_of(leg.lots) for leg in book.legs.values())


orders_against_collateral = cross.orders_against_collateral
breakpoints = cross.breakpoints


def opening_margin(book: Book, effect: FillEffect, price: float) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: a fill moves the premium only."""
    return 0.0


def out_of_the_money(book: Book) -> float:
    """Return the out-of-the-money amount of an option, in its settle currency; 0 if it is in the money."""
    instrument = book.instrument
    assert instrument.strike is not None
    amount = pricing.payoff(book.index, instrument.strike, -1 if instrument.is_call else 1)
    return amount / book.index if instrument.in_coin and book.index else amount


def _initial_margin(book: Book, lots: int, price: float) -> float:
    """Return the initial margin per unit of a long (`lots` > 0) or short option valued at a price."""
    terms, underlying_value = book.option_terms, book.underlying_value
    if lots > 0:
        return terms.long_initial(underlying_value, price)
    return terms.short_initial(underlying_value, out_of_the_money(book), price, is_call=book.instrument.is_call)


def _order_margin(book: Book, order: OpenOrder, closing: int) -> float:
    """Return the margin of an order of which `closing` lots close the position."""
    terms, underlying_value = book.option_terms, book.underlying_value
    fee = terms.trading_fee(underlying_value, order.price)
    mark = book.short_mark or order.price
    short = _initial_margin(book, -1, mark)
    if order.lots > 0:
        opens, closes = terms.buy_to_open(order.price, fee), terms.buy_to_close(order.price, short, fee)
    else:
        opens = terms.sell_to_open(underlying_value, short, order.price, fee)
        closes = terms.sell_to_close(order.price, fee)
    opened = abs(order.lots) - closing
    return book.instrument.units_per_lot * (opened * opens + closing * closes)


def _with_closing_lots(held: int, orders: Iterable[OpenOrder]) -> Iterator[tuple[OpenOrder, int]]:
    """Yield each order with its number of closing lots, matched to the position nearest to the market first.

    Of a group of mutually exclusive orders only the largest counts; reduce-only orders only close.
    """
    direction = 1 if held >= 0 else -1
    left = abs(held)
    largest: dict[object, OpenOrder] = {}
    for order in orders:
        key = ("order", order.number) if order.group is None else ("group", order.group, order.lots > 0)
        if key not in largest or abs(order.lots) > abs(largest[key].lots):
            largest[key] = order
    for order in sorted(largest.values(), key=lambda order: order.price * direction):
        closing = min(left, abs(order.lots)) if order.lots * direction < 0 else 0
        left -= closing
        if order.reduce_only and not closing:
            continue
        yield (order, abs(order.lots)) if order.reduce_only else (order, closing)


def max_loss(legs: Mapping[tuple[float, int], float]) -> float | None:
    """Return the maximum loss of options of one expiry at that expiry, in the currency of the strike; None if unbounded.

    The payoff is piecewise linear in the price, so it is evaluated at 0 and at every strike. `legs` are signed
    quantities by (strike, 1 for a call or -1 for a put).

    >>> max_loss({(1800.0, 1): -1.0, (2000.0, 1): 1.0}), max_loss({(2500.0, -1): 1.0, (3000.0, -1): -1.0})
    (200.0, 500.0)
    >>> max_loss({(1800.0, 1): -1.0}) is None
    True
    """
    if sum(amount for (_, sign), amount in legs.items() if sign > 0) < 0:
        return None
    prices = [0.0, *(strike for strike, _ in legs)]
    outcomes = [
        sum(amount * pricing.payoff(price, strike, sign) for (strike, sign), amount in legs.items()) for price in prices
    ]
    return max(0.0, -min(outcomes))
