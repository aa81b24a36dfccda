# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trader reads off an account: equity, margin in use, free margin, risk.

All amounts are in the currency named; nothing here changes the account.
"""

from typing import NamedTuple

from crossmargin_bt.engine import formulas
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book, exposure
from crossmargin_bt.engine.modes import MODES
from crossmargin_bt.engine.position import Position

# Sums of rounded terms that are equal but for this part of them are equal.
TIE = 1e-12


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
    profit_pays_for: tuple[str, ...]
    """What floating profit may be used for, see `Rules`."""

    @property
    def equity(self) -> float:
        """Balance, floating profit and isolated margins."""
        return self.balance + self.cross_profit + self.isolated_profit + self.isolated_margin

    @property
    def margin_used(self) -> float:
        """Everything locked: in use of the shared balance, and the isolated margins."""
        return self.in_use + self.isolated_locked

    def profit_for(self, use: str) -> float:
        """Return the floating profit that counts for a use: losses always do, gains where the venue lets them."""
        return self.cross_profit if use in self.profit_pays_for else min(self.cross_profit, 0.0)

    @property
    def free_margin(self) -> float:
        """What a cross order may take."""
        return formulas.free_margin(self.balance, self.profit_for("cross_orders"), self.in_use)

    @property
    def available_balance(self) -> float:
        """What an isolated order may take."""
        return formulas.free_margin(self.balance, self.profit_for("isolated_orders"), self.in_use)

    @property
    def withdrawable(self) -> float:
        """What may be withdrawn."""
        return formulas.free_margin(self.balance, self.profit_for("withdrawals"), self.in_use)


def totals(account: Account, currency: str) -> Totals:
    """Return what the books of a currency add up to at the present marks."""
    cross_profit = isolated_profit = isolated_margin = isolated_locked = in_use = 0.0
    for book in account.books_of(currency):
        if not (book.legs or book.orders):
            continue
        mode = MODES[book.margin_mode]
        in_use += mode.in_use(book)
        if mode.POOLED:
            cross_profit += book.unrealised()
        elif book.legs:
            isolated_profit += book.unrealised()
            isolated_margin += sum(leg.margin for leg in book.legs.values())
            isolated_locked += sum(max(leg.margin, 0.0) for leg in book.legs.values())
    return Totals(
        account.balances[currency],
        cross_profit,
        isolated_profit,
        isolated_margin,
        isolated_locked,
        in_use,
        account.rules.profit_pays_for,
    )


def cross_profit(account: Account, currency: str) -> float:
    """Return the floating profit of the shared pool's positions."""
    return sum(b.unrealised() for b in account.books_of(currency) if b.legs and MODES[b.margin_mode].POOLED)


def headroom(account: Account, book: Book) -> float:
    """Return what orders of this book may still take, below zero when the account is overdrawn.

    Cross orders take free margin, isolated ones available balance; this is either before it is cut at zero.
    """
    total = totals(account, book.instrument.settle)
    use = "cross_orders" if MODES[book.margin_mode].POOLED else "isolated_orders"
    return formulas.headroom(total.balance, total.profit_for(use), total.in_use)


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
    if side not in book.legs:
        return Risk(0.0, 0.0)
    position = book.legs[side]
    _, margin, fee = isolated_requirement(book, position)
    return Risk(position.margin + book.profit(position), margin + fee)


def isolated_requirement(book: Book, position: Position) -> tuple[float, float, float]:
    """Return the price an isolated leg is valued at, its maintenance margin there, and the fee of closing that counts."""
    at_entry = book.rules.isolated_maintenance_price == "entry"
    price = position.entry if at_entry else book.mark_of(position.lots)
    return (
        price,
        book.maintenance_of(abs(position.lots), price),
        book.closing_fee_of(book.rules.isolated_closing_fee, position),
    )


def _shared_risk(account: Account, pool: Pool, *, with_orders: bool) -> Risk:
    collateral = account.balances[pool.currency] + cross_profit(account, pool.currency)
    requirement = 0.0
    for book in account.books_of(pool.currency):
        counts = with_orders and bool(book.orders)
        if not MODES[book.margin_mode].POOLED:
            if counts and account.rules.isolated_orders_in_ratio:
                collateral -= MODES[book.margin_mode].in_use(book)
            continue
        if book.legs or book.orders:
            requirement += book_requirement(book, with_orders=with_orders)
        if counts and (account.rules.order_fees_in_ratio or account.rules.order_loss_in_ratio):
            collateral -= orders_in_ratio(book)
    return Risk(collateral, requirement)


class Counted(NamedTuple):
    """One side of a book as maintenance counts it: its lots, the lots that pick its tier, and the price they are valued at."""

    direction: int
    lots: int
    tier_lots: int
    price: float


def counted(book: Book, *, with_orders: bool) -> list[Counted]:
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
            sides.append(Counted(direction, lots, tier, price))
    return sides


def _entry(book: Book, direction: int) -> float:
    return next((leg.entry for leg in book.legs.values() if leg.lots * direction > 0), 0.0)


def book_requirement(book: Book, *, with_orders: bool) -> float:
    """Return the maintenance margin of a cross book, with the fee of closing it where the venue counts that."""
    if len(book.legs) == 1 and not (with_orders and book.orders) and book.rules.maintenance_price == "mark":
        # A lone leg is its own tier, whatever the venue's answer.
        (leg,) = book.legs.values()
        margin = book.maintenance_of(abs(leg.lots), book.mark_of(leg.lots))
        return margin + book.closing_fee_of(book.rules.closing_fee_in_maintenance, leg)
    margins = [0.0]
    for _, lots, tier, price in counted(book, with_orders=with_orders):
        margins.append(book.maintenance_of(lots, price, tier))
    margin = sum(margins) if book.rules.hedge_maintenance == "sum" else max(margins)
    if book.rules.closing_fee_in_maintenance == "none":
        return margin
    return margin + closing_fees(book, with_orders=with_orders)


def closing_fees(book: Book, *, with_orders: bool) -> float:
    """Return the fees of closing a cross book that the venue counts in its requirement."""
    fees, how = 0.0, book.rules.closing_fee_in_maintenance
    for direction, lots, _, _ in counted(book, with_orders=with_orders) if how != "none" else ():
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
        if book.maintenance.knots:
            found.extend(
                (book.instrument.symbol, direction, book.instrument.price_of(lots, bound))
                for direction, lots in _tiered(account, pool, book, with_orders=with_orders)
                for bound in book.maintenance.knots
            )
    return found


def _tiered(account: Account, pool: Pool, book: Book, *, with_orders: bool) -> list[tuple[int, int]]:
    """Return the (direction, lots) whose value picks a tier as the mark moves."""
    if pool.isolated:
        ((_, side),) = pool.legs
        lots = book.legs[side].lots
        return [] if account.rules.isolated_maintenance_price == "entry" else [(1 if lots > 0 else -1, abs(lots))]
    if not MODES[book.margin_mode].POOLED or account.rules.maintenance_price == "entry":
        return []
    return [(c.direction, c.tier_lots) for c in counted(book, with_orders=with_orders) if c.tier_lots]
