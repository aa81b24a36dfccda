# SPDX-License-Identifier: GPL-3.0-or-later
"""The lean loop: what backtrader's `_runonce` does, looked up once instead of once a bar.

It knows which lines move with which feed, whether the feeds share a clock, who listens to what, and when a strategy has
all its data. Everything else is done by backtrader's own methods, in backtrader's order.
"""

import math
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineBuffer

from crossmargin_bt.cerebro.cursors import Cursor, sharing


class Clock:
    """Feeds that have the same bars: their cursor, and what follows them once the broker has seen the bar."""

    def __init__(self, datas: list[Any]) -> None:
        self.datas = datas
        self.is_block = all(getattr(data, "_is_block", False) for data in datas)
        """Whether the feeds need nothing but their cursor moved."""
        self.cursor = Cursor()
        self.times = _times(datas[0])
        self.last = len(self.times) - 1
        """The index of the last bar."""
        lines = [line for data in datas for line in data.lines.lines] if self.is_block else []
        self.lines = [line for line in lines if type(line) is LineBuffer]

    def move(self) -> None:
        """Deliver the next bar."""
        if not self.is_block:
            for data in self.datas:
                data.advance()
            return
        self.cursor.at = at = self.cursor.at + 1
        if at in (0, self.last):
            for data in self.datas:
                data._is_delivered = at < self.last


class Followers:
    """The indicators of one strategy that one clock moves."""

    def __init__(self) -> None:
        self.cursor = Cursor()
        self.lines: list[Any] = []
        self.slow: list[Any] = []
        """Lines that keep an index of their own."""

    def move(self) -> None:
        """Go on by a bar."""
        self.cursor.at += 1
        for line in self.slow:
            line._idx += 1
            line.lencount += 1


class Act:
    """One strategy of a run, its indicators, and who listens to it."""

    def __init__(self, strategy: Any, clocks: list[Clock]) -> None:
        self.strategy = strategy
        self.state = strategy.__dict__
        self.followers = {clock: Followers() for clock in clocks}
        self._loose: list[Any] = []
        """Indicators that follow what this loop does not move."""
        moving = {id(line): clock for clock in clocks for data in clock.datas for line in data.lines.lines}
        for indicator in strategy._lineiterators[bt.LineIterator.IndType]:
            self._follow(indicator, moving)
        self.time, *self.others = strategy.lines.lines
        self.cursor = self._share_time(clocks)
        """The one cursor that moves all that is the strategy's, where it is one."""
        self.is_warm = False
        analyzers = [*strategy.analyzers, *strategy._slave_analyzers]
        self.hears_cash = _overrides(strategy, bt.Strategy, ("notify_cashvalue", "notify_fund")) or any(
            map(_hears_cash, analyzers)
        )
        self._heard_by = analyzers
        self.hears_orders = (
            _overrides(strategy, bt.Strategy, ("notify_order",))
            or any(map(_hears_orders, analyzers))
            or bool(strategy._lineiterators[bt.LineIterator.ObsType])
        )
        self._next = strategy.next
        waiting = [one for one in strategy.analyzers if getattr(one, "read_at_the_end", bool)()]
        looking = [one for one in strategy.analyzers if one not in waiting and _looks_at_bars(one)]
        self.analyzers = [(one, _name_of_next(one)) for one in looking]
        """Those that look at bars, and the name of what they look with."""
        self.has_observers = bool(strategy._lineiterators[bt.LineIterator.ObsType])

    def _follow(self, indicator: Any, moving: dict[int, Clock]) -> None:
        """Find the feed whose bars move an indicator."""
        clock = moving.get(id(indicator._clock.lines[0]))
        lines = indicator.lines if isinstance(indicator.lines, list) else indicator.lines.lines
        if clock is None:
            self._loose.append(indicator)
            return
        for line in lines:
            moving[id(line)] = clock
            if type(line) is LineBuffer:
                self.followers[clock].lines.append(line)
            else:
                self.followers[clock].slow.append(line)

    def _share_time(self, clocks: list[Clock]) -> Cursor | None:
        """Where all feeds have the same bars, give the strategy their times, and the one cursor that then moves all that is its own.

        Not where an indicator follows the strategy, which moves after it.
        """
        if len(clocks) > 1 or self._loose or type(self.time) is not LineBuffer or len(self.time.array):
            return None
        followers = self.followers[clocks[0]]
        self.time.array = array("d", clocks[0].times)
        followers.lines.append(self.time)
        return None if followers.slow or self.others else followers.cursor

    def _move(self, dt: float, moved: list[Clock]) -> None:
        """Move the indicators, and the strategy's own lines, to the bar."""
        for clock in moved:
            self.followers[clock].move()
        for indicator in self._loose:
            if len(indicator._clock) > len(indicator):
                indicator.advance()
        time = self.time
        if type(time) is LineBuffer:
            time._idx += 1
            time.lencount += 1
            time.array.append(dt)
        for line in self.others:
            line.forward()

    def next(self, dt: float, moved: list[Clock]) -> None:
        """Do what a strategy does in a bar once its data stand on it."""
        if self.cursor is not None:
            self.cursor.at += 1
        else:
            self._move(dt, moved)
        state = self.state  # read past a strategy's __getattr__
        # What hears may have been put in place on the way.
        if self.hears_cash or "notify_cashvalue" in state or "notify_fund" in state:
            self.strategy._notify()
        elif state["_orderspending"] or state["_tradespending"]:
            self._tell()
        if self.is_warm:
            if "next" in state:
                state["next"]()
            else:
                self._next()
            for analyzer, name in self.analyzers:
                getattr(analyzer, name)()
            if self.has_observers:
                self.strategy._next_observers(-1, once=True)
        else:
            self._warm_up()
        if state["_orderspending"]:
            state["_orderspending"] = []
            state["_tradespending"] = []

    @property
    def only_looks(self) -> bool:
        """Whether nothing but the strategy's `next` is called in a bar of which there is nothing to tell."""
        is_asked = self.hears_cash or self.analyzers or self.has_observers
        return self.is_warm and not is_asked

    def _tell(self) -> None:
        """Do what `_notify` does where nobody hears of cash, which is then not asked for."""
        strategy = self.strategy
        if strategy.cerebro.p.quicknotify:
            return  # told already
        for order in strategy._orderspending:
            if order.exectype != order.Historical or order.histnotify:
                strategy.notify_order(order)
            for analyzer in self._heard_by:
                analyzer._notify_order(order)
        for trade in strategy._tradespending:
            strategy.notify_trade(trade)
            for analyzer in self._heard_by:
                analyzer._notify_trade(trade)

    def _warm_up(self) -> None:
        strategy = self.strategy
        status = strategy._getminperstatus()
        if status < 0:
            self.is_warm = True
            strategy.next()
        elif status == 0:
            strategy.nextstart()
        else:
            strategy.prenext()
        strategy._next_analyzers(status, once=True)
        strategy._next_observers(status, once=True)


