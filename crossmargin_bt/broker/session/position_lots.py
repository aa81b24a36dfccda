# SPDX-License-Identifier: GPL-3.0-or-later
"""Which strategy and tradeid hold how much of each leg, so that forced closes reach the right trades."""

from typing import Any, NamedTuple

from crossmargin_bt.engine.ledger.position import Position, apply_fill
from crossmargin_bt.engine.terms.instrument import Instrument


class PositionLot(NamedTuple):
    """The part of a leg that one strategy holds under one tradeid, in lots signed like its fills."""

    owner: Any
    tradeid: Any
    lots: int
    entry: float = 0.0
    """The part's own average entry price, which may differ from that of the whole leg."""


class PositionLots:
    """The parts of every leg, by feed and side."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, str], dict[tuple[int, Any], PositionLot]] = {}

    def add(
        self,
        data: Any,
        side: str,
        fill: PositionLot,
        instrument: Instrument,
        leg: tuple[Position, Position] | None = None,
    ) -> float:
        """Count a fill at the price in `fill.entry`; return the average entry of its part before the fill, 0 without one.

        `leg` is the whole leg before and after the fill where the caller knows it: usually the part is the whole leg, and
        its new entry need not be computed again.
        """
        at = (id(data), side)
        parts = self._parts.get(at)
        if parts is None:
            parts = self._parts[at] = {}
        owner, tradeid, added, price = fill
        key = (id(owner), tradeid)
        part = parts.get(key)
        lots, entry = (0, 0.0) if part is None else (part.lots, part.entry)
        if leg is not None and lots == leg[0].lots and entry == leg[0].entry:
            after = leg[1]
        else:
            after = apply_fill(Position(lots, entry), added, price, instrument=instrument).position
        if after.lots:
            parts[key] = PositionLot(owner, tradeid, after.lots, after.entry)
        else:
            parts.pop(key, None)
        return entry

    def oldest_first(self, data: Any, side: str, lots: int) -> list[PositionLot]:
        """Return the parts of a leg that make up `lots` (signed like the leg), oldest first.

        Parts against the leg's direction, outweighed by another part, are returned only with the whole leg.
        """
        held = list(self._parts.get((id(data), side), {}).values())
        if sum(part.lots for part in held) == lots:
            return held
        found = []
        for part in held:
            taken = min(abs(part.lots), abs(lots)) if part.lots * lots > 0 else 0
            if taken:
                found.append(part._replace(lots=taken if lots > 0 else -taken))
                lots -= found[-1].lots
        return found
