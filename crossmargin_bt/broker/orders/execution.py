# SPDX-License-Identifier: GPL-3.0-or-later
"""From backtrader's orders to the engine's entries and back: fills, refusals and forced closes."""

import math
from typing import Any, NamedTuple

import msgspec
from backtrader import BuyOrder, Order, SellOrder

from crossmargin_bt.broker.orders.matching import TRIGGERED_LIMITS, Match, Trigger, leg_of
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.session import BrokerSession, PositionLot
from crossmargin_bt.broker.skip.order_bound import OrderBound
from crossmargin_bt.engine.admission.order_admission import admit_fill
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import deficits


def stillborn(owner: Any, data: Any, size: float, keywords: dict[str, Any], *, buys: bool) -> Any:
    """Return an order that will be refused as it is entered; it reads no price of a feed without bars."""
    kind = BuyOrder if buys else SellOrder
    known = {name: keywords[name] for name in ("exectype", "tradeid", "parent") if name in keywords}
    price = keywords.get("price") or 0.0
    return kind(owner=owner, data=data, size=size, price=price, simulated=not len(data), **known)


def reference_price(order: Any) -> float:
    """Return the price an order is valued at while it rests: its limit, else its trigger, else the last close."""
    created = order.created
    if order.exectype in (Order.Market, Order.Close):
        return float(created.pclose)
    return float(created.pricelimit if order.exectype in TRIGGERED_LIMITS else created.price)


def reduces_only(order: Any) -> bool:
    """Return whether the order may only close: by its keyword, or because it opposes the leg it names."""
    side = order.info.get("position_side")
    opposes = side and side != "net" and (side == "long") != order.isbuy()
    return bool(opposes or order.info.get("reduce_only"))


def journal_refusal(
    run: BrokerSession, order: Any, refusal: Refusal, judged: OpenOrder | events.Filled | None = None
) -> None:
    """Keep a refusal in the journal, with the order or fill that was `judged` and the prices it was judged by."""
    book = run.books.get(order.data)
    usable = book is not None and math.isfinite(order.size)
    lots = run.lots_left(order) if usable else 0
    run.record(
        events.OrderRefused(
            time_ms=run.time_ms,
            number=run.number(order),
            symbol=order.data._name if book is None else book.instrument.symbol,
            side=leg_of(order),
            lots=lots if judged is None else judged.lots,
            price=order.created.price if judged is None else judged.price,
            kind=refusal.kind,
            code=refusal.code,
            needed=refusal.needed,
            available=refusal.available,
            reason=refusal.reason,
            group=judged.group if isinstance(judged, OpenOrder) else None,
            immediate=isinstance(judged, OpenOrder) and judged.immediate,
            at_fill=isinstance(judged, events.Filled),
            prices={} if judged is None else run.account.prices(),
        )
    )


def retire(broker: Any, run: BrokerSession, order: Any) -> None:
    """Take an order that has ended out of its book."""
    book = run.books.get(order.data)
    number = run.number(order)
    if book is not None and number in book.orders:
        reason = order.info.get("removed") or order.getstatusname().lower()
        run.record(
            events.OrderRemoved(time_ms=run.time_ms, number=number, symbol=book.instrument.symbol, reason=reason)
        )
    run.forget(order)
    _forget_group(broker, order)


def _forget_group(broker: Any, order: Any) -> None:
    """Drop what the stock broker keeps for ever of an order that belongs to nothing: its group, its queue of children."""
    ref = order.ref
    if order.parent is None and broker._ocos.get(ref) == ref and len(broker._ocol.get(ref, ())) < 2:
        children = broker._pchildren.get(ref, ())
        if not children or (len(children) == 1 and children[0].ref == ref):
            broker._pchildren.pop(ref, None)


def fill(broker: Any, run: BrokerSession, trigger: Trigger, *, maker: bool, room: OrderBound | None = None) -> None:
    """Fill what the trigger's order can trade, notify it, and settle what follows from it; see `admission.admit_fill`."""
    order, match = trigger.order, trigger.match
    book = run.books[order.data]
    side = leg_of(order)
    lots = _lots_to_trade(broker, run, order, match.price, match.ago)
    if not lots:
        return
    held = book.leg(side).lots
    if reduces_only(order):
        lots = position.cap_to_position(held, lots)
        if not lots:
            cancel(broker, order, "nothing left to reduce")
            return
    entry = fills.order_fill(
        run.account, run.time_ms, book.instrument.symbol, side,
        number=run.number(order), lots=lots, price=match.price, maker=maker,
    )  # fmt: skip
    refusal = admit_fill(run.account, entry, room=room)
    if refusal is not None:
        # What closes always may; but a coin that is sold has to be there, and one that is bought back to be paid for.
        closed = 0 if book.margin_mode == "spot" else position.split_fill(held, lots)[0]
        if closed:
            _trade(broker, run, order, _part_of(run, entry, closed, maker=maker), match)
        broker._refuse(order, refusal, _part_of(run, entry, lots - closed, maker=maker))
        return
    _trade(broker, run, order, entry, match)
    if order.alive() and reduces_only(order) and side not in book.legs:
        cancel(broker, order, "nothing left to reduce")


def _part_of(run: BrokerSession, entry: events.Filled, lots: int, *, maker: bool) -> events.Filled:
    return fills.order_fill(
        run.account, entry.time_ms, entry.symbol, entry.side,
        number=entry.number, lots=lots, price=entry.price, maker=maker,
    )  # fmt: skip


