# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account holds in one instrument: its legs, its resting orders and the mark they are valued at."""

from typing import Literal

import msgspec

from crossmargin_bt.engine import formulas
from crossmargin_bt.engine.instrument import Instrument
from crossmargin_bt.engine.orders import NOTHING_PENDING, OpenOrder, Pending, pending
from crossmargin_bt.engine.position import FLAT, Position
from crossmargin_bt.engine.rates import MaintenanceRule
from crossmargin_bt.engine.rules import Rules

# The sides on which a position may stand, by position mode.
SIDES = {"one_way": ("net",), "hedge": ("long", "short")}

MarginMode = Literal["cross", "isolated"]


class Book(msgspec.Struct):
    """One instrument of an account. Legs that are flat are not in `legs`.

    Long and short exposure have a mark each, equal except while the adverse path is walked, where
    every leg meets its worse extreme at once.
    """

    instrument: Instrument
    margin_mode: MarginMode
    leverage: float
    maintenance: MaintenanceRule
    maker: float
    taker: float
    hedged: bool
    legs: dict[str, Position] = msgspec.field(default_factory=dict)
    orders: dict[int, OpenOrder] = msgspec.field(default_factory=dict)
    realised: dict[str, float] = msgspec.field(default_factory=dict)
    long_mark: float = 0.0
    short_mark: float = 0.0

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides on which a position may stand."""
        return SIDES["hedge" if self.hedged else "one_way"]

    def mark(self, price: float) -> None:
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
        """Return the floating profit of a leg, in the settle currency."""
        return self.instrument.profit(position.lots, position.entry, self.mark_of(position.lots))

    def unrealised(self) -> float:
        """Return the floating profit of all legs."""
        total = 0.0
        for position in self.legs.values():
            total += self.profit(position)
        return total

    def rate(self, lots: int) -> float:
        """Return the initial rate in force for an exposure of `lots`."""
        mark = self.long_mark
        floor = self.maintenance.initial_floor(self.instrument.value(lots, mark), self.instrument.base(lots, mark))
        return formulas.initial_rate(self.leverage, floor)

    def pending(self, side: str, *, immediate: bool = True) -> Pending:
        """Return what the orders of a leg would add and open; without `immediate`, only those that rest."""
        mine = [order for order in self.orders.values() if order.side == side and (immediate or not order.immediate)]
        if not mine:
            return NOTHING_PENDING
        return pending(self.leg(side).lots, mine, instrument=self.instrument, side=side)

    def maintenance_of(self, lots: int, mark: float) -> float:
        """Return the maintenance margin of an exposure of unsigned `lots` valued at `mark`."""
        if not lots:
            return 0.0
        return self.maintenance.margin(self.instrument.value(lots, mark), self.instrument.base(lots, mark))

    def copy(self) -> "Book":
        """Return a book that can be changed without touching this one."""
        return msgspec.structs.replace(
            self, legs=dict(self.legs), orders=dict(self.orders), realised=dict(self.realised)
        )


def exposure(book: Book, rules: Rules, *, with_orders: bool) -> tuple[int, int]:
    """Return the long and the short lots that maintenance counts in cross mode.

    A one-way position stands on the side it is on; where orders count and the other side would be
    the larger one, the larger quantity stands on its side.
    """
    counted = rules.orders_in_maintenance if with_orders else "none"
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
