# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that judge opening orders: margin used, leverage, correlated exposure, and the presence of a stop."""

import math
from collections import deque
from typing import Any

import msgspec
import numpy as np

from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.guards.base import Entry, Guard, GuardedBroker, check_share


class EquityBuffer(Guard):
    """Keep a share of equity free: positions and orders may lock at most the rest as margin.

    Raises:
        ConfigurationError: the share is not between 0 and 1.
    """

    share: float = msgspec.field(default=0.25)

    def __post_init__(self) -> None:
        check_share(self, "share", self.share)

    def judge(self, entry: Entry) -> str | None:
        """Refuse an order after which the margin used would exceed the allowed share."""
        used, allowed = entry.margin_used, (1 - self.share) * entry.equity
        if used <= allowed:
            return None
        return f"margin used would be {used:.2f}, {allowed:.2f} leaves {self.share:.0%} of equity free"


class MaximumLeverage(Guard):
    """Limit the gross notional of all positions to `limit` times equity."""

    limit: float = msgspec.field(default=5.0)

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ConfigurationError(f"limit of {self.name} must be above 0, got {self.limit!r}")

    def judge(self, entry: Entry) -> str | None:
        """Refuse an order after which the exposure would exceed the limit."""
        equity = entry.equity
        exposure = metrics.account_exposure(entry.after)
        if equity > 0 and exposure <= self.limit * equity:
            return None
        return f"positions would be worth {exposure:.2f}, {self.limit:g} times equity is {self.limit * max(equity, 0.0):.2f}"


STOPS = ("Stop", "StopLimit", "StopTrail", "StopTrailLimit")


class StopRequired(Guard):
    """Require a stop for every entry: in its bracket, or an opposite stop order of its leg that rests or is sent in the same bar."""

    def judge(self, entry: Entry) -> str | None:
        """Refuse an entry whose stops do not cover all of its lots."""
        checks = entry.broker.pre_trade_checks
        stops = [one for one in checks.orders_waiting(entry.order, opposite=True) if one.getordername() in STOPS]
        if sum(map(checks.lots_of, stops)) >= abs(entry.lots):
            return None
        return "the entry carries no stop for all of it; use a bracket, or enter an opposite stop order before it or in the same bar"


class CorrelatedExposure(Guard):
    """Limit the correlation-weighted exposure to `limit` times equity.

    The exposure is the square root of w' C w, where w are the signed values of the positions over equity and C is the correlation
    matrix of the returns of the last `window` bars: three correlated longs count almost as their sum, a hedge as little. Until
    `window` bars have been seen, all correlations are taken as 1.
    """

    limit: float = msgspec.field(default=3.0)
    window: int = 100
    _closes: dict[str, deque[float]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.limit > 0 and self.window > 1):
            raise ConfigurationError(f"{self.name} needs a limit above 0 and a window of at least 2 bars")

    def begin(self, broker: GuardedBroker) -> None:  # noqa: ARG002
        """Clear the price history."""
        self._closes = {}

    def end_bar(self, broker: GuardedBroker, bars: list[Any]) -> None:
        """Append the closes; an instrument without a new bar repeats its last close."""
        for symbol, price in broker.pre_trade_checks.last_closes.items() if bars else ():
            self._closes.setdefault(symbol, deque(maxlen=self.window + 1)).append(price)

    def judge(self, entry: Entry) -> str | None:
        """Refuse an order after which the correlation-weighted exposure would exceed the limit."""
        equity = entry.equity
        if equity <= 0:
            return "equity is not above 0"
        weights = {}
        for symbol, book in entry.after.books.items():
            value = sum(math.copysign(book.value(leg), leg.lots) for leg in book.legs.values())
            value *= entry.after.price(book.instrument.settle) if value else 1.0
            if value:
                weights[symbol] = value / equity
        vector = np.array(list(weights.values()))
        exposure = float(np.sqrt(max(0.0, vector @ self._correlations(list(weights)) @ vector)))
        return (
            None
            if exposure <= self.limit
            else f"correlated exposure would be {exposure:.2f} times equity, {self.limit:g} is allowed"
        )

    def _correlations(self, symbols: list[str]) -> Any:
        closes = [self._closes.get(symbol, ()) for symbol in symbols]
        if len(symbols) < 2 or any(len(one) <= self.window for one in closes):
            return np.ones((len(symbols), len(symbols)))
        returns = np.diff(np.log(np.array([list(one) for one in closes])), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nan_to_num(np.corrcoef(returns), nan=1.0)
