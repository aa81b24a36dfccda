# SPDX-License-Identifier: GPL-3.0-or-later
"""One bar in path order: expiry and delisting, funding, the gap at the open, then fills and liquidations as the price meets them."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from crossmargin_bt.broker.bar.risk_monitor import OVERDRAWN, Moment, RiskMonitor, Threshold
from crossmargin_bt.broker.bar.screen import BarEvent, EventScreen
from crossmargin_bt.broker.orders.execution import OrderExecutor, Trigger, moment_of
from crossmargin_bt.broker.orders.order_manager import OrderManager
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.bt_orders import leg_of
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.intrabar_data import IntrabarDetail
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission.order_admission import ExactAdmission
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.lifecycle import delisting, expiry, fills, interest
from crossmargin_bt.engine.liquidation import risk_control
from crossmargin_bt.engine.liquidation.forced_close import Close
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool, Risk
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

# A forced close gives away at most this part of the price.
SLIPPAGE_MAX = 0.5


class BarPaths(NamedTuple):
    """The paths of one instrument's last and mark price, for its long and for its short exposure."""

    last_of_long: PricePath
    last_of_short: PricePath
    mark_of_long: PricePath
    mark_of_short: PricePath


class IntrabarSimulator:
    """Moves the marks of an account along the paths of a bar, and acts on everything they meet."""

    def __init__(
        self,
        host: BrokerHost,
        session: BrokerSession,
        orders: OrderManager,
        executor: OrderExecutor,
        monitor: RiskMonitor,
    ) -> None:
        self._host, self._session = host, session
        self._orders, self._executor, self._monitor = orders, executor, monitor
        self._policy: str = host.p.path
        self._bars: Sequence[Bar] = ()
        self._opens_ms = 0
        self._by_symbol: dict[str, Bar] = {}
        self._chosen: dict[str, BarPaths] = {}
        self._risks: dict[tuple[float, str], Risk] = {}
        """The risk of pools at moments of this bar, by (moment, pool name), while neither account nor paths change."""
        self._risks_version = -1

    def process_bar(
        self, bars: Sequence[Bar], screen: EventScreen, new_admission: Callable[..., ExactAdmission]
    ) -> None:
        """Work through the new bars of one moment in time, and leave the account marked at their closes."""
        if not bars:
            return
        matched = self._executor.matches(bars)
        if matched:
            self._fill_at(BEFORE, matched, new_admission)
        self._settle_expired(bars)
        if self._session.day >= self._session.next_end_day:
            for data in self._session.feeds_that_ended():
                self._settle(data, delisting.delisting_entry, delisting.settlement_fills)
        self._settle_funding(bars)
        self._charge_interest()
        if matched or screen.classify(bars) is not BarEvent.NOTHING:
            self._walk(bars, matched, screen, new_admission)
        else:
            self._mark_closes(bars)
        for bar in bars:
            bar.book.last = bar.last.close
        self._charge_interest()
        self._monitor.rearm()

    def _walk(
        self,
        bars: Sequence[Bar],
        matched: Sequence[Trigger],
        screen: EventScreen,
        new_admission: Callable[..., ExactAdmission],
    ) -> None:
        """Move from the open to the close along the path, filling orders and meeting thresholds in its order."""
        self._begin(bars)
        self._advance(OPEN, OPEN, screen)
        self._fill_at(OPEN, matched, new_admission)
        self._begin(bars)  # under `adverse` the legs held by now decide which extreme comes first
        later = [self._timed(trigger) for trigger in matched if trigger.moment > OPEN]
        now = OPEN
        for trigger in sorted(later, key=lambda trigger: (trigger.moment, trigger.place)):
            if trigger.order.alive():
                self._advance(now, trigger.moment, screen)
                now = trigger.moment
            if trigger.order.alive():
                self._executor.fill(trigger, admission=new_admission(at_close=False))
        self._advance(now, CLOSE, screen)

    def record_levels(self, bars: Sequence[Bar]) -> None:
        """Record the margin level at every corner of bars in which no threshold is crossed, and mark at their closes."""
        self._begin(bars)
        corners = [] if self._policy == "close" else self._corners()
        self._record_levels(OPEN, *corners, CLOSE)
        self._mark_at(CLOSE)

    # What is due at the open

    def _settle_expired(self, bars: Sequence[Bar]) -> None:
        """Settle contracts that expired at or before the bars' time, at the marks of their opens."""
        due = self._session.feeds_due_to_expire()
        if not due:
            return
        for bar in bars:
            bar.book.set_mark(bar.mark.open)
        self._session.account.update_option_indices()
        for data in due:
            self._settle(data, expiry.expiry_entry, expiry.settlement_fills)

    def _settle(self, data: Any, new_entry: Callable[..., Any], settlement_fills: Callable[..., Any]) -> None:
        """End a market: cancel its orders, record its end, and settle its legs."""
        session = self._session
        session.feeds[data].is_ended = True
        book = session.books[data]
        entry = new_entry(session.account, session.time_ms, book.instrument.symbol)
        for order in list(self._host.pending):
            if order.data is data and order.alive():
                self._orders.cancel_for(order, type(entry).__name__.lower())
        session.record(entry)
        session.pending_notifications.append(entry)
        for fill in settlement_fills(session.account, entry):
            isolated_short = fills.isolated_shortfall(book, fill)
            self._executor.forced_close(data, fill)
            self._executor.cover_deficits(fill, isolated_short)
        if entry.price:
            book.set_mark(entry.price)

    def _settle_funding(self, bars: Sequence[Bar]) -> None:
        """Pay the funding due at the bars' opens on the positions held before any fill, valued at the mark."""
        session = self._session
        for bar in bars:
            if bar.funding_rate and bar.book.legs:
                symbol, mark = bar.book.instrument.symbol, bar.mark.open
                for entry in fills.funding_due(session.account, session.time_ms, symbol, mark, bar.funding_rate):
                    session.record(entry)

    def _charge_interest(self) -> None:
        """Charge the interest due on debts at the present marks."""
        session = self._session
        account = session.account
        if account.pooled or account.has_loans:
            for entry in interest.due(account, session.time_ms, interest.debts(account)):
                session.record(entry)

    # Fills

    def _fill_at(self, moment: float, matched: Iterable[Trigger], new_admission: Callable[..., ExactAdmission]) -> None:
        """Fill the orders of one moment, whose fills share what is proven free at its marks."""
        account = self._session.account
        admission = new_admission(at_close=False)
        for trigger in matched:
            if trigger.moment == moment and trigger.order.alive():
                version = account.version
                self._executor.fill(trigger, admission=admission)
                if account.version != version + 1:
                    admission.close()  # more has happened than a fill

    def _timed(self, trigger: Trigger) -> Trigger:
        """Return the trigger with its moment on the path of the leg it trades."""
        held = trigger.bar.book.leg(leg_of(trigger.order)).lots
        paths = self._paths()[trigger.bar.book.instrument.symbol]
        return Trigger(moment_of(trigger, paths.last_of_short if held < 0 else paths.last_of_long), *trigger[1:])

    # The path

    def _begin(self, bars: Sequence[Bar]) -> None:
        """Start on the paths of these bars; they are chosen when a moment between open and close is first needed."""
        self._bars, self._opens_ms = bars, self._session.time_ms
        self._by_symbol = {bar.book.instrument.symbol: bar for bar in bars}
        self._chosen = {}
        self._risks_version = -1
        if self._session.intrabar:
            self._paths()  # a frame of finer candles that does not fit its bar is an error whatever happens in the bar

    def _paths(self) -> dict[str, BarPaths]:
        """Return the paths of the bar by symbol."""
        if not self._chosen:
            self._chosen = {symbol: self._paths_of(bar) for symbol, bar in self._by_symbol.items()}
        return self._chosen

    def _paths_of(self, bar: Bar) -> BarPaths:
        """Return one path per price, or two where long and short exposure each meet their adverse extreme first."""
        is_adverse = self._policy == "adverse" and bool(bar.book.legs)
        detail = self._detail(bar)
        if detail is not None:
            firsts = (True, False) if is_adverse else (None, None)
            last = [path_through_candles(detail.last, low_first=first) for first in firsts]
            mark = [path_through_candles(detail.mark, low_first=first) for first in firsts]
        else:
            orders = (True, False) if is_adverse else (self._low_comes_first(bar),)
            last = [candle_path(bar.last, low_first=order) for order in orders]
            mark = last if bar.mark is bar.last else [candle_path(bar.mark, low_first=order) for order in orders]
        return BarPaths(last[0], last[-1], mark[0], mark[-1])

    def _low_comes_first(self, bar: Bar) -> bool:
        """Return whether a bar visits its low first; an option follows its underlying, a put against it."""
        instrument = bar.book.instrument
        if instrument.kind == "option":
            valuation = self._session.account.valuation
            symbol = valuation.index_symbol(instrument.underlying, instrument.quote_currency)
            underlying = self._by_symbol.get(symbol or "")
            if underlying is not None:
                return low_comes_first(underlying.last) == instrument.is_call
        return low_comes_first(bar.last)

    def _detail(self, bar: Bar) -> IntrabarDetail | None:
        """Return a bar's finer candles; a bar with a mark of its own keeps to its single candle where they have no mark."""
        candles = self._session.intrabar.get(bar.book.instrument.symbol)
        if candles is None or (bar.mark is not bar.last and not candles.has_mark):
            return None
        return candles.inside(bar.time_ms, self._session.bar_ms, bar.last, bar.mark)

    def _corners(self) -> list[float]:
        """Return the moments at which any path may turn."""
        paths = self._paths()
        if not self._session.intrabar:
            return next(iter(paths.values())).last_of_long.corners
        return sorted({corner for each in paths.values() for corner in each.last_of_long.corners})

    def _time_ms(self, moment: float) -> float:
        """Return the time of a moment of the bar, which lasts as long as the shortest step between two bars so far."""
        return self._opens_ms + self._session.bar_ms * moment / CLOSE

    def _mark_closes(self, bars: Sequence[Bar]) -> None:
        """Mark every instrument of the bars at its close, where nothing happens on the way."""
        self._opens_ms = self._session.time_ms
        for bar in bars:
            bar.book.set_mark(bar.mark.close)
        account = self._session.account
        account.now_ms = self._time_ms(CLOSE)
        if account.has_options:
            account.update_option_indices()

    def _mark_at(self, moment: float) -> None:
        """Mark every instrument of the bar at a moment."""
        if moment in (OPEN, CLOSE) and not self._session.intrabar:
            for bar in self._bars:  # where every path begins, and ends
                bar.book.set_mark(bar.mark.open if moment == OPEN else bar.mark.close)
        else:
            for symbol, paths in self._paths().items():
                book = self._by_symbol[symbol].book
                book.long_mark = book.short_mark = paths.mark_of_long.at(moment)
                if paths.mark_of_short is not paths.mark_of_long:
                    book.short_mark = paths.mark_of_short.at(moment)
        account = self._session.account
        account.now_ms = self._time_ms(moment)
        if account.has_options:
            account.update_option_indices()

    def _risk_at(self, moment: float, pool: Pool) -> Risk:
        """Return the risk of a pool at a moment; the marks may be left there or not."""
        account = self._session.account
        if self._risks_version != account.version:
            self._risks, self._risks_version = {}, account.version
        key = (moment, pool.name)
        risk = self._risks.get(key)
        if risk is None:
            self._mark_at(moment)
            risk = self._risks[key] = metrics.risk(account, pool)
        return risk

    # Thresholds

    def _advance(self, start: float, end: float, screen: EventScreen) -> None:
        """Move the marks from one moment to another, and act on every threshold that a pool meets on the way."""
        if self._policy == "close":
            start = end
        is_evaluated = self._policy != "close" or end in (OPEN, CLOSE)
        found = screen.classify(self._bars, at_open=end == OPEN) if is_evaluated else BarEvent.NOTHING
        if found is not BarEvent.NOTHING:
            moments = [start, *(corner for corner in self._corners() if start < corner < end), end]
            if found is BarEvent.THRESHOLD:
                for left, right in pairwise(moments):
                    self._follow(left, right)
            else:
                self._record_levels(*dict.fromkeys(moments))
        self._mark_at(end)

    def _follow(self, start: float, end: float) -> None:
        """Follow a straight stretch of the path, act on the thresholds it meets, and re-arm at its end."""
        monitor = self._monitor
        while (met := self._first_met(start, end)) is not None:
            moment, pool, threshold = met
            self._record_levels(start, moment)
            self._mark_at(moment)
            monitor.on_threshold(pool, threshold, Moment(self._time_ms(moment), partial(self._forced_price, moment)))
            start = moment
        self._record_levels(start, end)
        self._mark_at(end)
        monitor.rearm()

    def _record_levels(self, *moments: float) -> None:
        for moment in moments:
            levels = [self._risk_at(moment, pool).margin_level for pool in self._pools_at(moment)]
            self._session.record_level(min(levels, default=math.inf))

    def _pools_at(self, moment: float) -> list[Pool]:
        if self._session.account.pooled:  # debts arise as prices move
            self._mark_at(moment)
        return self._session.pools()

    def _first_met(self, start: float, end: float) -> tuple[float, Pool, Threshold] | None:
        """Return the first moment at which a pool meets its highest threshold that may still act."""
        account, monitor = self._session.account, self._monitor
        if account.pooled:
            self._mark_at(start)  # whether anything is owed depends on the marks
        found: tuple[float, Pool, Threshold] | None = None
        for pool in self._session.pools():
            has_orders = bool(risk_control.risk_increasing_orders(account, pool))
            if not (pool.legs or has_orders or risk_control.can_repay(account, pool)):
                continue  # nothing could be cancelled or closed
            watched = [monitor.next_threshold(pool)]
            if has_orders and monitor.watches_deficit(pool):
                watched.append(OVERDRAWN)
            for threshold in watched:
                since = max(start, self._end_of_cooldown(pool)) if threshold.act == "liquidate" else start
                moment = self._first_at(pool, threshold, since, end) if since <= end else None
                if moment is not None and (found is None or moment < found[0]):
                    found = (moment, pool, threshold)
        return found

    def _first_at(self, pool: Pool, threshold: Threshold, start: float, end: float) -> float | None:
        gap = partial(self._gap_at, pool=pool, threshold=threshold)
        return first_breach(gap, start, end, self._breakpoint_moments(pool))

    def _gap_at(self, moment: float, *, pool: Pool, threshold: Threshold) -> float:
        if threshold is OVERDRAWN:
            self._mark_at(moment)
            return threshold.gap(self._session.account, pool)
        return threshold.gap_of(self._risk_at(moment, pool))

    def _end_of_cooldown(self, pool: Pool) -> float:
        """Return the moment from which a pool is re-evaluated after a partial liquidation."""
        session = self._session
        until = self._monitor.cooldown_until(pool)
        if until is None:
            return BEFORE
        if not session.bar_ms:
            return BEFORE if session.time_ms >= until else math.inf
        return float(until - session.time_ms) / session.bar_ms * CLOSE

    def _breakpoint_moments(self, pool: Pool) -> list[float]:
        """Return the moments at which a mark crosses a breakpoint of the pool's maintenance rules."""
        moments = []
        paths = self._paths()
        for symbol, direction, mark in metrics.breakpoints(self._session.account, pool):
            if symbol in paths:
                path = paths[symbol].mark_of_long if direction > 0 else paths[symbol].mark_of_short
                moments.extend(path.crossings(mark))
        return moments

    # Forced closes

    def _forced_price(self, moment: float, close: Close) -> float:
        """Return the last price at a moment, with the slippage of market orders and that of forced closes."""
        symbol, side, size_in_lots = close
        book: Book = self._session.account.books[symbol]
        lots = book.legs[side].lots
        bar = self._by_symbol.get(symbol)
        if bar is None:  # a feed that pauses is closed at its last price
            price = low = high = self._session.last_close[symbol]
        else:
            paths = self._paths()[symbol]
            price = (paths.last_of_long if lots > 0 else paths.last_of_short).at(moment)
            low, high = bar.last.low, bar.last.high
        slipped = self._host._slip_down(low, price) if lots > 0 else self._host._slip_up(high, price)
        forced = price if slipped is None else float(slipped)
        return forced * (1 - math.copysign(self._slippage(bar, book, size_in_lots), lots))

    def _slippage(self, bar: Bar | None, book: Book, lots: int) -> float:
        """Return the part of the price that a forced close of `lots` gives away."""
        given: float = self._host.p.liquidation_slippage
        impact: float = self._host.p.liquidation_impact
        if impact and bar is not None:
            volume = float(bar.data.volume[0])
            traded = lots * book.instrument.units_per_lot
            given += impact * min(1.0, traded / volume) if volume > 0 else impact
        return float(min(given, SLIPPAGE_MAX))
