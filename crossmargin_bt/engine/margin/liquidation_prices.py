# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates: the liquidation price of a position, and the aggregate distance of all prices to a liquidation."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import currencies, metrics, options
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.intrabar_path import first_breach

# Search bounds of a price, as multiples of the mark; the lower one applies where a price of 0 is undefined.
PRICE_FACTOR_MAX, PRICE_FACTOR_MIN = 1_000.0, 1e-9
# Step of the grid search along a curve, and the ratio of consecutive steps.
SEARCH_STEP, SEARCH_GROWTH = 0.001, 1.05


class Estimate(NamedTuple):
    """A liquidation price, or None and the reason why there is none."""

    price: float | None
    reason: str = ""


def liquidation_price(account: Account, symbol: str, side: str = "net") -> Estimate:
    """Return the liquidation price the venue displays for a leg, all other marks unchanged; options follow their underlying.

    The first mark, below the current one for a long and above it for a short, at which collateral <= requirement.
    Resting orders are excluded because they are cancelled first. Tiers are those at the liquidation price. In hedge
    mode both legs are valued at the moved price. `Rules.displayed_liquidation_price` decides which part of the shared
    collateral counts.

    Source: docs/sources.md#liquidation-price.
    """
    if side not in account.books[symbol].legs:
        return Estimate(None, "no position")
    if account.books[symbol].margin_mode == "spot":
        return Estimate(None, "a spot position is fully paid")
    trial = account.copy(*account.books) if account.has_options else account.copy(symbol)
    book = trial.books[symbol]
    leg = book.legs[side]
    pool = next(pool for pool in metrics.pools(trial) if (symbol, side) in pool.legs)
    displayed = trial.rules.displayed_liquidation_price
    if not pool.isolated and displayed == "one_underlying" and len({name for name, _ in pool.legs}) > 1:
        return Estimate(None, "the venue displays none while the pool holds other contracts")
    start = book.mark_of(leg.lots)
    value_share_gap = (
        _gap_with_value_share(trial, book, side, pool) if not pool.isolated and displayed == "by_value" else None
    )

    reprice_options = options.option_repricer(trial)

    def gap(price: float) -> float:
        book.set_mark(price)
        reprice_options()
        return metrics.risk(trial, pool, with_orders=False).gap if value_share_gap is None else value_share_gap()

    breakpoints = [mark for name, _, mark in metrics.breakpoints(trial, pool, with_orders=False) if name == symbol]
    if leg.lots < 0:
        return _first_breach_above(gap, start, breakpoints)
    return _first_breach_below(gap, start, start * PRICE_FACTOR_MIN if book.instrument.is_curved else 0.0, breakpoints)


def _first_breach_below(
    gap: Callable[[float], float], start: float, lowest: float, breakpoints: list[float]
) -> Estimate:
    found = first_breach(lambda negative: gap(-negative), -start, -lowest, [-mark for mark in breakpoints])
    return Estimate(None, "covered down to a price of 0") if found is None else Estimate(-found)


def _first_breach_above(gap: Callable[[float], float], start: float, breakpoints: list[float]) -> Estimate:
    found = first_breach(gap, start, PRICE_FACTOR_MAX * start, breakpoints)
    return Estimate(None, f"covered up to {PRICE_FACTOR_MAX:g} times the mark") if found is None else Estimate(found)


def _gap_with_value_share(account: Account, book: Book, side: str, pool: Pool) -> Callable[[], float]:
    """Return a callback for the gap of one leg: its share of the pool's collateral by value, minus its requirement.

    Side effect: removes the other legs from `book`.
    """
    collateral = metrics.risk(account, pool, with_orders=False).collateral
    values = [account.books[name].value(account.books[name].legs[each]) for name, each in pool.legs]
    leg = book.legs[side]
    share = formulas.pro_rata(collateral, book.value(leg), sum(values)) - book.profit(leg)
    book.legs = {side: leg}
    return lambda: share + book.profit(leg) - MODES[book.margin_mode].maintenance_margin(book, with_orders=False)


class Distance(NamedTuple):
    """The common relative moves of all prices at which the first pool is liquidated, down and up; None for never.

    `fall` is negative: -0.2 is a fall of 20 %.
    """

    fall: float | None
    rise: float | None


def aggregate_distance(account: Account, betas: Mapping[str, float] | None = None) -> Distance:
    """Return the aggregate distance: the common move of all marks at which the first pool is liquidated.

    A market move of x moves the mark of a symbol by beta x (the default beta is 1). Resting orders are excluded
    because they are cancelled first. 0 means that a pool is already below its requirement. The search excludes a fall
    of 100 % and stops at a rise of 1,000 times the price.

    Raises:
        ValueError: a beta is not a finite number.
    """
    beta_of = {symbol: (betas or {}).get(symbol, 1.0) for symbol in account.books}
    for symbol, beta in beta_of.items():
        if not math.isfinite(beta):
            raise ValueError(f"the beta of {symbol} must be a number, got {beta!r}")
    trial = account.copy(*account.books)
    return Distance(_move_to_liquidation(trial, beta_of, -1), _move_to_liquidation(trial, beta_of, 1))


def _move_to_liquidation(account: Account, betas: Mapping[str, float], direction: int) -> float | None:
    """Return the signed market move, down for -1 and up for 1, at which the first pool is liquidated; None for never."""
    marks = {symbol: (book.long_mark, book.short_mark) for symbol, book in account.books.items()}
    # A falling price stays above 0.
    falls = [-beta * direction for beta in betas.values() if beta * direction < 0]
    distance_max = (1 - PRICE_FACTOR_MIN) / max(falls) if falls else PRICE_FACTOR_MAX

    reprice_options = options.option_repricer(account)

    def move(distance: float) -> None:
        for symbol, book in account.books.items():
            if book.margin_mode == "option":
                continue
            factor = 1 + betas[symbol] * direction * distance
            book.long_mark, book.short_mark = marks[symbol][0] * factor, marks[symbol][1] * factor
        reprice_options()

    found = []
    grid = _search_grid(account, distance_max)
    for pool in metrics.pools(account):
        breakpoints = list(grid)
        for symbol, side, mark in metrics.breakpoints(account, pool, with_orders=False):
            at = marks[symbol][0 if side > 0 else 1]
            if at and betas[symbol]:
                breakpoints.append((mark / at - 1) / (betas[symbol] * direction))

        def gap(distance: float, pool: Pool = pool) -> float:
            move(distance)
            return metrics.risk(account, pool, with_orders=False).gap

        is_at_risk = pool.legs or (account.pooled and not pool.isolated and currencies.is_in_debt(account))
        moment = first_breach(gap, 0.0, distance_max, breakpoints) if is_at_risk else None
        move(0.0)
        if moment is not None:
            found.append(direction * moment)
    return min(found, key=abs, default=None)


def _search_grid(account: Account, distance_max: float) -> list[float]:
    """Return the grid of distances to sample, empty if the gap is piecewise linear.

    With several inverse contracts, options or several currencies the gap is a curve that may dip below zero.
    """
    is_curved = sum(book.instrument.is_curved and bool(book.legs) for book in account.books.values()) > 1
    if not (is_curved or account.has_options or account.pooled):
        return []
    steps = math.ceil(math.log(distance_max / SEARCH_STEP, SEARCH_GROWTH))
    return [SEARCH_STEP * SEARCH_GROWTH**n for n in range(steps)]