class Loop:
    """One run."""

    def __init__(self, cerebro: Any, strategies: list[Any]) -> None:
        self._cerebro = cerebro
        self._broker = cerebro._broker
        self._cheats = bool(cerebro._timerscheat or cerebro.p.cheat_on_open)
        own = type(self._broker).get_notification is bt.brokers.BackBroker.get_notification
        self._queue = self._broker.notifs if own else None
        """The broker's notifications, where they may be looked at without asking for them."""
        datas = sorted(cerebro.datas, key=lambda data: (data._timeframe, data._compression))
        times = _times(datas[0])
        together = all(getattr(data, "_is_block", False) and _times(data) == times for data in datas)
        self._clocks = [Clock(datas)] if together else [Clock([data]) for data in datas]
        self._acts = [Act(strategy, self._clocks) for strategy in strategies]
        may_run_through = together and own and len(strategies) == 1 and getattr(self._broker, "passes_bars", False)
        self._lone_act = self._acts[0] if may_run_through and not self._cheats and not cerebro.runwriters else None
        """The strategy that may run through bars which are known to change nothing, the broker not asked for each."""

    def run(self) -> None:
        """Run to the end of the data, or until somebody asks to stop."""
        if hasattr(self._broker, "notifies_order_states"):
            self._broker.notifies_order_states = any(act.hears_orders for act in self._acts)
        groups = [(clock.cursor, clock.lines) for clock in self._clocks]
        groups += [(one.cursor, one.lines) for act in self._acts for one in act.followers.values()]
        with sharing(groups):
            self._go_through_all()
        for act in self._acts:
            del act.time.array[act.time.lencount :]

    def _moments(self) -> Iterable[tuple[float, list[Clock]]]:
        """Return the moments at which any feed has a bar, and which do."""
        clocks = self._clocks
        return _merged(clocks) if len(clocks) > 1 else zip(clocks[0].times, repeat(clocks), strict=False)

    def _go_through_all(self) -> None:  # noqa: C901 - in every bar of every run, where a call costs more than it tidies
        cerebro, queue, acts, ask_the_broker = self._cerebro, self._queue, self._acts, self._broker.next
        lone_act = self._lone_act
        moments = iter(self._moments())
        for dt, moved in moments:
            for clock in moved:
                clock.move()
            if self._cheats and self._stops_before_the_broker(dt):
                return
            ask_the_broker()
            if queue is None or queue:
                self._pass_on()
            if cerebro._event_stop:
                return
            if cerebro._timers:
                cerebro._check_timers(cerebro.runningstrats, dt, cheat=False)
            for act in acts:
                act.next(dt, moved)
                if cerebro._event_stop:
                    return
                if cerebro.runwriters:
                    cerebro._next_writers(cerebro.runningstrats)
            if lone_act is not None and self._is_stopped_in_calm(lone_act, moments):
                return

    def _is_stopped_in_calm(self, act: Act, moments: Iterator[Any]) -> bool:
        """Let a strategy see the bars of a calm one after the other, for as long as it touches nothing; return whether it stops the run.

        The last bar, and those of which something is to be told or asked, are left to the loop.
        """
        cerebro, broker, queue, clock = self._cerebro, self._broker, self._queue, self._clocks[0]
        unseen, cursor = broker.unseen(), act.cursor
        if unseen is None or cursor is None or not act.only_looks:
            return False
        feeds, look, state, paid_in = clock.cursor, act.strategy.next, act.state, broker._cash_addition
        first = at = feeds.at
        last = min(at + unseen.run_through(), clock.last - 1)
        try:
            while at < last and unseen.is_run_through:
                if queue or paid_in or cerebro._event_stop or cerebro._timers:
                    break
                if "next" in state or "notify_cashvalue" in state or "notify_fund" in state:
                    break
                feeds.at = cursor.at = at = at + 1
                look()
        finally:
            broker.count_run_through()
        next(islice(moments, at - first, at - first), None)
        return bool(cerebro._event_stop)

    def _stops_before_the_broker(self, dt: float) -> bool:
        """Let timers and strategies cheat on the bar's open; return whether a strategy has stopped the run there.

        Where a timer has, the broker still works through the bar.
        """
        cerebro = self._cerebro
        if cerebro._timerscheat:
            cerebro._check_timers(cerebro.runningstrats, dt, cheat=True)
        if cerebro.p.cheat_on_open:
            for strategy in cerebro.runningstrats:
                strategy._oncepost_open()
                if cerebro._event_stop:
                    return True
        return False

    def _pass_on(self) -> None:
        """Pass the broker's notifications on."""
        cerebro = self._cerebro
        while (order := self._broker.get_notification()) is not None:
            owner = cerebro.runningstrats[0] if order.owner is None else order.owner
            owner._addnotification(order, quicknotify=cerebro.p.quicknotify)


