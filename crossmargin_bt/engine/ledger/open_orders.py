# SPDX-License-Identifier: GPL-3.0-or-later
"""The resting orders of one book, and what they add up to.

Sums are exact and rounded once, so that they do not depend on the order in which orders came and went: adding one and
taking it out again leaves what was there, bit for bit.
"""

from bisect import bisect_left, insort
from typing import Any, Self

from crossmargin_bt.engine.ledger.orders import NO_PENDING_EXPOSURE, OpenOrder, PendingExposure
from crossmargin_bt.engine.terms.instrument import Instrument

# Every float is a whole multiple of 2 to the power of minus this.
FLOAT_BITS = 1074
UNIT = 1 << FLOAT_BITS


def exact(value: float) -> int:
    """Return a finite float in units of 2**-1074.

    >>> exact(0.1) + exact(0.2) == exact(0.3)
    False
    >>> rounded(exact(1e16) + exact(1.0) - exact(1e16))
    1.0
    """
    numerator, denominator = value.as_integer_ratio()
    return numerator << (FLOAT_BITS + 1 - denominator.bit_length())


def rounded(value: int) -> float:
    """Return the float nearest to a number of units."""
    return value / UNIT


class Ladder:
    """Orders that buy, or sell, on one side of a book: those nearest to the market first."""

    __slots__ = ("lots", "steps", "value")

    def __init__(self) -> None:
        self.lots = 0
        self.value = 0
        """What they are worth at their prices, in units of `exact`."""
        self.steps: list[tuple[float, int, int, int]] = []
        """(price, negative for buys; when it came; unsigned lots; value in units of `exact`)"""

    def copy(self) -> "Ladder":
        """Return the same orders, to be changed."""
        other = Ladder()
        other.lots, other.value, other.steps = self.lots, self.value, self.steps.copy()
        return other


