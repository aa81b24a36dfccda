# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of an order between a strategy and its fill: entry, validation, admission, resting, cancelling, notification."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from backtrader import Order

from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.bt_orders import leg_of
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission.order_admission import ExactAdmission, opening_refusal
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.math.numbers import to_python_number
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS, Instrument
from crossmargin_bt.errors import suggestion

# The number of latest orders that stay in `broker.orders` and in a strategy's `_orders`; the journal has all of them.
ORDERS_KEPT = 1000

# backtrader counts the states of an order so that those up to this one can still trade.
PARTIAL: int = Order.Partial
FILLED, REFUSED = (Order.Partial, Order.Completed), (Order.Margin, Order.Rejected)

# Keywords a strategy may give to buy() and sell() beyond backtrader's own.
OWN_KEYWORDS = ("position_side", "reduce_only", "plan")
KEYWORDS = bt_orders.ORDER_KEYWORDS | {"oco", "coc", "_checksubmit", *OWN_KEYWORDS}


class OrderCheck(Protocol):
    """Judges orders before the account does."""

    def judge(self, order: Any, resting: OpenOrder) -> Refusal | None:
        """Return why an order is refused, or None; the order may have been made smaller."""
        ...


class OrderManager:
    """The orders of one run on a margin account, in backtrader's queues."""

    def __init__(self, host: BrokerHost, session: BrokerSession, new_admission: Callable[..., ExactAdmission]) -> None:
        self._host, self._session = host, session
        self._new_admission = new_admission
        self.checks: OrderCheck | None = None
        """The trader's own guards, where there are any."""
        host.orders = deque(maxlen=ORDERS_KEPT)

    # Entry

    def enter(self, owner: Any, data: Any, size: float, keywords: dict[str, Any], *, buys: bool) -> Any:
        """Enter an order; one that cannot be entered is returned rejected, with its `Refusal` in `order.info.reject`."""
        session = self._session
        if "valid" in keywords and keywords["valid"] is not None and len(data):
            keywords["valid"] = bt_orders.valid_until(data, keywords["valid"])
        size, refusal = _validated(session, data, size, keywords)
        book = session.books.get(data)
        if refusal is not None and book is not None and book.instrument.is_dust(size):
            return None
        if refusal is None:
            assert book is not None
            refusal = _round_to_tick(book.instrument, keywords, buys=buys)
        if refusal is not None:
            return self._reject_at_entry(owner, data, size, keywords, refusal, buys=buys)
        assert book is not None
        if type(getattr(owner, "_orders", None)) is list:
            owner._orders = deque(owner._orders, maxlen=ORDERS_KEPT)
        if book.hedged:
            keywords["tradeid"] = (keywords["position_side"], keywords.get("tradeid", 0))
        oco, check = keywords.pop("oco", None), keywords.pop("_checksubmit", True)
        further = keywords.keys() - bt_orders.ORDER_KEYWORDS
        info = {name: keywords.pop(name) for name in further} if further else None
        lots = abs(book.instrument.lots(size))
        order = bt_orders.new_order(owner, data, book.instrument.size(lots), keywords, buys=buys)
        if info:
            order.addinfo(**info)
        self._host._ocoize(order, oco)
        return self.submit(order, check=check)

    def _reject_at_entry(
        self, owner: Any, data: Any, size: float, keywords: dict[str, Any], refusal: Refusal, *, buys: bool
    ) -> Any:
        order = bt_orders.rejected_order(owner, data, size, keywords, buys=buys)
        self._host._ocoize(order, None)
        self.refuse(order, refusal)
        return order

    def submit(self, order: Any, *, check: bool = True) -> Any:
        """Submit an order; the orders of a bracket wait for the last of them."""
        leader = order.ref if order.parent is None else self._known_parent(order)
        if leader is None:
            return order
        bracket = self._host._pchildren[leader]
        bracket.append(order)
        if order.transmit:
            for each in list(bracket):
                self._transmit(each, check=check)
        return order

    def _transmit(self, order: Any, *, check: bool) -> None:
        if not check:  # a fill of the past, which `add_order_history` replays
            self.submit_accept(order)
            return
        order.submit()
        self._host.submitted.append(order)
        self._host.orders.append(order)
        self.notify(order)

    def _known_parent(self, order: Any) -> int | None:
        """Return the reference of the parent an order waits for; None, and the order rejected, where it is gone."""
        leader: int = order.parent.ref
        if leader in self._host._pchildren:
            return leader
        order.reject()
        self.notify(order)
        refusal = Refusal("rejected", "parent_refused", "the order it waits for was refused or is gone")
        self._journal_refusal(order, refusal)
        order.addinfo(reject=refusal)
        return None

    # Admission

    def admit_submitted(self) -> None:
        """Admit the orders submitted since the last bar, one by one; a refusal leaves the others as they are."""
        submitted = self._host.submitted
        if not submitted:
            return
        admission = self._new_admission(at_close=True)
        while submitted:
            order = submitted.popleft()
            if order.parent is not None and self._known_parent(order) is None:
                continue
            if not order.active():
                self.submit_accept(order)
                continue
            resting = self._admitted(order, admission)
            if resting is not None:
                self._accept(order)
                self._place(order, resting)

    def activate_children(self) -> None:
        """Admit the children of brackets whose parent has filled."""
        waiting = self._host._toactivate
        while waiting:
            order = waiting.popleft()
            order.activate()
            if not order.alive() or order not in self._host.pending:
                continue
            self._host.pending.activate(order)
            resting = self._admitted(order, self._new_admission(at_close=False))
            if resting is not None:
                self._place(order, resting)

    def _admitted(self, order: Any, admission: ExactAdmission) -> OpenOrder | None:
        """Return the order as it may rest; one that may not is refused here."""
        resting = self.as_open_order(order)
        if self.checks is not None:
            refusal = self.checks.judge(order, resting)
            if refusal is not None:
                self.refuse(order, refusal, resting)
                return None
            if self._session.lots_left(order) != resting.lots:
                resting = self.as_open_order(order)
        admitted = self._admission_of(order, resting, admission)
        if isinstance(admitted, Refusal):
            self.refuse(order, admitted, resting)
            return None
        return admitted

    def _admission_of(self, order: Any, resting: OpenOrder, admission: ExactAdmission) -> OpenOrder | Refusal:
        book = self._session.books[order.data]
        if not 0 < resting.price < math.inf:
            return Refusal("rejected", "price_not_positive", f"order price is {resting.price}; give a price above 0")
        admitted = admission.admit(book.instrument.symbol, resting)
        if isinstance(admitted, Refusal):
            return admitted
        order.info["covered"] = admitted.covered
        if admitted.reduce_only and not resting.reduce_only:
            order.info["reduce_only"] = True
            refused = opening_refusal(self._session.account, book.instrument.symbol, resting)
            if refused is not None:
                order.addinfo(reject=refused)
                self._journal_refusal(order, refused, resting)
        # A size that is cut to the position at admission is cut again when it fills.
        return admitted if admitted.lots == resting.lots else msgspec.structs.replace(admitted, lots=resting.lots)

    def as_open_order(self, order: Any) -> OpenOrder:
        """Return the engine's view of an order: its side, open lots and the price it is valued at."""
        host, session = self._host, self._session
        at_open = host.p.coo and order.exectype == Order.Market
        price = order.data.open[0] if at_open else bt_orders.reference_price(order)
        # A bracket's exits exclude each other, and so do the members of a one-cancels-other group.
        leader = host._ocos[order.ref] if order.parent is None else order.parent.ref
        number = session.number(order)
        return OpenOrder(
            number,
            leg_of(order),
            session.lots_left(order),
            price,
            bt_orders.reduces_only(order),
            number if leader == order.ref else session.number_of(leader),
            immediate=order.exectype in (Order.Market, Order.Historical),
            covered=order.info.get("covered", 0),
        )

    def submit_accept(self, order: Any) -> None:
        """Accept an order; it draws on margin from now on, unless it waits for its parent."""
        self._accept(order)
        if order.active():
            self.place(order)

    def _accept(self, order: Any) -> None:
        order.pannotated = None
        order.submit()
        order.accept()
        self._host.pending.append(order)
        self.notify(order)

    def place(self, order: Any) -> None:
        """Enter an accepted order in the account as it is now, replacing its earlier state."""
        self._place(order, self.as_open_order(order))

    def _place(self, order: Any, resting: OpenOrder) -> None:
        session = self._session
        session.record(
            events.OrderPlaced(
                time_ms=session.time_ms,
                number=resting.number,
                symbol=session.feeds[order.data].symbol,
                side=resting.side,
                lots=resting.lots,
                price=resting.price,
                reduce_only=resting.reduce_only,
                group=resting.group,
                immediate=resting.immediate,
                covered=resting.covered,
            )
        )

    # Refusal

    def refuse(self, order: Any, refusal: Refusal, judged: OpenOrder | events.Filled | None = None) -> None:
        """Refuse an order: journal the reason, attach it to the order, and end the order's group and bracket."""
        self._journal_refusal(order, refusal, judged)
        order.addinfo(reject=refusal)
        if refusal.kind == "margin":
            order.margin()
        else:
            order.reject()
            if order.p.simulated:
                order.p.simulated = False
        if order in self._host.pending:
            self._host.pending.remove(order)
        self.notify(order)
        self.cancel_group_of(order)
        self.release_bracket(order, cancel=True)

    def _journal_refusal(self, order: Any, refusal: Refusal, judged: OpenOrder | events.Filled | None = None) -> None:
        """Journal a refusal with the order or fill that was `judged` and the prices it was judged by."""
        session = self._session
        book = session.books.get(order.data)
        usable = book is not None and math.isfinite(order.size)
        lots = session.lots_left(order) if usable else 0
        session.record(
            events.OrderRefused(
                time_ms=session.time_ms,
                number=session.number(order),
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
                prices={} if judged is None else session.account.prices(),
            )
        )

    # Cancelling

    def cancel(self, order: Any, *, bracket: bool = False) -> bool:
        """Cancel an order that is alive, also one entered in this very bar, also by a copy of it."""
        host = self._host
        own = order if bracket else self._original(order)
        if own is None or not own.alive():
            return False
        if own in host.submitted:
            host.submitted.remove(own)
        if own in host.pending:
            host.pending.remove(own)
        own.cancel()
        self.notify(own)
        self.cancel_group_of(own)
        if not bracket:
            self.release_bracket(own, cancel=True)
        return True

    def cancel_for(self, order: Any, reason: str) -> None:
        """Cancel an order for a reason of the venue's, reported in `order.info.removed`."""
        order.addinfo(removed=reason)
        self.cancel(order)

    def _original(self, order: Any) -> Any:
        """Return the order held under this one's reference, or None where none is held."""
        host = self._host
        if order in host.pending:
            return host.pending.get(order.ref)
        if not order.alive():
            return None  # an order that has ended stays so, whatever the copy
        waiting = host._pchildren.get(getattr(order.parent, "ref", order.ref), ())
        held = (own for queue in (host.submitted, waiting) for own in queue)
        return next((own for own in held if own.ref == order.ref), None)

    def release_bracket(self, order: Any, *, cancel: bool = False) -> None:
        """Activate the children of an order's bracket, or cancel them; a bracket of one order is dropped."""
        host = self._host
        leader = getattr(order.parent, "ref", order.ref)
        waiting = host._pchildren.get(leader)
        if waiting is None:
            return
        if cancel or order.ref != leader:
            while waiting:
                self.cancel(waiting.popleft(), bracket=True)
            host._pchildren.pop(leader, None)  # it may have gone with the last of them
        else:
            waiting.popleft()
            host._toactivate.extend(waiting)

    def cancel_group_of(self, order: Any) -> None:
        """Cancel the other members of an order's one-cancels-other group."""
        host = self._host
        group = host._ocol.pop(host._ocos.get(host._ocos[order.ref]), ())
        if len(group) < 2:
            return
        queues: tuple[Any, ...] = (host.pending, host.submitted)
        for queue in queues:
            for other in [other for other in queue if other.ref in group and other.ref != order.ref]:
                queue.remove(other)
                other.cancel()
                self.notify(other)

    def end_expired(self, order: Any) -> None:
        """End an order whose validity is over: its group and bracket end with it."""
        self._host.pending.remove(order)
        self.notify(order)
        self.cancel_group_of(order)
        self.release_bracket(order, cancel=True)

    # Notification

    def notify(self, order: Any) -> None:
        """Queue a notification; an order that has ended no longer draws on margin."""
        session, status = self._session, order.status
        if status > PARTIAL:
            self._retire(order)
        if status in FILLED:
            session.fills += 1
        elif status in REFUSED:
            session.refused += 1
        elif not (self._host.notifies_order_states or "notify_order" in getattr(order.owner, "__dict__", ())):
            return
        self._host.notifs.append(order.clone())

    def _retire(self, order: Any) -> None:
        """Remove an order that has ended from the account, and what backtrader keeps of it for ever."""
        host, session = self._host, self._session
        book = session.books.get(order.data)
        number = session.number(order)
        if book is not None and number in book.orders:
            reason = order.info.get("removed") or order.getstatusname().lower()
            session.record(
                events.OrderRemoved(
                    time_ms=session.time_ms, number=number, symbol=book.instrument.symbol, reason=reason
                )
            )
        session.forget(order)
        ref = order.ref
        if order.parent is None and host._ocos.get(ref) == ref and len(host._ocol.get(ref, ())) < 2:
            children = host._pchildren.get(ref, ())
            if not children or (len(children) == 1 and children[0].ref == ref):
                host._pchildren.pop(ref, None)


