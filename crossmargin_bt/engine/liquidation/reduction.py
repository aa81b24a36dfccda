# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial liquidation: the legs and lots that each of the venue's steps closes next, the minimum that makes the pool safe."""

import math
from collections.abc import Callable
from typing import Any

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.liquidation.forced_close import Close, PoolCloser, share_of
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.options import option_greeks
from crossmargin_bt.engine.math.tolerances import LOT_TOL
from crossmargin_bt.engine.terms.liquidation_steps import (
    Above,
    Fraction,
    Hedges,
    LiquidationStep,
    Pairs,
    Portion,
    Reduce,
    Tiers,
)
from crossmargin_bt.engine.terms.rates import ShareTable, TierTable


def closes_for_step(closer: PoolCloser, step: LiquidationStep) -> list[Close]:
    """Return the closes of a liquidation step; empty if the step cannot reduce the pool any further."""
    return [close for close in STEP_FUNCTIONS[type(step)](closer, step) if close.lots]


def _pairs(closer: PoolCloser, step: Pairs) -> list[Close]:  # noqa: ARG001 - the common signature of the steps
    legs: dict[str, list[Close]] = {}
    for close in closer.margined_legs():
        legs.setdefault(close.symbol, []).append(close)
    pairs = [sides for sides in legs.values() if len(sides) > 1]
    if not pairs:
        return []
    pair = max(pairs, key=lambda sides: (sum(map(closer.margin, sides)), sides[0].symbol))
    lots_max = min(close.lots for close in pair)
    return closer.min_lots_to_safety(lots_max, lambda lots: [close._replace(lots=lots) for close in pair])


def _hedges(closer: PoolCloser, step: Hedges) -> list[Close]:  # noqa: ARG001
    books = closer.account.books
    margined = [close for close in closer.margined_legs() if books[close.symbol].instrument.underlying]
    sets = [
        (one, other)
        for one in margined
        for other in margined
        if _delta_sign(closer, one) > _delta_sign(closer, other)
        and one.symbol != other.symbol
        and books[one.symbol].instrument.underlying == books[other.symbol].instrument.underlying
    ]
    if not sets:
        return []
    pair = max(sets, key=lambda sides: (sum(map(closer.margin, sides)), sides[0].symbol, sides[1].symbol))
    # The quantity is counted in lots of the coarser contract, so that the finer one can match it.
    now = closer.account.now_ms
    fine, coarse = sorted(pair, key=lambda close: _delta_per_lot(books[close.symbol], now))
    ratio = _delta_per_lot(books[coarse.symbol], now) / _delta_per_lot(books[fine.symbol], now)
    lots_max = min(coarse.lots, int(fine.lots / ratio + LOT_TOL))
    return closer.min_lots_to_safety(
        lots_max, lambda lots: [coarse._replace(lots=lots), fine._replace(lots=int(lots * ratio + LOT_TOL))]
    )


def _delta_sign(closer: PoolCloser, close: Close) -> int:
    """Return the sign of the delta: 1 if the part gains when its coin rises, -1 if it loses."""
    book = closer.account.books[close.symbol]
    is_put = book.margin_mode == "option" and not book.instrument.is_call
    return -closer.direction(close) if is_put else closer.direction(close)


# Lower bound of an option's absolute delta: far from its strike the number of lots would diverge.
DELTA_MIN = 0.01


def _delta_per_lot(book: Book, now_ms: float) -> float:
    """Return the absolute delta of one lot, in coins."""
    coins = book.instrument.base_quantity(1, book.long_mark)
    found = option_greeks(book, now_ms) if book.margin_mode == "option" else None
    return coins if found is None else coins * max(DELTA_MIN, abs(found.delta))


def _reduce(closer: PoolCloser, step: Reduce) -> list[Close]:
    best = _best_to_close(closer)
    if best is None:
        return []
    found = closer.min_lots_to_safety(best.lots, lambda lots: [best._replace(lots=lots)])
    least = _lots_worth(closer, best, step.value_min)
    return [close._replace(lots=min(best.lots, max(close.lots, least))) for close in found]


def _lots_worth(closer: PoolCloser, close: Close, value: float) -> int:
    """Return the fewest lots of a leg that are worth `value` (settle currency) at its mark; more than it has where it is worth less."""
    worth = closer.value(close)
    return math.ceil(close.lots * value / worth - LOT_TOL) if worth else close.lots


def _portion(closer: PoolCloser, step: Portion) -> list[Close]:
    best = _best_to_close(closer)
    if best is None:
        return []
    least = _lots_worth(closer, best, step.value_min)
    return [best._replace(lots=min(best.lots, max(least, share_of(best.lots, step.share))))]


def _best_to_close(closer: PoolCloser) -> Close | None:
    """Return the leg whose closing leaves the largest excess of collateral."""
    ranked = [
        ((_gap_after_closing(closer, close), close.symbol, close.side), close) for close in closer.margined_legs()
    ]
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _gap_after_closing(closer: PoolCloser, close: Close) -> float:
    after = closer.after([close])
    return float("inf") if closer.pool.isolated else metrics.risk(after.account, after.pool).gap


def _tiers(closer: PoolCloser, step: Tiers) -> list[Close]:
    margined = closer.margined_legs()
    if not margined:
        return []
    best = max(margined, key=lambda close: (closer.margin(close), close.symbol, close.side))
    rule = closer.account.books[best.symbol].maintenance
    table = rule.tier_table if isinstance(rule, ShareTable) else rule
    bounds = table.bounds if isinstance(table, TierTable) else ()
    by_quantity = isinstance(table, TierTable) and table.measure == "quantity"
    measured = closer.quantity if by_quantity else closer.value
    tier = sum(1 for bound in bounds if bound <= measured(best)) + 1
    if tier < step.whole_below or tier == 1:
        return [best]
    bound = bounds[max(1, tier - step.down) - 1]
    remaining = min(best.lots - 1, int(best.lots * bound / measured(best)) + 1)
    while remaining and measured(best._replace(lots=remaining)) >= bound:
        remaining -= 1
    return [best._replace(lots=best.lots - remaining)]


def _above(closer: PoolCloser, step: Above) -> list[Close]:
    large = [close for close in closer.margined_legs() if closer.value(close) > step.value]
    if not large:
        return []
    best = max(large, key=lambda close: (closer.margin(close), close.symbol, close.side))
    lots_max = min(best.lots, int(best.lots * (1 - step.value / closer.value(best))) + 1)
    return closer.min_lots_to_safety(lots_max, lambda lots: [best._replace(lots=lots)])


def _fraction(closer: PoolCloser, step: Fraction) -> list[Close]:
    large = [close for close in closer.margined_legs() if closer.value(close) > step.above]
    return [close._replace(lots=max(1, round(close.lots * step.share))) for close in large]


STEP_NAMES: dict[type, str] = {
    Pairs: "pairs",
    Hedges: "hedges",
    Reduce: "reduce",
    Portion: "portion",
    Tiers: "tiers",
    Above: "above",
    Fraction: "fraction",
}
STEP_FUNCTIONS: dict[type, Callable[[PoolCloser, Any], list[Close]]] = {
    Pairs: _pairs,
    Hedges: _hedges,
    Reduce: _reduce,
    Portion: _portion,
    Tiers: _tiers,
    Above: _above,
    Fraction: _fraction,
}
