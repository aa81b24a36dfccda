# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the broker knows of one run. A new run is a new `Run`, so nothing can be forgotten in a reset."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from crossmargin_bt.broker.finer import Finer
from crossmargin_bt.engine import events, invariants
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.instrument import Instrument
from crossmargin_bt.engine.path import Candle
from crossmargin_bt.engine.position import Position
from crossmargin_bt.engine.position import fill as fill_position
from crossmargin_bt.engine.rules import ContractTerms
from crossmargin_bt.engine.volatility import RealisedVolatility

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


class Band(NamedTuple):
    """Mark prices within which no pool can give out, at one version of the account; an instrument not named stands still."""

    version: int
    ranges: dict[str, tuple[float, float]]

    def holds(self, account: Account, bars: Sequence[Bar]) -> bool:
        """Return whether these bars stay within the band."""
        if self.version != account.version:
            return False
        for bar in bars:
            low, high = self.ranges.get(bar.book.instrument.symbol, (math.inf, 0.0))
            if bar.mark.low < low or bar.mark.high > high:
                return False
        return True


NO_BAND = Band(-1, {})


class Owned(NamedTuple):
    """Whose a part of a leg is: the strategy and the tradeid its orders carried, in lots."""

    owner: Any
    tradeid: Any
    lots: int
    entry: float = 0.0
    """Its own average entry price, whatever that of the whole leg."""


class Attribution:
    """Which strategy and tradeid hold how much of each leg, so that forced closes reach the right trades."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], dict[tuple[int, Any], Owned]] = {}

    def add(self, data: Any, side: str, fill: Owned, instrument: Instrument) -> float:
        """Count a fill at the price its `entry` names; return the average entry of the part before it, 0 without one."""
        parts = self._held.setdefault((id(data), side), {})
        key = (id(fill.owner), fill.tradeid)
        before = parts.get(key, fill._replace(lots=0, entry=0.0))
        after = fill_position(
            Position(before.lots, before.entry), fill.lots, fill.entry, instrument=instrument
        ).position
        if after.lots:
            parts[key] = fill._replace(lots=after.lots, entry=after.entry)
        else:
            parts.pop(key, None)
        return before.entry

    def first(self, data: Any, side: str, lots: int) -> list[Owned]:
        """Return the parts of a leg that make up `lots` (signed like the leg), oldest first.

        Parts against the leg's direction, which another part outweighs, go with the whole leg alone.
        """
        held = list(self._held.get((id(data), side), {}).values())
        if sum(part.lots for part in held) == lots:
            return held
        found = []
        for part in held:
            taken = min(abs(part.lots), abs(lots)) if part.lots * lots > 0 else 0
            if taken:
                found.append(part._replace(lots=taken if lots > 0 else -taken))
                lots -= found[-1].lots
        return found


class Run:
    """One run's account, journal, order numbers and bars seen."""

    def __init__(self, account: Account, *, currency: str, check: bool) -> None:
        self.account = account
        self.notices: list[events.JournalEntry] = []
        """What strategies are told at the end of the bar."""
        self.closed = False
        """Whether a pool was closed out in this bar."""
        self.journal: list[events.JournalEntry] = []
        self.currency = currency
        self.time_ms = 0
        self.books: dict[Any, Book] = {}
        self.attribution = Attribution()
        self.resting: set[int] = set()
        self.last_close: dict[str, float] = {}
        self.lowest_level = float("inf")
        self.lowest_level_ms = 0
        """When that was: the label of the bar."""
        self.band = NO_BAND
        self.bar_ms = 0
        """The shortest step between two bars so far."""
        self._bar_days = math.inf
        self.watch: Any = None
        self.discipline: Any = None
        self.finer: dict[str, Finer] = {}
        self._next_expiry = 0.0
        self.ended: set[Any] = set()
        """Feeds whose contract has expired."""
        self._check = check
        self._numbers: dict[int, int] = {}
        self._lots_left: dict[int, int] = {}
        self._seen: dict[Any, tuple[int, float]] = {}
        self._lines: dict[Any, Lines] = {}
        self._coming: dict[str, list[ContractTerms]] = {}
        self._volatility: dict[str, RealisedVolatility] = {}

    def record(self, event: events.JournalEntry) -> None:
        """Apply an entry to the account and keep it."""
        self.account.apply(event)
        self.journal.append(event)
        if self._check:
            invariants.check(self.account)

    def note_level(self, level: float) -> None:
        """Keep the lowest margin level of the run, and the bar it was seen in."""
        if level < self.lowest_level:
            self.lowest_level, self.lowest_level_ms = level, self.time_ms

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

    def list_feed(self, data: Any, book: Book) -> None:
        """Trade `book` on a feed."""
        self.books[data] = book
        self._lines[data] = Lines.of(data)
        if book.instrument.maintenance is None:
            dated = self.account.rules.terms(book.instrument.symbol)
            if len(dated) > 1:
                self._coming[book.instrument.symbol] = dated[1:]

    def ending(self) -> list[Any]:
        """Return the feeds whose contracts have come to their end by now and have not been settled."""
        if self.time_ms < self._next_expiry:
            return []
        ends = {data: book.instrument.expiry_ms for data, book in self.books.items() if data not in self.ended}
        self._next_expiry = min((end for end in ends.values() if end > self.time_ms), default=math.inf)
        return [data for data, end in ends.items() if end <= self.time_ms]

    def scale_rates(self, bars: Sequence[Bar]) -> None:
        """Let the rates of the bars' instruments follow volatility up to their closes, where the venue's do."""
        scaling = self.account.rules.volatility_scaling
        if scaling is None:
            return
        for bar in bars:
            symbol = bar.book.instrument.symbol
            if symbol not in self._volatility:
                self._volatility[symbol] = RealisedVolatility(scaling)
            volatility = self._volatility[symbol].add(bar.time_ms, bar.mark.close)
            if volatility is not None and (factor := scaling.factor(volatility)) != bar.book.scale:
                self.record(
                    events.RatesScaled(time_ms=self.time_ms, symbol=symbol, volatility=volatility, factor=factor)
                )

    def _take_terms(self, book: Book, at_ms: int) -> None:
        """Put the contract's terms of that time in force."""
        symbol = book.instrument.symbol
        coming = self._coming.get(symbol, [])
        due = [terms for terms in coming if terms.since_ms <= at_ms]
        if due:
            self._coming[symbol] = coming[len(due) :]
            latest = due[-1]
            self.record(
                events.MaintenanceChanged(
                    time_ms=self.time_ms,
                    symbol=symbol,
                    maintenance=latest.maintenance,
                    isolated=latest.rates["isolated"],
                    source=latest.source,
                )
            )

    def new_bars(self) -> list[Bar]:
        """Return the bars delivered since the last call; feeds that have paused or ended deliver none."""
        bars = []
        for data, book in self.books.items():
            if self.ended and data in self.ended:
                continue
            length = len(data)
            # With exactbars=1 a feed that waits for the others has given its only bar back.
            if not length or not data.buflen():
                continue
            lines = self._lines[data]
            seen = (length, lines.datetime[0])
            before = self._seen.get(data, (0, 0.0))
            if before == seen and not data.replaying:
                continue
            self._seen[data] = seen
            bar = lines.bar(data, book, time_ms(seen[1]), funding_is_new=before[0] != length)
            if bar is None:
                text = "a price is missing, zero or negative"
                self.record(events.BarIgnored(time_ms=time_ms(seen[1]), symbol=book.instrument.symbol, reason=text))
                continue
            if before[1] and 0 < seen[1] - before[1] < self._bar_days:
                self._bar_days = seen[1] - before[1]
                self.bar_ms = bar.time_ms - time_ms(before[1])
            self.account.now_ms = self.time_ms = max(self.time_ms, bar.time_ms)
            if lines.volatility is not None:
                lines.read_option(book)
            if self._coming:
                self._take_terms(book, bar.time_ms)
            self.last_close[book.instrument.symbol] = bar.last.close
            if not book.long_mark:
                book.mark(bar.mark.open)
            bars.append(bar)
        return bars


