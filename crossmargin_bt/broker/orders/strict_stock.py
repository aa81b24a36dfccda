# SPDX-License-Identifier: GPL-3.0-or-later
"""The stock broker with what is wrong in it mended, where `strict=True` asks for that in cash mode (docs/differences.md)."""

import datetime as dt
import math
from typing import Any

import backtrader as bt

from crossmargin_bt.broker.orders import execution, matching
from crossmargin_bt.engine.ledger.refusal import Refusal, RefusalCode

# What backtrader computes for all positions, and overwrites when it is asked for some.
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
# A number of days from now; a larger number is a date as backtrader counts them.
RELATIVE_DAYS = 10_000.0


class StockDesk(bt.brokers.BackBroker):
    """`BackBroker`, mended while it is the money of a strict run."""

    _run: Any

    def init(self) -> None:
        """Forget which bars were seen."""
        super().init()
        self._bars_seen: dict[int, int] = {}

    @property
    def _is_strict(self) -> bool:
        """Whether stock behaviour is mended: in cash mode, where that was asked for."""
        return self._run is None and bool(self.p.strict)

    def next(self) -> None:
        """Work through a bar, and note which feeds had a new one."""
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
        super()._try_exec(order)

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


def unusable_figures(size: float, keywords: dict[str, Any]) -> Refusal | None:
    """Return why an order's figures cannot be meant, or None."""
    if not math.isfinite(size) or size == 0:
        code: RefusalCode = "size_below_one_lot" if size == 0 else "not_a_number"
        return Refusal("rejected", code, f"size must be a number other than 0, got {size!r}")
    for name in ("price", "plimit"):
        price = keywords.get(name)
        if price is not None and not 0 < price < math.inf:
            return Refusal("rejected", "price_not_positive", f"{name} must be above 0, got {price!r}")
    return None


def valid_until(data: Any, valid: Any) -> Any:
    """Return a `valid` that backtrader keeps to: 0 is the end of the day, a small number days from now."""
    if isinstance(valid, bool) or not isinstance(valid, int | float):
        return valid
    if valid == 0:
        return dt.timedelta()
    if not 0 < valid < dt.date.max.toordinal():
        return valid  # as backtrader takes it: at once, or never
    return data.num2date(data.datetime[0] + valid) if 0 < valid < RELATIVE_DAYS else data.num2date(valid)


def cash_reduction_is_void(broker: Any, order: Any) -> bool:
    """Cap a reduce-only order of cash mode to its leg; cancel it and return True when nothing is left to reduce."""
    if not execution.reduces_only(order):
        return False
    held = broker.cash_leg(order.data, matching.leg_of(order))
    if held * order.executed.remsize < 0:
        if abs(order.executed.remsize) > abs(held):
            order.executed.remsize = -held
        return False
    order.addinfo(removed="nothing left to reduce")
    order.cancel()
    broker.notify(order)
    broker._ococheck(order)
    broker._bracketize(order, cancel=True)
    return True
