# SPDX-License-Identifier: GPL-3.0-or-later
"""An order queue that sorts resting orders by the price that reaches them, so that a bar only matches those it reaches."""

import math
from bisect import bisect_left, bisect_right, insort
from typing import Any, NamedTuple

from backtrader import Order

from crossmargin_bt.broker.session.bars import Bar, Feed
from crossmargin_bt.broker.session.order_queue import OrderQueue, by_place

# Orders that a single price fills or triggers.
DECIDED_BY_ONE_PRICE = (Order.Limit, Order.Stop)

# Sorts before every place in the queue, to find the first entry of a price.
BEFORE_ALL = -1


class PriceEntry(NamedTuple):
    """A resting order under the price that reaches it, with its place in the queue."""

    price: float
    place: int
    ref: int


class PriceLadders:
    """Resting orders of one feed, sorted by price: those a falling price reaches, and those a rising one does."""

    __slots__ = ("falling", "rising")

    def __init__(self) -> None:
        self.falling: list[PriceEntry] = []
        self.rising: list[PriceEntry] = []

    @property
    def untouched_range(self) -> tuple[float, float]:
        """The prices between which no order is reached."""
        low = self.falling[-1].price if self.falling else 0.0
        high = self.rising[0].price if self.rising else math.inf
        return low, high

    def reached(self, low: float, high: float) -> list[PriceEntry]:
        """Return the orders that prices from `low` to `high` reach."""
        found = []
        if self.falling and self.falling[-1].price >= low:
            found = self.falling[bisect_left(self.falling, (low, BEFORE_ALL)) :]
        if self.rising and self.rising[0].price <= high:
            found += self.rising[: bisect_right(self.rising, (high, math.inf))]
        return found


class PriceSortedQueue(OrderQueue):
    """Resting orders whose price alone decides are sorted by it; all others are matched in every bar."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[int, tuple[list[PriceEntry], PriceEntry]] = {}
        self._ladders: dict[int, PriceLadders] = {}

    def remove(self, order: Any) -> None:
        """Take an order out; see `OrderQueue.remove`."""
        super().remove(order)
        self._unsort(order.ref)

    def is_out_of_reach(self, order: Any, bar: Bar, feed: Feed) -> bool:
        """Return whether a bar provably does not reach an order."""
        price = None if feed.may_change else _deciding_price(order)
        if price is None:
            return False
        opened, high, low, _ = bar.last
        if _is_reached_by_a_fall(order):
            return price < low and price < opened
        return price > high and price > opened

    def let_rest(self, order: Any, feed: Feed) -> None:
        """Keep an order that a bar left alive, sorted by its price where that alone decides."""
        ref = order.ref
        self._resting.add(ref)
        self._unsort(ref)
        price = None if feed.may_change else _deciding_price(order)
        if price is None:
            self._to_match[ref] = order
            return
        self._to_match.pop(ref, None)
        ladders = self._ladders.setdefault(id(feed.data), PriceLadders())
        ladder = ladders.falling if _is_reached_by_a_fall(order) else ladders.rising
        entry = PriceEntry(price, self._places[ref], ref)
        insort(ladder, entry)
        self._entries[ref] = ladder, entry

    def _unsort(self, ref: int) -> None:
        found = self._entries.pop(ref, None)
        if found is not None:
            ladder, entry = found
            del ladder[bisect_left(ladder, entry)]

    def candidates(self, bars: dict[int, Bar]) -> list[tuple[int, Any]]:
        """Return (place, order) of the orders that new bars may concern, first come first."""
        found = [(self._places[ref], order) for ref, order in self._to_match.items()]
        for key, bar in bars.items():
            ladders = self._ladders.get(key)
            if ladders is not None:
                last = bar.last
                reached = ladders.reached(min(last.low, last.open), max(last.high, last.open))
                found += [(entry.place, self._orders[entry.ref]) for entry in reached]
        found.sort(key=by_place)
        return found

    @property
    def waits_for_prices_only(self) -> bool:
        """Whether every order waits for a price, or for its parent, and for nothing else."""
        return not self._to_match

    def untouched_range(self, data: Any) -> tuple[float, float]:
        """Return the prices of a feed between which none of its resting orders is reached."""
        ladders = self._ladders.get(id(data))
        return (0.0, math.inf) if ladders is None else ladders.untouched_range


def _is_reached_by_a_fall(order: Any) -> bool:
    is_limit: bool = order.exectype == Order.Limit or order.triggered
    return bool(order.isbuy()) == is_limit


def _deciding_price(order: Any) -> float | None:
    """Return the price at which an order fills or triggers; None where more than a price decides."""
    if order.valid is not None:
        return None
    kind = order.exectype
    if kind in DECIDED_BY_ONE_PRICE or (kind == Order.StopLimit and not order.triggered):
        return float(order.created.price)
    return float(order.created.pricelimit) if kind == Order.StopLimit else None
