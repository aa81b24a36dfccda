# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the broker knows of one run. A new run is a new `Run`, so nothing can be forgotten in a reset."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from crossmargin_bt.engine import events, invariants
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.path import Candle
from crossmargin_bt.venues import Venue

MS_PER_DAY = 86_400_000
# backtrader counts days so that 0001-01-01 is day 1; this is day 0 of the epoch on that scale.
EPOCH_DAY = datetime(1970, 1, 1).toordinal()  # noqa: DTZ001 - a date, used for its day number only


def time_ms(day_number: float) -> int:
    """Return milliseconds since 1970-01-01 UTC of a backtrader day number.

    >>> time_ms(719163.5)
    43200000
    """
    return round((day_number - EPOCH_DAY) * MS_PER_DAY)


class Bar(NamedTuple):
    """A new bar of one feed: the last-price candle, the mark candle, and the funding due at its open."""

    data: Any
    book: Book
    time_ms: int
    last: Candle
    mark: Candle
    funding_rate: float


class Owned(NamedTuple):
    """Whose a part of a leg is: the strategy and the tradeid its orders carried, in lots."""

    owner: Any
    tradeid: Any
    lots: int


class Attribution:
    """Which strategy and tradeid hold how much of each leg, so that forced closes reach the right trades."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], dict[tuple[int, Any], Owned]] = {}

    def add(self, data: Any, side: str, owned: Owned) -> None:
        """Count a fill."""
        parts = self._held.setdefault((id(data), side), {})
        key = (id(owned.owner), owned.tradeid)
        lots = owned.lots + (parts[key].lots if key in parts else 0)
        if lots:
            parts[key] = owned._replace(lots=lots)
        else:
            parts.pop(key, None)

    def parts(self, data: Any, side: str) -> list[Owned]:
        """Return the parts of a leg, oldest first."""
        return list(self._held.get((id(data), side), {}).values())


class Run:
    """One run's account, journal, order numbers and bars seen."""

    def __init__(self, venue: Venue, *, position_mode: str, currency: str, check: bool) -> None:
        self.account = Account(venue.rules, position_mode=position_mode)
        self.journal: list[events.JournalEntry] = []
        self.currency = currency
        self.time_ms = 0
        self.books: dict[Any, Book] = {}
        self.attribution = Attribution()
        self.resting: set[int] = set()
        self.lowest_level = float("inf")
        self._check = check
        self._numbers: dict[int, int] = {}
        self._lots_left: dict[int, int] = {}
        self._seen: dict[Any, tuple[int, float]] = {}

    def record(self, event: events.JournalEntry) -> None:
        """Apply an entry to the account and keep it."""
        self.account.apply(event)
        self.journal.append(event)
        if self._check:
            invariants.check(self.account)

    def number(self, order: Any) -> int:
        """Return the order's number in this run, from 1, in the order of submission."""
        return self.number_of(order.ref)

    def number_of(self, ref: int) -> int:
        """Return the number of the order with backtrader's reference, which goes on counting from run to run."""
        return self._numbers.setdefault(ref, len(self._numbers) + 1)

    def lots_left(self, order: Any) -> int:
        """Return the signed lots the order has still to trade."""
        if order.ref not in self._lots_left:
            self._lots_left[order.ref] = self.books[order.data].instrument.lots(order.size)
        return self._lots_left[order.ref]

    def take_lots(self, order: Any, lots: int) -> int:
        """Count `lots` (signed) of the order as traded and return what is left."""
        self._lots_left[order.ref] = left = self.lots_left(order) - lots
        return left

    def forget(self, order: Any) -> None:
        """Drop what is kept for an order that has ended."""
        self.resting.discard(order.ref)
        self._lots_left.pop(order.ref, None)

    def new_bars(self) -> Iterator[Bar]:
        """Yield the bars delivered since the last call; feeds that have paused or ended yield none."""
        for data, book in self.books.items():
            length = len(data)
            # With exactbars=1 a feed that waits for the others has given its only bar back.
            if not length or not data.buflen():
                continue
            seen = (length, data.datetime[0])
            if self._seen.get(data) == seen and not data.replaying:
                continue
            funding_is_new = self._seen.get(data, (0, 0.0))[0] != length
            self._seen[data] = seen
            bar = _read(data, book, funding_is_new=funding_is_new)
            if bar is None:
                text = "a price is missing, zero or negative"
                self.record(events.BarIgnored(time_ms=time_ms(seen[1]), symbol=book.instrument.symbol, reason=text))
                continue
            yield bar


def _read(data: Any, book: Book, *, funding_is_new: bool) -> Bar | None:
    candle = Candle(*(_tick(data, name) for name in Candle._fields))
    if not _usable(candle):
        return None
    mark = candle
    if getattr(data, "has_mark", False):
        given = Candle(data.mark_open[0], data.mark_high[0], data.mark_low[0], data.mark_close[0])
        mark = given if _usable(given) else candle
    rate = data.funding_rate[0] if funding_is_new and getattr(data, "has_funding", False) else 0.0
    return Bar(data, book, time_ms(data.datetime[0]), candle, mark, 0.0 if math.isnan(rate) else rate)


def _usable(candle: Candle) -> bool:
    return all(0 < price < math.inf for price in candle)


def _tick(data: Any, name: str) -> float:
    """Return a price of the bar as it stands; while a feed replays, of the part that has come."""
    tick = getattr(data, f"tick_{name}", None) if data.replaying else None
    price: float = getattr(data.lines, name)[0] if tick is None else tick
    return price
