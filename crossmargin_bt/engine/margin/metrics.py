# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trader reads off an account: equity, margin in use, free margin, risk.

All amounts are in the currency named; nothing here changes the account.
"""

from collections.abc import Sequence
from typing import NamedTuple

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.position import LegId
from crossmargin_bt.engine.margin import currencies, options, portfolio
from crossmargin_bt.engine.margin.modes import MODES, isolated
from crossmargin_bt.engine.math import formulas


class Pool(NamedTuple):
    """Collateral that is liquidated together: the shared pool of a settle currency, or one isolated leg."""

    name: str
    currency: str
    legs: tuple[LegId, ...]
    """Every leg it carries."""
    isolated: bool


class Risk(NamedTuple):
    """Collateral against requirement, in the pool's currency: what its instruments settle in, or the unit of an account of many."""

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


class PoolBalance(NamedTuple):
    """One shared pool of an account: its balance and what its books add up to, in the pool's currency."""

    balance: float
    """The shared balance, without the margin that isolated positions hold; of all currencies where they are pooled."""
    cross_profit: float
    """Floating profit of the shared pool's positions."""
    isolated_profit: float
    isolated_margin: float
    """Margin that isolated positions hold; a position's may be below zero, when funding paid exceeds it and its
    floating profit carries it."""
    isolated_locked: float
    """The same, counting what is above zero."""
    in_use: float
    """What positions, orders, debts and what was set aside lock of the shared balance. Source:
    docs/sources.md#okx-free-margin (an isolated position's margin has already left it)."""
    profit_pays_for: tuple[str, ...]
    """What floating profit may be used for, see `Rules`."""
    option_value: float = 0.0
    """What options held are worth, those sold short below zero: part of equity, not of the collateral."""
    options_count: bool = False
    """Whether that is part of the collateral after all, as in a portfolio account."""
    haircut: float = 0.0
    """By how much currencies count for less than they are worth, where they are pooled."""

    @property
    def equity(self) -> float:
        """Balance, floating profit, isolated margins and option value."""
        return self.balance + self.cross_profit + self.isolated_profit + self.isolated_margin + self.option_value

    @property
    def margin_used(self) -> float:
        """Everything locked: in use of the shared balance, and the isolated margins."""
        return self.in_use + self.isolated_locked

    def profit_for(self, use: str) -> float:
        """Return the floating profit that counts for a use: losses always do, gains where the venue lets them."""
        return self.cross_profit if use in self.profit_pays_for else min(self.cross_profit, 0.0)

    @property
    def collateral_value(self) -> float:
        """What the shared balance counts for: less haircuts, with options where they count."""
        return self.balance - self.haircut + (self.option_value if self.options_count else 0.0)

    def available_for(self, use: str) -> float:
        """Return what is left for a use; below zero when the account is overdrawn."""
        return formulas.available_margin(self.collateral_value, self.profit_for(use), self.in_use)

    @property
    def free_margin(self) -> float:
        """What a cross order may take."""
        return formulas.free_margin(self.collateral_value, self.profit_for("cross_orders"), self.in_use)

    @property
    def available_balance(self) -> float:
        """What an isolated order may take."""
        return formulas.free_margin(self.collateral_value, self.profit_for("isolated_orders"), self.in_use)

    @property
    def withdrawable(self) -> float:
        """What may be withdrawn."""
        return formulas.free_margin(self.collateral_value, self.profit_for("withdrawals"), self.in_use)


def pool_balance(account: Account, currency: str) -> PoolBalance:
    """Return what the books of a shared pool add up to at the present marks."""
    cross_profit = isolated_profit = isolated_margin = isolated_locked = in_use = option_value = 0.0
    for book in account.busy_books(currency):
        mode = MODES[book.margin_mode]
        rate = account.conversion_rate(book.instrument.settle) if account.pooled else 1.0
        if mode.POOLED:
            in_use += rate * mode.in_use(book) if not account.portfolio else 0.0
            if account.has_options:
                option_value += rate * mode.option_value(book)
            cross_profit += rate * book.unrealised()
        elif mode.ISOLATED:
            in_use += rate * mode.in_use(book)
            isolated_profit += rate * book.unrealised()
            isolated_margin += rate * sum(leg.margin for leg in book.legs.values())
            isolated_locked += rate * sum(max(leg.margin, 0.0) for leg in book.legs.values())
    if account.is_plain and not account.set_aside:
        return PoolBalance(
            account.balances.get(currency, 0.0), cross_profit, isolated_profit, isolated_margin, isolated_locked, in_use,
            account.rules.profit_pays_for,
        )  # fmt: skip
    if account.portfolio:
        in_use += sum(unit.initial for unit in portfolio.units(account, with_orders=True))
    elif account.has_options:
        in_use -= options.payoff_cap_reduction(account, currency, initial=True)
    haircut = 0.0
    if account.pooled:
        holdings = currencies.holdings(account)
        haircut = sum(one.value - one.collateral_value for one in holdings)
        in_use += sum(one.initial_margin for one in holdings)
    elif account.has_coins or account.set_aside:
        in_use += currencies.reserved(account, currency) + account.set_aside.get(currency, 0.0)
    return PoolBalance(
        account.balance(currency),
        cross_profit,
        isolated_profit,
        isolated_margin,
        isolated_locked,
        in_use,
        account.rules.profit_pays_for,
        option_value,
        account.options_count,
        haircut,
    )


