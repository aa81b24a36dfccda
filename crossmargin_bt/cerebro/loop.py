# SPDX-License-Identifier: GPL-3.0-or-later
"""The run loop: backtrader's `_runonce` with everything that is constant during a run looked up once instead of in every bar.

It determines which lines advance with which feed, whether all feeds have the same bars, which strategies and analyzers handle which
notifications, and when a strategy's minimum period is reached. Everything else is done by backtrader's own methods, in
backtrader's order.
"""

import math
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineBuffer

from crossmargin_bt.cerebro.cursors import Cursor, sharing
from crossmargin_bt.protocols import (
    SkippingBroker,
    block_feed,
    hears_orders,
    order_state_listener,
    reads_at_the_end,
    skipping_broker,
)


class FeedGroup:
    """Feeds with the same bars, and the cursor that their lines share."""

    def __init__(self, datas: list[Any]) -> None:
        self.datas = datas
        self._blocks = [block for data in datas if (block := block_feed(data)) is not None]
        self.is_block = len(self._blocks) == len(datas)
        """Whether all feeds are preloaded blocks, which advance by the cursor alone."""
        self.cursor = Cursor()
        self.times = _times(datas[0])
        self.last = len(self.times) - 1
        """Index of the last bar."""
        lines = [line for data in datas for line in data.lines.lines] if self.is_block else []
        self.lines = [line for line in lines if type(line) is LineBuffer]

    def move(self) -> None:
        """Advance all feeds by one bar."""
        if not self.is_block:
            for data in self.datas:
                data.advance()
            return
        self.cursor.at = at = self.cursor.at + 1
        if at in (0, self.last):
            for block in self._blocks:
                block._is_delivered = at < self.last


class IndicatorLines:
    """Lines of one strategy's indicators that advance with one group of feeds."""

    def __init__(self) -> None:
        self.cursor = Cursor()
        self.lines: list[Any] = []
        self.unshared: list[Any] = []
        """Lines with an index of their own, which cannot share the cursor."""

    def move(self) -> None:
        """Advance by one bar."""
        self.cursor.at += 1
        for line in self.unshared:
            line._idx += 1
            line.lencount += 1


