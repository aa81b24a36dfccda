# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross margin: a shared pool is the collateral of all positions; resting orders offset against the position."""

from typing import NamedTuple

from crossmargin_bt.engine.ledger.book import Book, exposure
from crossmargin_bt.engine.ledger.orders import PendingExposure
from crossmargin_bt.engine.ledger.position import FillEffect, Position
from crossmargin_bt.engine.margin.modes import margin_pair
from crossmargin_bt.engine.math import formulas

POOLED = True
ISOLATED = False
ORDER_USE = "cross_orders"


def in_use(book: Book) -> float:
    """Return the margin in use: initial margin of position and orders after offset, plus reserved fees and open losses."""
    if not book.legs and not book.orders:
        return 0.0
    return _hedge_mode_margin(book) if book.hedged else _one_way_margin(book)


def _one_way_margin(book: Book) -> float:
    position = book.leg("net")
    if not book.orders:
        rules = book.rules
        if rules.initial_price == "mark" and rules.closing_fee_reserved == "none" and book.instrument.kind != "margin":
            mark = book.long_mark if position.lots >= 0 else book.short_mark
            return book.instrument.value(position.lots, mark) * book.initial_rate(position.lots)
        return _position_margin(book, position, book.initial_rate(position.lots))
    waiting = book.pending("net")
    worst = int(formulas.worst_net_size(abs(position.lots), waiting.same_lots, waiting.opposite_lots))
    rate = book.initial_rate(worst)
    direction = 1 if position.lots >= 0 else -1
    reserved = book.reserved(waiting)
    if book.rules.order_offset in ("net", "net_value"):
        return _net_offset_margin(book, position, waiting, rate) + reserved
    combine = formulas.summed_margin if book.rules.order_offset == "sum" else formulas.larger_side_margin
    return reserved + combine(
        _position_margin(book, position, rate),
        _order_margin(book, waiting.same_value, rate, direction),
        _order_margin(book, waiting.opening_value, rate, -direction),
    )


def _net_offset_margin(book: Book, position: Position, waiting: PendingExposure, rate: float) -> float:
    """Return the initial margin of the largest position that fills can produce, plus its closing fee."""
    same, opposite = waiting.same_value, waiting.opposite_value
    if book.rules.order_offset == "net":
        same = book.instrument.value(waiting.same_lots, book.long_mark)
        opposite = book.instrument.value(waiting.opposite_lots, book.long_mark)
    held = _position_value(book, position)
    direction = 1 if position.lots >= 0 else -1
    how = book.rules.closing_fee_reserved
    at_entry = position.lots and how in ("entry", "bankruptcy")
    charged = book.instrument.value(position.lots, position.entry) if at_entry else book.value(position)
    if opposite - held > held + same:
        return (opposite - held) * rate + book.closing_fee(how, max(0.0, opposite - charged), -direction)
    return formulas.worst_net_size(held, same, opposite) * rate + book.closing_fee(how, charged + same, direction)


def _hedge_mode_margin(book: Book) -> float:
    margins, reserved = [], 0.0
    waiting = {side: book.pending(side) for side in book.sides}
    held = {side: abs(book.leg(side).lots) + waiting[side].same_lots for side in book.sides}
    for side, tier in zip(book.sides, book.tier_lots(held["long"], held["short"]), strict=True):
        rate = book.initial_rate(tier)
        direction = 1 if side == "long" else -1
        ordered = _order_margin(book, waiting[side].same_value, rate, direction)
        margins.append(_position_margin(book, book.leg(side), rate) + ordered)
        reserved += book.reserved(waiting[side])
    return (sum(margins) if book.rules.hedge_margin == "sum" else max(margins)) + reserved


def _position_margin(book: Book, position: Position, rate: float) -> float:
    """Return the initial margin of a position, plus its closing fee if the venue reserves it."""
    if not position.lots:
        return 0.0
    fee = book.rules.closing_fee_reserved
    margin = _position_value(book, position) * rate
    return margin if fee == "none" else margin + book.closing_fee_of(fee, position)


def _position_value(book: Book, position: Position) -> float:
    """Return the value of a position at the price of `Rules.initial_price`; the value of the debt for a margin pair."""
    if book.instrument.kind == "margin":
        return margin_pair.debt_value(book, position, book.mark_of(position.lots))
    how = book.rules.initial_price
    if how == "mark" or not position.lots:
        return book.value(position)
    return book.instrument.value(position.lots, position.entry if how == "entry" else book.last)


def _order_margin(book: Book, value: float, rate: float, direction: int) -> float:
    """Return the initial margin of orders of `value`, plus the closing fee of the position if the venue reserves it."""
    fee = book.rules.closing_fee_reserved
    return value * rate if fee == "none" else value * rate + book.closing_fee(fee, value, direction)