def total_equity(account: Account) -> float:
    """Return what the whole account is worth, in its unit: every pool and every coin."""
    if account.pooled or len(account.balances) == 1:
        return sum(pool_balance(account, pool).equity for pool in dict.fromkeys(map(account.pool_of, account.balances)))
    return sum(pool_balance(account, currency).equity * account.price(currency) for currency in account.balances)


def total_margin_used(account: Account) -> float:
    """Return what is locked in all pools, in the account's unit."""
    pools = dict.fromkeys(map(account.pool_of, account.balances))
    return sum(
        pool_balance(account, pool).margin_used * (1.0 if account.pooled else account.price(pool)) for pool in pools
    )


def cross_profit(account: Account, currency: str) -> float:
    """Return the floating profit of the shared pool's positions."""
    return _profit_of(account, account.busy_books(currency))


def _profit_of(account: Account, books: Sequence[Book]) -> float:
    total = 0.0
    for book in books:
        if book.legs and MODES[book.margin_mode].POOLED:
            profit = book.unrealised()
            total += account.conversion_rate(book.instrument.settle) * profit if account.pooled else profit
    return total


def available_margin(account: Account, book: Book, *, pays: bool = False) -> float:
    """Return what orders of this book may still take, in its pool's currency; below zero when the account is overdrawn.

    Cross orders take free margin; isolated ones, coins and what `pays` a premium take available balance. This is either
    before it is cut at zero.
    """
    use = "isolated_orders" if pays else MODES[book.margin_mode].ORDER_USE
    return pool_balance(account, account.pool_of(book.instrument.settle)).available_for(use)


def exposure_value(account: Account, currency: str) -> float:
    """Return the summed mark value of all legs of a shared pool, long and short added; coins are no positions."""
    return sum(
        account.conversion_rate(book.instrument.settle) * book.value(leg)
        for book in account.books_of(currency)
        if not book.is_fully_funded
        for leg in book.legs.values()
    )


def cross_notional(account: Account, pool: str) -> float:
    """Return the summed mark value of the cross positions of a shared pool, in its currency."""
    return sum(
        account.conversion_rate(book.instrument.settle) * book.value(leg)
        for book in account.busy_books(pool)
        if MODES[book.margin_mode].POOLED and not book.is_fully_funded
        for leg in book.legs.values()
    )


def account_exposure(account: Account) -> float:
    """Return the summed mark value of all positions of an account, in its unit."""
    shared = dict.fromkeys(map(account.pool_of, account.balances))
    return sum(exposure_value(account, pool) * (1.0 if account.pooled else account.price(pool)) for pool in shared)


def pools(account: Account) -> list[Pool]:
    """Return every pool that has something at risk: the shared ones, then the isolated legs."""
    shared: dict[str, list[LegId]] = {}
    alone: list[Pool] = []
    for symbol, book in account.books.items():
        mode = MODES[book.margin_mode]
        if mode.POOLED:
            if book.legs or (book.orders and account.rules.orders_in_maintenance != "none"):
                pool = account.pool_of(book.instrument.settle)
                shared.setdefault(pool, []).extend(LegId(symbol, side) for side in book.legs)
        elif mode.ISOLATED:
            for side in book.legs:
                leg = LegId(symbol, side)
                alone.append(Pool(str(leg), book.instrument.settle, (leg,), isolated=True))
    if account.pooled and account.valuation.unit not in shared and currencies.is_in_debt(account):
        shared[account.valuation.unit] = []
    return [Pool(currency, currency, tuple(legs), isolated=False) for currency, legs in shared.items()] + alone


def risk(account: Account, pool: Pool, *, with_orders: bool = True) -> Risk:
    """Return the pool's collateral and requirement at the present marks.

    With `with_orders`, resting orders count where and as the venue counts them.
    """
    if pool.isolated:
        return _isolated_risk(account, pool)
    books = account.busy_books(pool.currency)
    required = _shared_requirement(account, pool, books, with_orders=with_orders)
    return Risk(_shared_collateral(account, pool, books, with_orders=with_orders), required)


