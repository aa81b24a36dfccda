# SPDX-License-Identifier: GPL-3.0-or-later
"""A position as a value, and the position after a fill."""

from typing import NamedTuple, Self

import msgspec

from crossmargin_bt.engine.terms.instrument import Instrument


class LegId(NamedTuple):
    """Names one leg of an account: the instrument's symbol and the side ("net", "long" or "short").

    >>> str(LegId("BTCUSDT", "long")), LegId.parse("BTC/USDT:USDT:net")
    ('BTCUSDT:long', LegId(symbol='BTC/USDT:USDT', side='net'))
    """

    symbol: str
    side: str

    def __str__(self) -> str:
        return f"{self.symbol}:{self.side}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the leg of a name as `str` writes it; a symbol may itself hold colons."""
        symbol, _, side = name.rpartition(":")
        return cls(symbol, side)


class Position(msgspec.Struct, frozen=True, gc=False):
    """One leg. `lots` is signed and counts whole lots, so flat is exactly 0.

    `entry` is the average entry price; `margin` is the isolated margin that belongs to this leg
    alone (settle currency), 0 in cross mode. `interest` is what a margin pair has accrued on what it borrowed, in the
    currency of that: the quote currency of a long, the coin of a short.
    """

    lots: int
    entry: float
    margin: float = 0.0
    interest: float = 0.0


FLAT = Position(0, 0.0)


class FillEffect(NamedTuple):
    """What a fill does to a position: lots closed and opened (signed like the fill) and profit realised."""

    position: Position
    closed: int
    opened: int
    realised: float


def split_fill(held: int, lots: int) -> tuple[int, int]:
    """Return how many of `lots` close and how many open against `held`, both signed like `lots`.

    >>> split_fill(10, -15)
    (-10, -5)
    """
    if held == 0 or (held > 0) == (lots > 0):
        return 0, lots
    closed = lots if abs(lots) <= abs(held) else -held
    return closed, lots - closed


def opened_after(held: int, lots: int, closing: int) -> int:
    """Return how many of `lots`, unsigned, open against `held` once other orders have closed `closing` (unsigned) of it.

    >>> opened_after(10, -15, 4)
    9
    >>> opened_after(10, 5, 4)
    5
    """
    if held == 0 or (held > 0) == (lots > 0):
        return abs(lots)
    return max(0, abs(lots) - max(0, abs(held) - closing))


def cap_to_position(held: int, lots: int) -> int:
    """Return what of a reduce-only fill of `lots` may trade against `held`.

    >>> cap_to_position(10, -15)
    -10
    >>> cap_to_position(10, 5)
    0
    """
    return split_fill(held, lots)[0]


def apply_fill(
    position: Position, lots: int, price: float, *, instrument: Instrument, margin: float = 0.0
) -> FillEffect:
    """Return the position after `lots` trade at `price`, with `margin` added to its isolated margin."""
    closed, opened = split_fill(position.lots, lots)
    realised = instrument.profit(-closed, position.entry, price) if closed else 0.0
    kept = position.lots + closed
    if not opened:
        entry = position.entry if kept else 0.0
    elif kept:
        entry = instrument.average_entry(kept, position.entry, opened, price)
    else:
        entry = price
    interest = 0.0
    if position.interest:
        interest = position.interest * kept / position.lots
        realised -= instrument.interest_cost(position.lots, position.interest - interest, price)
    after = Position(kept + opened, entry, position.margin + margin if kept + opened else 0.0, interest)
    return FillEffect(after, closed, opened, realised)


def with_margin(position: Position, amount: float) -> Position:
    """Return the position with `amount` added to its isolated margin."""
    return Position(position.lots, position.entry, position.margin + amount, position.interest)