class OpenOrders(dict[int, OpenOrder]):
    """Orders by their numbers."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__()
        self._instrument = instrument
        self._ladders: dict[tuple[str, bool], Ladder] = {}
        self._came: dict[int, int] = {}
        self._next = 0
        self.groups: dict[int, int] = {}
        """The number of orders in every one-cancels-other group, by the group."""
        self._grouped = 0
        """How many groups have more than one member."""
        self.immediate = 0
        """How many take the next price there is."""
        self.reducing = 0
        """How many only reduce."""

    @property
    def is_plain(self) -> bool:
        """Whether no order excludes another."""
        return not self._grouped

    @property
    def counts(self) -> tuple[dict[tuple[str, bool], tuple[int, int]], int, int, int]:
        """Lots and value (in units of `exact`) by leg and whether they buy; how many are immediate, reduce, and stand in groups."""
        sums = {key: (ladder.lots, ladder.value) for key, ladder in self._ladders.items() if ladder.steps}
        return sums, self.immediate, self.reducing, self._grouped

    def recounted(self) -> Self:
        """Return the same orders, counted anew."""
        other = type(self)(self._instrument)
        for number, order in self.items():
            other[number] = order
        return other

    def copy(self) -> Self:
        """Return orders that can be changed without touching these."""
        other = type(self)(self._instrument)
        dict.update(other, self)
        other.__dict__.update(self.__dict__)
        other._ladders = {key: ladder.copy() for key, ladder in self._ladders.items()}
        other._came, other.groups = self._came.copy(), self.groups.copy()
        return other

    def __setitem__(self, number: int, order: OpenOrder) -> None:
        before = self.get(number)
        if before is None:
            self._came[number] = self._next
            self._next += 1
        else:
            self._uncount(before)
        super().__setitem__(number, order)
        if order.group is not None:
            self._count_member(order.group, 1)
        if order.immediate:
            self.immediate += 1
        if order.reduce_only:
            self.reducing += 1
            return
        price, lots = order.price, order.lots
        buys = lots > 0
        ladder = self._ladders.get((order.side, buys))
        if ladder is None:
            ladder = self._ladders[order.side, buys] = Ladder()
        if not buys:
            lots = -lots
        value = exact(self._instrument.value(lots, price))
        ladder.lots += lots
        ladder.value += value
        insort(ladder.steps, (-price if buys else price, self._came[number], lots, value))

    def __delitem__(self, number: int) -> None:
        self._uncount(self[number])
        super().__delitem__(number)
        del self._came[number]

    def pop(self, number: int, *default: Any) -> Any:
        """Take an order out and return it."""
        order = self.get(number)
        if order is None:
            return super().pop(number, *default)
        del self[number]
        return order

    def clear(self) -> None:
        """Take all orders out."""
        for number in list(self):
            del self[number]

    def _uncount(self, order: OpenOrder) -> None:
        """Take an order out of the sums."""
        if order.group is not None:
            self._count_member(order.group, -1)
        if order.immediate:
            self.immediate -= 1
        if order.reduce_only:
            self.reducing -= 1
            return
        buys = order.lots > 0
        ladder = self._ladders[order.side, buys]
        # The number of arrival distinguishes steps of one price.
        at = bisect_left(ladder.steps, (-order.price if buys else order.price, self._came[order.number]))
        _, _, lots, value = ladder.steps.pop(at)
        ladder.lots -= lots
        ladder.value -= value

    def _count_member(self, group: int, sign: int) -> None:
        """Count a member of a group that comes or goes."""
        members = self.groups.get(group, 0) + sign
        if members:
            self.groups[group] = members
        else:
            del self.groups[group]
        # From one member to two, or back.
        if members == (2 if sign > 0 else 1):
            self._grouped += sign

    def notional_upper_bound(self, price: float) -> float:
        """Return no less than what all orders are worth at their own prices, or at this one."""
        total, inverse = 0.0, self._instrument.inverse
        for ladder in self._ladders.values():
            if ladder.lots:
                prices = (price, abs(ladder.steps[0][0]), abs(ladder.steps[-1][0]))
                total += self._instrument.value(ladder.lots, min(prices) if inverse else max(prices))
        return total

    def price_extremes(self, side: str) -> list[float]:
        """Return the prices nearest to and farthest from the market of the orders of a side, those that buy and those that sell."""
        found: list[float] = []
        for buys in (True, False):
            ladder = self._ladders.get((side, buys))
            if ladder is not None and ladder.steps:
                found += (abs(ladder.steps[0][0]), abs(ladder.steps[-1][0]))
        return found

    def resting_lots(self, side: str, *, buys: bool) -> int:
        """Return the unsigned lots of the orders of a side that buy, or that sell, at prices of their own."""
        ladder = self._ladders.get((side, buys))
        lots = 0 if ladder is None else ladder.lots
        if self.immediate:
            lots -= sum(
                abs(order.lots)
                for order in self.values()
                if order.immediate and order.side == side and (order.lots > 0) == buys and not order.reduce_only
            )
        return lots

    def pending(self, side: str, held: int) -> PendingExposure:
        """Return what `orders.pending` does, of plain orders valued at their own prices; losses are not counted."""
        rising = held >= 0 if side == "net" else side == "long"
        same = self._ladders.get((side, rising))
        opposite = self._ladders.get((side, not rising)) if side == "net" else None
        if same is None:
            if opposite is None:
                return NO_PENDING_EXPOSURE
            same_lots, same_value = 0, 0.0
        else:
            same_lots, same_value = same.lots, rounded(same.value)
        if opposite is None or not opposite.lots:
            return PendingExposure(same_lots, 0, same_value, 0.0, 0.0, 0.0)
        opening, to_close = opposite.value, abs(held)
        for price, _, lots, value in opposite.steps:
            if not to_close:
                break
            opening -= value
            if lots > to_close:
                opening += exact(self._instrument.value(lots - to_close, abs(price)))
            to_close -= min(lots, to_close)
        return PendingExposure(same_lots, opposite.lots, same_value, rounded(opposite.value), rounded(opening), 0.0)