def collateral(account: Account, pool: Pool, *, with_orders: bool = True) -> float:
    """Return the collateral of `risk` alone."""
    if pool.isolated:
        return _isolated_risk(account, pool).collateral
    return _shared_collateral(account, pool, account.busy_books(pool.currency), with_orders=with_orders)


def required(account: Account, pool: Pool, *, with_orders: bool = True) -> float:
    """Return the requirement of `risk` alone."""
    if pool.isolated:
        return _isolated_risk(account, pool).requirement
    return _shared_requirement(account, pool, account.busy_books(pool.currency), with_orders=with_orders)


def _isolated_risk(account: Account, pool: Pool) -> Risk:
    ((symbol, side),) = pool.legs
    book = account.books[symbol]
    if side not in book.legs:
        return Risk(0.0, 0.0)
    position = book.legs[side]
    required = isolated.leg_requirement(book, position)
    return Risk(position.margin + book.profit(position), required.margin + required.closing_fee)


def _shared_collateral(account: Account, pool: Pool, books: Sequence[Book], *, with_orders: bool) -> float:
    if account.pooled:
        total = sum(one.collateral_value for one in currencies.holdings(account))
    else:
        total = account.balances[pool.currency] + _profit_of(account, books)
        if account.options_count:
            total += sum(MODES[book.margin_mode].option_value(book) for book in books)
    if with_orders and account.rules.orders_lower_collateral:
        for book in books:
            total -= account.conversion_rate(book.instrument.settle) * orders_against_collateral(account, book)
    if not account.pooled and with_orders and account.has_coins and account.rules.isolated_orders_in_ratio:
        total -= currencies.reserved_coins(account, pool.currency)
    return total


def _shared_requirement(account: Account, pool: Pool, books: Sequence[Book], *, with_orders: bool) -> float:
    total = sum(one.maintenance_margin for one in currencies.holdings(account)) if account.pooled else 0.0
    if account.portfolio:
        return total + sum(unit.maintenance for unit in portfolio.units(account, with_orders=with_orders))
    for book in books:
        mode = MODES[book.margin_mode]
        if mode.POOLED:
            required = mode.maintenance_margin(book, with_orders=with_orders)
            total += account.conversion_rate(book.instrument.settle) * required if account.pooled else required
    if account.has_options:
        total -= options.payoff_cap_reduction(account, pool.currency, initial=False)
    return total


def orders_against_collateral(account: Account, book: Book) -> float:
    """Return what resting orders of a book take from the collateral; coins reserved in a pool of many count as debt instead."""
    mode = MODES[book.margin_mode]
    if not book.orders or (account.pooled and book.is_fully_funded and not mode.POOLED):
        return 0.0
    return mode.orders_against_collateral(book)


def fee_set_aside(account: Account, pool: Pool) -> float:
    """Return the closing fee that the margin of an isolated leg includes, 0 for a shared pool."""
    if not pool.isolated:
        return 0.0
    ((symbol, side),) = pool.legs
    book = account.books[symbol]
    return isolated.fee_set_aside(book, book.leg(side))


def bankruptcy_prices(account: Account, pool: Pool) -> dict[str, float]:
    """Return, by symbol:side, the price at which that leg alone uses the pool's collateral up, all other marks unchanged.

    A closing fee set aside in an isolated margin is not used up.
    """
    there_is = collateral(account, pool, with_orders=False) - fee_set_aside(account, pool)
    prices = {}
    for symbol, side in pool.legs:
        book = account.books[symbol]
        lots = book.legs[side].lots
        there = there_is if pool.isolated else there_is / account.conversion_rate(book.instrument.settle)
        prices[str(LegId(symbol, side))] = book.instrument.bankruptcy_price(
            lots, book.mark_of(lots), there, entry=book.legs[side].entry
        )
    return prices


def breakpoints(account: Account, pool: Pool, *, with_orders: bool = True) -> list[tuple[str, int, float]]:
    """Return the (symbol, direction, mark) at which a maintenance rate of the pool changes: a tier's bound, or a jump."""
    if pool.isolated:
        ((symbol, side),) = pool.legs
        book = account.books[symbol]
        return [(symbol, *found) for found in isolated.leg_breakpoints(book, book.legs[side])]
    return [
        (book.instrument.symbol, *found)
        for book in account.books_of(pool.currency)
        if book.maintenance.breakpoints
        for found in MODES[book.margin_mode].breakpoints(book, with_orders=with_orders)
    ]
