# SPDX-License-Identifier: GPL-3.0-or-later
"""Which orders fill in a bar and when, and how a fill reaches the account, backtrader's positions and the order's owner.

Whether an order fills, and at which price, is backtrader's own matching.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from backtrader import Order

from crossmargin_bt.broker.orders.order_manager import OrderManager
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.bt_orders import TRAILING, TRIGGERED_LIMITS, leg_of, reduces_only
from crossmargin_bt.broker.session.host import BrokerHost, Match
from crossmargin_bt.broker.session.position_lots import PositionLot
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission.order_admission import ExactAdmission
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import deficits
from crossmargin_bt.engine.math.intrabar_path import BEFORE, CLOSE, OPEN, PricePath, candle_path, low_comes_first

# Orders whose moment of the bar does not depend on the path of its prices.
FILLED_AT_OPEN = (Order.Market, Order.Historical)


class Trigger(NamedTuple):
    """A match with its moment on the path, its place in the queue, and the order's prices as the bar began."""

    moment: float
    place: int
    order: Any
    match: Match
    was_triggered: bool
    stop: float
    limit: float
    bar: Bar


class FillResult(NamedTuple):
    """What a fill did: lots closed and opened, the leg after it, and the entry its trade was held at before."""

    closed: int
    opened: int
    after: position.Position
    own_entry: float


