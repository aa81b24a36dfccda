# SPDX-License-Identifier: GPL-3.0-or-later
"""A second model of a margin account, written from docs/concepts.md and the rule books, in exact fractions.

It shares no code with the engine: it reads a venue's rules and an instrument's terms as data and computes every figure again,
slowly. Facts that the path of a bar and backtrader's matching decide (which order fills, when, at which price) are taken from
the journal; every amount and every decision is the model's own. Not modelled: currencies, spot, options, margin
pairs, portfolio margin, guards, reserves.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from fractions import Fraction as F  # noqa: N817 - a number is written F(x) in every line
from typing import Any

ZERO, ONE = F(0), F(1)
ROUNDING = F(1, 10**12)
"""The part of an amount by which floats may miss a bound that they aim at."""


# --- contracts and rates ---------------------------------------------------------------------------------------------


def value(instrument: Any, lots: int, price: F) -> F:
    """Return the unsigned value of lots in the settle currency."""
    size = abs(lots) * F(instrument.lot) * F(instrument.contract_size)
    return size / price if instrument.inverse else size * price


def quantity(instrument: Any, lots: int, price: F) -> F:
    """Return the unsigned quantity of lots in base coins."""
    size = abs(lots) * F(instrument.lot) * F(instrument.contract_size)
    return size / price if instrument.inverse else size


def profit(instrument: Any, lots: int, entry: F, price: F) -> F:
    """Return the profit of signed lots between two prices: q (P - E), of an inverse contract q (1/E - 1/P)."""
    size = lots * F(instrument.lot) * F(instrument.contract_size)
    return size * (1 / entry - 1 / price) if instrument.inverse else size * (price - entry)


def tier_of(rule: Any, amount: F) -> int:
    """Return the index of the tier that contains an amount; lower bounds are inclusive, and reached within rounding."""
    return max(n for n, tier in enumerate(rule.tiers) if F(tier.notional_min) <= amount * (1 + ROUNDING))


def tier_rate(rule: Any, number: int) -> F:
    """Return the maintenance rate of a tier: its own, or a share of the initial margin at its maximum leverage."""
    tier = rule.tiers[number]
    if hasattr(tier, "maintenance_rate"):
        return F(tier.maintenance_rate)
    return F(rule.share) / F(tier.leverage_max)


def is_table(rule: Any) -> bool:
    """Whether a rule is a table of tiers."""
    return hasattr(rule, "tiers")


def deduction(rule: Any, number: int) -> F:
    """Return what a marginal table deducts from value x rate: cum_n = cum_(n-1) + floor_n (rate_n - rate_(n-1))."""
    steps = range(1, number + 1) if rule.marginal else ()
    return sum((F(rule.tiers[n].notional_min) * (tier_rate(rule, n) - tier_rate(rule, n - 1)) for n in steps), ZERO)


def power_rate(rule: Any, amount: F, size: F) -> F:
    """Return the rate of a power rule: max(base, factor x measure ^ exponent)."""
    measure = amount if rule.measure == "value" else size
    return max(F(rule.base), F(rule.factor * float(measure) ** rule.exponent))


def size_rate(rule: Any, size: F) -> F:
    """Return KuCoin's rate: min(cap, (1 + N/m) / (2 c))."""
    return min(F(rule.cap), (1 + size / F(rule.doubling)) / (2 * F(rule.leverage_constant)))


def maintenance(rule: Any, amount: F, size: F, exposure: F | None = None) -> F:
    """Return the maintenance margin of a value; `exposure` selects the tier where it is not the value itself."""
    if is_table(rule):
        whole = amount if exposure is None else exposure
        tier = tier_of(rule, whole)
        return amount * (tier_rate(rule, tier) - deduction(rule, tier) / whole)
    if hasattr(rule, "slope"):
        return amount * (F(rule.maintenance) + F(rule.slope) * size)
    return amount * (size_rate(rule, size) if hasattr(rule, "doubling") else power_rate(rule, amount, size))


def floor_rate(rule: Any, amount: F, size: F) -> F:
    """Return the lowest initial rate that the rule allows at a value."""
    if is_table(rule):
        highest = rule.tiers[tier_of(rule, amount)].leverage_max
        return 1 / F(highest) if highest and math.isfinite(highest) else ZERO
    if hasattr(rule, "slope"):
        return F(rule.initial) + F(rule.slope) * size
    rate = size_rate(rule, size) if hasattr(rule, "doubling") else power_rate(rule, amount, size)
    return F(rule.initial_factor) * rate


