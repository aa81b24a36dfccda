# SPDX-License-Identifier: GPL-3.0-or-later
"""The order side of the broker: entry, admission, cancelling, and backtrader's matching without its money.

In cash mode every method hands over to the stock broker.
"""

import math
from collections import deque
from itertools import islice
from typing import Any

import backtrader as bt
import msgspec
from backtrader import Order

from crossmargin_bt.broker.orders import execution, order_validation
from crossmargin_bt.broker.orders.matching import Match, leg_of
from crossmargin_bt.broker.orders.strict_stock import StockDesk, cash_reduction_is_void, unusable_figures, valid_until
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.order_bound import OrderBound
from crossmargin_bt.engine.admission.order_admission import admit, below_minimum
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal

# So many of the latest orders stay in `broker.orders`, and in strategies' `_orders`; the journal tells of all.
ORDERS_KEPT = 1000

# backtrader counts the states of an order so that those up to this one can still trade.
PARTIAL: int = Order.Partial
FILLED, REFUSED = (Order.Partial, Order.Completed), (Order.Margin, Order.Rejected)


class OrderManager(StockDesk):
    """What happens to an order between a strategy and the bar in which it trades."""

    _run: BrokerSession | None

    def init(self) -> None:
        """Forget the orders of the run before."""
        super().init()
        self.orders: Any = deque(maxlen=ORDERS_KEPT) if self.p.mode != "cash" else self.orders
        self.tells_orders = True
        """Whether anybody hears what becomes of an order beyond its fills, which trades are made of."""
        self._captured: Match | None = None
        self._cash_legs: dict[tuple[Any, str], float] = {}

    def buy(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a buy order; see `bt.Strategy.buy`, and docs/quickstart.md for `position_side`, `reduce_only` and `plan`."""
        return self._enter(owner, data, size, keywords, buys=True)

    def sell(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a sell order; see `buy`."""
        return self._enter(owner, data, size, keywords, buys=False)

    def _enter(self, owner: Any, data: Any, size: float, keywords: dict[str, Any], *, buys: bool) -> Any:
        run = self._run
        if keywords.get("valid") is not None and len(data) and (run is not None or self.p.strict):
            keywords["valid"] = valid_until(data, keywords["valid"])
        if run is None:
            stock = super().buy if buys else super().sell
            refusal = unusable_figures(size, keywords) if self.p.strict else None
            if refusal is not None:
                return self._refuse_in_cash(owner, data, size, keywords, refusal, buys=buys)
            return stock(owner, data, size, **keywords)
        size, refusal = order_validation.figures(run, data, size, keywords)
        if refusal is not None and data in run.books and run.books[data].instrument.is_dust(size):
            return None
        refusal = refusal or order_validation.put_on_ticks(run.books[data].instrument, keywords, buys=buys)
        if refusal is not None:
            return self._refuse_at_entry(owner, data, size, keywords, refusal, buys=buys)
        if type(getattr(owner, "_orders", None)) is list:
            owner._orders = deque(owner._orders, maxlen=ORDERS_KEPT)
        book = run.books[data]
        if book.hedged:
            keywords["tradeid"] = (keywords["position_side"], keywords.get("tradeid", 0))
        oco, check = keywords.pop("oco", None), keywords.pop("_checksubmit", True)
        further = keywords.keys() - bt_orders.GIVEN
        info = {name: keywords.pop(name) for name in further} if further else None
        lots = abs(book.instrument.lots(size))
        order = bt_orders.entered(owner, data, book.instrument.size(lots), keywords, buys=buys)
        if info:
            order.addinfo(**info)
        self._ocoize(order, oco)
        return self.submit(order, check=check)

    def submit(self, order: Any, check: bool = True) -> Any:  # noqa: FBT001, FBT002 - backtrader's signature
        """Submit an order; children wait for the last of their bracket."""
        if self._run is None or not check or order.parent is not None or not order.transmit:
            return super().submit(order, check=check)
        self._pchildren[order.ref].append(order)
        order.submit()
        self.submitted.append(order)
        self.orders.append(order)
        self.notify(order)
        return order

    def _refuse_at_entry(
        self, owner: Any, data: Any, size: float, keywords: dict[str, Any], refusal: Refusal, *, buys: bool
    ) -> Any:
        order = execution.stillborn(owner, data, size, keywords, buys=buys)
        self._ocoize(order, None)
        self._refuse(order, refusal)
        return order

    def _refuse_in_cash(
        self, owner: Any, data: Any, size: float, keywords: dict[str, Any], refusal: Refusal, *, buys: bool
    ) -> Any:
        order = execution.stillborn(owner, data, size if math.isfinite(size) else 0.0, keywords, buys=buys)
        self._ocoize(order, None)
        order.addinfo(reject=refusal)
        order.reject()
        order.p.simulated = False
        self.notify(order)
        return order

    def _refuse(self, order: Any, refusal: Refusal, judged: OpenOrder | events.Filled | None = None) -> None:
        run = self._run
        assert run is not None
        execution.journal_refusal(run, order, refusal, judged)
        order.addinfo(reject=refusal)
        if refusal.kind == "margin":
            order.margin()
        elif order.p.simulated:
            order.reject()
            order.p.simulated = False
        else:
            order.reject()
        if order in self.pending:
            self.pending.remove(order)
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    def check_submitted(self) -> None:
        """Admit what was submitted since the last bar, one by one; a refusal leaves the others as they are."""
        if self._run is None:
            super().check_submitted()
            return
        if not self.submitted:
            return
        room = self._room(self._run)
        while self.submitted:
            order = self.submitted.popleft()
            if order.parent is not None and self._take_children(order) is None:
                continue
            if not order.active():
                self.submit_accept(order)
                continue
            resting = self._admitted(self._run, order, room)
            if resting is not None:
                super().submit_accept(order)
                self._place(self._run, order, resting)

    def _room(self, run: BrokerSession) -> OrderBound:
        raise NotImplementedError

    def _admitted(self, run: BrokerSession, order: Any, room: OrderBound | None = None) -> OpenOrder | None:
        """Judge an order, and return it as it may rest; one that may not is refused here."""
        resting = self._as_resting(run, order)
        if run.discipline.has_guards:
            refusal = run.discipline.judge(order, resting)
            if refusal is not None:
                self._refuse(order, refusal, resting)
                return None
            if run.lots_left(order) != resting.lots:
                resting = self._as_resting(run, order)
        admitted = self._admission(run, order, resting, room)
        if isinstance(admitted, Refusal):
            self._refuse(order, admitted, resting)
            return None
        return admitted

    def _admission(
        self, run: BrokerSession, order: Any, resting: OpenOrder, room: OrderBound | None
    ) -> OpenOrder | Refusal:
        book = run.books[order.data]
        if not 0 < resting.price < math.inf:
            return Refusal("rejected", "price_not_positive", f"order price is {resting.price}; give a price above 0")
        too_small = below_minimum(book, resting)
        if too_small is not None:
            return too_small
        admitted = admit(run.account, book.instrument.symbol, resting, room)
        if isinstance(admitted, Refusal):
            return admitted
        order.info["covered"] = admitted.covered
        if admitted.reduce_only and not resting.reduce_only:
            order.info["reduce_only"] = True
        # What is cut to the position at admission is cut again when it fills.
        return admitted if admitted.lots == resting.lots else msgspec.structs.replace(admitted, lots=resting.lots)

    def _as_resting(self, run: BrokerSession, order: Any) -> OpenOrder:
        at_open = self.p.coo and order.exectype == bt.Order.Market
        price = order.data.open[0] if at_open else execution.reference_price(order)
        # A bracket's exits exclude each other, and so do the members of a one-cancels-other group.
        leader = self._ocos[order.ref] if order.parent is None else order.parent.ref
        number = run.number(order)
        return OpenOrder(
            number,
            leg_of(order),
            run.lots_left(order),
            price,
            execution.reduces_only(order),
            number if leader == order.ref else run.number_of(leader),
            immediate=order.exectype in (bt.Order.Market, bt.Order.Historical),
            covered=order.info.get("covered", 0),
        )

    def _take_children(self, order: Any) -> Any:
        parent = super()._take_children(order)
        if parent is None and self._run is not None:
            refusal = Refusal("rejected", "parent_refused", "the order it waits for was refused or is gone")
            execution.journal_refusal(self._run, order, refusal)
            order.addinfo(reject=refusal)
        return parent

    def submit_accept(self, order: Any) -> None:
        """Accept an order; it draws on margin from now on, unless it waits for its parent."""
        super().submit_accept(order)
        if self._run is not None and order.active():
            self._rest(self._run, order)

    def _rest(self, run: BrokerSession, order: Any) -> None:
        self._place(run, order, self._as_resting(run, order))

    def _place(self, run: BrokerSession, order: Any, resting: OpenOrder) -> None:
        """Let an accepted order draw on margin."""
        run.record(
            events.OrderPlaced(
                time_ms=run.time_ms,
                number=resting.number,
                symbol=run.feeds[order.data].symbol,
                side=resting.side,
                lots=resting.lots,
                price=resting.price,
                reduce_only=resting.reduce_only,
                group=resting.group,
                immediate=resting.immediate,
                covered=resting.covered,
            )
        )

    def cancel(self, order: Any, bracket: bool = False) -> bool:  # noqa: FBT001, FBT002 - backtrader's signature
        """Cancel an order that is alive, also one entered in this very bar, also by a copy of it."""
        if self._run is None and not self.p.strict:
            return bool(super().cancel(order, bracket=bracket))
        own = order if bracket else self._original(order)
        if own is None or not own.alive():
            return False
        if own in self.submitted:
            self.submitted.remove(own)
        if own not in self.pending:
            self.pending.append(own)
        return bool(super().cancel(own, bracket=bracket))

    def _original(self, order: Any) -> Any:
        """Return the order that the broker holds under this one's reference, or None when it holds none."""
        if self._run is not None and order in self.pending:
            return self.pending.get(order.ref)
        if not order.alive():
            return None  # what has ended stays so, whatever the copy
        waiting = self._pchildren.get(getattr(order.parent, "ref", order.ref), ())
        held = (own for queue in (self.pending, self.submitted, waiting) for own in queue)
        return next((own for own in held if own.ref == order.ref), None)

    def _bracketize(self, order: Any, cancel: bool = False) -> None:  # noqa: FBT001, FBT002 - backtrader's signature
        """Let the children of an order's bracket go on, or go; an order that ended alone has none any more."""
        if self._run is None:
            super()._bracketize(order, cancel=cancel)
            return
        leader = getattr(order.parent, "ref", order.ref)
        waiting = self._pchildren.get(leader)
        if waiting is None:
            return
        if cancel or order.ref != leader:
            while waiting:
                self.cancel(waiting.popleft(), bracket=True)
            self._pchildren.pop(leader, None)  # it may have gone with the last of them
        else:
            waiting.popleft()
            self._toactivate.extend(waiting)

    def _ococheck(self, order: Any) -> None:
        """Cancel the others of a one-cancels-other group; unlike the stock queue, ours still holds `order` itself."""
        if self._run is None:
            super()._ococheck(order)
            return
        group = self._ocol.pop(self._ocos.get(self._ocos[order.ref]), ())
        if len(group) < 2:
            return
        for queue in (self.pending, self.submitted):
            for other in [other for other in queue if other.ref in group and other.ref != order.ref]:
                queue.remove(other)
                other.cancel()
                self.notify(other)

    def notify(self, order: Any) -> None:
        """Queue a notification; an order that has ended stops drawing on margin."""
        if self._run is None:
            self._count_cash_fills(order)
            if order.status in (order.Margin, order.Rejected) and "reject" not in order.info:
                order.addinfo(
                    reject=Refusal("margin", "insufficient_cash", "the stock broker's cash does not cover the order")
                )
            super().notify(order)
            return
        run, status = self._run, order.status
        if status > PARTIAL:
            execution.retire(self, run, order)
        if status in FILLED:
            run.fills += 1
        elif status in REFUSED:
            run.refused += 1
        elif not (self.tells_orders or "notify_order" in getattr(order.owner, "__dict__", ())):
            return
        self.notifs.append(order.clone())

    def _count_cash_fills(self, order: Any) -> None:
        leg = (order.data, leg_of(order))
        executed = order.executed
        traded = sum(bit.size for bit in islice(executed.exbits, executed.p2, None))
        if traded:
            self._cash_legs[leg] = self.cash_leg(*leg) + traded

    def cash_leg(self, data: Any, side: str) -> float:
        """Return the size that orders of one position side hold in cash mode, where a feed has one net position."""
        return self._cash_legs.get((data, side), 0.0)

    def _activate(self, run: BrokerSession, order: Any) -> None:
        order.activate()
        if not order.alive() or order not in self.pending:
            return
        self.pending.activate(order)
        resting = self._admitted(run, order)
        if resting is not None:
            self._place(run, order, resting)

    def _try_exec(self, order: Any) -> None:
        if self._run is None and cash_reduction_is_void(self, order):
            return
        super()._try_exec(order)

    def _execute(self, order: Any, ago: Any = None, price: Any = None, *args: Any, **keywords: Any) -> Any:
        if self._run is None:
            return super()._execute(order, ago, price, *args, **keywords)
        if price is not None:
            self._captured = Match(price, ago, keywords.get("dtcoc"))
        return None

    def match(self, order: Any) -> Match | None:
        """Return what backtrader's matching makes of the order in this bar, executing nothing."""
        self._captured = None
        super()._try_exec(order)
        return self._captured