def _validated(session: BrokerSession, data: Any, size: Any, keywords: dict[str, Any]) -> tuple[float, Refusal | None]:
    """Return an order's size as a Python number (NaN for anything else), and why it cannot be entered, or None.

    Prices among the keywords become Python numbers as well.
    """
    number = size if type(size) is float else to_python_number(size)
    if number is None:
        return math.nan, Refusal("rejected", "not_a_number", f"size must be a number, got {size!r}")
    return number, _entry_error(session, data, number, keywords)


def _entry_error(session: BrokerSession, data: Any, size: float, keywords: dict[str, Any]) -> Refusal | None:
    if not keywords.keys() <= KEYWORDS:
        name = next(name for name in keywords if name not in KEYWORDS)
        text = f"unknown order keyword {name!r}{suggestion(name, OWN_KEYWORDS)}"
        return Refusal("rejected", "unknown_keyword", text)
    book = session.books.get(data)
    if book is None:
        text = f"feed {data._name!r} has no instrument; build it with feeds.from_frame(..., instrument=)"
        return Refusal("rejected", "no_instrument", text)
    is_doubtful = session.feeds[data].is_ended or not len(data) or book.margin_mode == "option"
    refusal = _market_error(session, data, book) if is_doubtful else None
    return refusal or _number_error(book.instrument, size, keywords) or _side_error(book, keywords.get("position_side"))