# --- state -------------------------------------------------------------------------------------------------------------


@dataclass
class Leg:
    """A position: signed lots, average entry, and the margin of its own if it is isolated."""

    lots: int = 0
    entry: F = ZERO
    margin: F = ZERO


@dataclass
class Order:
    """An order that was admitted; `lots` are signed."""

    number: int
    side: str
    lots: int
    price: F
    reduce_only: bool = False
    group: int | None = None
    immediate: bool = False
    fresh: bool = True


@dataclass
class Book:
    """A contract: its settings, its legs, its orders and its prices."""

    instrument: Any
    rules: Any
    rates: dict[str, Any]
    own_rates: bool
    legs: dict[str, Leg]
    mode: str = "cross"
    leverage: F = F(10)
    orders: dict[int, Order] = field(default_factory=dict)
    marks: dict[str, F] = field(default_factory=dict)
    last: F = ZERO
    next_rules: Any = None

    def is_held(self) -> bool:
        """Whether a position is open."""
        return any(leg.lots for leg in self.legs.values())

    def adopt(self) -> None:
        """Take over the rules that wait for the position to be closed."""
        if self.next_rules is not None and not self.own_rates:
            self.rates = {mode: self.next_rules.maintenance if rate == self.rules.maintenance else rate for mode, rate in self.rates.items()}
        self.rules, self.next_rules = self.next_rules or self.rules, None

    def fee_rate(self, maker: bool) -> F:
        """Return the instrument's fee rate, or the venue's."""
        own, venue = (self.instrument.maker, self.rules.maker) if maker else (self.instrument.taker, self.rules.taker)
        return F(venue if own is None else own)

    @property
    def rule(self) -> Any:
        """The maintenance rule of the margin mode in force."""
        return self.rates[self.mode]

    def mark(self, side: str) -> F:
        """Return the mark that values a leg."""
        return self.marks[side]

    def value(self, lots: int, price: F) -> F:
        """Return the unsigned value of lots."""
        return value(self.instrument, lots, price)

    def initial_rate(self, amount: F, size: F) -> F:
        """Return the initial rate at a value: 1 / leverage, or what the rule demands at least."""
        if is_table(self.rule) and self.rules.tier_leverage_breach == "refuse":
            return 1 / self.leverage
        return max(1 / self.leverage, floor_rate(self.rule, amount, size))

    def profit(self, side: str) -> F:
        """Return the unrealised profit of a leg at its mark."""
        leg = self.legs[side]
        return profit(self.instrument, leg.lots, leg.entry, self.mark(side)) if leg.lots else ZERO

    def shown(self, side: str) -> list[Order]:
        """Return the orders of a leg that may lock margin: reduce-only orders lock nothing, market orders do not rest."""
        return [one for one in self.orders.values() if one.side == side and not one.reduce_only and not one.immediate]