def opening_margin(book: Book, effect: FillEffect, price: float) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: a cross position has no margin of its own."""
    return 0.0


class MarginedSide(NamedTuple):
    """One side of a book as maintenance counts it: its lots, the lots that pick its tier, and the price they are valued at."""

    direction: int
    lots: int
    tier_lots: int
    price: float


def margined_sides(book: Book, *, with_orders: bool) -> list[MarginedSide]:
    """Return the sides of a book that have a maintenance margin."""
    rules = book.rules
    long, short = exposure(book, rules.orders_in_maintenance if with_orders else "none")
    picking = _tier_exposure(book) if with_orders and rules.orders_in_tier else (long, short)
    tiers = book.tier_lots(*picking)
    sides = []
    for direction, lots, tier in ((1, long, tiers[0]), (-1, short, tiers[1])):
        if lots:
            mark = book.long_mark if direction > 0 else book.short_mark
            price = mark if rules.maintenance_price == "mark" else _entry(book, direction) or mark
            sides.append(MarginedSide(direction, lots, tier, price))
    return sides


def _tier_exposure(book: Book) -> tuple[int, int]:
    """Return the long and short lots that pick tiers where resting orders count: a position with the orders on its side.

    Orders against a one-way position do not take its tier away, even if they are larger.
    """
    held = 0 if book.hedged else book.leg("net").lots
    if not held:
        return exposure(book, "gross")
    lots = abs(held) + book.pending("net", immediate=False).same_lots
    return (lots, 0) if held > 0 else (0, lots)


def _entry(book: Book, direction: int) -> float:
    return next((leg.entry for leg in book.legs.values() if leg.lots * direction > 0), 0.0)


def maintenance_margin(book: Book, *, with_orders: bool) -> float:
    """Return the maintenance margin of the book, with its closing fees where the venue counts them."""
    rules = book.rules
    with_orders = with_orders and bool(book.orders) and (rules.orders_in_maintenance != "none" or rules.orders_in_tier)
    is_loan = book.instrument.kind == "margin"
    if len(book.legs) == 1 and not with_orders and rules.maintenance_price == "mark" and not is_loan:
        # A lone leg is its own tier, whatever the venue's answer.
        (leg,) = book.legs.values()
        lots = leg.lots
        margin = book.maintenance_of(lots, book.long_mark) if lots >= 0 else book.maintenance_of(-lots, book.short_mark)
        how = rules.closing_fee_in_maintenance
        return margin if how == "none" else margin + book.closing_fee_of(how, leg)
    sides = margined_sides(book, with_orders=with_orders)
    if is_loan:
        return sum(margin_pair.side_maintenance(book, side.direction, side.lots, side.price) for side in sides)
    margins = [0.0]
    for _, lots, tier, price in sides:
        margins.append(book.maintenance_of(lots, price, tier))
    margin = sum(margins) if rules.hedge_maintenance == "sum" else max(margins)
    if rules.closing_fee_in_maintenance == "none":
        return margin
    return margin + closing_fees(book, with_orders=with_orders)


def leg_maintenance(book: Book, position: Position) -> float:
    """Return the maintenance margin of one leg by itself at its mark, without orders and fees."""
    mark = book.mark_of(position.lots)
    if book.instrument.kind == "margin":
        return margin_pair.maintenance(book, position, mark)
    return book.maintenance_of(abs(position.lots), mark)


def closing_fees(book: Book, *, with_orders: bool) -> float:
    """Return the fees of closing the book that the venue counts in its maintenance margin."""
    fees, how = 0.0, book.rules.closing_fee_in_maintenance
    for direction, lots, _, _ in margined_sides(book, with_orders=with_orders) if how != "none" else ():
        mark = book.long_mark if direction > 0 else book.short_mark
        at = mark if how == "mark" else _entry(book, direction) or mark
        fees += book.closing_fee(how, book.instrument.value(lots, at), direction)
    return fees


def orders_against_collateral(book: Book) -> float:
    """Return the opening fees and losses of resting orders that the venue takes from the collateral of the risk ratio."""
    rules = book.rules
    if not book.orders or not (rules.order_fees_in_ratio or rules.order_loss_in_ratio):
        return 0.0
    waiting = [book.pending(side, immediate=False) for side in book.sides]
    fees = formulas.fee(sum(w.same_value + w.opening_value for w in waiting), book.taker)
    lowered = fees if rules.order_fees_in_ratio else 0.0
    return lowered + sum(w.loss for w in waiting) if rules.order_loss_in_ratio else lowered


def option_value(book: Book) -> float:  # noqa: ARG001 - the common signature of the modes
    """Return 0: only options have an option value."""
    return 0.0


def breakpoints(book: Book, *, with_orders: bool) -> list[tuple[int, float]]:
    """Return the (direction, mark) at which a maintenance rate changes: a tier's lower bound, or a jump."""
    bounds = book.maintenance.breakpoints
    if book.instrument.kind == "margin":
        return [found for leg in book.legs.values() for found in margin_pair.leg_breakpoints(book, leg)]
    if book.rules.maintenance_price == "entry":
        return []
    return [
        (side.direction, book.instrument.price_at_value(side.tier_lots, bound))
        for side in margined_sides(book, with_orders=with_orders)
        if side.tier_lots
        for bound in bounds
    ]
