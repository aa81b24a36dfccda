# SPDX-License-Identifier: GPL-3.0-or-later
"""What lets guards act: they judge orders that open, and look at the account when a bar has ended."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from crossmargin_bt.broker.matching import leg_of
from crossmargin_bt.broker.run import Bar, Run
from crossmargin_bt.engine import admission, events, fills, position, reading
from crossmargin_bt.engine.closing import share_of
from crossmargin_bt.engine.orders import OpenOrder
from crossmargin_bt.engine.refusal import Refusal
from crossmargin_bt.guards import Entry, Guard, largest


class Discipline:
    """The guards of one run."""

    def __init__(self, broker: Any, run: Run, guards: Sequence[Guard]) -> None:
        self._broker, self._run, self._guards = broker, run, guards
        for guard in guards:
            guard.begin(broker)

    def judge(self, order: Any, resting: OpenOrder) -> Refusal | None:
        """Return why a guard refuses an order that opens, None where all let it pass, perhaps made smaller."""
        if not self._guards or resting.reduce_only or order.exectype == order.Historical:
            return None
        for guard in self._guards:
            reason = self._reason(guard, order, resting, abs(resting.lots))
            if reason is None:
                continue
            fits = self._fits(guard, order, resting) if guard.reduces else 0
            size = self._run.books[order.data].instrument.size(fits)
            self.acted(guard, "reduced" if fits else "refused", order=order, amount=size, reason=reason)
            if not fits:
                return Refusal("rejected", f"{guard.name}: {reason}")
            self._shrink(order, fits)
            resting = msgspec.structs.replace(resting, lots=fits if resting.lots > 0 else -fits)
        return None

    def _fits(self, guard: Guard, order: Any, resting: OpenOrder) -> int:
        """Return how many lots of an order a guard lets pass; 0 where what it does not forbid would only close."""
        held = self._entry(order, resting, 0).after.books[self._symbol(order)].leg(resting.side).lots
        closing = min(abs(held), abs(resting.lots)) if held * resting.lots < 0 else 0
        fits = largest(abs(resting.lots), lambda lots: self._reason(guard, order, resting, lots) is None)
        return fits if fits > closing else 0

    def end_bar(self, bars: Sequence[Bar]) -> None:
        """Let every guard look at the account."""
        for guard in self._guards:
            guard.end_bar(self._broker, list(bars))

    @property
    def feeds(self) -> list[Any]:
        """The feeds that trade."""
        return list(self._run.books)

    def acted(
        self, guard: Guard, action: str, *, amount: float, reason: str, order: Any = None, symbol: str = ""
    ) -> None:
        """Journal what a guard did, and tell the strategies at the end of the bar."""
        entry = events.GuardActed(
            time_ms=self._run.time_ms,
            guard=guard.name,
            action=action,
            symbol=symbol if order is None else self._symbol(order),
            number=0 if order is None else self._run.number(order),
            amount=amount,
            reason=reason,
        )
        self._run.record(entry)
        self._run.notices.append(entry)

    def close_share(self, guard: Guard, data: Any, share: float, reason: str) -> None:
        """Enter orders that close a share of a feed's positions, each in the name of the strategy and tradeid that hold it."""
        run = self._run
        book = run.books[data]
        for side, leg in list(book.legs.items()):
            lots = share_of(abs(leg.lots), share)
            size = book.instrument.size(lots)
            self.acted(guard, "closed", symbol=book.instrument.symbol, amount=size, reason=reason)
            for part in run.attribution.first(data, side, lots if leg.lots > 0 else -lots):
                enter = self._broker.sell if part.lots > 0 else self._broker.buy
                named = (
                    {"position_side": side, "tradeid": part.tradeid[1]} if side != "net" else {"tradeid": part.tradeid}
                )
                enter(part.owner, data, book.instrument.size(abs(part.lots)), reduce_only=True, **named)

    def sweep(self, guard: Guard, wanted: float, reason: str) -> float:
        """Take an amount off the account, into the reserve where there is one; return how much could be taken."""
        amount = min(wanted, reading.totals(self._run.account, self._run.currency).withdrawable)
        if amount <= 0:
            return 0.0
        self._broker.add_cash(-amount)
        self._run.watch.add_to_reserve(amount)
        self.acted(guard, "swept", amount=amount, reason=reason)
        return amount

    def orders_waiting(self, order: Any) -> Iterator[Any]:
        """Yield the other orders that rest, were entered in this bar, or wait for this one to fill."""
        waiting = self._broker._pchildren.get(order.ref, ())
        for queue in (self._broker.pending, self._broker.submitted, waiting):
            for other in queue:
                if other.ref != order.ref and other.alive():
                    yield other

    def _symbol(self, order: Any) -> str:
        return self._run.books[order.data].instrument.symbol

    def _reason(self, guard: Guard, order: Any, resting: OpenOrder, lots: int) -> str | None:
        """Return what a guard says of an order of so many lots; nothing where it would only close."""
        entry = self._entry(order, resting, lots)
        held = self._entry(order, resting, 0).after.books[entry.symbol].leg(entry.side).lots
        return guard.judge(entry) if position.split(held, entry.lots)[1] else None

    def _entry(self, order: Any, resting: OpenOrder, lots: int) -> Entry:
        """Return an order as a guard sees it, filled with so many lots after the immediate orders before it."""
        symbol = self._symbol(order)
        after = admission.after_immediate_orders(self._run.account).copy(symbol)
        signed = lots if resting.lots > 0 else -lots
        if signed:
            at = resting.price
            after.apply(fills.filled(after, 0, symbol, resting.side, number=0, lots=signed, price=at, maker=False))
        return Entry(self._broker, order, symbol, leg_of(order), signed, after)

    def _shrink(self, order: Any, lots: int) -> None:
        """Make an order smaller, and with it the exits that wait for it."""
        run = self._run
        waiting = self._broker._pchildren.get(order.ref, ())
        for each in [
            order,
            *(child for child in waiting if child.ref != order.ref and abs(run.lots_left(child)) > lots),
        ]:
            run.take_lots(each, run.lots_left(each) - (lots if run.lots_left(each) > 0 else -lots))
            size = run.books[each.data].instrument.size(run.lots_left(each))
            each.size = each.created.size = each.created.remsize = each.executed.remsize = size