@dataclass
class Account:
    """The balance of one settle currency, and the books that share it."""

    rules: Any
    books: dict[str, Book]
    balance: F = ZERO
    bad_debt: F = ZERO
    fees: F = ZERO
    funding: F = ZERO

    # --- totals

    def cross(self) -> list[Book]:
        """Return the books in cross mode."""
        return [book for book in self.books.values() if book.mode == "cross"]

    def cross_profit(self) -> F:
        """Return the unrealised profit of all cross positions."""
        return sum((book.profit(side) for book in self.cross() for side in book.legs), ZERO)

    def isolated_margin(self) -> F:
        """Return the margin that isolated positions hold."""
        return sum((leg.margin for book in self.books.values() for leg in book.legs.values()), ZERO)

    def equity(self) -> F:
        """Return balance + unrealised profit + isolated margins."""
        gains = (book.profit(side) for book in self.books.values() for side in book.legs)
        return self.balance + self.isolated_margin() + sum(gains, ZERO)

    def in_use(self) -> F:
        """Return the margin of cross positions, cross orders and isolated orders."""
        return sum((in_use(book) for book in self.books.values()), ZERO)

    def free_margin(self) -> F:
        """Return what is available for a new cross order."""
        return max(ZERO, self.balance + self.cross_profit() - self.in_use())

    def available(self, mode: str) -> F:
        """Return what is available for an order in a margin mode; gains pay for isolated orders only where the venue says so."""
        gains = self.cross_profit()
        if mode == "isolated" and "isolated_orders" not in self.rules.profit_pays_for:
            gains = min(ZERO, gains)
        return max(ZERO, self.balance + gains - self.in_use())

    # --- risk

    def pools(self) -> list[str]:
        """Return the pools with a position: the shared one, then isolated legs as symbol:side."""
        shared = ["USDT"] if self.requirement("USDT") else []
        alone = [
            f"{symbol}:{side}"
            for symbol, book in self.books.items()
            for side, leg in book.legs.items()
            if leg.lots and book.mode == "isolated"
        ]
        return shared + alone

    def collateral(self, pool: str) -> F:
        """Return the collateral of a pool, as its risk ratio counts it."""
        symbol, _, side = pool.partition(":")
        if side:
            book = self.books[symbol]
            return book.legs[side].margin + book.profit(side)
        amount = self.balance + self.cross_profit()
        for book in self.books.values():
            if book.mode == "isolated":
                amount -= in_use(book) if self.rules.isolated_orders_in_ratio else ZERO
                continue
            for side in book.legs:
                opening = opening_parts(book, side)
                if self.rules.order_fees_in_ratio:
                    amount -= sum((opening_fee(book, one, lots) for one, lots in opening), ZERO)
                if self.rules.order_loss_in_ratio:
                    amount -= sum((open_loss(book, one, lots) for one, lots in opening), ZERO)
        return amount

    def requirement(self, pool: str) -> F:
        """Return what a pool must hold: maintenance margin, closing fees, and orders if the venue counts them."""
        symbol, _, side = pool.partition(":")
        if side:
            return isolated_requirement(self.books[symbol], side)
        return sum((book_requirement(book) for book in self.cross()), ZERO)

    def level(self) -> F | None:
        """Return the lowest margin level of all pools, None if nothing is required."""
        levels = [self.collateral(pool) / self.requirement(pool) for pool in self.pools() if self.requirement(pool)]
        return min(levels, default=None)


# --- orders ------------------------------------------------------------------------------------------------------------


def order_price(book: Book, order: Order) -> F:
    """Return the price at which an order is valued: its own, of a sell at least the mark and the last price with a markup."""
    markup = book.rules.sell_order_markup
    if order.lots > 0 or markup is None:
        return order.price
    return max(order.price, book.mark(order.side), book.last * (1 + F(markup)))


def opening_fee(book: Book, order: Order, lots: int) -> F:
    """Return the fee of opening, as taker, at the order's price."""
    return book.value(lots, order.price) * book.fee_rate(maker=False)


def open_loss(book: Book, order: Order, lots: int) -> F:
    """Return the loss against the mark at an immediate fill at the order's price."""
    signed = int(math.copysign(lots, order.lots))
    return max(ZERO, -profit(book.instrument, signed, order.price, book.mark(order.side)))


def bankruptcy_fee(book: Book, amount: F, direction: int) -> F:
    """Return the closing fee where 1 / leverage is lost: V (1 - d/L) f, of an inverse contract V (1 + d/L) f."""
    loss = direction / book.leverage
    moved = 1 + loss if book.instrument.inverse else 1 - loss
    return amount * moved * book.fee_rate(maker=False)


def split_orders(book: Book, side: str) -> tuple[list[tuple[Order, int]], list[tuple[Order, int]]]:
    """Return buys and sells of a leg with the lots of each that open, opposite orders nearest to the market matched first."""
    held = book.legs[side].lots
    buys = [one for one in book.shown(side) if one.lots > 0 and side != "short"]
    sells = [one for one in book.shown(side) if one.lots < 0 and side != "long"]
    buys.sort(key=lambda one: (-one.price, one.number))
    sells.sort(key=lambda one: (one.price, one.number))

    def opened(orders: list[Order], closable: int) -> list[tuple[Order, int]]:
        parts = []
        for one in orders:
            closing = min(closable, abs(one.lots))
            closable -= closing
            parts.append((one, abs(one.lots) - closing))
        return parts

    return opened(buys, max(0, -held)), opened(sells, max(0, held))


def opening_parts(book: Book, side: str) -> list[tuple[Order, int]]:
    """Return the orders of a leg that open, with the lots that do."""
    buys, sells = split_orders(book, side)
    return [(one, lots) for one, lots in buys + sells if lots]


# --- initial margin ----------------------------------------------------------------------------------------------------


