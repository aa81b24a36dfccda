# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trader reads off an account: equity, margin in use, free margin, risk.

All amounts are in the currency named; nothing here changes the account.
"""

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


class Totals(NamedTuple):
    """One settle currency of an account: its balance and what its books add up to."""

    balance: float
    """The shared balance, without the margin that isolated positions hold."""
    cross_profit: float
    """Floating profit of the shared pool's positions."""
    isolated_profit: float
    isolated_margin: float
    """Margin that isolated positions hold; a position's may be below zero, when funding paid exceeds it and its
    floating profit carries it."""
    isolated_locked: float
    """The same, counting what is above zero."""
    in_use: float
    """What positions and orders lock of the shared balance. Source: docs/sources.md#okx-free-margin
    (an isolated position's margin has already left it)."""

    @property
    def equity(self) -> float:
        """Balance, floating profit and isolated margins."""
        return self.balance + self.cross_profit + self.isolated_profit + self.isolated_margin

    @property
    def margin_used(self) -> float:
        """Everything locked: in use of the shared balance, and the isolated margins."""
        return self.in_use + self.isolated_locked

    @property
    def free_margin(self) -> float:
        """What a new cross order may take."""
        return formulas.free_margin(self.balance, self.cross_profit, self.in_use)

    @property
    def available_balance(self) -> float:
        """What a new isolated order may take: floating profit does not count."""
        return formulas.available_balance(self.balance, self.cross_profit, self.in_use)


def totals(account: Account, currency: str) -> Totals:
    """Return what the books of a currency add up to at the present marks."""
    cross_profit = isolated_profit = isolated_margin = isolated_locked = in_use = 0.0
    for book in account.books_of(currency):
        if not (book.legs or book.orders):
            continue
        mode = MODES[book.margin_mode]
        in_use += mode.in_use(book, account.rules)
        if mode.POOLED:
            cross_profit += book.unrealised()
        elif book.legs:
            isolated_profit += book.unrealised()
            isolated_margin += sum(leg.margin for leg in book.legs.values())
            isolated_locked += sum(max(leg.margin, 0.0) for leg in book.legs.values())
    return Totals(account.balances[currency], cross_profit, isolated_profit, isolated_margin, isolated_locked, in_use)


def cross_profit(account: Account, currency: str) -> float:
    """Return the floating profit of the shared pool's positions."""
    return sum(b.unrealised() for b in account.books_of(currency) if b.legs and MODES[b.margin_mode].POOLED)


def headroom(account: Account, book: Book) -> float:
    """Return what orders of this book may still take, below zero when the account is overdrawn.

    Cross orders take free margin, isolated ones available balance; this is either before it is cut at zero.
    """
    total = totals(account, book.instrument.settle)
    profit = total.cross_profit if MODES[book.margin_mode].POOLED else min(total.cross_profit, 0.0)
    return formulas.headroom(total.balance, profit, total.in_use)


def exposure_value(account: Account, currency: str) -> float:
    """Return the summed mark value of all legs, long and short added."""
    return sum(book.value(leg) for book in account.books_of(currency) for leg in book.legs.values())


def pools(account: Account) -> list[Pool]:
    """Return every pool that has something at risk: the shared ones, then the isolated legs."""
    shared: dict[str, list[tuple[str, str]]] = {}
    alone: list[Pool] = []
    for symbol, book in account.books.items():
        if MODES[book.margin_mode].POOLED:
            if book.legs or (book.orders and account.rules.orders_in_maintenance != "none"):
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
    at_entry = account.rules.isolated_maintenance == "entry"
    price = position.entry if at_entry else book.mark_of(position.lots)
    requirement = book.maintenance_of(abs(position.lots), price)
    if account.rules.closing_fee_in_requirement:
        requirement += formulas.fee(book.value(position), book.taker)
    return Risk(position.margin + book.profit(position), requirement)


def _shared_risk(account: Account, pool: Pool, *, with_orders: bool) -> Risk:
    collateral = account.balances[pool.currency] + cross_profit(account, pool.currency)
    requirement = 0.0
    for book in account.books_of(pool.currency):
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
        value = book.instrument.value(long, book.long_mark) + book.instrument.value(short, book.short_mark)
        requirement += formulas.fee(value, book.taker)
    return requirement


def _opening_fees(book: Book) -> float:
    waiting = [book.pending(side, immediate=False) for side in book.sides]
    return formulas.fee(sum(w.same_value + w.opening_value for w in waiting), book.taker)


def bankruptcy_prices(account: Account, pool: Pool) -> dict[str, float]:
    """Return, per "symbol:side", the price at which the pool is used up by that leg alone, the others standing."""
    collateral = risk(account, pool, with_orders=False).collateral
    prices = {}
    for symbol, side in pool.legs:
        book = account.books[symbol]
        lots = book.legs[side].lots
        prices[f"{symbol}:{side}"] = book.instrument.bankruptcy_price(lots, book.mark_of(lots), collateral)
    return prices


def knots(account: Account, pool: Pool, *, with_orders: bool = True) -> list[tuple[str, int, float]]:
    """Return the (symbol, direction, mark) at which a maintenance rule of the pool bends or jumps."""
    found: list[tuple[str, int, float]] = []
    books = [account.books[pool.legs[0][0]]] if pool.isolated else account.books_of(pool.currency)
    for book in books:
        for direction, lots in (
            _quantities(account, pool, book, with_orders=with_orders) if book.maintenance.knots else ()
        ):
            found.extend(
                (book.instrument.symbol, direction, book.instrument.price_of(lots, bound))
                for bound in book.maintenance.knots
            )
    return found


def _quantities(account: Account, pool: Pool, book: Book, *, with_orders: bool) -> list[tuple[int, int]]:
    if pool.isolated:
        ((_, side),) = pool.legs
        lots = book.legs[side].lots
        return [(1 if lots > 0 else -1, abs(lots))]
    if not MODES[book.margin_mode].POOLED:
        return []
    long, short = exposure(book, account.rules, with_orders=with_orders)
    if account.rules.hedge_maintenance == "added":
        return [(1, long + short)] if long + short else []
    return [(direction, lots) for direction, lots in ((1, long), (-1, short)) if lots]
