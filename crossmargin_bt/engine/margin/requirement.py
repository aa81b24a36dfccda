# SPDX-License-Identifier: GPL-3.0-or-later
"""What one book must keep: maintenance margin, closing fees, and what its resting orders take from the collateral.

Amounts are in the book's settle currency.
"""

from typing import NamedTuple

from crossmargin_bt.engine.ledger.book import Book, exposure
from crossmargin_bt.engine.ledger.position import Position
from crossmargin_bt.engine.margin.modes import margin_pair, option
from crossmargin_bt.engine.math import formulas


def isolated_requirement(book: Book, position: Position) -> tuple[float, float, float]:
    """Return the price an isolated leg is valued at, its maintenance margin there, and the fee of closing that counts."""
    if book.instrument.kind == "margin":
        mark = book.mark_of(position.lots)
        margin = margin_pair.maintenance(book, position, mark)
        charged = book.rules.isolated_closing_fee != "none"
        return (
            mark,
            margin,
            margin_pair.closing_fee(book, margin_pair.debt_value(book, position, mark), margin) if charged else 0.0,
        )
    at_entry = book.rules.isolated_maintenance_price == "entry"
    price = position.entry if at_entry else book.mark_of(position.lots)
    return (
        price,
        book.maintenance_of(abs(position.lots), price),
        book.closing_fee_of(book.rules.isolated_closing_fee, position),
    )


class MarginedSide(NamedTuple):
    """One side of a book as maintenance counts it: its lots, the lots that pick its tier, and the price they are valued at."""

    direction: int
    lots: int
    tier_lots: int
    price: float


def margined_sides(book: Book, *, with_orders: bool) -> list[MarginedSide]:
    """Return the sides of a cross book that maintenance is asked for."""
    rules = book.rules
    long, short = exposure(book, rules.orders_in_maintenance if with_orders else "none")
    picking = exposure(book, "gross") if with_orders and rules.orders_in_tier else (long, short)
    tiers = book.tier_lots(*picking)
    sides = []
    for direction, lots, tier in ((1, long, tiers[0]), (-1, short, tiers[1])):
        if lots:
            mark = book.long_mark if direction > 0 else book.short_mark
            price = mark if rules.maintenance_price == "mark" else _entry(book, direction) or mark
            sides.append(MarginedSide(direction, lots, tier, price))
    return sides


def _entry(book: Book, direction: int) -> float:
    return next((leg.entry for leg in book.legs.values() if leg.lots * direction > 0), 0.0)


def book_requirement(book: Book, *, with_orders: bool) -> float:
    """Return the maintenance margin of a cross book, with the fee of closing it where the venue counts that."""
    if book.margin_mode == "option":
        return option.requirement(book, with_orders=with_orders)
    rules = book.rules
    with_orders = with_orders and bool(book.orders) and (rules.orders_in_maintenance != "none" or rules.orders_in_tier)
    if (
        len(book.legs) == 1
        and not with_orders
        and rules.maintenance_price == "mark"
        and book.instrument.kind != "margin"
    ):
        # A lone leg is its own tier, whatever the venue's answer.
        (leg,) = book.legs.values()
        lots = leg.lots
        margin = book.maintenance_of(lots, book.long_mark) if lots >= 0 else book.maintenance_of(-lots, book.short_mark)
        how = rules.closing_fee_in_maintenance
        return margin if how == "none" else margin + book.closing_fee_of(how, leg)
    if book.instrument.kind == "margin":
        return _loan_requirement(book, with_orders=with_orders)
    margins = [0.0]
    for _, lots, tier, price in margined_sides(book, with_orders=with_orders):
        margins.append(book.maintenance_of(lots, price, tier))
    margin = sum(margins) if book.rules.hedge_maintenance == "sum" else max(margins)
    if book.rules.closing_fee_in_maintenance == "none":
        return margin
    return margin + closing_fees(book, with_orders=with_orders)


def _loan_requirement(book: Book, *, with_orders: bool) -> float:
    """Return what a margin pair keeps, the fee of paying back included; what counts of its orders as if borrowed at the mark."""
    total = 0.0
    for direction, lots, _, mark in margined_sides(book, with_orders=with_orders):
        held = next((leg for leg in book.legs.values() if leg.lots * direction > 0), None)
        opened = lots - (abs(held.lots) if held is not None else 0)
        value, margin = book.instrument.value(max(opened, 0), mark), book.maintenance_of(max(opened, 0), mark)
        if held is not None:
            at = book.mark_of(held.lots)
            value += margin_pair.debt_value(book, held, at)
            margin += margin_pair.maintenance(book, held, at)
        charged = book.rules.closing_fee_in_maintenance != "none"
        total += margin + (margin_pair.closing_fee(book, value, margin) if charged else 0.0)
    return total


def closing_fees(book: Book, *, with_orders: bool) -> float:
    """Return the fees of closing a cross book that the venue counts in its requirement."""
    fees, how = 0.0, book.rules.closing_fee_in_maintenance
    for direction, lots, _, _ in margined_sides(book, with_orders=with_orders) if how != "none" else ():
        mark = book.long_mark if direction > 0 else book.short_mark
        at = mark if how == "mark" else _entry(book, direction) or mark
        fees += book.closing_fee(how, book.instrument.value(lots, at), direction)
    return fees


def orders_in_ratio(book: Book) -> float:
    """Return the opening fees and losses of resting orders, as far as the venue counts them in its ratio."""
    waiting = [book.pending(side, immediate=False) for side in book.sides]
    fees = formulas.fee(sum(w.same_value + w.opening_value for w in waiting), book.taker)
    lowered = fees if book.rules.order_fees_in_ratio else 0.0
    return lowered + sum(w.loss for w in waiting) if book.rules.order_loss_in_ratio else lowered