def position_price(book: Book, side: str) -> F:
    """Return the price at which the initial margin of a cross position is computed."""
    by = book.rules.initial_price
    return book.legs[side].entry if by == "entry" else book.last if by == "last" else book.mark(side)


def total(book: Book, parts: list[tuple[Order, int]]) -> F:
    """Return the value of orders at the prices they are valued at."""
    return sum((book.value(lots, order_price(book, one)) for one, lots in parts), ZERO)


def base_size(book: Book, lots: int, side: str) -> F:
    """Return lots in base coins, at the mark."""
    return quantity(book.instrument, lots, book.mark(side))


def in_use(book: Book) -> F:
    """Return the margin in use of a book."""
    if book.mode == "isolated":
        return sum((isolated_order_margin(book, side) for side in book.legs), ZERO)
    sides = [cross_in_use(book, side) for side in book.legs]
    return max(sides) if book.rules.hedge_margin == "larger" else sum(sides, ZERO)


def closing_fee(book: Book, side: str, lots: int, by: str) -> F:
    """Return the closing fee of a position at a price the rules name."""
    leg = book.legs[side]
    if by == "none" or not lots:
        return ZERO
    if by == "mark":
        return book.value(lots, book.mark(side)) * book.fee_rate(maker=False)
    amount = book.value(lots, leg.entry)
    if by == "entry":
        return amount * book.fee_rate(maker=False)
    return bankruptcy_fee(book, amount, 1 if lots > 0 else -1)


def cross_in_use(book: Book, side: str) -> F:
    """Return the margin in use of one leg and its orders, by the venue's offset."""
    leg, rules = book.legs[side], book.rules
    buys, sells = split_orders(book, side)
    held = book.value(leg.lots, position_price(book, side)) if leg.lots else ZERO
    offset = OFFSETS[rules.order_offset]
    amount = offset(book, side, held, buys, sells)
    opening = [(one, lots) for one, lots in buys + sells if lots]
    if rules.order_fees_reserved:
        amount += sum((opening_fee(book, one, lots) for one, lots in opening), ZERO)
    if rules.order_loss_reserved:
        amount += sum((open_loss(book, one, lots) for one, lots in opening), ZERO)
    return amount


def rate_of(book: Book, side: str, lots: int) -> F:
    """Return the initial rate of lots: the tier is that of their value at the mark, in cross mode of both legs if they are added."""
    if book.mode == "cross" and book.rules.tier_exposure in ("added", "larger"):
        others = [largest_size(book, one) for one in book.legs if one != side]
        lots = sum([lots, *others]) if book.rules.tier_exposure == "added" else max([lots, *others])
    return book.initial_rate(book.value(lots, book.mark(side)), base_size(book, lots, side))


def largest_size(book: Book, side: str) -> int:
    """Return the largest position that fills can produce: max(abs(P + B), abs(P - S))."""
    held = book.legs[side].lots
    buys, sells = split_orders(book, side)
    return max(abs(held + sum(one.lots for one, _ in buys)), abs(held + sum(one.lots for one, _ in sells)))


def sum_offset(book: Book, side: str, held: F, buys: list, sells: list) -> F:
    """Position + same-side orders + opposite orders beyond the quantity that closes."""
    return (held + total(book, buys + sells)) * rate_of(book, side, largest_size(book, side))


def larger_side_offset(book: Book, side: str, held: F, buys: list, sells: list) -> F:
    """max(position + same-side orders, opposite orders that open)."""
    same, opposite = (buys, sells) if book.legs[side].lots >= 0 else (sells, buys)
    return max(held + total(book, same), total(book, opposite)) * rate_of(book, side, largest_size(book, side))


def net_offset(book: Book, side: str, held: F, buys: list, sells: list) -> F:
    """max(abs(P + B), abs(P - S)) at the mark, with the closing fee of that size."""
    del held
    lots = book.legs[side].lots
    up = lots + sum(one.lots for one, _ in buys)
    down = lots + sum(one.lots for one, _ in sells)
    largest = max(abs(up), abs(down))
    amount = book.value(largest, book.mark(side))
    if side != "net":  # A leg of a hedge has nothing to offset: its orders count at their own prices.
        amount = book.value(lots, book.mark(side)) + total(book, buys + sells)
    margin = amount * rate_of(book, side, largest)
    return margin + (amount * book.fee_rate(maker=False) if book.rules.closing_fee_reserved == "mark" else ZERO)


