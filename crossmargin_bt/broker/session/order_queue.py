# SPDX-License-Identifier: GPL-3.0-or-later
"""The orders a broker holds, in the order they were accepted."""

from collections.abc import Iterator
from typing import Any

from crossmargin_bt.broker.session.bars import Bar, Feed


class OrderQueue:
    """What backtrader keeps in a deque, with look-up by reference; iterating, `append` and `remove` are a deque's.

    An order that has seen a bar without being filled *rests*: a limit order that rests is filled as a maker.
    """

    def __init__(self) -> None:
        self._orders: dict[int, Any] = {}
        self._places: dict[int, int] = {}
        self._place = 0
        self._to_match: dict[int, Any] = {}
        """Orders that backtrader's matching has to see in the next bar: all but those that wait for a parent."""
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
            self._to_match[order.ref] = order

    def remove(self, order: Any) -> None:
        """Take an order out.

        Raises:
            ValueError: it is not queued.
        """
        ref = order.ref
        if self._orders.pop(ref, None) is None:
            raise ValueError(f"order {ref} is not queued")
        del self._places[ref]
        self._to_match.pop(ref, None)
        self._resting.discard(ref)

    def activate(self, order: Any) -> None:
        """Match an order from now on that has waited for its parent."""
        self._to_match[order.ref] = order

    def rests(self, order: Any) -> bool:
        """Return whether an order has seen a bar in which it was not filled."""
        return order.ref in self._resting

    def let_rest(self, order: Any, feed: Feed) -> None:  # noqa: ARG002 - a queue sorted by price needs the feed
        """Keep an order that a bar left alive."""
        self._resting.add(order.ref)

    def candidates(self, bars: dict[int, Bar]) -> list[tuple[int, Any]]:  # noqa: ARG002 - likewise
        """Return (place, order) of the orders to match against new bars, by the id of their feed, first come first."""
        found = [(self._places[ref], order) for ref, order in self._to_match.items()]
        found.sort(key=by_place)
        return found

    def is_out_of_reach(self, order: Any, bar: Bar, feed: Feed) -> bool:  # noqa: ARG002 - likewise
        """Return whether a bar is known not to reach an order, so that it need not be matched."""
        return False


def by_place(entry: tuple[int, Any]) -> int:
    """Return the place of a (place, order) pair: the key to sort by."""
    return entry[0]