def _lots_to_trade(broker: Any, run: BrokerSession, order: Any, price: float, ago: int) -> int:
    left = run.lots_left(order)
    if broker.p.filler is None:
        return left
    size = broker.p.filler(order, price, ago)
    offered = run.books[order.data].instrument.lots(size) if math.isfinite(size) else 0
    return int(math.copysign(min(abs(offered), abs(left)), left)) if offered else 0


def _trade(broker: Any, run: BrokerSession, order: Any, entry: events.Filled, match: Match) -> None:
    """Book an admitted fill and tell the order's owner."""
    book = run.books[order.data]
    instrument = book.instrument
    held = book.leg(entry.side)
    closed, opened = position.split_fill(held.lots, entry.lots)
    _book(run, book, entry)
    left = run.take_lots(order, entry.lots)
    owned = PositionLot(order.owner, order.tradeid, entry.lots, entry.price)
    after = book.leg(entry.side)
    own_entry = run.attribution.add(order.data, entry.side, owned, instrument, (held, after))
    mirror(broker, run, order.data)
    size = instrument.size(entry.lots)
    if not left:
        order.executed.remsize = size
    done = FillResult(closed, opened, after, own_entry)
    _report(broker, order, entry, done, match=match)
    broker._ococheck(order)
    if entry.side not in book.legs:
        _cancel_reducing(broker, order, entry.side)


def _book(run: BrokerSession, book: Book, entry: events.Filled) -> None:
    """Record a fill and what has to be paid because of it."""
    short = fills.isolated_shortfall(book, entry)
    run.record(entry)
    settle(run, entry, short)


def settle(run: BrokerSession, entry: events.Filled, isolated_short: float) -> None:
    """Record what follows from a fill that has been recorded: debts that nothing is left to earn back."""
    for paid in deficits.cover_after_fill(run.account, entry, isolated_short):
        if isinstance(paid, events.Filled):
            run.watch.record(paid)
        else:
            run.record(paid)


class FillResult(NamedTuple):
    """What a fill did: lots closed and opened, the leg after it, and at which entry its trade held before."""

    closed: int
    opened: int
    after: position.Position
    own_entry: float


def _report(broker: Any, order: Any, entry: events.Filled, done: FillResult, *, match: Match | None) -> None:
    """Put a fill on the order as backtrader's trades and analyzers expect it, in the account's currency, and notify."""
    info = broker.fill_commission(order.data, done.own_entry)
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
    broker.notify(order)


def mirror(broker: Any, run: BrokerSession, data: Any) -> None:
    """Show backtrader the net position of a feed, at the entry of its larger leg."""
    book = run.books[data]
    if not book.hedged:
        leg = book.leg("net")
        broker.positions[data].fix(book.instrument.size(leg.lots), leg.entry)
        return
    legs = sorted(book.legs.values(), key=lambda leg: abs(leg.lots))
    net = sum(leg.lots for leg in legs)
    broker.positions[data].fix(book.instrument.size(net), legs[-1].entry if net else 0.0)


def cancel(broker: Any, order: Any, reason: str) -> None:
    """Cancel an order for a reason of the venue's, which `order.info.removed` tells."""
    order.addinfo(removed=reason)
    broker.cancel(order)


def _cancel_reducing(broker: Any, filled_order: Any, side: str) -> None:
    """Cancel the reduce-only orders of a leg that has become flat."""
    for order in list(broker.pending):
        same_leg = order.data is filled_order.data and leg_of(order) == side
        if same_leg and order.ref != filled_order.ref and order.active() and reduces_only(order) and order.alive():
            cancel(broker, order, "nothing left to reduce")


def forced_close(broker: Any, run: BrokerSession, data: Any, entry: events.Filled) -> None:
    """Book the venue's close of a leg or of a part of it, and deliver it as one order per owner and tradeid.

    `order.info.forced` says its cause: "liquidation", "repayment" or "expiry".
    """
    book = run.books[data]
    parts = run.attribution.first(data, entry.side, -entry.lots)
    run.record(entry)
    assert sum(part.lots for part in parts) == -entry.lots, f"{entry.symbol}:{entry.side} is not owned in full"
    mirror(broker, run, data)
    gross = sum(abs(part.lots) for part in parts)
    for part in parts:
        share = abs(part.lots) / gross
        size, given = book.instrument.size(abs(part.lots)), {"tradeid": part.tradeid, "exectype": Order.Market}
        order = bt_orders.entered(part.owner, data, size, given, buys=part.lots < 0)
        order.addinfo(forced=entry.cause, position_side=entry.side)
        broker._ocoize(order, None)
        broker.orders.append(order)
        for step in (order.submit, order.accept):
            step(broker)
            broker.notify(order)
        piece = msgspec.structs.replace(
            entry, lots=-part.lots, fee=entry.fee * share, realised=entry.realised * part.lots / -entry.lots
        )
        closing = part._replace(lots=-part.lots, entry=entry.price)
        own_entry = run.attribution.add(data, entry.side, closing, book.instrument)
        _report(broker, order, piece, FillResult(-part.lots, 0, book.leg(entry.side), own_entry), match=None)


def fit_exits(broker: Any, run: BrokerSession, data: Any, entry: events.Filled) -> None:
    """Fit the exits of a leg to what a forced close left of it: gone with the leg, reduce-only beside the rest."""
    left = run.books[data].leg(entry.side).lots
    for order in list(broker.pending):
        exits = order.data is data and leg_of(order) == entry.side and order.isbuy() == (entry.lots > 0)
        if not (exits and order.alive() and order.active()):
            continue
        if not left:
            cancel(broker, order, "liquidation")
        elif not reduces_only(order) and abs(run.lots_left(order)) <= abs(left - entry.lots):
            order.addinfo(reduce_only=True)
            broker._rest(run, order)