def net_value_offset(book: Book, side: str, held: F, buys: list, sells: list) -> F:
    """The same in value, orders at their own prices, with the closing fee of what each side would hold."""
    leg = book.legs[side]
    sign = 1 if leg.lots >= 0 else -1
    at_entry = sign * book.value(leg.lots, leg.entry) if leg.lots else ZERO
    margins = []
    for parts, direction in ((buys, 1), (sells, -1)):
        ordered = direction * total(book, [(one, abs(one.lots)) for one, _ in parts])
        rate = rate_of(book, side, abs(leg.lots + sum(one.lots for one, _ in parts)))
        worth, fee = at_entry + ordered, ZERO
        if book.rules.closing_fee_reserved == "bankruptcy":
            fee = bankruptcy_fee(book, abs(worth), 1 if worth > 0 else -1)
        margins.append((abs(sign * held + ordered) * rate, fee))
    return sum(max(margins, key=lambda one: one[0]))


OFFSETS = {"sum": sum_offset, "larger_side": larger_side_offset, "net": net_offset, "net_value": net_value_offset}


def isolated_order_margin(book: Book, side: str) -> F:
    """Return what isolated orders lock: the full margin and fees of the lots that open."""
    leg, rules, amount = book.legs[side], book.rules, ZERO
    buys, sells = split_orders(book, side)
    for direction, parts in ((1, buys), (-1, sells)):
        lots = sum(lots for _, lots in parts)
        if not lots:
            continue
        held = abs(leg.lots) if leg.lots * direction > 0 else 0
        worth = total(book, parts)
        rate = rate_of(book, side, lots + held)
        amount += worth * rate
        for one, opened in parts:
            amount += book.value(opened, order_price(book, one)) * book.fee_rate(maker=False)
            if rules.order_loss_reserved:
                amount += open_loss(book, one, opened)
        by = rules.isolated_fee_in_margin if rules.isolated_fee_in_margin != "none" else rules.closing_fee_reserved
        if by == "bankruptcy":
            amount += bankruptcy_fee(book, worth, direction)
        elif by != "none":
            amount += worth * book.fee_rate(maker=False)
    return amount


# --- maintenance margin ------------------------------------------------------------------------------------------------


def maintenance_parts(book: Book, side: str) -> int:
    """Return the lots of a leg that keep maintenance margin: the position, and orders if the venue counts them."""
    lots, by = book.legs[side].lots, book.rules.orders_in_maintenance
    buys, sells = split_orders(book, side)
    bought, sold = sum(one.lots for one, _ in buys), -sum(one.lots for one, _ in sells)
    if by == "none":
        return abs(lots)
    if by == "sum":
        return abs(lots) + bought + sold
    if by == "opening":
        return abs(lots) + sum(part for _, part in buys + sells)
    if by == "net":
        return max(abs(lots + bought), abs(lots - sold))
    same, opposite = (bought, sold) if lots >= 0 else (sold, bought)
    return max(abs(lots) + same, opposite)


def exposure(book: Book, side: str) -> int:
    """Return the lots whose value selects the tier of a leg."""
    def lots_of(one: str) -> int:
        held = book.legs[one].lots
        orders = book.shown(one) if book.rules.orders_in_tier else []
        return abs(held) + sum(abs(order.lots) for order in orders if order.lots * held > 0)

    by = book.rules.tier_exposure
    if by == "each":
        return lots_of(side)
    amounts = [lots_of(one) for one in book.legs]
    if by == "net":
        return abs(sum(leg.lots for leg in book.legs.values()))
    return sum(amounts) if by == "added" else max(amounts)


def leg_requirement(book: Book, side: str) -> tuple[F, F]:
    """Return maintenance margin and closing fee of a cross leg."""
    lots, leg, rules = maintenance_parts(book, side), book.legs[side], book.rules
    if not lots:
        return ZERO, ZERO
    price = leg.entry if rules.maintenance_price == "entry" and leg.lots else book.mark(side)
    amount = book.value(lots, price)
    tier = max(exposure(book, side), lots)
    kept = maintenance(book.rule, amount, quantity(book.instrument, lots, price), book.value(tier, price))
    by = rules.closing_fee_in_maintenance
    if by == "mark":
        return kept, amount * book.fee_rate(maker=False)
    return kept, closing_fee(book, side, lots if leg.lots >= 0 else -lots, by)