class StrategyRunner:
    """One strategy of a run, its indicators, and the analyzers and observers attached to it."""

    def __init__(self, strategy: Any, groups: list[FeedGroup]) -> None:
        self.strategy = strategy
        self.state = strategy.__dict__
        self.indicator_lines = {group: IndicatorLines() for group in groups}
        self._independent: list[Any] = []
        """Indicators whose clock is not a line of a feed or of another assigned indicator."""
        moving = {id(line): group for group in groups for data in group.datas for line in data.lines.lines}
        for indicator in strategy._lineiterators[bt.LineIterator.IndType]:
            self._assign(indicator, moving)
        self.time, *self.others = strategy.lines.lines
        self.cursor = self._share_cursor(groups)
        """The cursor of all lines of the strategy and its indicators if they share one, else None."""
        self.is_warm = False
        """Whether the minimum period has been reached."""
        analyzers = [*strategy.analyzers, *strategy._slave_analyzers]
        self.handles_cash = _overrides(strategy, bt.Strategy, ("notify_cashvalue", "notify_fund")) or any(
            map(_handles_cash, analyzers)
        )
        self._all_analyzers = analyzers
        self.handles_orders = (
            _overrides(strategy, bt.Strategy, ("notify_order",))
            or any(map(_handles_orders, analyzers))
            or bool(strategy._lineiterators[bt.LineIterator.ObsType])
        )
        self._next = strategy.next
        read_later = [one for one in strategy.analyzers if reads_at_the_end(one)]
        handling = [one for one in strategy.analyzers if one not in read_later and _handles_bars(one)]
        self.analyzers = [(one, _name_of_next(one)) for one in handling]
        """Analyzers that handle every bar, and the name of the method to call."""
        self.has_observers = bool(strategy._lineiterators[bt.LineIterator.ObsType])

    def _assign(self, indicator: Any, moving: dict[int, FeedGroup]) -> None:
        """Assign an indicator's lines to the group of feeds that they advance with."""
        group = moving.get(id(indicator._clock.lines[0]))
        lines = indicator.lines if isinstance(indicator.lines, list) else indicator.lines.lines
        if group is None:
            self._independent.append(indicator)
            return
        for line in lines:
            moving[id(line)] = group
            if type(line) is LineBuffer:
                self.indicator_lines[group].lines.append(line)
            else:
                self.indicator_lines[group].unshared.append(line)

    def _share_cursor(self, groups: list[FeedGroup]) -> Cursor | None:
        """Preload the strategy's times where all feeds have the same bars; return the cursor if it moves all of its lines.

        Returns None where an indicator has the strategy itself as its clock, because it advances after the strategy.
        """
        if len(groups) > 1 or self._independent or type(self.time) is not LineBuffer or len(self.time.array):
            return None
        indicator_lines = self.indicator_lines[groups[0]]
        self.time.array = array("d", groups[0].times)
        indicator_lines.lines.append(self.time)
        return None if indicator_lines.unshared or self.others else indicator_lines.cursor

    def _move(self, dt: float, moved: list[FeedGroup]) -> None:
        """Advance the indicators and the strategy's own lines to the bar."""
        for group in moved:
            self.indicator_lines[group].move()
        for indicator in self._independent:
            if len(indicator._clock) > len(indicator):
                indicator.advance()
        time = self.time
        if type(time) is LineBuffer:
            time._idx += 1
            time.lencount += 1
            time.array.append(dt)
        for line in self.others:
            line.forward()

    def next(self, dt: float, moved: list[FeedGroup]) -> None:
        """Process a bar of the strategy after its feeds have advanced: notifications, `next`, analyzers, observers."""
        if self.cursor is not None:
            self.cursor.at += 1
        else:
            self._move(dt, moved)
        state = self.state  # bypasses a __getattr__ of the strategy
        # A strategy may assign a notification method to itself during the run.
        if self.handles_cash or "notify_cashvalue" in state or "notify_fund" in state:
            self.strategy._notify()
        elif state["_orderspending"] or state["_tradespending"]:
            self._notify_pending()
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
    def is_passive(self) -> bool:
        """Whether the strategy's `next` is the only call in a bar without notifications."""
        has_handlers = self.handles_cash or self.analyzers or self.has_observers
        return self.is_warm and not has_handlers

    def _notify_pending(self) -> None:
        """Deliver pending orders and trades, as `_notify` does, without reading cash and value, which nobody handles."""
        strategy = self.strategy
        if strategy.cerebro.p.quicknotify:
            return  # already delivered
        for order in strategy._orderspending:
            if order.exectype != order.Historical or order.histnotify:
                strategy.notify_order(order)
            for analyzer in self._all_analyzers:
                analyzer._notify_order(order)
        for trade in strategy._tradespending:
            strategy.notify_trade(trade)
            for analyzer in self._all_analyzers:
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
    """One run of a cerebro's strategies."""

    def __init__(self, cerebro: Any, strategies: list[Any]) -> None:
        self._cerebro = cerebro
        self._broker = cerebro._broker
        self._cheats_on_open = bool(cerebro._timerscheat or cerebro.p.cheat_on_open)
        own = type(self._broker).get_notification is bt.brokers.BackBroker.get_notification
        self._queue = self._broker.notifs if own else None
        """The broker's notification queue; None where the broker overrides `get_notification`."""
        datas = sorted(cerebro.datas, key=lambda data: (data._timeframe, data._compression))
        times = _times(datas[0])
        are_aligned = all(block_feed(data) is not None and _times(data) == times for data in datas)
        self._groups = [FeedGroup(datas)] if are_aligned else [FeedGroup([data]) for data in datas]
        self._runners = [StrategyRunner(strategy, self._groups) for strategy in strategies]
        is_alone = own and len(strategies) == 1 and not self._cheats_on_open and not cerebro.runwriters
        self._skipping_broker = skipping_broker(self._broker) if are_aligned and is_alone else None
        """The broker, if the quiet bars of the only strategy may be run without calling it in each; else None."""

    def run(self) -> None:
        """Run to the end of the data, or until the run is stopped."""
        listener = order_state_listener(self._broker)
        if listener is not None:
            listener.notifies_order_states = any(runner.handles_orders for runner in self._runners)
        shared = [(group.cursor, group.lines) for group in self._groups]
        shared += [(one.cursor, one.lines) for runner in self._runners for one in runner.indicator_lines.values()]
        with sharing(shared):
            self._run_all_bars()
        for runner in self._runners:
            del runner.time.array[runner.time.lencount :]

    def _timestamps(self) -> Iterable[tuple[float, list[FeedGroup]]]:
        """Return the times at which any feed has a bar, with the groups of feeds that do."""
        groups = self._groups
        return _merged(groups) if len(groups) > 1 else zip(groups[0].times, repeat(groups), strict=False)

    def _run_all_bars(self) -> None:  # noqa: C901 - runs in every bar, where the cost of further calls is measurable
        cerebro, queue, runners, process_bar = self._cerebro, self._queue, self._runners, self._broker.next
        skipping = self._skipping_broker
        timestamps = iter(self._timestamps())
        for dt, moved in timestamps:
            for group in moved:
                group.move()
            if self._cheats_on_open and self._run_before_broker(dt):
                return
            process_bar()
            if queue is None or queue:
                self._deliver_notifications()
            if cerebro._event_stop:
                return
            if cerebro._timers:
                cerebro._check_timers(cerebro.runningstrats, dt, cheat=False)
            for runner in runners:
                runner.next(dt, moved)
                if cerebro._event_stop:
                    return
                if cerebro.runwriters:
                    cerebro._next_writers(cerebro.runningstrats)
            if skipping is not None and self._run_quiet_bars(skipping, timestamps):
                return

    def _run_quiet_bars(self, broker: SkippingBroker, timestamps: Iterator[Any]) -> bool:
        """Run the strategy through the bars of a quiet interval without calling the broker; return whether the run was stopped.

        Ends before the last bar, and before any bar with a notification, a deposit, a timer or a changed `next`: the regular loop
        processes those.
        """
        cerebro, queue, group, runner = self._cerebro, self._queue, self._groups[0], self._runners[0]
        unseen, cursor = broker.unseen(), runner.cursor
        if unseen is None or cursor is None or not runner.is_passive:
            return False
        feeds, strategy_next, state, paid_in = (
            group.cursor,
            runner.strategy.next,
            runner.state,
            broker._cash_addition,
        )
        first = at = feeds.at
        last = min(at + unseen.run_through(), group.last - 1)
        try:
            while at < last and unseen.is_run_through:
                if queue or paid_in or cerebro._event_stop or cerebro._timers:
                    break
                if "next" in state or "notify_cashvalue" in state or "notify_fund" in state:
                    break
                feeds.at = cursor.at = at = at + 1
                strategy_next()
        finally:
            broker.count_run_through()
        next(islice(timestamps, at - first, at - first), None)
        return bool(cerebro._event_stop)

    def _run_before_broker(self, dt: float) -> bool:
        """Run cheat-on-open timers and strategies before the broker; return whether a strategy has stopped the run.

        If a timer has stopped it, the broker still processes the bar, as under backtrader.
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

    def _deliver_notifications(self) -> None:
        """Deliver the broker's notifications to the strategies."""
        cerebro = self._cerebro
        while (order := self._broker.get_notification()) is not None:
            owner = cerebro.runningstrats[0] if order.owner is None else order.owner
            owner._addnotification(order, quicknotify=cerebro.p.quicknotify)