def _times(data: Any) -> Any:
    """Return the times of a feed's bars."""
    times = data.lines.datetime.array
    return times if len(times) == data.buflen() else times[: data.buflen()]


def _merged(clocks: list[Clock]) -> Iterator[tuple[float, list[Clock]]]:
    """Yield the moments at which any feed has a bar, and which do."""
    places = [0] * len(clocks)
    coming = [clock.times[0] if clock.times else math.inf for clock in clocks]
    while (dt := min(coming)) != math.inf:
        moved = []
        for n, clock in enumerate(clocks):
            if coming[n] <= dt:
                moved.append(clock)
                places[n] += 1
                coming[n] = clock.times[places[n]] if places[n] < len(clock.times) else math.inf
        yield dt, moved


def _overrides(one: Any, base: Any, names: tuple[str, ...]) -> bool:
    return any(getattr(type(one), name) is not getattr(base, name) or name in one.__dict__ for name in names)


def _hears_cash(analyzer: Any) -> bool:
    names = ("notify_cashvalue", "notify_fund", "_notify_cashvalue", "_notify_fund")
    return _overrides(analyzer, bt.Analyzer, names) or any(map(_hears_cash, analyzer._children))


def _hears_orders(analyzer: Any) -> bool:
    own = _overrides(analyzer, bt.Analyzer, ("notify_order", "_notify_order"))
    return (own and getattr(analyzer, "hears_orders", True)) or any(map(_hears_orders, analyzer._children))


def _name_of_next(analyzer: Any) -> str:
    """Return what is called in every bar: `next` alone where nothing else would be."""
    return "next" if type(analyzer)._next is bt.Analyzer._next and not analyzer._children else "_next"


def _looks_at_bars(analyzer: Any) -> bool:
    return _overrides(analyzer, bt.Analyzer, ("next", "_next")) or any(map(_looks_at_bars, analyzer._children))