def book_requirement(book: Book) -> F:
    """Return the requirement of a cross book: the maintenance of its legs, or of the larger, and the closing fees of both."""
    legs = [leg_requirement(book, side) for side in book.legs]
    kept = [one for one, _ in legs]
    fees = sum((fee for _, fee in legs), ZERO)
    return fees + (max(kept) if book.rules.hedge_maintenance == "larger" else sum(kept, ZERO))


def isolated_requirement(book: Book, side: str) -> F:
    """Return maintenance margin and closing fee of an isolated position."""
    leg, rules = book.legs[side], book.rules
    if not leg.lots:
        return ZERO
    price = leg.entry if rules.isolated_maintenance_price == "entry" else book.mark(side)
    kept = maintenance(book.rule, book.value(leg.lots, price), quantity(book.instrument, leg.lots, price))
    return kept + closing_fee(book, side, leg.lots, rules.isolated_closing_fee)


# --- fills and admission -----------------------------------------------------------------------------------------------


@dataclass
class Fill:
    """What a fill does: realised profit, fee, and the change of the leg's own margin."""

    realised: F
    fee: F
    margin: F


def closes(held: int, lots: int) -> int:
    """Return how many of signed lots close a position."""
    return min(abs(held), abs(lots)) if held * lots < 0 else 0


def fill(account: Account, symbol: str, side: str, lots: int, price: F, *, maker: bool = False, fee: F | None = None, forced: bool = False, mark: F | None = None) -> Fill:
    """Book a fill: the part that closes realises profit, the rest opens at the price."""
    book = account.books[symbol]
    leg = book.legs[side]
    if not lots:
        return Fill(ZERO, ZERO, ZERO)
    closed = closes(leg.lots, lots)
    opened = abs(lots) - closed
    sign = 1 if lots > 0 else -1
    realised, margin = ZERO, ZERO
    paid = book.value(lots, price) * book.fee_rate(maker) if fee is None else fee
    if closed:
        realised = profit(book.instrument, -sign * closed, leg.entry, price)
        margin -= leg.margin * closed / abs(leg.lots)
        if forced and closed < abs(leg.lots) and book.mode == "isolated":
            margin = realised - paid  # What remains keeps the margin: only the loss and the fee leave it.
    before = leg.lots + sign * closed
    if opened:
        leg.entry = average(book, before, leg.entry, opened, price)
        if book.mode == "isolated":
            margin += opening_margin(book, abs(before), opened, sign, price, mark)
    leg.lots += lots
    leg.margin += margin
    account.balance += realised - paid - margin
    account.fees += paid
    if not leg.lots:
        leg.entry = leg.margin = ZERO
        if not book.is_held():
            book.adopt()
    return Fill(realised, paid, margin)


def average(book: Book, held: int, entry: F, opened: int, price: F) -> F:
    """Return the average entry: by quantity, of inverse contracts the harmonic mean."""
    held = abs(held)
    if not held:
        return price
    if book.instrument.inverse:
        return (held + opened) / (held / entry + opened / price)
    return (held * entry + opened * price) / (held + opened)


def opening_margin(book: Book, held: int, opened: int, sign: int, price: F, mark: F | None) -> F:
    """Return the margin that an isolated opening takes, at the rate of the tier of the whole position."""
    amount, at = book.value(opened, price), price if mark is None else mark
    rate = book.initial_rate(book.value(held + opened, at), quantity(book.instrument, held + opened, at))
    by = book.rules.isolated_fee_in_margin
    if by == "none":
        return amount * rate
    return amount * rate + (bankruptcy_fee(book, amount, sign) if by == "bankruptcy" else amount * book.fee_rate(maker=False))


def pays_maker(order: Order, price: F) -> bool:
    """Whether a fill pays the maker fee: of a limit order that rested, not of one that traded at the open after its entry."""
    return not order.immediate and not (order.fresh and price != order.price)


def executable(book: Book, order: Order) -> int:
    """Return the lots that an order may fill now: of a reduce-only order, or one against a leg in hedge mode, what it closes."""
    closed = closes(book.legs[order.side].lots, order.lots)
    exits = order.reduce_only or (order.side == "long" and order.lots < 0) or (order.side == "short" and order.lots > 0)
    return int(math.copysign(closed, order.lots)) if exits else order.lots


def after_market_orders(account: Account) -> Account:
    """Return a copy of the account in which the market orders that were admitted have been filled at their prices."""
    later = copy.deepcopy(account)
    for symbol, book in later.books.items():
        for one in sorted(book.orders.values(), key=lambda order: order.number):
            if one.immediate:
                del book.orders[one.number]
                fill(later, symbol, one.side, executable(book, one), one.price, mark=book.mark(one.side))
    return later