def _times(data: Any) -> Any:
    """Return the times of a feed's bars, as day numbers."""
    times = data.lines.datetime.array
    return times if len(times) == data.buflen() else times[: data.buflen()]


def _merged(groups: list[FeedGroup]) -> Iterator[tuple[float, list[FeedGroup]]]:
    """Yield the times at which any group of feeds has a bar, with the groups that do."""
    positions = [0] * len(groups)
    upcoming = [group.times[0] if group.times else math.inf for group in groups]
    while (dt := min(upcoming)) != math.inf:
        moved = []
        for n, group in enumerate(groups):
            if upcoming[n] <= dt:
                moved.append(group)
                positions[n] += 1
                upcoming[n] = group.times[positions[n]] if positions[n] < len(group.times) else math.inf
        yield dt, moved


def _overrides(one: Any, base: Any, names: tuple[str, ...]) -> bool:
    return any(getattr(type(one), name) is not getattr(base, name) or name in one.__dict__ for name in names)


def _handles_cash(analyzer: Any) -> bool:
    names = ("notify_cashvalue", "notify_fund", "_notify_cashvalue", "_notify_fund")
    return _overrides(analyzer, bt.Analyzer, names) or any(map(_handles_cash, analyzer._children))


def _handles_orders(analyzer: Any) -> bool:
    own = _overrides(analyzer, bt.Analyzer, ("notify_order", "_notify_order"))
    return (own and hears_orders(analyzer)) or any(map(_handles_orders, analyzer._children))


def _name_of_next(analyzer: Any) -> str:
    """Return the method to call in every bar: `next`, or `_next` where that does more than call `next`."""
    return "next" if type(analyzer)._next is bt.Analyzer._next and not analyzer._children else "_next"


def _handles_bars(analyzer: Any) -> bool:
    return _overrides(analyzer, bt.Analyzer, ("next", "_next")) or any(map(_handles_bars, analyzer._children))
