# SPDX-License-Identifier: GPL-3.0-or-later
"""A second model of a margin account, written from docs/concepts.md and the rule books, in exact fractions.

It shares no code with the engine: it reads a venue's rules and an instrument's terms as data and computes every figure again, slowly.
This module has the account and its margins, `second_model_decisions` fills, admission and liquidation. Facts that the path of a bar
and backtrader's matching decide (which order fills, when, at which price) are taken from the journal; every amount and every decision
is the model's own. Not modelled: other currencies, spot, options, margin pairs, portfolio margin, groups of orders, KuCoin's largest
open size, the step `hedges`, guards, reserves, takeovers by the insurance fund. Powers are computed in floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
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

    def copy(self) -> Book:
        """Return a copy whose legs and orders may change without this one."""
        legs = {side: replace(leg) for side, leg in self.legs.items()}
        return replace(self, legs=legs, orders={number: replace(one) for number, one in self.orders.items()})

    def is_held(self) -> bool:
        """Whether a position is open."""
        return any(leg.lots for leg in self.legs.values())

    def adopt(self) -> None:
        """Take over the rules that wait for the position to be closed."""
        if self.next_rules is not None and not self.own_rates:
            self.rates = {
                mode: self.next_rules.maintenance if rate == self.rules.maintenance else rate
                for mode, rate in self.rates.items()
            }
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

    def copy(self) -> Account:
        """Return a copy whose balance, legs and orders may change without this one."""
        return replace(self, books={symbol: book.copy() for symbol, book in self.books.items()})

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
        placed = abs(held) + sum(abs(order.lots) for order in orders if order.lots * held > 0)
        return max(placed, maintenance_parts(book, one))

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
    tier = exposure(book, side)
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
