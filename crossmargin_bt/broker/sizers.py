# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizers that ask the margin account."""

from typing import Any

import backtrader as bt
import numpy as np

from crossmargin_bt.broker.api.settings import finite_of
from crossmargin_bt.engine.math.tolerances import REL_TOL
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.guards import largest
from crossmargin_bt.time_units import DAYS_PER_YEAR


class _Sizer(bt.Sizer):
    """Asks the broker; in hedge mode `buy()` sizes the long leg and `sell()` the short one. Sizes are whole lots."""

    def _largest(self, data: Any, *, isbuy: bool) -> float:
        """Return the largest order that would be admitted now; 1 on a feed that cannot be traded, for the broker to refuse."""
        if self.broker.p.mode != "cash" and getattr(self.broker.getcommissioninfo(data), "instrument", None) is None:
            return 1.0
        return float(self.broker.maximum_order_size(data, isbuy=isbuy, side=self._side(data, isbuy=isbuy)))

    def _side(self, data: Any, *, isbuy: bool) -> str | None:
        if "net" in self.broker.sides(data):
            return None
        return "long" if isbuy else "short"

    def _of_value(self, comminfo: Any, data: Any, value: float, *, isbuy: bool) -> float:
        """Return the size worth `value` at the last close, no larger than fits."""
        instrument = getattr(comminfo, "instrument", None)
        if instrument is None:
            return float(min(value / data.close[0], self._largest(data, isbuy=isbuy)))
        lots = int(max(0.0, value) / (instrument.value(1, data.close[0]) * comminfo.rate) * (1 + REL_TOL))
        return float(min(instrument.size(lots), self._largest(data, isbuy=isbuy)))

    def _positive(self, *names: str) -> None:
        for name in names:
            value = finite_of(f"{name} of {type(self).__name__}", getattr(self.p, name))
            if value <= 0:
                raise ConfigurationError(f"{name} of {type(self).__name__} is above 0, got {value!r}")
            setattr(self.p, name, value)


class MaximumSizer(_Sizer):
    """A share of the largest order that would be admitted now, in whole lots.

    Params:
        share: the part of it to order, above 0 and not above 1.

    """

    params = (("share", 0.95),)

    def __init__(self) -> None:
        if not 0 < self.p.share <= 1:
            raise ConfigurationError(f"share lies above 0 and not above 1, got {self.p.share!r}")
        super().__init__()

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:  # noqa: ARG002, FBT001 - backtrader's signature
        size = self._largest(data, isbuy=isbuy) * self.p.share
        instrument = getattr(comminfo, "instrument", None)
        return float(size if instrument is None else instrument.size(instrument.lots(size)))


class FreeMarginSizer(_Sizer):
    """A share of the free margin, at the feed's leverage.

    Params:
        share: the part of the free margin to lock, above 0 and not above 1.
    """

    params = (("share", 0.1),)

    def __init__(self) -> None:
        self._positive("share")
        super().__init__()

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:  # noqa: FBT001
        return self._of_value(comminfo, data, self.p.share * cash * comminfo.get_leverage(), isbuy=isbuy)


class RiskSizer(_Sizer):
    """What loses a share of equity when the stop is met.

    Params:
        risk: the part of equity to lose.
        stop: how far away the stop is, a part of the price; or the name of an attribute of the strategy that holds the
            stop's price when the order is entered.
    """

    params = (("risk", 0.01), ("stop", 0.02))

    def __init__(self) -> None:
        self._positive("risk")
        if not isinstance(self.p.stop, str):
            self._positive("stop")
        super().__init__()

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:  # noqa: ARG002, FBT001
        price = data.close[0]
        if isinstance(self.p.stop, str):
            stop = getattr(self.strategy, self.p.stop)
        else:
            stop = price * (1 - self.p.stop if isbuy else 1 + self.p.stop)
        lost = -comminfo.profitandloss(1.0 if isbuy else -1.0, price, stop)
        if not lost > 0:
            return 0.0  # a stop on the wrong side risks nothing that could be measured
        size = self.p.risk * max(0.0, self.broker.getvalue()) / lost
        instrument = getattr(comminfo, "instrument", None)
        whole = size if instrument is None else instrument.size(instrument.lots(size))
        return float(min(whole, self._largest(data, isbuy=isbuy)))


class SafeDistanceSizer(_Sizer):
    """The largest size after which all marks may still move together, against the account, by a distance.

    Params:
        distance: that move, a fraction (0.2 is 20 %).
    """

    params = (("distance", 0.2),)

    def __init__(self) -> None:
        self._positive("distance")
        super().__init__()

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:  # noqa: ARG002, FBT001
        instrument = getattr(comminfo, "instrument", None)
        if instrument is None:
            return self._largest(data, isbuy=isbuy)
        direction, side = (1 if isbuy else -1), self._side(data, isbuy=isbuy)

        def is_safe(lots: int) -> bool:
            after = self.broker.preview(data=data, size=direction * instrument.size(lots), side=side).after
            moves = (after.distance.fall, after.distance.rise)
            return all(move is None or abs(move) >= self.p.distance for move in moves)

        return float(instrument.size(largest(instrument.lots(self._largest(data, isbuy=isbuy)), is_safe)))


class VolatilitySizer(_Sizer):
    """What makes the position as volatile as is wanted of the account.

    Params:
        target: the annualised volatility the position may bring to equity (0.2 is 20 %).
        window: bars whose returns are measured; 0 is ordered until they have come.
    """

    params = (("target", 0.2), ("window", 48))

    def __init__(self) -> None:
        self._positive("target", "window")
        super().__init__()

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:  # noqa: ARG002, FBT001
        try:
            closes = np.array(data.close.get(size=self.p.window + 1))
        except ValueError as error:
            raise ConfigurationError("VolatilitySizer looks back: run without exactbars=1") from error
        if len(closes) <= self.p.window:
            return 0.0
        days = (data.datetime[0] - data.datetime[-self.p.window]) / self.p.window
        volatility = float(np.sqrt(np.mean(np.diff(np.log(closes)) ** 2) * DAYS_PER_YEAR / days))
        if not volatility > 0:
            return 0.0
        value = self.p.target / volatility * max(0.0, self.broker.getvalue())
        return self._of_value(comminfo, data, value, isbuy=isbuy)
