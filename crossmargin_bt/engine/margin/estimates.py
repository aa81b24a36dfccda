# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates a venue would show: where a position is liquidated if only its own price moves, and how far all may move."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import currencies, metrics, options, requirement
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.intrabar_path import first_breach

# Prices above this many times the mark are not looked at, nor, where a price of 0 has no meaning, below this part.
PRICE_FACTOR_MAX, PRICE_FACTOR_MIN = 1_000.0, 1e-9
# The first step of a search along a curve, and how each next one grows.
SEARCH_STEP, SEARCH_GROWTH = 0.001, 1.05


class Estimate(NamedTuple):
    """A price, or None with the reason why there is none."""

    price: float | None
    reason: str = ""


def liquidation_price(account: Account, symbol: str, side: str = "net") -> Estimate:
    """Return the liquidation price the venue shows for a leg, all other marks standing; options follow their underlying.

    A long looks downward, a short upward. Resting orders are left out: they are cancelled first. Tiers
    are those that hold at the answer. In hedge mode both legs move with the price. What of the shared
    collateral stands behind the leg is the venue's answer (`Rules.displayed_liquidation_price`).

    Source: docs/sources.md#liquidation-price.
    """
    if side not in account.books[symbol].legs:
        return Estimate(None, "no position")
    if account.books[symbol].margin_mode == "spot":
        return Estimate(None, "a coin is paid for in full")
    trial = account.copy(*account.books) if account.has_options else account.copy(symbol)
    book = trial.books[symbol]
    leg = book.legs[side]
    pool = next(pool for pool in metrics.pools(trial) if (symbol, side) in pool.legs)
    how = trial.rules.displayed_liquidation_price
    if not pool.isolated and how == "one_underlying" and len({name for name, _ in pool.legs}) > 1:
        return Estimate(None, "the venue shows none while other contracts are held in the pool")
    start = book.mark_of(leg.lots)
    alone = _gap_with_value_share(trial, book, side, pool) if not pool.isolated and how == "by_value" else None

    reprice_options = options.option_repricer(trial)

    def gap(price: float) -> float:
        book.set_mark(price)
        reprice_options()
        return metrics.risk(trial, pool, with_orders=False).gap if alone is None else alone()

    breakpoints = [mark for name, _, mark in metrics.breakpoints(trial, pool, with_orders=False) if name == symbol]
    if leg.lots > 0:
        lowest = start * PRICE_FACTOR_MIN if book.instrument.is_curved else 0.0
        below = first_breach(
            lambda down: gap(-down), -start, -lowest, [-breakpoint_mark for breakpoint_mark in breakpoints]
        )
        return Estimate(None, "covered down to a price of 0") if below is None else Estimate(-below)
    above = first_breach(gap, start, PRICE_FACTOR_MAX * start, breakpoints)
    return Estimate(None, f"covered up to {PRICE_FACTOR_MAX:g} times the mark") if above is None else Estimate(above)


def _gap_with_value_share(account: Account, book: Book, side: str, pool: Pool) -> Callable[[], float]:
    """Return the gap of a leg with its share of the pool's collateral, in proportion to its value, behind it."""
    collateral = metrics.risk(account, pool, with_orders=False).collateral
    values = [account.books[name].value(account.books[name].legs[each]) for name, each in pool.legs]
    leg = book.legs[side]
    share = formulas.pro_rata(collateral, book.value(leg), sum(values)) - book.profit(leg)
    book.legs = {side: leg}
    return lambda: share + book.profit(leg) - requirement.book_requirement(book, with_orders=False)


class Distance(NamedTuple):
    """How far all prices must fall and rise together before something is liquidated, as fractions; None for never.

    -0.2 is a fall of 20 %.
    """

    fall: float | None
    rise: float | None


def aggregate_distance(account: Account, betas: Mapping[str, float] | None = None) -> Distance:
    """Return how far all marks must move together until the first pool gives out.

    A market move of x moves the mark of a symbol by beta x (1 where `betas` names none). Resting orders
    are left out: they are cancelled first. 0 means that a pool has given out already. Not looked at: a fall
    of all that there is, and a rise beyond 1,000 times.

    Raises:
        ValueError: a beta is not a finite number.
    """
    given = {symbol: (betas or {}).get(symbol, 1.0) for symbol in account.books}
    for symbol, beta in given.items():
        if not math.isfinite(beta):
            raise ValueError(f"the beta of {symbol} must be a number, got {beta!r}")
    trial = account.copy(*account.books)
    return Distance(_move_to_liquidation(trial, given, -1), _move_to_liquidation(trial, given, 1))


def _move_to_liquidation(account: Account, betas: Mapping[str, float], direction: int) -> float | None:
    marks = {symbol: (book.long_mark, book.short_mark) for symbol, book in account.books.items()}
    # A price that falls stops short of 0.
    falls = [-beta * direction for beta in betas.values() if beta * direction < 0]
    furthest = (1 - PRICE_FACTOR_MIN) / max(falls) if falls else PRICE_FACTOR_MAX

    reprice_options = options.option_repricer(account)

    def move(far: float) -> None:
        for symbol, book in account.books.items():
            if book.margin_mode == "option":
                continue
            factor = 1 + betas[symbol] * direction * far
            book.long_mark, book.short_mark = marks[symbol][0] * factor, marks[symbol][1] * factor
        reprice_options()

    # Between inverse contracts that move apart, and with options, the gap is a curve that may dip: it is looked at step by step.
    curved = sum(book.instrument.is_curved and bool(book.legs) for book in account.books.values()) > 1
    curved |= account.has_options or account.pooled
    grid = (
        [SEARCH_STEP * SEARCH_GROWTH**n for n in range(math.ceil(math.log(furthest / SEARCH_STEP, SEARCH_GROWTH)))]
        if curved
        else []
    )
    found = []
    for pool in metrics.pools(account):
        breakpoints = list(grid)
        for symbol, side, mark in metrics.breakpoints(account, pool, with_orders=False):
            at = marks[symbol][0 if side > 0 else 1]
            if at and betas[symbol]:
                breakpoints.append((mark / at - 1) / (betas[symbol] * direction))

        def gap(far: float, pool: Pool = pool) -> float:
            move(far)
            return metrics.risk(account, pool, with_orders=False).gap

        stands = pool.legs or (account.pooled and not pool.isolated and currencies.is_in_debt(account))
        moment = first_breach(gap, 0.0, furthest, breakpoints) if stands else None
        move(0.0)
        if moment is not None:
            found.append(direction * moment)
    return min(found, key=abs, default=None)
