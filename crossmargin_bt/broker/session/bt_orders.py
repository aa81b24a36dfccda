# SPDX-License-Identifier: GPL-3.0-or-later
"""backtrader's orders, made and cloned without its metaclass: the same attributes at a tenth of the time.

What a stock order works out for itself and hardly anybody reads, the end of its session, is worked out when it is read.
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


class _Lean:
    """What is overridden in both kinds of order."""

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
        """Take no notice of what a stock order works out for itself."""


class BuyOrder(_Lean, bt.BuyOrder):
    """An order to buy."""


class SellOrder(_Lean, bt.SellOrder):
    """An order to sell."""


# What may be given to `entered`, as `buy` and `sell` call it.
GIVEN = frozenset((
    "price", "plimit", "exectype", "valid", "tradeid", "trailamount", "trailpercent", "parent", "transmit", "histnotify",
))  # fmt: skip


def _blank_params(kind: Any) -> dict[str, Any]:
    return dict(kind.params._getitems())


DEFAULTS = _blank_params(BuyOrder)
PARAMS = {BuyOrder: BuyOrder.params, SellOrder: SellOrder.params}
FRESH = dict(OrderData().__dict__)


def entered(owner: Any, data: Any, size: float, given: dict[str, Any], *, buys: bool) -> Any:
    """Return a new order of unsigned `size`, as `bt.BuyOrder` and `bt.SellOrder` make it.

    `given` holds what of GIVEN is asked for.
    """
    kind: Any = BuyOrder if buys else SellOrder
    limit = given.pop("plimit", None)
    if given.get("valid") is not None or given.get("exectype") in TRAILING:
        return kind(owner=owner, data=data, size=size, pricelimit=limit, **given)
    params = object.__new__(PARAMS[kind])
    params.__dict__ = answers = {**DEFAULTS, **given, "pricelimit": limit, "owner": owner, "data": data, "size": size}
    # What __getattr__ would find among the params is found at once; what the stock order changes, it changes here.
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
