# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account holds in one instrument: its legs, its resting orders and the mark they are valued at."""

from typing import Literal

import msgspec

from crossmargin_bt.engine.ledger.open_orders import OpenOrders
from crossmargin_bt.engine.ledger.orders import NO_PENDING_EXPOSURE, PendingExposure, Prices, pending
from crossmargin_bt.engine.ledger.position import FLAT, Position
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.terms import option_terms
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.option_terms import OptionTerms
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.engine.terms.rules import FeePrice, Rules

# The sides that a position may have, by position mode.
SIDES = {"one_way": ("net",), "hedge": ("long", "short")}

MarginMode = Literal["cross", "isolated", "spot", "option"]


def mode_of(instrument: Instrument, margin_mode: MarginMode) -> MarginMode:
    """Return the mode of an instrument: coins and options have one of their own."""
    own: dict[str, MarginMode] = {"spot": "spot", "option": "option"}
    return own.get(instrument.kind, margin_mode)


class Book(msgspec.Struct):
    """One instrument of an account. Legs that are flat are not in `legs`.

    Long and short exposure have a mark each, equal except while the adverse path is walked, where
    every leg meets its worse extreme at once.
    """

    instrument: Instrument
    margin_mode: MarginMode
    leverage: float
    rules: Rules
    rates: dict[str, MaintenanceRule]
    """The maintenance rule by margin mode."""
    maker: float
    taker: float
    hedged: bool
    orders: OpenOrders
    is_fully_funded: bool = False
    """Whether what is traded is paid for in full: a coin, an option."""
    keeps_rules: bool = False
    """Whether its positions keep rules older than the account's until they are closed, see `RuleChange.positions`."""
    scale: float = 1.0
    """What the rates are multiplied by, see `Rules.volatility_scaling`."""
    legs: dict[str, Position] = msgspec.field(default_factory=dict)
    realised: dict[str, float] = msgspec.field(default_factory=dict)
    long_mark: float = 0.0
    short_mark: float = 0.0
    last: float = 0.0
    """The last price traded: of a fill, or of the bar's end."""
    index: float = 0.0
    """Of an option, the price of its underlying in the currency of its strike."""
    volatility: float = 0.0
    """Of an option, its volatility a year, 0 where none is known."""
    interest_rate: float = 0.0
    """Of an option, the yearly rate at which what it pays is discounted."""

    @property
    def maintenance(self) -> MaintenanceRule:
        """The maintenance rule in force."""
        return self.rates["isolated" if self.margin_mode == "isolated" else "cross"]

    @property
    def underlying_value(self) -> float:
        """Of an option, what a unit of its underlying is worth in its settle currency."""
        return 1.0 if self.instrument.in_coin else self.index

    @property
    def option_terms(self) -> OptionTerms:
        """The venue's terms for an option."""
        return option_terms.terms_for(self.instrument.underlying, self.rules.options)

    def fee(self, lots: int, price: float, *, maker: bool = False) -> float:
        """Return the fee of trading `lots` at `price`; an option's is charged on its underlying."""
        if self.margin_mode != "option":
            return formulas.fee(self.instrument.value(lots, price), self.maker if maker else self.taker)
        units = abs(lots) * self.instrument.units_per_lot
        own = self.instrument.maker if maker else self.instrument.taker
        return units * self.option_terms.trading_fee(self.underlying_value, price, own)

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that a position may have."""
        return SIDES["hedge" if self.hedged else "one_way"]

    def prices(self) -> tuple[float, ...]:
        """Return the prices it is valued at: marks and last, of an option index, volatility and interest rate too."""
        own = (self.long_mark, self.short_mark, self.last)
        return own if self.margin_mode != "option" else (*own, self.index, self.volatility, self.interest_rate)

    def set_prices(self, prices: tuple[float, ...]) -> None:
        """Value it at prices as `prices` returns them; none where there are none."""
        self.long_mark, self.short_mark, self.last = prices[:3] or (0.0, 0.0, 0.0)
        self.index, self.volatility, self.interest_rate = prices[3:] or (0.0, 0.0, 0.0)

    def set_mark(self, price: float) -> None:
        """Value both exposures at `price`."""
        self.long_mark = self.short_mark = price

    def mark_of(self, lots: int) -> float:
        """Return the mark of a leg of signed `lots`."""
        return self.long_mark if lots >= 0 else self.short_mark

    def leg(self, side: str) -> Position:
        """Return the leg, flat when nothing is held."""
        return self.legs.get(side, FLAT)

    def value(self, position: Position) -> float:
        """Return the unsigned mark value of a leg, in the settle currency."""
        return self.instrument.value(position.lots, self.mark_of(position.lots))

    def profit(self, position: Position) -> float:
        """Return the floating profit of a leg, in the settle currency, interest accrued on it taken off."""
        mark = self.long_mark if position.lots >= 0 else self.short_mark
        profit = self.instrument.profit(position.lots, position.entry, mark)
        if position.interest:
            profit -= self.instrument.interest_cost(position.lots, position.interest, mark)
        return profit

    def unrealised(self) -> float:
        """Return the floating profit of all legs; what is paid for in full has none."""
        total = 0.0
        if self.is_fully_funded:
            return total
        for position in self.legs.values():
            total += self.profit(position)
        return total

    def floor(self, lots: int, price: float | None = None) -> float:
        """Return the lowest initial rate that the tier of an exposure of `lots` allows, valued at the mark or `price`."""
        at = self.long_mark if price is None else price
        return self.initial_floor(self.instrument.value(lots, at), self.instrument.base_quantity(lots, at))

    def initial_floor(self, value: float, base: float) -> float:
        """Return the lowest initial rate of an exposure worth `value` (settle currency), of `base` coins."""
        return self.scale * self.maintenance.initial_floor(value, base)

    def initial_rate(self, lots: int) -> float:
        """Return the initial rate in force for an exposure of `lots`."""
        raises = self.rules.tier_leverage_breach == "raise" and self.maintenance.has_initial_floor
        rate = formulas.initial_rate(self.leverage, self.floor(lots) if raises else 0.0)
        return rate if self.scale == 1.0 else max(rate, self.scale / self.instrument.leverage_max)

    def closing_fee(self, how: FeePrice, value: float, direction: int) -> float:
        """Return the taker fee of closing what is worth `value` at the price that `how` names.

        `value` is at the mark for "mark", at the entry otherwise; `direction` is 1 for a long.
        """
        if how == "none":
            return 0.0
        if how == "bankruptcy":
            falls = -direction if self.instrument.inverse else direction
            value = formulas.value_at_bankruptcy(value, float(falls), self.leverage)
        return formulas.fee(value, self.taker)

    def closing_fee_of(self, how: FeePrice, position: Position) -> float:
        """Return the taker fee of closing a leg at the price that `how` names."""
        if how == "none":
            return 0.0
        price = self.mark_of(position.lots) if how == "mark" else position.entry
        return self.closing_fee(how, self.instrument.value(position.lots, price), 1 if position.lots > 0 else -1)

    def pending(self, side: str, *, immediate: bool = True) -> PendingExposure:
        """Return what the orders of a leg would add and open; without `immediate`, market orders are left out."""
        orders = self.orders
        if not orders:
            return NO_PENDING_EXPOSURE
        if orders.is_plain and not self.rules.values_orders_at_market and (immediate or not orders.immediate):
            return orders.pending(side, self.leg(side).lots)
        mine = [order for order in self.orders.values() if order.side == side and (immediate or not order.immediate)]
        if not mine:
            return NO_PENDING_EXPOSURE
        prices = Prices(self.long_mark, self.last or self.long_mark, self.rules.sell_order_markup)
        return pending(self.leg(side).lots, mine, prices, instrument=self.instrument, side=side)

    def reserved(self, waiting: PendingExposure) -> float:
        """Return what the venue reserves for orders beyond their margin: opening fees, and losses against the mark."""
        opened = waiting.same_value + waiting.opening_value
        fees = formulas.fee(opened, self.taker) if self.rules.order_fees_reserved else 0.0
        return fees + waiting.loss if self.rules.order_loss_reserved else fees

    def tier_lots(self, long: int, short: int) -> tuple[int, int]:
        """Return, for a long and a short exposure in cross mode, the lots that pick its tier."""
        how = self.rules.tier_exposure
        if how == "each":
            return long, short
        one = {"added": long + short, "larger": max(long, short), "net": abs(long - short)}[how]
        return one, one

    def maintenance_of(self, lots: int, price: float, tier_lots: int | None = None) -> float:
        """Return the maintenance margin of an exposure of unsigned `lots` valued at `price`.

        With `tier_lots`, the tier is that of a position of `tier_lots` lots; 0, a fully hedged pair, gives the lowest tier.
        """
        if not lots or not price:
            return 0.0
        value = self.instrument.value(lots, price)
        if tier_lots is None or tier_lots == lots:
            return self.scale * self.maintenance.margin(value, self.instrument.base_quantity(lots, price))
        sized = tier_lots or 1
        whole = self.instrument.value(sized, price)
        margin = self.scale * self.maintenance.margin(whole, self.instrument.base_quantity(sized, price))
        return formulas.pro_rata(margin, value, whole)

    def copy(self) -> "Book":
        """Return a book that can be changed without touching this one."""
        return msgspec.structs.replace(
            self, legs=dict(self.legs), orders=self.orders.copy(), realised=dict(self.realised)
        )


def exposure(book: Book, counted: str) -> tuple[int, int]:
    """Return the long and the short lots of a book with the orders that are `counted` (see `orders_in_maintenance`).

    A one-way position counts on its own side; where orders count and the other side would be
    the larger one, the larger quantity counts on its side.
    """
    if book.hedged:
        long, short = book.leg("long").lots, -book.leg("short").lots
        if counted != "none":
            long += book.pending("long", immediate=False).same_lots
            short += book.pending("short", immediate=False).same_lots
        return long, short
    held = book.leg("net").lots
    if counted == "none" or not book.orders:
        return max(held, 0), max(-held, 0)
    waiting = book.pending("net", immediate=False)
    size, same, opposite = abs(held), waiting.same_lots, waiting.opposite_lots
    if counted == "net":
        larger = formulas.worst_net_size(size, same, opposite)
    elif counted == "gross":
        larger = formulas.worst_gross_size(size, same, opposite)
    else:
        opening = opposite if counted == "sum" else max(opposite - size, 0)
        larger = formulas.summed_margin(size, same, opening)
    turns = counted in ("net", "gross") and larger > size + same
    is_long = (held >= 0) != turns
    return (int(larger), 0) if is_long else (0, int(larger))