@dataclass
class Verdict:
    """Whether an order is admitted, and the amounts a refusal names."""

    admitted: bool
    needed: F = ZERO
    available: F = ZERO


def judge(account: Account, symbol: str, order: Order, *, at_fill: bool = False) -> Verdict:
    """Decide on an order: as one that rests, a market order and a fill through the fill itself.

    What a fill closes is booked first, with its fee; the lots that open need their margin and the loss against the mark.
    """
    state = copy.deepcopy(account)
    rested = state.books[symbol].orders.pop(order.number, None)
    maker = at_fill and rested is not None and pays_maker(rested, order.price)
    if at_fill:
        for one in state.books.values():
            one.orders = {number: other for number, other in one.orders.items() if not other.immediate}
    else:
        state = after_market_orders(state)
    book = state.books[symbol]
    lots = order.lots if not order.immediate else executable(book, order)
    if order.immediate or at_fill:
        closed = int(math.copysign(closes(book.legs[order.side].lots, lots), lots))
        fill(state, symbol, order.side, closed, order.price, maker=maker, mark=book.mark(order.side))
        lots -= closed
    free = state.available(book.mode)
    before = state.balance + state.cross_profit() - state.in_use()
    if order.immediate or at_fill:
        fee = None if account.rules.order_fees_reserved or book.mode == "isolated" else ZERO
        fill(state, symbol, order.side, lots, order.price, maker=maker, fee=fee, mark=book.mark(order.side))
    else:
        book.orders[order.number] = order
    needed = before - (state.balance + state.cross_profit() - state.in_use())
    return Verdict(needed <= free, needed, free)


def leads_to_a_lower_leverage(account: Account, symbol: str, order: Order) -> bool:
    """Whether an order that opens leads to a tier whose maximum leverage is below the leverage set, on a venue that refuses."""
    state = after_market_orders(account)
    book = state.books[symbol]
    if book.rules.tier_leverage_breach != "refuse" or not is_table(book.rule) or order.reduce_only:
        return False
    held = book.legs[order.side].lots
    same = sum(one.lots for one in book.shown(order.side) if one.lots * order.lots > 0)
    largest = abs(held + same + order.lots) if (held + same + order.lots) * order.lots > 0 else 0
    if order.lots * (1 if order.side == "long" else -1 if order.side == "short" else order.lots) < 0:
        return False
    worth = max(book.value(largest, order.price), book.value(largest, book.mark(order.side)))
    highest = book.rule.tiers[tier_of(book.rule, worth)].leverage_max
    return bool(highest) and F(highest) < book.leverage


def change_rules(account: Account, rules: Any, *, opened_since: bool) -> None:
    """Adopt changed rules; with `opened_since` contracts with an open position follow when they are flat."""
    account.rules = rules
    for book in account.books.values():
        book.next_rules = rules
        if not opened_since or not book.is_held():
            book.adopt()


# --- liquidation -------------------------------------------------------------------------------------------------------


def members(account: Account, pool: str) -> list[tuple[str, str]]:
    """Return the legs of a pool that are open, as symbol and side."""
    alone = ":" in pool
    legs = [(symbol, side) for symbol, book in account.books.items() for side, leg in book.legs.items() if leg.lots]
    if alone:
        return [(symbol, side) for symbol, side in legs if f"{symbol}:{side}" == pool]
    return [(symbol, side) for symbol, side in legs if account.books[symbol].mode == "cross"]


def is_safe(account: Account, pool: str) -> bool:
    """Whether a partial liquidation may stop: the margin level is above the safe level."""
    return account.collateral(pool) > account.requirement(pool) * F(account.rules.safe_level)


def after_closing(account: Account, closing: dict[tuple[str, str], int]) -> Account:
    """Return a copy of the account in which lots are closed at the last price, with taker and liquidation fee."""
    later = copy.deepcopy(account)
    for (symbol, side), lots in closing.items():
        if lots:
            book = later.books[symbol]
            fee = book.value(lots, book.last) * (book.fee_rate(maker=False) + F(book.rules.liquidation_fee))
            fill(later, symbol, side, lots, book.last, fee=fee, forced=True)
    return later


