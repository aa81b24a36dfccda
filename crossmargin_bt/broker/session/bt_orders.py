# SPDX-License-Identifier: GPL-3.0-or-later
"""backtrader's orders: made and cloned without its metaclass, and the questions a margin account asks of one.

An order made here has the attributes of a stock order at a tenth of the time. The end of the session, which a stock order
computes at construction and hardly any strategy reads, is computed on access.
"""

import datetime as dt
from collections import deque
from typing import Any

import backtrader as bt
from backtrader.order import OrderData
from backtrader.utils import AutoOrderedDict

Order = bt.Order
ALIVE = frozenset((Order.Created, Order.Submitted, Order.Partial, Order.Accepted))
TRAILING = (Order.StopTrail, Order.StopTrailLimit)
# A number of days from now; a larger number is a date as backtrader counts them.
RELATIVE_DAYS_MAX = 10_000.0
TRIGGERED_LIMITS = (Order.StopLimit, Order.StopTrailLimit)


class _LeanOrder:
    """Overrides shared by both kinds of order."""

    status: int
    data: Any
    created: Any
    executed: Any
    ref: int

    def alive(self) -> bool:
        """Return whether the order can still trade."""
        return self.status in ALIVE

    def clone(self) -> Any:
        """Return the order as it is now, with what was executed since the clone before."""
        executed = self.executed
        executed.p1, executed.p2 = executed.p2, len(executed.exbits)
        seen = OrderData.__new__(OrderData)
        seen.__dict__.update(executed.__dict__)
        twin: Any = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.executed = seen
        return twin

    @property
    def dteos(self) -> float:
        """The end of the session the order was entered in, as a day number."""
        if not self.created.dt:
            return 0.0
        entered = self.data.num2date(self.created.dt)
        ends = self.data.p.sessionend
        session = entered.replace(hour=ends.hour, minute=ends.minute, second=ends.second, microsecond=ends.microsecond)
        if session < entered:
            session += dt.timedelta(days=1)
        return float(self.data.date2num(session))

    @dteos.setter
    def dteos(self, value: float) -> None:
        """Ignore the value that a stock order computes at construction."""


class BuyOrder(_LeanOrder, bt.BuyOrder):
    """An order to buy."""


class SellOrder(_LeanOrder, bt.SellOrder):
    """An order to sell."""


# Keywords of `buy` and `sell` that `new_order` accepts.
ORDER_KEYWORDS = frozenset((
    "price", "plimit", "exectype", "valid", "tradeid", "trailamount", "trailpercent", "parent", "transmit", "histnotify",
))  # fmt: skip


def _blank_params(kind: Any) -> dict[str, Any]:
    return dict(kind.params._getitems())


DEFAULTS = _blank_params(BuyOrder)
PARAMS = {BuyOrder: BuyOrder.params, SellOrder: SellOrder.params}
FRESH = dict(OrderData().__dict__)


def new_order(owner: Any, data: Any, size: float, given: dict[str, Any], *, buys: bool) -> Any:
    """Return a new order of unsigned `size`, as `bt.BuyOrder` and `bt.SellOrder` make it.

    `given` holds a subset of ORDER_KEYWORDS and is consumed.
    """
    kind: Any = BuyOrder if buys else SellOrder
    limit = given.pop("plimit", None)
    if given.get("valid") is not None or given.get("exectype") in TRAILING:
        return kind(owner=owner, data=data, size=size, pricelimit=limit, **given)
    params = object.__new__(PARAMS[kind])
    params.__dict__ = answers = {**DEFAULTS, **given, "pricelimit": limit, "owner": owner, "data": data, "size": size}
    # Params become plain attributes, so that no `__getattr__` has to search for them.
    lines = data.lines
    signed = size if buys else -size
    close, asked = lines.close[0], answers["exectype"]
    price = answers["price"] or limit or close
    created = object.__new__(OrderData)
    created.__dict__ = {
        **FRESH, "exbits": deque(), "dt": lines.datetime[0], "size": signed, "price": price, "pricelimit": limit or price,
        "_plimit": limit, "pclose": close, "trailamount": answers["trailamount"], "trailpercent": answers["trailpercent"],
    }  # fmt: skip
    executed = object.__new__(OrderData)
    executed.__dict__ = {**FRESH, "exbits": deque(), "remsize": signed}
    order = object.__new__(kind)
    order.__dict__ = {
        **answers, "p": params, "params": params, "ref": next(Order.refbasis), "broker": None, "info": AutoOrderedDict(),
        "comminfo": None, "triggered": False, "_active": answers["parent"] is None, "status": Order.Created, "_plimit": limit,
        "size": signed, "_limitoffset": 0.0, "position": 0, "created": created, "executed": executed,
        "exectype": Order.Market if asked is None else asked,
    }  # fmt: skip
    return order


def leg_of(order: Any) -> str:
    """Return the side an order trades: the leg it names, or "net" in one-way mode."""
    return str(order.info.get("position_side") or "net")


def reduces_only(order: Any) -> bool:
    """Return whether the order may only close: by its keyword, or because it opposes the leg it names."""
    side = order.info.get("position_side")
    opposes = side and side != "net" and (side == "long") != order.isbuy()
    return bool(opposes or order.info.get("reduce_only"))


def reference_price(order: Any) -> float:
    """Return the price an order is valued at before its fill: its limit, else its trigger, else the last close."""
    created = order.created
    if order.exectype in (Order.Market, Order.Close):
        return float(created.pclose)
    return float(created.pricelimit if order.exectype in TRIGGERED_LIMITS else created.price)


def rejected_order(owner: Any, data: Any, size: float, keywords: dict[str, Any], *, buys: bool) -> Any:
    """Return an order that is about to be rejected as it is entered; it reads no price of a feed without bars."""
    kind = bt.BuyOrder if buys else bt.SellOrder
    known = {name: keywords[name] for name in ("exectype", "tradeid", "parent") if name in keywords}
    price = keywords.get("price") or 0.0
    return kind(owner=owner, data=data, size=size, price=price, simulated=not len(data), **known)


def valid_until(data: Any, valid: Any) -> Any:
    """Return a `valid` that backtrader keeps to: 0 is the end of the day, a small number days from now."""
    if isinstance(valid, bool) or not isinstance(valid, int | float):
        return valid
    if valid == 0:
        return dt.timedelta()
    if not 0 < valid < dt.date.max.toordinal():
        return valid  # as backtrader takes it: at once, or never
    return data.num2date(data.datetime[0] + valid) if 0 < valid < RELATIVE_DAYS_MAX else data.num2date(valid)
