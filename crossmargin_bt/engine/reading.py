# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trader reads off an account: equity, margin in use, free margin, risk.

All amounts are in the currency named; nothing here changes the account.
"""

from collections.abc import Iterator
from typing import NamedTuple

from crossmargin_bt.engine import formulas
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book, exposure
from crossmargin_bt.engine.modes import MODES


class Pool(NamedTuple):
    """Collateral that stands and falls together: a settle currency's shared pool, or one isolated leg."""

    name: str
    currency: str
    legs: tuple[tuple[str, str], ...]
    """The (symbol, side) of every leg it carries."""
    isolated: bool


class Risk(NamedTuple):
    """Collateral against requirement, in the settle currency."""

    collateral: float
    requirement: float

    @property
    def gap(self) -> float:
        """What is left above the requirement; at or below zero the pool is liquidated."""
        return self.collateral - self.requirement

    @property
    def margin_level(self) -> float:
        """Collateral over requirement: 1 is liquidation, infinity nothing required."""
        return self.collateral / self.requirement if self.requirement else float("inf")

    def ratio(self, direction: str) -> float:
        """Return the risk ratio the way up the venue prints it (see `Rules.ratio`)."""
        if direction == "collateral_over_requirement":
            return self.margin_level
        if self.collateral <= 0:
            return float("inf") if self.requirement else 0.0
        return self.requirement / self.collateral


def _books(account: Account, currency: str) -> Iterator[Book]:
    return (book for book in account.books.values() if book.instrument.settle == currency)


def cross_unrealised(account: Account, currency: str) -> float:
    """Return the floating profit of the shared pool's positions."""
    return sum(b.unrealised() for b in _books(account, currency) if b.legs and MODES[b.margin_mode].POOLED)


def isolated_margin(account: Account, currency: str) -> float:
    """Return the margin that isolated positions hold of their own, without their floating profit."""
    return sum(leg.margin for book in _books(account, currency) for leg in book.legs.values())


def equity(account: Account, currency: str) -> float:
    """Return balance + floating profit + isolated margins and their floating profit."""
    floating = sum(book.unrealised() for book in _books(account, currency) if book.legs)
    return account.balances[currency] + floating + isolated_margin(account, currency)


def in_use(account: Account, currency: str) -> float:
    """Return what positions and orders lock of the shared balance.

    Source: docs/sources.md#okx-free-margin (an isolated position's margin has already left it).
    """
    return sum(
        MODES[book.margin_mode].in_use(book, account.rules)
        for book in _books(account, currency)
        if book.legs or book.orders
    )


def margin_used(account: Account, currency: str) -> float:
    """Return everything locked: margin in use of the shared balance plus the isolated margins."""
    return in_use(account, currency) + isolated_margin(account, currency)


def free_margin(account: Account, currency: str) -> float:
    """Return what a new cross order may take."""
    unrealised = cross_unrealised(account, currency)
    return formulas.free_margin(account.balances[currency], unrealised, in_use(account, currency))


def headroom(account: Account, book: Book) -> float:
    """Return what orders of this book may still take, below zero when the account is overdrawn.

    Cross orders take free margin, isolated ones available balance; this is either before it is cut at zero.
    """
    currency = book.instrument.settle
    profit = cross_unrealised(account, currency)
    if not MODES[book.margin_mode].POOLED:
        profit = min(profit, 0.0)
    return formulas.headroom(account.balances[currency], profit, in_use(account, currency))


def available_balance(account: Account, currency: str) -> float:
    """Return what a new isolated order may take: floating profit does not count."""
    unrealised = cross_unrealised(account, currency)
    return formulas.available_balance(account.balances[currency], unrealised, in_use(account, currency))


def exposure_value(account: Account, currency: str) -> float:
    """Return the summed mark value of all legs, long and short added."""
    return sum(book.value(leg) for book in _books(account, currency) for leg in book.legs.values())