def _market_error(session: BrokerSession, data: Any, book: Book) -> Refusal | None:
    """Return why a market takes no orders now, or None."""
    if session.feeds[data].is_ended:
        if book.instrument.expiry is None:
            text = f"{book.instrument.symbol} has no more bars, as after a delisting; trade another market"
            return Refusal("rejected", "market_ended", text)
        text = f"{book.instrument.symbol} expired at {book.instrument.expiry}; trade another contract"
        return Refusal("rejected", "contract_expired", text)
    if not len(data):
        text = f"feed {data._name!r} has delivered no bar yet; place orders from next() on"
        return Refusal("rejected", "no_bar_yet", text)
    if book.margin_mode == "option" and not book.index:
        symbol = book.instrument.symbol
        text = f"nothing has priced the underlying of {symbol} yet; place orders once its feed has begun"
        return Refusal("rejected", "no_index_price", text)
    return None


def _number_error(instrument: Instrument, size: float, keywords: dict[str, Any]) -> Refusal | None:
    if not math.isfinite(size):
        return Refusal("rejected", "not_a_number", f"size must be a number of contracts, got {size!r}")
    if not instrument.lots(size):
        text = f"size {float(size)!r} is less than one lot of {instrument.symbol} ({instrument.lot:g})"
        return Refusal("rejected", "size_below_one_lot", text)
    for name in ("price", "plimit"):
        given = keywords.get(name)
        if given is None:
            continue
        price: float | None = given if type(given) is float else to_python_number(given)
        if price is None:
            del keywords[name]
            return Refusal("rejected", "not_a_number", f"{name} must be a number, got {given!r}")
        keywords[name] = price
        if not 0 < price < math.inf:
            return Refusal("rejected", "price_not_positive", f"{name} must be above 0, got {float(price)!r}")
    return None