def forced_fee(account: Account, symbol: str, side: str, lots: int, price: F) -> F:
    """Return the taker and liquidation fee of a forced close, at most what is left of the collateral after the loss."""
    book = account.books[symbol]
    full = book.value(lots, price) * (book.fee_rate(maker=False) + F(book.rules.liquidation_fee))
    later = copy.deepcopy(account)
    fill(later, symbol, side, lots, price, fee=ZERO, forced=True)
    if book.mode == "isolated":
        leg = book.legs[side]
        left = leg.margin + profit(book.instrument, -lots, leg.entry, price)
        if later.books[symbol].legs[side].lots:
            left += later.books[symbol].profit(side)
    else:
        left = later.balance + later.cross_profit()
    return min(full, max(ZERO, left))


def fewest(account: Account, pool: str, legs: list[tuple[str, str]], most: int) -> int:
    """Return the fewest lots, closed of each leg, that make the pool safe; `most` if none do."""

    def safe(lots: int) -> bool:
        signs = {leg: -1 if account.books[leg[0]].legs[leg[1]].lots > 0 else 1 for leg in legs}
        later = after_closing(account, {leg: signs[leg] * lots for leg in legs})
        return not members(later, pool) or is_safe(later, pool)

    if most and safe(1):
        return 1
    if not safe(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if safe(middle) else (middle, high)
    return high


def kept_by(account: Account, leg: tuple[str, str]) -> F:
    """Return the maintenance margin of a leg, which decides the order of a step."""
    book = account.books[leg[0]]
    size = book.legs[leg[1]].lots
    return maintenance(book.rule, book.value(size, book.mark(leg[1])), quantity(book.instrument, size, book.mark(leg[1])))


def tiers_close(account: Account, step: Any, leg: tuple[str, str]) -> int:
    """Return the lots that a leg loses in a step down the tiers: all of them below the tier `whole_below`."""
    book = account.books[leg[0]]
    lots, mark = abs(book.legs[leg[1]].lots), book.mark(leg[1])
    if not is_table(book.rule):
        return lots
    number = tier_of(book.rule, book.value(lots, mark))
    if number + 1 < (step.whole_below or step.down + 1) or number < step.down:
        return lots
    bound = F(book.rule.tiers[number - step.down + 1].notional_min)
    one = book.value(1, mark)
    return lots - (math.ceil(bound / one) - 1)


def step_closes(account: Account, pool: str, step: Any) -> dict[str, int]:
    """Return the lots that a liquidation step closes first, signed, by symbol:side; `step` is None for the last, all."""
    legs = sorted(members(account, pool), key=lambda leg: -kept_by(account, leg))
    sizes = {leg: abs(account.books[leg[0]].legs[leg[1]].lots) for leg in legs}
    name = type(step).__name__ if step is not None else "All"
    closing: dict[tuple[str, str], int] = {}
    if name == "All":
        closing = sizes
    elif name == "Pairs":
        for symbol in dict.fromkeys(symbol for symbol, _ in legs):
            both = [leg for leg in legs if leg[0] == symbol]
            if len(both) == 2 and not closing:
                lots = fewest(account, pool, both, min(sizes[leg] for leg in both))
                closing = dict.fromkeys(both, lots)
    elif name == "Tiers" and legs:
        closing = {legs[0]: tiers_close(account, step, legs[0])}
    elif name == "Fraction":
        for leg in legs:
            if account.books[leg[0]].value(sizes[leg], account.books[leg[0]].mark(leg[1])) > F(step.above):
                closing[leg] = max(1, round(sizes[leg] * F(str(step.share))))
    elif name == "Above":
        for leg in legs:
            one = account.books[leg[0]].value(1, account.books[leg[0]].mark(leg[1]))
            most = sizes[leg] - math.floor(F(step.value) / one)
            if most > 0 and not closing:
                closing = {leg: fewest(account, pool, [leg], most)}
    elif name == "Reduce" and legs:
        excess = {}
        for leg in legs:
            sign = -1 if account.books[leg[0]].legs[leg[1]].lots > 0 else 1
            later = after_closing(account, {leg: sign * sizes[leg]})
            excess[leg] = later.collateral(pool) - later.requirement(pool)
        first = max(legs, key=lambda leg: excess[leg])
        closing = {first: fewest(account, pool, [first], sizes[first])}
    return {
        f"{symbol}:{side}": lots * (-1 if account.books[symbol].legs[side].lots > 0 else 1)
        for (symbol, side), lots in closing.items()
        if lots
    }
