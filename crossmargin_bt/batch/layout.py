# SPDX-License-Identifier: GPL-3.0-or-later
"""What the compiled loop takes: where everything stands in its arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Where nothing is said of a limit order: leave it as it is.
LEAVE = np.iinfo(np.int64).min
# Places in a candle.
OPEN, HIGH, LOW, CLOSE = range(4)
# Places in the arrays of contracts, shape (instruments, 7), and tiers, shape (instruments, 4, tiers); where a table has fewer tiers
# than another, the rest begin at infinity.
UNITS, INVERSE, MAKER, TAKER, KEPT, LOT, PER_CONTRACT = range(7)
BEGINS, RATE, DEDUCTION, FLOOR = range(4)
# Places in an account's money, shape (5,), and counts, shape (4,).
BALANCE, FEES_PAID, RECEIVED, PEAK, DRAWDOWN = range(5)
FILLS, REFUSED, ARRIVED, RESTING = range(4)
# Places in a limit order that rests, and in what all those of a contract come to.
LOTS, COVERED, PLACE = range(3)
ORDERED, BEST_BUY, BEST_SELL, LOWEST, HIGHEST, LOW_FIRST = range(6)


class Terms(NamedTuple):
    """What the account trades under, beside contracts and tiers."""

    floor_raises: bool
    """Whether a tier's lowest initial rate raises that of a position; otherwise the venue refuses it."""
    smallest: float
    """The smallest value that may be opened."""
    gains_pay: bool
    """Whether floating profit pays for cross orders."""
    markup: float
    """By how much a sell order is marked up."""
    leverage: float
    isolated: bool
    nets: bool
    """Whether an order locks nothing but by how much it makes a position larger."""
    adverse: bool
    """Whether a bar visits first the extreme against a position."""


class Held(NamedTuple):
    """What an account holds of every contract, and how many thresholds of each pool have acted; shapes (instruments,).

    The shared pool of a cross account is the first.
    """

    lots: Any
    entry: Any
    margin: Any
    acted: Any

    @classmethod
    def nothing(cls, instruments: int) -> "Held":
        """Return an account that holds nothing."""
        whole, real = np.zeros(instruments, np.int64), np.zeros(instruments)
        return cls(whole, real, real.copy(), whole.copy())


class Quotes(NamedTuple):
    """Limit orders given at bars' ends."""

    lots: Any
    """Shape (bars, instruments, slots), int64; LEAVE where nothing is said."""
    prices: Any
    """The same shape, float64."""
    said: Any
    """Shape (bars,): whether anything is."""
    too_small: int
    """How many were given that are less than a lot, which are refused."""


class Wanted(NamedTuple):
    """What an account does at bars' ends."""

    sizes: Any
    """Shape (bars, instruments), float64: the positions it goes to; NaN leaves what is held."""
    quotes: Quotes | None = None

    def rows(self, start: int, end: int) -> "Wanted":
        """Return what it does at the end of some bars."""
        quotes = self.quotes
        if quotes is not None:
            quotes = Quotes(quotes.lots[start:end], quotes.prices[start:end], quotes.said[start:end], quotes.too_small)
        return Wanted(self.sizes[start:end], quotes)


class LimitOrder(NamedTuple):
    """A limit order that has seen a bar and did not fill in it."""

    instrument: int
    slot: int
    lots: int
    covered: int
    price: float


class Resting(NamedTuple):
    """The limit orders that an account has in the market, in their slots; where there is none its lots are 0."""

    orders: Any
    """Shape (instruments, slots, 3), int64: signed lots, how many of them have their margin reserved, and when it came."""
    prices: Any
    """Shape (instruments, slots), float64."""
    bounds: Any
    """Shape (instruments, 6), float64, see ORDERED: all lots added, the prices first reached, the extreme ones."""

    @classmethod
    def none(cls, instruments: int, slots: int) -> "Resting":
        """Return an account without orders."""
        bounds = np.zeros((instruments, 6))
        bounds[:, BEST_SELL] = bounds[:, LOWEST] = np.inf
        return cls(np.zeros((instruments, slots, 3), np.int64), np.zeros((instruments, slots)), bounds)

    def listed(self) -> list[LimitOrder]:
        """Return the orders, first come first."""
        there = np.argwhere(self.orders[:, :, LOTS]).tolist()
        there.sort(key=lambda at: self.orders[at[0], at[1], PLACE])
        return [
            LimitOrder(i, k, int(self.orders[i, k, LOTS]), int(self.orders[i, k, COVERED]), float(self.prices[i, k]))
            for i, k in there
        ]

    def take(self, orders: Sequence[LimitOrder]) -> None:
        """Put orders in the place of those that are here."""
        self.orders[:] = 0
        for place, order in enumerate(orders):
            self.orders[order.instrument, order.slot] = order.lots, order.covered, place
            self.prices[order.instrument, order.slot] = order.price
