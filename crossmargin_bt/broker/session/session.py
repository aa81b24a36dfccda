# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one run of the broker. A new run makes a new session, so no reset can forget anything."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from crossmargin_bt.broker.session.account_snapshot import AccountSnapshot
from crossmargin_bt.broker.session.bars import Bar, Feed, time_ms
from crossmargin_bt.broker.session.intrabar_data import IntrabarCandles
from crossmargin_bt.broker.session.position_lots import PositionLots
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.journal import Journal
from crossmargin_bt.engine.margin import invariants, metrics
from crossmargin_bt.engine.terms.rules import ContractTerms, RuleChange
from crossmargin_bt.engine.terms.volatility import RealisedVolatility

# Margin levels from 1,000,000 % upwards are not recorded: no threshold is near, and following them costs more than the run.
LEVEL_RECORDED_MAX = 10_000.0


class BrokerSession:
    """Account, journal, clock, feeds and order numbers of one run."""

    def __init__(
        self, account: Account, *, currency: str, check: bool, rule_changes: Sequence[RuleChange] = ()
    ) -> None:
        self.account = account
        self.rules_at_start = account.rules
        """The rules before any dated change; the journal has the changes."""
        self.currency = currency
        self.journal = Journal()
        self._append = self.journal.append
        self.before_record: Callable[[events.JournalEntry], None] | None = None
        """Hook that runs before an entry changes the account: whatever evaluates lazily has to be evaluated then."""
        self.pending_notifications: list[events.JournalEntry] = []
        """Entries that strategies are notified of at the end of the bar."""
        self.snapshot: AccountSnapshot | None = None
        """The figures of the last bar's close whose snapshot has been taken."""
        self.closed_out = False
        """Whether a pool was closed out in this bar."""
        self.fills = self.refused = 0
        self.day = 0.0
        """The time of the latest bar in backtrader's day numbers; `time_ms` is the same time in milliseconds."""
        self._time_ms, self._converted_day = 0, 0.0
        self.bar_ms, self.step_days = 0, math.inf
        """The shortest step between two bars so far, in milliseconds and in days."""
        self.books: dict[Any, Book] = {}
        self.feeds: dict[Any, Feed] = {}
        self.intrabar: dict[str, IntrabarCandles] = {}
        """By symbol, candles of a smaller timeframe."""
        self.last_close: dict[str, float] = {}
        self.lowest_level = LEVEL_RECORDED_MAX
        self.lowest_level_ms = 0
        """The label of the bar in which the margin level was lowest."""
        self.position_lots = PositionLots()
        self._check = check
        self._pools: list[metrics.Pool] = []
        self._pools_version = -1
        self._numbers: dict[int, int] = {}
        self._lots_left: dict[int, int] = {}
        self._next_expiry = 0.0
        self.next_end_day = 0.0
        """When the next feed ends, in day numbers; 0 before the first bar, infinity for never."""
        self._next_end_ms: float = 0.0
        self.is_preloaded = False
        """Whether all feeds are loaded as a whole."""
        self._next_terms: dict[str, list[ContractTerms]] = {}
        self._next_rules = list(rule_changes)
        self._rules_change_ms: float = math.inf if not rule_changes else rule_changes[0].since_ms
        """When the venue's rules change next; infinity for never."""
        self.on_rules_changed: Callable[[], None] | None = None
        """Hook that runs after the venue's rules have changed."""
        self._volatility: dict[str, RealisedVolatility] = {}

    # The clock

    @property
    def time_ms(self) -> int:
        """The time of the latest bar in milliseconds since 1970-01-01 UTC."""
        if self._converted_day != self.day:
            self._converted_day = self.day
            self._time_ms = time_ms(self.day)
            self.account.now_ms = self._time_ms
        return self._time_ms

    @property
    def next_change_ms(self) -> float:
        """When the next contract expires, ends or changes its terms, or the venue changes its rules; infinity for never."""
        return min(
            [
                self._next_expiry,
                self._next_end_ms,
                self._rules_change_ms,
                *(terms[0].since_ms for terms in self._next_terms.values() if terms),
            ]
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
            if before and 0 < day - before < self.step_days:
                self.step_days = day - before
                self.bar_ms = time_ms(day) - time_ms(before)
            self.day = max(self.day, day)
            self.account.now_ms = self.time_ms
            if feed.volatility is not None:
                feed.read_option()
            if bar.time_ms >= self._rules_change_ms:
                self._adopt_rules(bar.time_ms)
            if self._next_terms:
                self._adopt_terms(feed.book, bar.time_ms)
            self.last_close[feed.symbol] = bar.last.close
            if not feed.book.long_mark:
                feed.book.set_mark(bar.mark.open)
            bars.append(bar)
        return bars

    # The account

    @property
    def is_one_pool(self) -> bool:
        """Whether the whole account is one pool, whose equity is the account's."""
        return self.account.pooled or len(self.account.balances) == 1

    @property
    def is_one_currency(self) -> bool:
        """Whether the account holds a single balance."""
        return len(self.account.balances) == 1

    def record(self, entry: events.JournalEntry) -> None:
        """Apply an entry to the account and append it to the journal."""
        if self.before_record is not None:
            self.before_record(entry)
        self.account.apply(entry)
        self._append(entry)
        if self._check:
            invariants.check(self.account)

    def pools(self) -> list[metrics.Pool]:
        """Return the pools that have something at risk."""
        # Debts of a pool of many currencies arise as prices move, without a journal entry.
        if self._pools_version != self.account.version or self.account.pooled:
            self._pools, self._pools_version = metrics.pools(self.account), self.account.version
        return self._pools

    def record_level(self, level: float) -> None:
        """Record the lowest margin level of the run and the bar it occurred in."""
        if level < self.lowest_level:
            self.lowest_level, self.lowest_level_ms = level, self.time_ms

    # Contracts

    def list_feed(self, data: Any, book: Book) -> None:
        """Trade `book` on a feed."""
        self.books[data] = book
        self.feeds[data] = Feed(data, book)
        if book.instrument.maintenance is None:
            dated = self.account.rules.terms(book.instrument.symbol)
            if len(dated) > 1:
                self._next_terms[book.instrument.symbol] = dated[1:]

    def feeds_due_to_expire(self) -> list[Any]:
        """Return the feeds whose contracts have expired by now and are not settled."""
        if self.time_ms < self._next_expiry:
            return []
        ends = {data: self.books[data].instrument.expiry_ms for data, feed in self.feeds.items() if not feed.is_ended}
        self._next_expiry = min((end for end in ends.values() if end > self.time_ms), default=math.inf)
        return [data for data, end in ends.items() if end <= self.time_ms]

    def feeds_that_ended(self) -> list[Any]:
        """Return the feeds that have no more bars while others go on; contracts that expire later wait for their expiry."""
        if not self.next_end_day:
            for feed in self.feeds.values():
                if feed.book.instrument.expiry is None:
                    feed.find_end(is_preloaded=self.is_preloaded)
        ends = {data: feed.end_day for data, feed in self.feeds.items() if not feed.is_ended}
        self.next_end_day = min((end for end in ends.values() if end > self.day), default=math.inf)
        self._next_end_ms = math.inf if math.isinf(self.next_end_day) else time_ms(self.next_end_day)
        return [data for data, end in ends.items() if end <= self.day]

    def scale_rates(self, bars: Sequence[Bar]) -> None:
        """Scale the margin rates of the bars' instruments with realised volatility up to their closes, where the venue does."""
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

    def _adopt_rules(self, at_ms: int) -> None:
        """Put the venue's rules dated up to `at_ms` in force; another scaling of rates begins without history."""
        before = self.account.rules.volatility_scaling
        while self._next_rules and self._next_rules[0].since_ms <= at_ms:
            change = self._next_rules.pop(0)
            self.record(
                events.RulesChanged(
                    time_ms=self.time_ms,
                    since=str(change.since),
                    changed=change.rules,
                    opened_since=change.positions == "opened_since",
                    says=change.says,
                    source=change.source,
                )
            )
        self._rules_change_ms = self._next_rules[0].since_ms if self._next_rules else math.inf
        if self.account.rules.volatility_scaling != before:
            self._volatility.clear()
            scaled = [symbol for symbol, book in self.account.books.items() if book.scale != 1.0]
            for symbol in scaled:
                self.record(events.RatesScaled(time_ms=self.time_ms, symbol=symbol, volatility=0.0, factor=1.0))
        if self.on_rules_changed is not None:
            self.on_rules_changed()

    def _adopt_terms(self, book: Book, at_ms: int) -> None:
        """Put the contract terms dated up to `at_ms` in force."""
        symbol = book.instrument.symbol
        coming = self._next_terms.get(symbol, [])
        due = [terms for terms in coming if terms.since_ms <= at_ms]
        if due:
            self._next_terms[symbol] = coming[len(due) :]
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

    # Order numbers and open quantities

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
        number = order.ref
        if number not in self._lots_left:
            self._lots_left[number] = self.books[order.data].instrument.lots(order.size)
        return self._lots_left[number]

    def take_lots(self, order: Any, lots: int) -> int:
        """Count `lots` (signed) of the order as traded and return its remaining lots."""
        self._lots_left[order.ref] = left = self.lots_left(order) - lots
        return left

    def forget(self, order: Any) -> None:
        """Drop the remaining lots of an order that has ended."""
        self._lots_left.pop(order.ref, None)