def _side_error(book: Book, side: Any) -> Refusal | None:
    if book.hedged and side not in ("long", "short"):
        text = f"hedge mode needs position_side='long' or 'short', got {side!r}"
        return Refusal("rejected", "side_missing" if side is None else "side_unknown", text)
    if not book.hedged and side is not None:
        kind = book.instrument.kind
        if kind not in HEDGE_MODE_KINDS:
            text = f"{book.instrument.symbol} is of kind {kind!r}, which has one position; leave position_side out"
        else:
            text = "position_side needs a broker with position_mode='hedge'"
        return Refusal("rejected", "side_unavailable", text)
    return None


def _round_to_tick(instrument: Instrument, keywords: dict[str, Any], *, buys: bool) -> Refusal | None:
    """Round the prices among `keywords` to the tick: limits never to a worse price, triggers to the nearest.

    Return why an order cannot be entered at one of them, or None.
    """
    if not instrument.tick:
        return None
    passive = "down" if buys else "up"
    is_limit = keywords.get("exectype") == Order.Limit
    for name, rounding in (("price", passive if is_limit else "nearest"), ("plimit", passive)):
        if keywords.get(name) is not None:
            rounded = instrument.round_price(keywords[name], rounding)
            if not rounded:
                text = f"{name} {keywords[name]:g} is less than a tick of {instrument.symbol} ({instrument.tick:g})"
                return Refusal("rejected", "price_below_tick", text)
            keywords[name] = rounded
    return None
