# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolated margin: each leg has its own margin as collateral; orders that open lock their full margin and fee.

Source: docs/sources.md#isolated (no offset between orders; the quantity that closes locks nothing).
"""

from typing import NamedTuple

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import FillEffect, Position
from crossmargin_bt.engine.margin.modes import cross, margin_pair
from crossmargin_bt.engine.math import formulas

POOLED = False
ISOLATED = True
ORDER_USE = "isolated_orders"


def in_use(book: Book) -> float:
    """Return the margin of orders that open, fees included; the margin of positions has already left the balance."""
    if not book.orders:
        return 0.0
    total = 0.0
    for side in book.sides:
        waiting = book.pending(side)
        held = book.leg(side).lots
        direction = -1 if side == "short" or held < 0 else 1
        same = waiting.same_value * book.initial_rate(abs(held) + waiting.same_lots)
        opening = waiting.opening_value * book.initial_rate(max(0, waiting.opposite_lots - abs(held)))
        same += _closing_fee(book, waiting.same_value, direction)
        opening += _closing_fee(book, waiting.opening_value, -direction)
        total += formulas.summed_margin(0.0, same, opening)
        total += formulas.fee(waiting.same_value + waiting.opening_value, book.taker)
        total += waiting.loss if book.rules.order_loss_reserved else 0.0
    return total


def _closing_fee(book: Book, value: float, direction: int) -> float:
    """Return the closing fee in the margin of an order: the fee its position will hold, else the fee the venue reserves."""
    carried = book.rules.isolated_fee_in_margin
    return book.closing_fee(book.rules.closing_fee_reserved if carried == "none" else carried, value, direction)


def opening_margin(book: Book, effect: FillEffect, price: float) -> float:
    """Return the initial margin of the quantity a fill opens at `price`, at the initial rate of the resulting position.

    Includes the closing fee if the venue holds it in the isolated margin (`Rules.isolated_fee_in_margin`).
    """
    value = book.instrument.value(effect.opened, price)
    direction = 1 if effect.position.lots > 0 else -1
    fee = book.closing_fee(book.rules.isolated_fee_in_margin, value, direction)
    return value * book.initial_rate(effect.position.lots) + fee


def initial_margin(book: Book, position: Position) -> float:
    """Return the initial margin of a held leg at its average entry, as `opening_margin` would lock it."""
    value = book.instrument.value(position.lots, position.entry)
    return value * book.initial_rate(position.lots) + fee_set_aside(book, position)


def maintenance_margin(book: Book, *, with_orders: bool) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: a shared pool keeps nothing for isolated legs, see `leg_requirement`."""
    return 0.0


leg_maintenance = cross.leg_maintenance
option_value = cross.option_value


class LegRequirement(NamedTuple):
    """The requirement of an isolated leg: the price it is valued at, its maintenance margin there, the closing fee counted."""

    price: float
    margin: float
    closing_fee: float


def leg_requirement(book: Book, position: Position) -> LegRequirement:
    """Return the requirement of an isolated leg, in the book's settle currency."""
    rules = book.rules
    if book.instrument.kind == "margin":
        mark = book.mark_of(position.lots)
        margin = margin_pair.maintenance(book, position, mark)
        charged = rules.isolated_closing_fee != "none"
        debt = margin_pair.debt_value(book, position, mark)
        return LegRequirement(mark, margin, margin_pair.closing_fee(book, debt, margin) if charged else 0.0)
    price = position.entry if rules.isolated_maintenance_price == "entry" else book.mark_of(position.lots)
    margin = book.maintenance_of(abs(position.lots), price)
    return LegRequirement(price, margin, book.closing_fee_of(rules.isolated_closing_fee, position))


def fee_set_aside(book: Book, position: Position) -> float:
    """Return the closing fee that the margin of a leg includes, at the average entry; it does not cover losses."""
    value = book.instrument.value(position.lots, position.entry)
    return book.closing_fee(book.rules.isolated_fee_in_margin, value, 1 if position.lots > 0 else -1)


def orders_against_collateral(book: Book) -> float:
    """Return the margin of orders, where the venue takes it from the collateral of the shared pool's risk ratio."""
    return in_use(book) if book.rules.isolated_orders_in_ratio else 0.0


def breakpoints(book: Book, *, with_orders: bool) -> list[tuple[int, float]]:  # noqa: ARG001 - the common signature
    """Return none: isolated legs do not count in a shared pool, see `leg_breakpoints`."""
    return []


def leg_breakpoints(book: Book, position: Position) -> list[tuple[int, float]]:
    """Return the (direction, mark) at which the maintenance rate of a leg changes: a tier's lower bound, or a jump."""
    bounds = book.maintenance.breakpoints
    if book.instrument.kind == "margin":
        return margin_pair.leg_breakpoints(book, position)
    if book.rules.isolated_maintenance_price == "entry":
        return []
    lots = position.lots
    return [(1 if lots > 0 else -1, book.instrument.price_at_value(abs(lots), bound)) for bound in bounds]
