# SPDX-License-Identifier: GPL-3.0-or-later
"""One bar, in path order: funding, the gap at the open, then fills and liquidations as price meets them."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from crossmargin_bt.broker.bar import expiry
from crossmargin_bt.broker.bar.risk_monitor import OVERDRAWN, Moment, Threshold
from crossmargin_bt.broker.orders import execution
from crossmargin_bt.broker.orders.matching import TRIGGERED_LIMITS, Trigger, leg_of, matches, moment_of
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.bt_orders import TRAILING
from crossmargin_bt.broker.session.intrabar_data import IntrabarDetail
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.order_bound import OrderBound
from crossmargin_bt.broker.skip.safe_range import BarEvent
from crossmargin_bt.broker.skip.screen import danger
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.lifecycle import fills, interest
from crossmargin_bt.engine.liquidation import risk_control
from crossmargin_bt.engine.liquidation.forced_close import Close
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.math.intrabar_path import (
    BEFORE,
    CLOSE,
    OPEN,
    PricePath,
    candle_path,
    first_breach,
    low_comes_first,
    path_through_candles,
)

# A forced close gives away no more than this part of the price.
SLIPPAGE_MAX = 0.5


def through(broker: Any, run: BrokerSession, bars: Sequence[Bar]) -> None:
    """Work through the new bars of one moment in time and leave the account marked at their closes."""
    if not bars:
        return
    matched = matches(broker, run, bars)
    _fill_at(BEFORE, broker, run, matched)
    expiry.settle(broker, run, bars)
    _settle_funding(run, bars)
    if run.owed_nothing_at != run.account.version or run.account.has_options:
        _charge_interest(run)  # otherwise the marks are still those of the last bar's end
    if not matched and danger(run, bars) is BarEvent.NOTHING:
        for bar in bars:
            bar.book.set_mark(bar.mark.close)
            bar.book.last = bar.last.close
        run.account.now_ms = _at_ms(run, CLOSE)
        if run.account.has_options:
            run.account.update_option_indices()
        _charge_interest(run)
        run.watch.recover()
        return
    walk = IntrabarSimulator(broker, run, bars)
    walk.advance(OPEN, OPEN)
    _fill_at(OPEN, broker, run, matched)
    walk.choose_paths()
    later = [walk.timed(trigger) for trigger in matched if trigger.moment > OPEN]
    now = OPEN
    for trigger in sorted(later, key=lambda trigger: (trigger.moment, trigger.place)):
        if trigger.order.alive():
            walk.advance(now, trigger.moment)
            now = trigger.moment
        if trigger.order.alive():
            _fill(broker, run, trigger)
    walk.advance(now, CLOSE)
    for bar in bars:
        bar.book.last = bar.last.close
    _charge_interest(run)
    run.watch.recover()


def _at_ms(run: BrokerSession, moment: float) -> float:
    """Return the time of a moment of the bar: it takes as long as the shortest step between two bars so far."""
    return run.time_ms + run.bar_ms * moment / CLOSE


def _settle_funding(run: BrokerSession, bars: Sequence[Bar]) -> None:
    for bar in bars:
        if bar.funding_rate and bar.book.legs:
            symbol = bar.book.instrument.symbol
            for entry in fills.funding_due(run.account, run.time_ms, symbol, bar.mark.open, bar.funding_rate):
                run.record(entry)


def _charge_interest(run: BrokerSession) -> None:
    """Charge what is due on debts at the present marks."""
    account = run.account
    if not (account.pooled or account.has_loans):
        return
    owing = interest.debts(account)
    for entry in interest.due(account, run.time_ms, owing):
        run.record(entry)
    run.owed_nothing_at = -1 if owing else account.version


def _fill_at(moment: float, broker: Any, run: BrokerSession, matched: Iterable[Trigger]) -> None:
    room = OrderBound(run.account)
    for trigger in matched:
        if trigger.moment == moment and trigger.order.alive():
            entries = run.account.version
            _fill(broker, run, trigger, room)
            if run.account.version != entries + 1:
                room.close()  # more has happened than a fill


def _fill(broker: Any, run: BrokerSession, trigger: Trigger, room: OrderBound | None = None) -> None:
    order = trigger.order
    if order.exectype in TRIGGERED_LIMITS:
        maker = trigger.was_triggered
    else:
        maker = order.exectype == order.Limit and (broker.pending.rests(order) or trigger.moment > OPEN)
    execution.fill(broker, run, trigger, maker=maker, room=room)
    if order.alive():
        if order.exectype in TRAILING:
            order.trailadjust(trigger.bar.last.close)
        broker.pending.let_rest(order, run.feeds[order.data])
        return
    run.forget(order)
    if order in broker.pending:
        broker.pending.remove(order)
    if order.status == order.Completed:
        broker._bracketize(order)


class IntrabarSimulator:
    """The marks of one bar's instruments, moved along their paths, and what the account suffers on the way."""

    def __init__(self, broker: Any, run: BrokerSession, bars: Sequence[Bar]) -> None:
        self._broker, self._run, self._bars = broker, run, bars
        self._policy = broker.p.path
        self._by_symbol = {bar.book.instrument.symbol: bar for bar in bars}
        self._chosen: dict[str, tuple[PricePath, PricePath, PricePath, PricePath]] = {}
        self.choose_paths()

    def choose_paths(self) -> None:
        """Fix the order of the extremes anew; under `adverse`, by the legs that are held by now."""
        self._chosen = {}
        if self._run.finer:
            self._choose_paths()

    @property
    def _paths(self) -> dict[str, tuple[PricePath, PricePath, PricePath, PricePath]]:
        """The paths of the last and of the mark price by symbol, for what is long and for what is short."""
        if not self._chosen:
            self._choose_paths()
        return self._chosen

    @property
    def _corners(self) -> list[float]:
        """The moments at which any path may turn."""
        if not self._run.finer:
            return next(iter(self._paths.values()))[0].corners
        return sorted({corner for paths in self._paths.values() for corner in paths[0].corners})

    def _choose_paths(self) -> None:
        for symbol, bar in self._by_symbol.items():
            adverse = self._policy == "adverse" and bool(bar.book.legs)
            inside = self._inside(bar)
            if inside is not None:
                firsts = (True, False) if adverse else (None, None)
                last = [path_through_candles(inside.last, low_first=first) for first in firsts]
                mark = [path_through_candles(inside.mark, low_first=first) for first in firsts]
            else:
                # One path each, or two where what is long and what is short meet their worse extremes first.
                orders = (True, False) if adverse else (self._low_first(bar),)
                last = [candle_path(bar.last, low_first=order) for order in orders]
                mark = last if bar.mark is bar.last else [candle_path(bar.mark, low_first=order) for order in orders]
            self._chosen[symbol] = (last[0], last[-1], mark[0], mark[-1])

    def _low_first(self, bar: Bar) -> bool:
        """Return whether a bar visits its low first; an option goes with its underlying, a put against it."""
        instrument = bar.book.instrument
        if instrument.kind == "option":
            symbol = self._run.account.valuation.index_symbol(instrument.underlying, instrument.quote_currency)
            underlying = self._by_symbol.get(symbol or "")
            if underlying is not None:
                return low_comes_first(underlying.last) == instrument.is_call
        return low_comes_first(bar.last)

    def _inside(self, bar: Bar) -> IntrabarDetail | None:
        """Return what finer candles tell of a bar; with a mark of its own the bar keeps to its own candle without theirs."""
        finer = self._run.finer.get(bar.book.instrument.symbol)
        if finer is None or (bar.mark is not bar.last and not finer.has_mark):
            return None
        return finer.inside(bar.time_ms, self._run.bar_ms, bar.last, bar.mark)

    def timed(self, trigger: Trigger) -> Trigger:
        """Return the trigger with its moment on the path of the leg it trades."""
        side = leg_of(trigger.order)
        held = trigger.bar.book.leg(side).lots
        paths = self._paths[trigger.bar.book.instrument.symbol]
        moment = moment_of(
            trigger.order,
            paths[1] if held < 0 else paths[0],
            trigger.match,
            was_triggered=trigger.was_triggered,
            stop=trigger.stop,
            limit=trigger.limit,
        )
        return trigger._replace(moment=moment)

    def advance(self, start: float, end: float) -> None:
        """Move the marks from one moment to another; every pool that meets a threshold on the way is dealt with there."""
        if self._policy == "close":
            start = end
        looks = self._policy != "close" or end in (OPEN, CLOSE)
        found = danger(self._run, self._bars, at_open=end == OPEN) if looks else BarEvent.NOTHING
        if found is not BarEvent.NOTHING:
            moments = [start, *(c for c in self._corners if start < c < end), end]
            if found is BarEvent.THRESHOLD:
                for left, right in pairwise(moments):
                    self._watch(left, right)
            else:
                self._note_levels(*dict.fromkeys(moments))
        self._mark(end)

    def _watch(self, start: float, end: float) -> None:
        """Walk between two corners of the path, and look at its end which pools have recovered."""
        while (met := self._first_met(start, end)) is not None:
            moment, pool, threshold = met
            self._note_levels(start, moment)
            self._mark(moment)
            self._run.watch.meet(
                pool, threshold, Moment(_at_ms(self._run, moment), partial(self._forced_price, moment))
            )
            start = moment
        self._note_levels(start, end)
        self._run.watch.recover()

    def _mark(self, moment: float) -> None:
        if moment in (OPEN, CLOSE) and not self._run.finer:
            for bar in self._bars:  # where every path begins, and ends
                bar.book.set_mark(bar.mark.open if moment == OPEN else bar.mark.close)
        else:
            for symbol, (_, _, long_path, short_path) in self._paths.items():
                book = self._by_symbol[symbol].book
                book.long_mark = book.short_mark = long_path.at(moment)
                if short_path is not long_path:
                    book.short_mark = short_path.at(moment)
        self._run.account.now_ms = _at_ms(self._run, moment)
        if self._run.account.has_options:
            self._run.account.update_option_indices()

    def note_levels(self) -> None:
        """Note the margin level at every corner of a bar in which nothing acts."""
        corners = [] if self._policy == "close" else self._corners
        self._note_levels(OPEN, *corners, CLOSE)

    def _note_levels(self, *moments: float) -> None:
        for at in moments:
            self._mark(at)
            levels = [metrics.risk(self._run.account, pool).margin_level for pool in self._run.pools()]
            self._run.note_level(min(levels, default=math.inf))

    def _first_met(self, start: float, end: float) -> tuple[float, Pool, Threshold] | None:
        """Return the first moment at which a pool comes to its highest threshold that may still act."""
        run = self._run
        found: tuple[float, Pool, Threshold] | None = None
        for pool in run.pools():
            orders = bool(risk_control.risk_increasing_orders(run.account, pool))
            if not (pool.legs or orders or risk_control.can_repay(run.account, pool)):
                continue  # nothing here could be cancelled or closed
            asked = [run.watch.armed(pool)]
            if orders and run.watch.watches_overdrawn(pool):
                asked.append(OVERDRAWN)
            for threshold in asked:
                since = max(start, self._rested(pool)) if threshold.act == "liquidate" else start
                moment = self._first_at(pool, threshold, since, end) if since <= end else None
                if moment is not None and (found is None or moment < found[0]):
                    found = (moment, pool, threshold)
        return found

    def _first_at(self, pool: Pool, threshold: Threshold, start: float, end: float) -> float | None:
        gap = partial(self._gap, pool=pool, threshold=threshold)
        return first_breach(gap, start, end, self._breakpoint_moments(pool))

    def _gap(self, moment: float, *, pool: Pool, threshold: Threshold) -> float:
        self._mark(moment)
        return threshold.gap(self._run.account, pool)

    def _rested(self, pool: Pool) -> float:
        """Return the moment from which a pool is looked at again after it was reduced."""
        until = self._run.watch.rests_until(pool)
        if until is None:
            return BEFORE
        if not self._run.bar_ms:
            return BEFORE if self._run.time_ms >= until else math.inf
        return float(until - self._run.time_ms) / self._run.bar_ms * CLOSE

    def _breakpoint_moments(self, pool: Pool) -> list[float]:
        """Return the moments at which a mark crosses a bend of the pool's maintenance rules."""
        moments = []
        for symbol, direction, mark in metrics.breakpoints(self._run.account, pool):
            if symbol in self._paths:
                path = self._paths[symbol][2 if direction > 0 else 3]
                moments.extend(path.crossings(mark))
        return moments

    def _forced_price(self, moment: float, close: Close) -> float:
        """Return the last price at the moment, slipped as the broker's market orders are and as forced closes are."""
        symbol, side, size_in_lots = close
        book: Book = self._run.account.books[symbol]
        lots = book.legs[side].lots
        bar = self._by_symbol.get(symbol)
        if bar is None:  # a feed that pauses is closed where it last traded
            price = low = high = self._run.last_close[symbol]
        else:
            price = self._paths[symbol][0 if lots > 0 else 1].at(moment)
            low, high = bar.last.low, bar.last.high
        slipped = self._broker._slip_down(low, price) if lots > 0 else self._broker._slip_up(high, price)
        forced = price if slipped is None else float(slipped)
        return forced * (1 - math.copysign(self._slippage(bar, book, size_in_lots), lots))

    def _slippage(self, bar: Bar | None, book: Book, lots: int) -> float:
        """Return the part of the price that a forced close of so many lots gives away."""
        given: float = self._broker.p.liquidation_slippage
        impact: float = self._broker.p.liquidation_impact
        if impact and bar is not None:
            volume = float(bar.data.volume[0])
            traded = lots * book.instrument.units_per_lot
            given += impact * min(1.0, traded / volume) if volume > 0 else impact
        return float(min(given, SLIPPAGE_MAX))
