# SPDX-License-Identifier: GPL-3.0-or-later
"""Cash mode: the stock broker with position sides and reduce-only orders, its defects mended where `strict=True` (docs/differences.md)."""

import math
from itertools import islice
from typing import Any

import backtrader as bt

from crossmargin_bt.broker.session.bars import is_halted
from crossmargin_bt.broker.session.bt_orders import leg_of, reduces_only, rejected_order, valid_until
from crossmargin_bt.engine.ledger.refusal import Refusal, RefusalCode

# Attributes that backtrader computes over all positions, and overwrites when asked for some of them.
CACHED = (
    "_value",
    "_fundval",
    "_fundshares",
    "_valuemkt",
    "_valuelever",
    "_valuemktlever",
    "_leverage",
    "_unrealized",
    "cash",
)


class CashModeBroker(bt.brokers.BackBroker):
    """`BackBroker` as the money of cash mode. A subclass with an engine of its own overrides every method here."""

    _engine: Any = None

    def init(self) -> None:
        """Reset to the start of a run."""
        super().init()
        self._bars_seen: dict[int, int] = {}
        self._cash_legs: dict[tuple[Any, str], float] = {}

    @property
    def _is_strict(self) -> bool:
        """Whether defects of the stock broker are mended: in cash mode, with `strict`."""
        return self._engine is None and bool(self.p.strict)

    def buy(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a buy order; see `bt.Strategy.buy`."""
        rejected = self._rejected(owner, data, size, keywords, buys=True)
        return super().buy(owner, data, size, **keywords) if rejected is None else rejected

    def sell(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a sell order; see `buy`."""
        rejected = self._rejected(owner, data, size, keywords, buys=False)
        return super().sell(owner, data, size, **keywords) if rejected is None else rejected

    def _rejected(self, owner: Any, data: Any, size: float, keywords: dict[str, Any], *, buys: bool) -> Any:
        """Return an order that strictly cannot be entered, rejected; None for one that can."""
        if not self._is_strict:
            return None
        if keywords.get("valid") is not None and len(data):
            keywords["valid"] = valid_until(data, keywords["valid"])
        refusal = unusable_numbers(size, keywords)
        if refusal is None:
            return None
        order = rejected_order(owner, data, size if math.isfinite(size) else 0.0, keywords, buys=buys)
        self._ocoize(order, None)
        order.addinfo(reject=refusal)
        order.reject()
        order.p.simulated = False
        self.notify(order)
        return order

    def cancel(self, order: Any, bracket: bool = False) -> bool:  # noqa: FBT001, FBT002 - backtrader's signature
        """Cancel an order; strictly also one entered in this very bar, and by a copy of it."""
        if not self._is_strict:
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
        """Return the order held under this one's reference, or None where none is held."""
        if not order.alive():
            return None
        waiting = self._pchildren.get(getattr(order.parent, "ref", order.ref), ())
        held = (own for queue in (self.pending, self.submitted, waiting) for own in queue)
        return next((own for own in held if own.ref == order.ref), None)

    def notify(self, order: Any) -> None:
        """Queue a notification, and count fills by position side."""
        leg = (order.data, leg_of(order))
        executed = order.executed
        traded = sum(bit.size for bit in islice(executed.exbits, executed.p2, None))
        if traded:
            self._cash_legs[leg] = self.cash_leg(*leg) + traded
        if order.status in (order.Margin, order.Rejected) and "reject" not in order.info:
            order.addinfo(
                reject=Refusal("margin", "insufficient_cash", "the stock broker's cash does not cover the order")
            )
        super().notify(order)

    def cash_leg(self, data: Any, side: str) -> float:
        """Return the size that orders of one position side hold in cash mode, where a feed has one net position."""
        return self._cash_legs.get((data, side), 0.0)

    def next(self) -> None:
        """Process a bar, and note which feeds had a new one."""
        super().next()
        if self._is_strict:
            self._bars_seen = {id(data): len(data) for data in self.cerebro.datas}

    def check_submitted(self) -> None:
        """Judge each submitted order by itself: a refusal moves no cash, and what only closes is never refused."""
        if not self._is_strict:
            super().check_submitted()
            return
        cash = self.cash
        positions: dict[Any, Any] = {}
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is None:
                continue
            position = positions.setdefault(order.data, self.positions[order.data].clone())
            trial = position.clone()
            left = self._execute(order, cash=cash, position=trial)
            closes = position.size * order.size < 0 and abs(order.size) <= abs(position.size)
            if left >= 0.0 or closes:
                cash, positions[order.data] = left, trial
                self.submit_accept(order)
                continue
            order.margin()
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)

    def _try_exec(self, order: Any) -> None:
        """Execute on a new bar of the order's own feed alone: not in the past, and not after a feed has ended."""
        if self._is_strict and self._bars_seen.get(id(order.data)) == len(order.data):
            return
        if not self.p.fill_in_halts and is_halted(order.data):
            return
        if not (reduces_only(order) and self._has_nothing_to_reduce(order)):
            super()._try_exec(order)

    def _has_nothing_to_reduce(self, order: Any) -> bool:
        """Cap a reduce-only order to its leg; cancel it and return True where nothing is left to reduce."""
        held = self.cash_leg(order.data, leg_of(order))
        if held * order.executed.remsize < 0:
            if abs(order.executed.remsize) > abs(held):
                order.executed.remsize = -held
            return False
        order.addinfo(removed="nothing left to reduce")
        order.cancel()
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)
        return True

    def _get_value(self, datas: Any = None, lever: bool = False) -> float:  # noqa: FBT001, FBT002 - backtrader's signature
        if not self._is_strict or not datas:
            return float(super()._get_value(datas=datas, lever=lever))
        kept = {name: getattr(self, name) for name in CACHED if hasattr(self, name)}
        value = float(super()._get_value(datas=datas, lever=lever))
        for name, before in kept.items():
            setattr(self, name, before)
        return value

    def getposition(self, data: Any) -> Any:
        """Return the position; strictly a copy, which a strategy may not change the account by."""
        position = super().getposition(data)
        return position.clone() if self._is_strict else position


def unusable_numbers(size: float, keywords: dict[str, Any]) -> Refusal | None:
    """Return why an order's size or prices cannot be meant, or None."""
    if not math.isfinite(size) or size == 0:
        code: RefusalCode = "not_a_number" if not math.isfinite(size) else "size_below_one_lot"
        return Refusal("rejected", code, f"size must be a number other than 0, got {size!r}")
    for name in ("price", "plimit"):
        price = keywords.get(name)
        if price is not None and not 0 < price < math.inf:
            return Refusal("rejected", "price_not_positive", f"{name} must be above 0, got {price!r}")
    return None
