# SPDX-License-Identifier: GPL-3.0-or-later
"""The trader's own guards at work: they judge orders that open, and act on the account at the end of a bar."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from crossmargin_bt.broker.orders.order_manager import OrderManager
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.bt_orders import leg_of, reduces_only
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission import settings_changes
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills, immediate_orders
from crossmargin_bt.engine.liquidation.forced_close import share_of
from crossmargin_bt.guards import STOPS, Entry, Guard, largest


class PreTradeChecks:
    """The guards of one session."""

    def __init__(
        self,
        host: BrokerHost,
        session: BrokerSession,
        orders: OrderManager,
        *,
        guards: Sequence[Guard],
        add_to_reserve: Callable[[float], None],
    ) -> None:
        self._host, self._session, self._orders = host, session, orders
        self._guards, self._add_to_reserve = guards, add_to_reserve
        for guard in guards:
            guard.begin(host)

    def judge(self, order: Any, resting: OpenOrder) -> Refusal | None:
        """Return why a guard refuses an order that opens, None where all let it pass, perhaps made smaller."""
        if resting.reduce_only or order.exectype == order.Historical:
            return None
        if not 0 < resting.price < math.inf or self._is_exit_of_an_entry(order, resting):
            return None
        for guard in self._guards:
            reason = self._reason(guard, order, resting, abs(resting.lots))
            if reason is None:
                continue
            fits = self._fits(guard, order, resting) if guard.reduces else 0
            size = self._session.books[order.data].instrument.size(fits)
            self.acted(guard, "reduced" if fits else "refused", order=order, amount=size, reason=reason)
            if not fits:
                return Refusal("rejected", "guard", f"{guard.name}: {reason}", guard=guard.name)
            self._shrink(order, fits)
            resting = msgspec.structs.replace(resting, lots=fits if resting.lots > 0 else -fits)
        return None

    def _is_exit_of_an_entry(self, order: Any, resting: OpenOrder) -> bool:
        """Return whether an order is a stop behind entries that wait, and no larger than they are."""
        if order.getordername() not in STOPS:
            return False
        waiting = sum(self._session.lots_left(other) for other in self.orders_waiting(order, opposite=True))
        held = self._session.books[order.data].leg(resting.side).lots
        return (held + waiting) * resting.lots < 0 and abs(held + waiting) >= abs(resting.lots)

    def _fits(self, guard: Guard, order: Any, resting: OpenOrder) -> int:
        """Return how many lots of an order a guard lets pass; 0 where what it does not forbid would only close."""
        held = self._entry(order, resting, 0).after.books[self._symbol(order)].leg(resting.side).lots
        closing = min(abs(held), abs(resting.lots)) if held * resting.lots < 0 else 0
        fits = largest(abs(resting.lots), lambda lots: self._reason(guard, order, resting, lots) is None)
        return fits if fits > closing else 0

    def end_bar(self, bars: Sequence[Bar]) -> None:
        """Let every guard examine the account at the end of a bar."""
        for guard in self._guards:
            guard.end_bar(self._host, list(bars))

    @property
    def feeds(self) -> list[Any]:
        """The feeds that trade."""
        return list(self._session.books)

    @property
    def last_closes(self) -> dict[str, float]:
        """The last close of every instrument that has had a bar."""
        return self._session.last_close

    def acted(
        self, guard: Guard, action: str, *, amount: float, reason: str, order: Any = None, symbol: str = ""
    ) -> None:
        """Journal what a guard did, and tell the strategies at the end of the bar."""
        entry = events.GuardActed(
            time_ms=self._session.time_ms,
            guard=guard.name,
            action=action,
            symbol=symbol if order is None else self._symbol(order),
            number=0 if order is None else self._session.number(order),
            amount=amount,
            reason=reason,
        )
        self._session.record(entry)
        self._session.pending_notifications.append(entry)

    def close_share(self, guard: Guard, data: Any, share: float, reason: str) -> None:
        """Enter orders that close a share of a feed's positions, each in the name of the strategy and tradeid that hold it.

        Orders that would open go, with the whole position its exits too; other exits may only close from now on.
        """
        session = self._session
        book = session.books[data]
        self.cancel_openers(data, everything=share == 1.0)
        for side, leg in list(book.legs.items()):
            lots = share_of(abs(leg.lots), share)
            self.acted(guard, "closed", symbol=book.instrument.symbol, amount=book.instrument.size(lots), reason=reason)
            for part in session.position_lots.oldest_first(data, side, lots if leg.lots > 0 else -lots):
                enter = self._host.sell if part.lots > 0 else self._host.buy
                named = (
                    {"position_side": side, "tradeid": part.tradeid[1]} if side != "net" else {"tradeid": part.tradeid}
                )
                enter(part.owner, data, book.instrument.size(abs(part.lots)), reduce_only=True, **named)

    def cancel_openers(self, data: Any, *, everything: bool = False) -> None:
        """Cancel the orders of a feed that would open something, or all of them; let the others close and no more."""
        book = self._session.books[data]
        for order in [order for order in self._host.pending if order.data is data and order.alive()]:
            held, lots = book.leg(leg_of(order)).lots, self._session.lots_left(order)
            opens = not reduces_only(order) and (held * lots >= 0 or abs(lots) > abs(held))
            if order.active() and (everything or opens):
                self._orders.cancel_for(order, "guard")
            elif order.active():
                order.addinfo(reduce_only=True)

    def sweep(self, guard: Guard, wanted: float, reason: str) -> float:
        """Take an amount off the account, into the reserve where there is one; return how much could be taken."""
        session = self._session
        amount = min(wanted, settings_changes.withdrawable(session.account, session.currency))
        if amount <= 0:
            return 0.0
        session.record(events.CashTransferred(time_ms=session.time_ms, currency=session.currency, amount=-amount))
        self._host.count_paid_in(-amount)
        self._host.refresh()
        self._add_to_reserve(amount)
        self.acted(guard, "swept", amount=amount, reason=reason)
        return amount

    def orders_waiting(self, order: Any, *, opposite: bool) -> Iterator[Any]:
        """Yield the alive orders of the same leg, of the same or the opposite direction: open, submitted in this bar, or children of this one.

        Members of the order's own one-cancels-other group are left out.
        """
        host = self._host
        queues: tuple[Any, ...] = (host.pending, host.submitted, host._pchildren.get(order.ref, ()))
        for queue in queues:
            for other in queue:
                same = other.data is order.data and leg_of(other) == leg_of(order) and other.ref != order.ref
                grouped = host._ocos.get(other.ref) == host._ocos.get(order.ref, order)
                if same and other.alive() and not grouped and (other.isbuy() != order.isbuy()) == opposite:
                    yield other

    def lots_of(self, order: Any) -> int:
        """Return the unsigned lots an order has still to trade."""
        return abs(self._session.lots_left(order))

    def _symbol(self, order: Any) -> str:
        return self._session.books[order.data].instrument.symbol

    def _reason(self, guard: Guard, order: Any, resting: OpenOrder, lots: int) -> str | None:
        """Return a guard's reason to refuse an order of these lots; None where it would only close."""
        entry = self._entry(order, resting, lots)
        held = self._entry(order, resting, 0).after.books[entry.symbol].leg(entry.side).lots
        return guard.judge(entry) if position.split_fill(held, entry.lots)[1] else None

    def _entry(self, order: Any, resting: OpenOrder, lots: int) -> Entry:
        """Return an order as a guard sees it, filled with these lots after the immediate orders and the open orders that adds."""
        symbol = self._symbol(order)
        account = immediate_orders.after_immediate_orders(self._session.account)
        after = account.copy(*account.books)
        signed = lots if resting.lots > 0 else -lots
        for name, book in after.books.items():
            for other in list(book.orders.values()):
                held = book.leg(other.side).lots
                towards = resting.lots if name == symbol and other.side == resting.side else held or other.lots
                adds = other.lots * towards > 0 and held * other.lots >= 0
                if adds and not other.reduce_only and other.number != resting.number:
                    self._fill(after, name, other.side, other.lots, other.price, other.number)
        if signed:
            self._fill(after, symbol, resting.side, signed, resting.price, 0)
        return Entry(self._host, order, symbol, leg_of(order), signed, after)

    def _fill(self, after: Account, symbol: str, side: str, lots: int, price: float, number: int) -> None:  # noqa: PLR0917
        entry = fills.order_fill(after, 0, symbol, side, number=number, lots=lots, price=price, maker=False)
        after.apply(entry)

    def _shrink(self, order: Any, lots: int) -> None:
        """Make an order smaller, and with it the exits that wait for it."""
        session = self._session
        waiting = self._host._pchildren.get(order.ref, ())
        for each in [
            order,
            *(child for child in waiting if child.ref != order.ref and abs(session.lots_left(child)) > lots),
        ]:
            session.take_lots(each, session.lots_left(each) - (lots if session.lots_left(each) > 0 else -lots))
            size = session.books[each.data].instrument.size(session.lots_left(each))
            each.size = each.created.size = each.created.remsize = each.executed.remsize = size
