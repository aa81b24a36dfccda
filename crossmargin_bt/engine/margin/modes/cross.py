# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross margin: a shared pool is the collateral of all positions; resting orders offset against the position."""

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import PendingExposure
from crossmargin_bt.engine.ledger.position import FillEffect, Position
from crossmargin_bt.engine.margin.modes import margin_pair
from crossmargin_bt.engine.math import formulas

POOLED = True
ISOLATED = False
FULLY_FUNDED = False


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