def pools(account: Account) -> list[Pool]:
    """Return every pool that has something at risk: the shared ones, then the isolated legs."""
    shared: dict[str, list[tuple[str, str]]] = {}
    alone: list[Pool] = []
    for symbol, book in account.books.items():
        if MODES[book.margin_mode].POOLED:
            if book.legs or book.orders:
                shared.setdefault(book.instrument.settle, []).extend((symbol, side) for side in book.legs)
        else:
            alone.extend(
                Pool(f"{symbol}:{side}", book.instrument.settle, ((symbol, side),), isolated=True) for side in book.legs
            )
    return [Pool(currency, currency, tuple(legs), isolated=False) for currency, legs in shared.items()] + alone


def risk(account: Account, pool: Pool, *, with_orders: bool = True) -> Risk:
    """Return the pool's collateral and requirement at the present marks.

    With `with_orders`, resting orders count where and as the venue counts them.
    """
    return _isolated_risk(account, pool) if pool.isolated else _shared_risk(account, pool, with_orders=with_orders)


def _isolated_risk(account: Account, pool: Pool) -> Risk:
    ((symbol, side),) = pool.legs
    book = account.books[symbol]
    position = book.legs[side]
    requirement = book.maintenance_of(abs(position.lots), book.mark_of(position.lots))
    if account.rules.closing_fee_in_requirement:
        requirement += formulas.fee(book.value(position), book.taker)
    return Risk(position.margin + book.profit(position), requirement)


def _shared_risk(account: Account, pool: Pool, *, with_orders: bool) -> Risk:
    collateral = account.balances[pool.currency] + cross_unrealised(account, pool.currency)
    requirement = 0.0
    for book in _books(account, pool.currency):
        if not MODES[book.margin_mode].POOLED or not (book.legs or book.orders):
            continue
        requirement += _book_requirement(account, book, with_orders=with_orders)
        if with_orders and book.orders and account.rules.order_fees_in_ratio:
            collateral -= _opening_fees(book)
    return Risk(collateral, requirement)


def _book_requirement(account: Account, book: Book, *, with_orders: bool) -> float:
    long, short = exposure(book, account.rules, with_orders=with_orders)
    how = account.rules.hedge_maintenance
    if how == "added":
        requirement = book.maintenance_of(long + short, book.long_mark)
    else:
        sides = (book.maintenance_of(long, book.long_mark), book.maintenance_of(short, book.short_mark))
        requirement = sum(sides) if how == "each" else max(sides)
    if account.rules.closing_fee_in_requirement:
        value = (long * book.long_mark + short * book.short_mark) * book.instrument.base_per_lot
        requirement += formulas.fee(value, book.taker)
    return requirement


def _opening_fees(book: Book) -> float:
    sides = ("long", "short") if book.hedged else ("net",)
    waiting = [book.pending(side) for side in sides]
    return formulas.fee(sum(w.same_value + w.opening_value for w in waiting), book.taker)


def bankruptcy_prices(account: Account, pool: Pool) -> dict[str, float]:
    """Return, per "symbol:side", the price at which the pool is used up by that leg alone, the others standing."""
    collateral = risk(account, pool, with_orders=False).collateral
    prices = {}
    for symbol, side in pool.legs:
        book = account.books[symbol]
        lots = book.legs[side].lots
        size = lots * book.instrument.base_per_lot
        prices[f"{symbol}:{side}"] = formulas.bankruptcy_price(size, book.mark_of(lots), collateral)
    return prices


def knots(account: Account, pool: Pool) -> list[tuple[str, int, float]]:
    """Return the (symbol, direction, mark) at which a maintenance rule of the pool bends or jumps."""
    found: list[tuple[str, int, float]] = []
    for symbol in dict.fromkeys(symbol for symbol, _ in pool.legs):
        book = account.books[symbol]
        quantities = _quantities(account, pool, symbol)
        for direction, lots in quantities:
            size = lots * book.instrument.base_per_lot
            found.extend((symbol, direction, bound / size) for bound in book.maintenance.knots)
    return found


def _quantities(account: Account, pool: Pool, symbol: str) -> list[tuple[int, int]]:
    book = account.books[symbol]
    if pool.isolated:
        ((_, side),) = pool.legs
        lots = book.legs[side].lots
        return [(1 if lots > 0 else -1, abs(lots))]
    long, short = exposure(book, account.rules, with_orders=True)
    if account.rules.hedge_maintenance == "added":
        return [(1, long + short)] if long + short else []
    return [(direction, lots) for direction, lots in ((1, long), (-1, short)) if lots]
