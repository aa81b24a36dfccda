# SPDX-License-Identifier: GPL-3.0-or-later
"""Resting orders as values, and what of them would open a position.

Assumption: where several opposite orders rest, the position is matched first with those nearest
to the market, since they fill first. The venues publish no order of matching.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from crossmargin_bt.engine.terms.instrument import Instrument


class OpenOrder(msgspec.Struct, frozen=True, gc=False):
    """An order the venue holds. `lots` is signed, positive when buying.

    `price` values the order: its limit or trigger, or the last price for a market order.
    Of orders that share a `group` (one-cancels-other, a bracket's exits) only one can fill. An
    `immediate` order takes the next price there is. `covered` counts the lots for whose opening margin
    was found when the order was admitted; the rest was to close.
    """

    number: int
    side: str
    lots: int
    price: float
    reduce_only: bool = False
    group: int | None = None
    immediate: bool = False
    covered: int = 0


class PendingExposure(NamedTuple):
    """Resting orders seen from a position: lots a side, and the value each side would open.

    `same` orders add to the position (buys when flat), `opposite` ones oppose it. Reduce-only
    orders are in none of these.
    """

    same_lots: int
    opposite_lots: int
    same_value: float
    opposite_value: float
    opening_value: float
    loss: float
    """What the orders would lose at once, filled at their prices and marked (0 or above)."""


NO_PENDING_EXPOSURE = PendingExposure(0, 0, 0.0, 0.0, 0.0, 0.0)


class Prices(NamedTuple):
    """The mark and the last price, and what the venue adds to the last to value a sell order (see `Rules`)."""

    mark: float
    last: float
    sell_markup: float | None

    def of(self, order: OpenOrder) -> float:
        """Return the price at which the order is valued."""
        if self.sell_markup is None or order.lots > 0:
            return order.price
        return max(order.price, self.mark, self.last * (1 + self.sell_markup))


def pending(
    held: int, orders: Iterable[OpenOrder], prices: Prices, *, instrument: Instrument, side: str = "net"
) -> PendingExposure:
    """Return what `orders` would add to `held` lots and open against them.

    Values are in the settle currency, each order at the price the venue values it at, and exact sums rounded once. On the `long` or
    `short` leg of hedge mode opposite orders can close and never open.
    """
    direction = {"long": 1, "short": -1}.get(side) or (1 if held >= 0 else -1)
    same, opposite = _one_of_each_group(orders, direction, abs(held), prices, instrument)
    same_lots = sum(abs(order.lots) for order in same)
    same_value = math.fsum(instrument.value(order.lots, prices.of(order)) for order in same)
    loss = math.fsum(_loss(instrument, order.lots, order.price, prices.mark) for order in same)
    if side != "net" or not opposite:
        return PendingExposure(same_lots, 0, same_value, 0.0, 0.0, loss)
    opposite.sort(key=lambda order: order.price * direction)
    to_close = abs(held)
    opened: list[float] = []
    for order in opposite:
        closing = min(to_close, abs(order.lots))
        to_close -= closing
        opening = abs(order.lots) - closing
        opened.append(instrument.value(opening, prices.of(order)))
        loss += _loss(instrument, -direction * opening, order.price, prices.mark)
    opposite_lots = sum(abs(order.lots) for order in opposite)
    opposite_value = math.fsum(instrument.value(order.lots, prices.of(order)) for order in opposite)
    return PendingExposure(same_lots, opposite_lots, same_value, opposite_value, math.fsum(opened), loss)


def _loss(instrument: Instrument, lots: int, price: float, mark: float) -> float:
    return max(0.0, -instrument.profit(lots, price, mark))


def orders_that_can_open(held: int, orders: Iterable[OpenOrder]) -> list[OpenOrder]:
    """Return the orders that can do more than close `held`, however the others fill.

    Of opposite orders those nearest to the market are kept as closing, as long as together they stay
    within the position; members of a group count once.
    """
    direction = 1 if held >= 0 else -1
    able = [order for order in orders if not order.reduce_only]
    found = [order for order in able if order.lots * direction > 0]
    to_close, groups = abs(held), set[int]()
    for order in sorted((o for o in able if o.lots * direction < 0), key=lambda order: order.price * direction):
        if order.group is not None and order.group in groups:
            continue
        if abs(order.lots) > to_close:
            found.append(order)
            continue
        to_close -= abs(order.lots)
        if order.group is not None:
            groups.add(order.group)
    return found


def _one_of_each_group(
    orders: Iterable[OpenOrder], direction: int, held: int, prices: Prices, instrument: Instrument
) -> tuple[list[OpenOrder], list[OpenOrder]]:
    """Return the orders with and against `direction`, the one that would open most value standing for its group."""

    def weight(order: OpenOrder) -> tuple[float, float]:
        closing = held if order.lots * direction < 0 else 0
        opening = max(0, abs(order.lots) - closing)
        return instrument.value(opening, prices.of(order)), instrument.value(order.lots, prices.of(order))

    sides: tuple[dict[object, OpenOrder], dict[object, OpenOrder]] = ({}, {})
    for order in orders:
        if order.reduce_only:
            continue
        side = sides[0] if order.lots * direction > 0 else sides[1]
        key = ("order", order.number) if order.group is None else ("group", order.group)
        standing = side.get(key)
        if standing is None or weight(order) > weight(standing):
            side[key] = order
    return list(sides[0].values()), list(sides[1].values())