class Lines(NamedTuple):
    """A feed's line buffers, looked up once: through the feed every price costs several attribute look-ups."""

    datetime: Any
    last: tuple[Any, ...]
    mark: tuple[Any, ...]
    funding: Any
    volatility: Any = None
    index: Any = None
    interest_rate: Any = None

    @classmethod
    def of(cls, data: Any) -> "Lines":
        """Return the lines of a feed; mark and funding where it has them."""
        lines = data.lines
        mark = [getattr(lines, f"mark_{name}") for name in Candle._fields] if getattr(data, "has_mark", False) else []
        funding = lines.funding_rate if getattr(data, "has_funding", False) else None
        last = tuple(getattr(lines, name) for name in Candle._fields)
        option = [getattr(lines, name, None) for name in ("volatility", "index_price", "interest_rate")]
        return cls(lines.datetime, last, tuple(mark), funding, *option)

    def read_option(self, book: Book) -> None:
        """Take an option's volatility and index price over, where the bar has them."""
        volatility, index = self.volatility[0], self.index[0]
        book.volatility = volatility if volatility > 0 else 0.0
        if index > 0:
            book.index = index
        rate = math.nan if self.interest_rate is None else self.interest_rate[0]
        book.interest_rate = 0.0 if math.isnan(rate) else rate

    def bar(self, data: Any, book: Book, at_ms: int, *, funding_is_new: bool) -> Bar | None:
        """Return the feed's current bar, or None when it has no usable prices."""
        candle = Candle(*[line[0] for line in self.last])
        if data.replaying:
            candle = Candle(*(_tick(data, name, price) for name, price in zip(candle._fields, candle, strict=True)))
        if not _usable(candle):
            return None
        mark = candle
        if self.mark:
            given = Candle(*[line[0] for line in self.mark])
            mark = given if _usable(given) else candle
        rate = self.funding[0] if self.funding is not None and funding_is_new else 0.0
        return Bar(data, book, at_ms, candle, mark, 0.0 if math.isnan(rate) else rate)


def _usable(candle: Candle) -> bool:
    # A comparison with NaN is false, whichever way it is put.
    return candle.low > 0 and candle.open > 0 and candle.close > 0 and 0 < candle.high < math.inf


def _tick(data: Any, name: str, price: float) -> float:
    """Return a price of the part of a replayed bar that has come."""
    tick = getattr(data, f"tick_{name}", None)
    return price if tick is None else float(tick)
