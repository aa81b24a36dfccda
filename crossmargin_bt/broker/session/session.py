# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the broker knows of one run. A new run is a new `BrokerSession`, so nothing can be forgotten in a reset."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from crossmargin_bt.broker.session.bars import Bar, Feed, time_ms
from crossmargin_bt.broker.session.intrabar_data import IntrabarCandles
from crossmargin_bt.broker.skip.lookahead import are_in_step
from crossmargin_bt.broker.skip.safe_range import NO_RANGE, Backoff
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.journal import Journal
from crossmargin_bt.engine.ledger.position import Position, apply_fill
from crossmargin_bt.engine.margin import invariants, metrics
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rules import ContractTerms
from crossmargin_bt.engine.terms.volatility import RealisedVolatility

# Margin levels from here on are not told apart: nothing is near.
LEVEL_NOTED = 10_000.0


class PositionLot(NamedTuple):
    """Whose a part of a leg is: the strategy and the tradeid its orders carried, in lots."""

    owner: Any
    tradeid: Any
    lots: int
    entry: float = 0.0
    """Its own average entry price, whatever that of the whole leg."""


class PositionLots:
    """Which strategy and tradeid hold how much of each leg, so that forced closes reach the right trades."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], dict[tuple[int, Any], PositionLot]] = {}

    def add(
        self,
        data: Any,
        side: str,
        fill: PositionLot,
        instrument: Instrument,
        leg: tuple[Position, Position] | None = None,
    ) -> float:
        """Count a fill at the price its `entry` names; return the average entry of the part before it, 0 without one.

        `leg` is the whole leg before and after the fill, where that is known: mostly the part is all of it.
        """
        at = (id(data), side)
        parts = self._held.get(at)
        if parts is None:
            parts = self._held[at] = {}
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

    def first(self, data: Any, side: str, lots: int) -> list[PositionLot]:
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


def nothing() -> None:
    """Do nothing."""


class BrokerSession:
    """One run's account, journal, order numbers and bars seen."""

    def __init__(self, account: Account, *, currency: str, check: bool) -> None:
        self.account = account
        self.notices: list[events.JournalEntry] = []
        """What strategies are told at the end of the bar."""
        self.closed = False
        """Whether a pool was closed out in this bar."""
        self.journal = Journal()
        self._keep = self.journal.append
        self.before_change: Callable[[], None] = nothing
        """Called before the account changes: figures that were put off are read now."""
        self.fills = self.refused = 0
        self.currency = currency
        self.is_watched = False
        """Whether somebody outside holds the account, and may look at any moment."""
        self.looks_in_a_row = 0
        """How often in a row a single bar had passed unseen when somebody looked."""
        self.seen_until = 0
        """Up to which bar calms let every bar pass by itself."""
        self.calm: Any = None
        """The calm the run is in (`crossmargin_bt.broker.skip.quiet_interval`), None in bars that are worked through."""
        self.day = 0.0
        """The time of the latest bar as backtrader counts days; `time_ms` in its own unit."""
        self._time_ms, self._told_day = 0, 0.0
        self.books: dict[Any, Book] = {}
        self.attribution = PositionLots()
        self.last_close: dict[str, float] = {}
        self.lowest_level = LEVEL_NOTED
        self.lowest_level_ms = 0
        """When that was: the label of the bar."""
        self.band = NO_RANGE
        """Where no threshold acts, and the level does not sink below its lowest."""
        self.safe = NO_RANGE
        """Where no threshold acts."""
        self.spell = Backoff()
        self.owed_nothing_at = -1
        """The version of the account at which a bar ended without a debt."""
        self.bar_ms, self.step_days = 0, math.inf
        """The shortest step between two bars so far, in milliseconds and in days."""
        self.watch: Any = None
        self.discipline: Any = None
        self.finer: dict[str, IntrabarCandles] = {}
        self._next_expiry = 0.0
        self.feeds: dict[Any, Feed] = {}
        self._check = check
        self._pools: list[metrics.Pool] = []
        self._pools_version = -1
        self._numbers: dict[int, int] = {}
        self._lots_left: dict[int, int] = {}
        self._coming: dict[str, list[ContractTerms]] = {}
        self._volatility: dict[str, RealisedVolatility] = {}

    @property
    def is_one_pool(self) -> bool:
        """Whether the whole account is one pool, whose equity is the account's."""
        return self.account.pooled or len(self.account.balances) == 1

    @property
    def is_one_currency(self) -> bool:
        """Whether there is one balance, and one pool of it."""
        return len(self.account.balances) == 1

    @cached_property
    def is_in_step(self) -> bool:
        """Whether all feeds have the same bars; asked where all of them are loaded."""
        return are_in_step(list(self.feeds.values()))

    @property
    def time_ms(self) -> int:
        """The time of the latest bar in milliseconds since 1970-01-01 UTC."""
        if self._told_day != self.day:
            self._told_day = self.day
            self._time_ms = time_ms(self.day)
            self.account.now_ms = self._time_ms
        return self._time_ms

    @property
    def next_change_ms(self) -> float:
        """When the next contract expires or takes other terms; infinity for never."""
        coming = [terms[0].since_ms for terms in self._coming.values() if terms]
        return min([self._next_expiry, *coming])

    def pools(self) -> list[metrics.Pool]:
        """Return the pools that have something at risk."""
        if self._pools_version != self.account.version or self.account.pooled:  # debts rise with prices
            self._pools, self._pools_version = metrics.pools(self.account), self.account.version
        return self._pools

    def hand_out(self) -> Account:
        """Return the account for somebody who may keep it, and look at it at any moment from now on."""
        self.is_watched = True
        if self.calm is not None:
            self.calm.see_every_bar()
        return self.account

    def record(self, event: events.JournalEntry) -> None:
        """Apply an entry to the account and keep it."""
        self.before_change()
        self.account.apply(event)
        self._keep(event)
        if self._check:
            invariants.check(self.account)

    def note_level(self, level: float) -> None:
        """Keep the lowest margin level of the run, and the bar it was seen in."""
        if level < self.lowest_level:
            self.lowest_level, self.lowest_level_ms = level, self.time_ms

    def number(self, order: Any) -> int:
        """Return the order's number in this run, from 1, in the order of submission."""
        return self._numbers.get(order.ref) or self.number_of(order.ref)

    def number_of(self, ref: int) -> int:
        """Return the number of the order with backtrader's reference, which goes on counting from run to run."""
        number = self._numbers.get(ref)
        if number is None:
            number = self._numbers[ref] = len(self._numbers) + 1
        return number

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
        self._lots_left.pop(order.ref, None)

    def list_feed(self, data: Any, book: Book) -> None:
        """Trade `book` on a feed."""
        self.books[data] = book
        self.feeds[data] = Feed(data, book)
        if book.instrument.maintenance is None:
            dated = self.account.rules.terms(book.instrument.symbol)
            if len(dated) > 1:
                self._coming[book.instrument.symbol] = dated[1:]

    def ending(self) -> list[Any]:
        """Return the feeds whose contracts have come to their end by now and have not been settled."""
        if self.time_ms < self._next_expiry:
            return []
        ends = {data: self.books[data].instrument.expiry_ms for data, feed in self.feeds.items() if not feed.is_ended}
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
        for feed in self.feeds.values():
            clock = feed.clock
            length = clock.lencount
            # With exactbars=1 a feed that waits for the others has given its only bar back.
            if feed.is_ended or not length or not clock.array:
                continue
            day = clock.array[clock._idx]
            if length == feed.length and day == feed.day and not feed.data.replaying:
                continue
            before, is_new = feed.day, length != feed.length
            feed.length, feed.day = length, day
            bar = feed.bar(day, funding_is_new=is_new)
            if bar is None:
                text = "a price is missing, zero or negative"
                self.record(events.BarIgnored(time_ms=time_ms(day), symbol=feed.symbol, reason=text))
                continue
            self._count_step(before, day)
            self.day = max(self.day, day)
            self.account.now_ms = self.time_ms
            if feed.volatility is not None:
                feed.read_option()
            if self._coming:
                self._take_terms(feed.book, bar.time_ms)
            self.last_close[feed.symbol] = bar.last.close
            if not feed.book.long_mark:
                feed.book.set_mark(bar.mark.open)
            bars.append(bar)
        return bars

    def _count_step(self, before: float, day: float) -> None:
        """Keep the shortest step between two bars of a feed."""
        if before and 0 < day - before < self.step_days:
            self.step_days = day - before
            self.bar_ms = time_ms(day) - time_ms(before)
