# SPDX-License-Identifier: GPL-3.0-or-later
"""The orders a broker holds, in the order they were accepted, and those that rest by the price that reaches them."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, NamedTuple

from backtrader import Order

from crossmargin_bt.broker.session.bars import Bar, Feed

# Orders that one price alone fills or triggers.
REACHED_ONCE = (Order.Limit, Order.Stop)

# Below every place in the queue, to find the first of a price.
FIRST = -1


class Filed(NamedTuple):
    """Where a resting order is filed: the price that reaches it and its place in the queue."""

    price: float
    place: int
    ref: int


class Reach:
    """Resting orders of one feed: those a fall reaches, and those a rise does, sorted by price."""

    __slots__ = ("by_a_fall", "by_a_rise")

    def __init__(self) -> None:
        self.by_a_fall: list[Filed] = []
        self.by_a_rise: list[Filed] = []

    @property
    def still(self) -> tuple[float, float]:
        """The prices between which nothing is reached."""
        low = self.by_a_fall[-1].price if self.by_a_fall else 0.0
        high = self.by_a_rise[0].price if self.by_a_rise else math.inf
        return low, high

    def reached(self, low: float, high: float) -> list[Filed]:
        """Return what prices from `low` to `high` reach."""
        found = []
        if self.by_a_fall and self.by_a_fall[-1].price >= low:
            found = self.by_a_fall[bisect_left(self.by_a_fall, (low, FIRST)) :]
        if self.by_a_rise and self.by_a_rise[0].price <= high:
            found += self.by_a_rise[: bisect_right(self.by_a_rise, (high, math.inf))]
        return found


class OrderQueue:
    """What backtrader keeps in a deque, found by reference; iterating, `append` and `remove` are a deque's.

    An order that has seen a bar and did not fill in it *rests*. Resting orders whose price alone decides are filed
    by that price; all others are looked at in every bar.
    """

    def __init__(self) -> None:
        self._orders: dict[int, Any] = {}
        self._places: dict[int, int] = {}
        self._place = 0
        self._looked_at: dict[int, Any] = {}
        self._filed: dict[int, tuple[list[Filed], Filed]] = {}
        self._reach: dict[int, Reach] = {}
        self._resting: set[int] = set()

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._orders.values()))

    def __contains__(self, order: Any) -> bool:
        return order.ref in self._orders

    def get(self, ref: int) -> Any:
        """Return the order of a reference, or None."""
        return self._orders.get(ref)

    def append(self, order: Any) -> None:
        """Queue an order behind all others."""
        self._orders[order.ref] = order
        self._places[order.ref] = self._place
        self._place += 1
        if order.active() or order.valid is not None:
            self._looked_at[order.ref] = order

    def remove(self, order: Any) -> None:
        """Take an order out.

        Raises:
            ValueError: it is not here.
        """
        ref = order.ref
        if self._orders.pop(ref, None) is None:
            raise ValueError(f"order {ref} is not queued")
        del self._places[ref]
        self._looked_at.pop(ref, None)
        self._unfile(ref)
        self._resting.discard(ref)

    def activate(self, order: Any) -> None:
        """Look at an order from now on, which has waited for its parent."""
        self._looked_at[order.ref] = order

    def lets_pass(self, order: Any, bar: Bar, feed: Feed) -> bool:
        """Return whether a bar surely does not reach an order."""
        price = None if feed.may_float else _deciding_price(order)
        if price is None:
            return False
        opened, high, low, _ = bar.last
        if _falls(order):
            return price < low and price < opened
        return price > high and price > opened

    def rests(self, order: Any) -> bool:
        """Return whether an order has seen a bar in which it was not filled."""
        return order.ref in self._resting

    def let_rest(self, order: Any, feed: Feed) -> None:
        """Keep an order that a bar left alive."""
        ref = order.ref
        self._resting.add(ref)
        self._unfile(ref)
        price = None if feed.may_float else _deciding_price(order)
        if price is None:
            self._looked_at[ref] = order
            return
        self._looked_at.pop(ref, None)
        reach = self._reach.setdefault(id(feed.data), Reach())
        side = reach.by_a_fall if _falls(order) else reach.by_a_rise
        filed = Filed(price, self._places[ref], ref)
        insort(side, filed)
        self._filed[ref] = side, filed

    def _unfile(self, ref: int) -> None:
        found = self._filed.pop(ref, None)
        if found is not None:
            side, filed = found
            del side[bisect_left(side, filed)]

    def to_look_at(self, bars: dict[int, Bar]) -> list[tuple[int, Any]]:
        """Return (place, order) of those that new bars, by the id of their feed, may concern, first come first."""
        found = [(self._places[ref], order) for ref, order in self._looked_at.items()]
        for key, bar in bars.items():
            reach = self._reach.get(key)
            if reach is not None:
                last = bar.last
                reached = reach.reached(min(last.low, last.open), max(last.high, last.open))
                found += [(filed.place, self._orders[filed.ref]) for filed in reached]
        found.sort(key=_place)
        return found

    @property
    def is_still(self) -> bool:
        """Whether every order waits for a price, or for its parent, alone."""
        return not self._looked_at

    def still(self, data: Any) -> tuple[float, float]:
        """Return the prices of a feed between which none of its resting orders is reached."""
        reach = self._reach.get(id(data))
        return (0.0, math.inf) if reach is None else reach.still


def _place(entry: tuple[int, Any]) -> int:
    return entry[0]


def _falls(order: Any) -> bool:
    """Return whether it takes a fall to reach an order's price."""
    is_limit: bool = order.exectype == Order.Limit or order.triggered
    return bool(order.isbuy()) == is_limit


def _deciding_price(order: Any) -> float | None:
    """Return the one price at which an order can fill or trigger; None where it takes more to tell."""
    if order.valid is not None:
        return None
    kind = order.exectype
    if kind in REACHED_ONCE or (kind == Order.StopLimit and not order.triggered):
        return float(order.created.price)
    return float(order.created.pricelimit) if kind == Order.StopLimit else None