class OrderExecutor:
    """Matches the orders of one run against bars, and books their fills and the venue's forced closes."""

    def __init__(self, host: BrokerHost, session: BrokerSession, orders: OrderManager) -> None:
        self._host, self._session, self._orders = host, session, orders
        self.record_forced: Callable[[events.JournalEntry], None] = session.record
        """Records an entry of the venue's own; a forced close reaches the owners of the leg."""

    # Matching

    def matches(self, bars: Sequence[Bar]) -> list[Trigger]:
        """Return the resting orders that fill in these bars; expired ones are ended."""
        host, session = self._host, self._session
        pending = host.pending
        if not pending:
            return []
        fresh = {id(bar.data): bar for bar in bars}
        found: list[Trigger] = []
        for place, order in pending.candidates(fresh):
            if not order.alive():
                continue  # cancelled by the end of another in this very loop
            if order.expire():
                self._orders.end_expired(order)
            elif order.active() and id(order.data) in fresh:
                bar, feed = fresh[id(order.data)], session.feeds[order.data]
                trigger = None if pending.is_out_of_reach(order, bar, feed) else self._match(order, bar, place)
                if trigger is None:
                    pending.let_rest(order, feed)
                else:
                    found.append(trigger)
        return found

    def _match(self, order: Any, bar: Bar, place: int) -> Trigger | None:
        created = order.created
        stop, limit, was_triggered = created.price, created.pricelimit, order.triggered
        match = self._host.match(order)
        if match is None:
            return None
        if order.exectype in TRAILING:
            created.price, created.pricelimit = stop, limit
        trigger = Trigger(OPEN, place, order, match, was_triggered, stop, limit, bar)
        if match.created_at_close is not None or match.ago < 0:
            return trigger._replace(moment=BEFORE)
        if order.exectype in FILLED_AT_OPEN:
            return trigger
        path = candle_path(bar.last, low_first=low_comes_first(bar.last))
        return Trigger(moment_of(trigger, path), *trigger[1:])

    # Fills of orders

    def fill(self, trigger: Trigger, *, admission: ExactAdmission) -> None:
        """Fill as much as a trigger's order can trade; an order that is still alive rests."""
        order, host = trigger.order, self._host
        if order.exectype in TRIGGERED_LIMITS:
            maker = trigger.was_triggered
        else:
            maker = order.exectype == order.Limit and (host.pending.rests(order) or trigger.moment > OPEN)
        self._fill_now(trigger, maker=maker, admission=admission)
        if order.alive():
            if order.exectype in TRAILING:
                order.trailadjust(trigger.bar.last.close)
            host.pending.let_rest(order, self._session.feeds[order.data])
            return
        self._session.forget(order)
        if order in host.pending:
            host.pending.remove(order)
        if order.status == order.Completed:
            self._orders.release_bracket(order)

    def _fill_now(self, trigger: Trigger, *, maker: bool, admission: ExactAdmission) -> None:
        session = self._session
        order, match = trigger.order, trigger.match
        book = session.books[order.data]
        side = leg_of(order)
        lots = self._lots_to_trade(order, match.price, match.ago)
        if not lots:
            return
        held = book.leg(side).lots
        is_reducing = reduces_only(order)
        if is_reducing:
            lots = position.cap_to_position(held, lots)
            if not lots:
                self._orders.cancel_for(order, "nothing left to reduce")
                return
        entry = fills.order_fill(
            session.account, session.time_ms, book.instrument.symbol, side,
            number=session.number(order), lots=lots, price=match.price, maker=maker,
        )  # fmt: skip
        refusal = admission.admit_fill(entry)
        if refusal is not None:
            # A closing part is always accepted, except for spot: the coin sold must be held and the coin bought must be paid for.
            closed = 0 if book.margin_mode == "spot" else position.split_fill(held, lots)[0]
            if closed:
                self._book_fill(order, self._part_of(entry, closed, maker=maker), match)
            self._orders.refuse(order, refusal, self._part_of(entry, lots - closed, maker=maker))
            return
        self._book_fill(order, entry, match)
        if is_reducing and order.alive() and side not in book.legs:
            self._orders.cancel_for(order, "nothing left to reduce")

    def _part_of(self, entry: events.Filled, lots: int, *, maker: bool) -> events.Filled:
        return fills.order_fill(
            self._session.account, entry.time_ms, entry.symbol, entry.side,
            number=entry.number, lots=lots, price=entry.price, maker=maker,
        )  # fmt: skip

    def _lots_to_trade(self, order: Any, price: float, ago: int) -> int:
        left = self._session.lots_left(order)
        filler = self._host.p.filler
        if filler is None:
            return left
        size = filler(order, price, ago)
        offered = self._session.books[order.data].instrument.lots(size) if math.isfinite(size) else 0
        return int(math.copysign(min(abs(offered), abs(left)), left)) if offered else 0

    def _book_fill(self, order: Any, entry: events.Filled, match: Match) -> None:
        """Book an admitted fill and notify the order's owner."""
        session = self._session
        book = session.books[order.data]
        instrument = book.instrument
        held = book.leg(entry.side)
        closed, opened = position.split_fill(held.lots, entry.lots)
        isolated_short = fills.isolated_shortfall(book, entry)
        session.record(entry)
        self.cover_deficits(entry, isolated_short)
        left = session.take_lots(order, entry.lots)
        lot = PositionLot(order.owner, order.tradeid, entry.lots, entry.price)
        after = book.leg(entry.side)
        own_entry = session.position_lots.add(order.data, entry.side, lot, instrument, (held, after))
        self.sync_backtrader_position(order.data)
        if not left:
            order.executed.remsize = instrument.size(entry.lots)
        self._report(order, entry, FillResult(closed, opened, after, own_entry), match=match)
        self._orders.cancel_group_of(order)
        if entry.side not in book.legs:
            self._cancel_reducing(order, entry.side)

    def cover_deficits(self, entry: events.Filled, isolated_short: float) -> None:
        """Record how the debts are paid that a recorded fill leaves and no position can earn back."""
        session = self._session
        for paid in deficits.cover_after_fill(session.account, entry, isolated_short):
            if isinstance(paid, events.Filled):
                self.record_forced(paid)
            else:
                session.record(paid)

    def _report(self, order: Any, entry: events.Filled, done: FillResult, *, match: Match | None) -> None:
        """Put a fill on the order as backtrader's trades and analyzers expect it, in the account's currency, and notify."""
        info = self._host.fill_commission(order.data, done.own_entry)
        instrument, rate = info.instrument, info.rate
        share = abs(done.closed) / abs(entry.lots)
        closed_size, opened_size = instrument.size(done.closed), instrument.size(done.opened)
        fee = entry.fee * rate
        when = order.data.datetime[0]
        if match is not None and match.created_at_close is not None:
            when = match.created_at_close
        elif match is not None and match.ago < 0:
            when = order.data.datetime[match.ago]
        order.execute(
            when, instrument.size(entry.lots), entry.price,
            closed_size, info.getvaluesize(-closed_size, entry.price), fee * share,
            opened_size, info.getvaluesize(opened_size, entry.price), fee * (1 - share),
            info.get_margin(entry.price), entry.realised * rate,
            instrument.size(done.after.lots), done.after.entry,
        )  # fmt: skip
        order.addcomminfo(info)
        self._orders.notify(order)

    def _cancel_reducing(self, filled_order: Any, side: str) -> None:
        """Cancel the reduce-only orders of a leg that has become flat."""
        for order in list(self._host.pending):
            same_leg = order.data is filled_order.data and leg_of(order) == side
            if same_leg and order.ref != filled_order.ref and order.active() and reduces_only(order) and order.alive():
                self._orders.cancel_for(order, "nothing left to reduce")

    # The venue's own fills

    def sync_backtrader_position(self, data: Any) -> None:
        """Show backtrader the net position of a feed, at the entry of its larger leg."""
        book = self._session.books[data]
        if not book.hedged:
            leg = book.leg("net")
            self._host.positions[data].fix(book.instrument.size(leg.lots), leg.entry)
            return
        legs = sorted(book.legs.values(), key=lambda leg: abs(leg.lots))
        net = sum(leg.lots for leg in legs)
        self._host.positions[data].fix(book.instrument.size(net), legs[-1].entry if net else 0.0)

    def forced_close(self, data: Any, entry: events.Filled) -> None:
        """Book the venue's close of a leg or of a part of it, and deliver it as one order per owner and tradeid.

        `order.info.forced` holds its cause: "liquidation", "repayment", "expiry" or "delisting".
        """
        host, session = self._host, self._session
        book = session.books[data]
        parts = session.position_lots.oldest_first(data, entry.side, -entry.lots)
        session.record(entry)
        assert sum(part.lots for part in parts) == -entry.lots, f"{entry.symbol}:{entry.side} is not owned in full"
        self.sync_backtrader_position(data)
        gross = sum(abs(part.lots) for part in parts)
        for part in parts:
            share = abs(part.lots) / gross
            size, given = book.instrument.size(abs(part.lots)), {"tradeid": part.tradeid, "exectype": Order.Market}
            order = bt_orders.new_order(part.owner, data, size, given, buys=part.lots < 0)
            order.addinfo(forced=entry.cause, position_side=entry.side)
            host._ocoize(order, None)
            host.orders.append(order)
            for step in (order.submit, order.accept):
                step(host)
                self._orders.notify(order)
            piece = msgspec.structs.replace(
                entry, lots=-part.lots, fee=entry.fee * share, realised=entry.realised * part.lots / -entry.lots
            )
            closing = part._replace(lots=-part.lots, entry=entry.price)
            own_entry = session.position_lots.add(data, entry.side, closing, book.instrument)
            self._report(order, piece, FillResult(-part.lots, 0, book.leg(entry.side), own_entry), match=None)

    def shrink_exit_orders(self, data: Any, entry: events.Filled) -> None:
        """Fit the exits of a leg to the rest that a forced close left: cancelled with the leg, reduce-only beside a rest."""
        session = self._session
        left = session.books[data].leg(entry.side).lots
        for order in list(self._host.pending):
            exits = order.data is data and leg_of(order) == entry.side and order.isbuy() == (entry.lots > 0)
            if not (exits and order.alive() and order.active()):
                continue
            if not left:
                self._orders.cancel_for(order, "liquidation")
            elif not reduces_only(order) and abs(session.lots_left(order)) <= abs(left - entry.lots):
                order.addinfo(reduce_only=True)
                self._orders.place(order)


def moment_of(trigger: Trigger, path: PricePath) -> float:
    """Return the moment at which a trigger's order fills on the path of the last price.

    A match that the path does not reach (a limit improved by slippage rules) counts at the close.
    """
    order, match = trigger.order, trigger.match
    if match.created_at_close is not None or match.ago < 0:
        return BEFORE
    if order.exectype == Order.Close:
        return CLOSE
    if order.exectype in FILLED_AT_OPEN:
        return OPEN
    buys = order.isbuy()
    if order.exectype == Order.Limit:
        moment = path.first_beyond(trigger.stop, below=buys)
    elif trigger.was_triggered and order.exectype in TRIGGERED_LIMITS:
        moment = path.first_beyond(trigger.limit, below=buys)
    else:
        moment = path.first_beyond(trigger.stop, below=not buys)
        if moment is not None and order.exectype in TRIGGERED_LIMITS:
            moment = path.first_beyond(trigger.limit, below=buys, since=moment)
    return CLOSE if moment is None else moment
