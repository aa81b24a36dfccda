# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of the compiled loop: array columns by name, and the structures that hold the arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# In an array of limit orders: the order in this slot does not change.
UNCHANGED = np.iinfo(np.int64).min
# Columns of a candle.
OPEN, HIGH, LOW, CLOSE = range(4)
# Columns of the contracts, shape (instruments, 7), and rows of the tier tables, shape (instruments, 4, tiers). Tables with fewer
# tiers than the longest are padded with tiers that begin at infinity.
UNITS, INVERSE, MAKER, TAKER, CLOSING_COST_RATE, LOT, LOTS_PER_CONTRACT = range(7)
NOTIONAL_MIN, MAINTENANCE_RATE, DEDUCTION, INITIAL_RATE_MIN = range(4)
# Elements of an account's money, shape (5,), and of its counts, shape (4,). ARRIVED is the arrival number of the next limit order.
BALANCE, FEES_PAID, FUNDING_RECEIVED, PEAK, DRAWDOWN = range(5)
FILLS, REFUSED, ARRIVED, RESTING = range(4)
# Columns of a resting limit order, and of the summary of all resting orders of an instrument.
LOTS, COVERED, ARRIVAL = range(3)
LOTS_ORDERED, BEST_BUY, BEST_SELL, LOWEST_PRICE, HIGHEST_PRICE, LOW_FIRST = range(6)


class TradingTerms(NamedTuple):
    """Terms of an account other than its contracts and tiers: the venue's rules and the account's own settings."""

    tier_raises_rate: bool
    """Whether a tier's minimum initial rate raises that of a position; otherwise the venue refuses the order."""
    notional_min: float
    """Minimum notional of an opening order."""
    profit_pays: bool
    """Whether unrealised profit counts as margin for cross orders."""
    sell_markup: float
    """Fraction by which the value of a sell order is marked up."""
    leverage: float
    isolated: bool
    nets_orders: bool
    """Whether an order locks margin only for the increase of the position."""
    is_adverse: bool
    """Whether the intrabar path visits the adverse extreme of a position first."""


class PositionArrays(NamedTuple):
    """Positions of an account, and the number of thresholds that have acted per pool; shapes (instruments,).

    The shared pool of a cross account is element 0 of `acted`.
    """

    lots: Any
    entry: Any
    margin: Any
    acted: Any

    @classmethod
    def empty(cls, instruments: int) -> "PositionArrays":
        """Return the arrays of an account without positions."""
        integers, floats = np.zeros(instruments, np.int64), np.zeros(instruments)
        return cls(integers, floats, floats.copy(), integers.copy())


class LimitOrderSchedule(NamedTuple):
    """Limit orders to place at bar ends, in whole lots and at prices on ticks."""

    lots: Any
    """Signed lots, shape (bars, instruments, slots), int64; UNCHANGED where the slot keeps its order."""
    prices: Any
    """The same shape, float64."""
    is_given: Any
    """Whether a bar changes any slot; shape (bars,), bool."""
    too_small: int
    """Number of orders of less than one lot, which are refused."""


class OrderSchedule(NamedTuple):
    """Orders of an account at bar ends."""

    targets: Any
    """Target positions in contracts, shape (bars, instruments), float64; NaN keeps the position."""
    limit_orders: LimitOrderSchedule | None = None

    def between(self, start: int, end: int) -> "OrderSchedule":
        """Return the schedule of the bars from `start` up to, not including, `end`."""
        limit_orders = self.limit_orders
        if limit_orders is not None:
            lots, prices, is_given, too_small = limit_orders
            limit_orders = LimitOrderSchedule(lots[start:end], prices[start:end], is_given[start:end], too_small)
        return OrderSchedule(self.targets[start:end], limit_orders)


class RestingOrder(NamedTuple):
    """A limit order that has rested for at least one bar."""

    instrument: int
    slot: int
    lots: int
    covered: int
    price: float


class RestingOrders(NamedTuple):
    """Resting limit orders of an account by slot; an empty slot has 0 lots."""

    orders: Any
    """Shape (instruments, slots, 3), int64: signed lots, lots whose margin is reserved, arrival number."""
    prices: Any
    """Shape (instruments, slots), float64."""
    bounds: Any
    """Summary per instrument, shape (instruments, 6), float64, see LOTS_ORDERED: total lots, best prices, price extremes."""

    @classmethod
    def empty(cls, instruments: int, slots: int) -> "RestingOrders":
        """Return the arrays of an account without resting orders."""
        bounds = np.zeros((instruments, 6))
        bounds[:, BEST_SELL] = bounds[:, LOWEST_PRICE] = np.inf
        return cls(np.zeros((instruments, slots, 3), np.int64), np.zeros((instruments, slots)), bounds)

    def by_arrival(self) -> list[RestingOrder]:
        """Return the orders in order of arrival."""
        places = np.argwhere(self.orders[:, :, LOTS]).tolist()
        places.sort(key=lambda place: self.orders[place[0], place[1], ARRIVAL])
        return [
            RestingOrder(i, k, int(self.orders[i, k, LOTS]), int(self.orders[i, k, COVERED]), float(self.prices[i, k]))
            for i, k in places
        ]

    def replace_all(self, orders: Sequence[RestingOrder]) -> None:
        """Replace all resting orders by `orders`, which are in order of arrival."""
        self.orders[:] = 0
        for arrival, order in enumerate(orders):
            self.orders[order.instrument, order.slot] = order.lots, order.covered, arrival
            self.prices[order.instrument, order.slot] = order.price
