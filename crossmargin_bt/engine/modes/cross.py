# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross margin: one pool stands behind every position, and orders offset against them."""

from crossmargin_bt.engine import formulas
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.position import Effect
from crossmargin_bt.engine.rules import Rules

POOLED = True


def in_use(book: Book, rules: Rules) -> float:
    """Return the initial margin of positions at mark together with their orders after offset, plus reserved fees."""
    if not book.legs and not book.orders:
        return 0.0
    value, opened = _hedged(book, rules) if book.hedged else _one_way(book, rules)
    reserved = formulas.fee(opened, book.taker) if rules.order_fees_reserved else 0.0
    return value + reserved


def _one_way(book: Book, rules: Rules) -> tuple[float, float]:
    position = book.leg("net")
    if not book.orders:
        return book.value(position) * book.rate(position.lots), 0.0
    waiting = book.pending("net")
    worst = int(formulas.worst_net_size(abs(position.lots), waiting.same_lots, waiting.opposite_lots))
    rate = book.rate(worst)
    opened = waiting.same_value + waiting.opening_value
    if rules.order_offset == "net":
        return book.instrument.value(worst, book.long_mark) * rate, opened
    combine = formulas.summed_margin if rules.order_offset == "sum" else formulas.larger_side_margin
    return combine(book.value(position) * rate, waiting.same_value * rate, waiting.opening_value * rate), opened


def _hedged(book: Book, rules: Rules) -> tuple[float, float]:
    margins, opened = [], 0.0
    for side in book.sides:
        position, waiting = book.leg(side), book.pending(side)
        rate = book.rate(abs(position.lots) + waiting.same_lots)
        margins.append((book.value(position) + waiting.same_value) * rate)
        opened += waiting.same_value
    return (sum(margins) if rules.hedge_margin == "sum" else max(margins)), opened


def opening_margin(book: Book, effect: Effect, price: float) -> float:  # noqa: ARG001 - the modes' common shape
    """Return 0: nothing leaves the pool."""
    return 0.0
