# SPDX-License-Identifier: GPL-3.0-or-later
"""Which resting orders fill in a bar, and when on its path. Whether one does, and at what price, is backtrader's own matching."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from backtrader import Order

from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.bt_orders import TRAILING
from crossmargin_bt.broker.session.order_queue import OrderQueue
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.math.intrabar_path import BEFORE, CLOSE, OPEN, PricePath, candle_path, low_comes_first


class Match(NamedTuple):
    """What backtrader's matching found for an order in this bar."""

    price: float
    ago: int
    created_at_close: float | None
    """The time of the previous close when the order cheats on close, else None."""


class Trigger(NamedTuple):
    """A match with its moment on the path, its place in the queue, and the order as the bar began."""

    moment: float
    place: int
    order: Any
    match: Match
    was_triggered: bool
    stop: float
    limit: float
    bar: Bar


TRIGGERED_LIMITS = (Order.StopLimit, Order.StopTrailLimit)


def leg_of(order: Any) -> str:
    """Return the side an order trades: the leg it names, or the one position of one-way mode."""
    return str(order.info.get("position_side") or "net")


def moment_of(order: Any, path: PricePath, match: Match, *, was_triggered: bool, stop: float, limit: float) -> float:
    """Return the moment at which the order fills on the path of the last price.

    `stop` and `limit` are the order's price and limit price as the bar began. A match that the
    path does not reach (a limit improved by slippage rules) counts at the close.
    """
    if match.created_at_close is not None or match.ago < 0:
        return BEFORE
    if order.exectype == Order.Close:
        return CLOSE
    if order.exectype in (Order.Market, Order.Historical):
        return OPEN
    buys = order.isbuy()
    if order.exectype == Order.Limit:
        moment = path.first_beyond(stop, below=buys)
    elif was_triggered and order.exectype in TRIGGERED_LIMITS:
        moment = path.first_beyond(limit, below=buys)
    else:
        moment = path.first_beyond(stop, below=not buys)
        if moment is not None and order.exectype in TRIGGERED_LIMITS:
            moment = path.first_beyond(limit, below=buys, since=moment)
    return CLOSE if moment is None else moment


def matches(broker: Any, run: BrokerSession, bars: Sequence[Bar]) -> list[Trigger]:
    """Return which resting orders fill in these bars; expired ones are taken away."""
    pending: OrderQueue = broker.pending
    if not pending:
        return []
    fresh = {id(bar.data): bar for bar in bars}
    found: list[Trigger] = []
    for place, order in pending.to_look_at(fresh):
        if not order.alive():
            continue  # cancelled by the end of another in this very loop
        if order.expire():
            pending.remove(order)
            broker.notify(order)
            broker._ococheck(order)
            broker._bracketize(order, cancel=True)
        elif order.active() and id(order.data) in fresh:
            bar, feed = fresh[id(order.data)], run.feeds[order.data]
            trigger = None if pending.lets_pass(order, bar, feed) else _match(broker, order, bar, place)
            if trigger is None:
                pending.let_rest(order, feed)
            else:
                found.append(trigger)
    return found


def _match(broker: Any, order: Any, bar: Bar, place: int) -> Trigger | None:
    created = order.created
    stop, limit, was_triggered = created.price, created.pricelimit, order.triggered
    match: Match | None = broker.match(order)
    if match is None:
        return None
    if order.exectype in TRAILING:
        created.price, created.pricelimit = stop, limit
    path = candle_path(bar.last, low_first=low_comes_first(bar.last))
    moment = moment_of(order, path, match, was_triggered=was_triggered, stop=stop, limit=limit)
    return Trigger(moment, place, order, match, was_triggered, stop, limit, bar)
