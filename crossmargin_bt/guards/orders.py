# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that judge orders: what they may lock, how large the bet may be, whether a stop stands behind them."""

import math
from collections import deque
from typing import Any

import msgspec
import numpy as np

from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.guards.base import Entry, Guard, share_between


class EquityBuffer(Guard):
    """Keep a share of equity free: positions and orders may lock no more than the rest.

    Raises:
        ConfigurationError: the share is not between 0 and 1.
    """

    share: float = msgspec.field(default=0.25)

    def __post_init__(self) -> None:
        share_between(self, "share", self.share)

    def judge(self, entry: Entry) -> str | None:
        """Refuse what would lock more."""
        used, allowed = entry.margin_used, (1 - self.share) * entry.equity
        if used <= allowed:
            return None
        return f"margin used would be {used:.2f}, {allowed:.2f} leaves {self.share:.0%} of equity free"


class MaximumLeverage(Guard):
    """Keep the value of all positions within so many times equity."""

    limit: float = msgspec.field(default=5.0)

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ConfigurationError(f"the limit of {self.name} is above 0, got {self.limit!r}")

    def judge(self, entry: Entry) -> str | None:
        """Refuse what would be more."""
        equity = entry.equity
        exposure = metrics.account_exposure(entry.after)
        if equity > 0 and exposure <= self.limit * equity:
            return None
        return f"positions would be worth {exposure:.2f}, {self.limit:g} times equity is {self.limit * max(equity, 0.0):.2f}"


STOPS = ("Stop", "StopLimit", "StopTrail", "StopTrailLimit")


class StopRequired(Guard):
    """Every entry carries a stop: in its bracket, or an opposite stop order of its leg that rests or comes in the same bar."""

    def judge(self, entry: Entry) -> str | None:
        """Refuse an entry without one."""
        checks = entry.broker.pre_trade_checks
        stops = [one for one in checks.orders_waiting(entry.order, opposite=True) if one.getordername() in STOPS]
        if sum(map(checks.lots_of, stops)) >= abs(entry.lots):
            return None
        return "the entry carries no stop for all of it; use a bracket, or enter an opposite stop order before it or in the same bar"


class CorrelatedExposure(Guard):
    """Keep what is one bet within so many times equity: exposures weighed by the correlation of their returns.

    The bet is the square root of w' C w, with w the signed values of the positions over equity and C the correlations of the
    returns of the last `window` bars: three coins long together count as one large bet, a hedge as a small one. Until
    `window` bars have come, correlations count as 1.
    """

    limit: float = msgspec.field(default=3.0)
    window: int = 100
    _closes: dict[str, deque[float]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.limit > 0 and self.window > 1):
            raise ConfigurationError(f"{self.name} has a limit above 0 and a window of at least 2 bars")

    def begin(self, broker: Any) -> None:  # noqa: ARG002
        """Forget prices."""
        self._closes = {}

    def end_bar(self, broker: Any, bars: list[Any]) -> None:
        """Keep closes; an instrument without a new bar keeps its last."""
        for symbol, price in broker.pre_trade_checks.last_closes.items() if bars else ():
            self._closes.setdefault(symbol, deque(maxlen=self.window + 1)).append(price)

    def judge(self, entry: Entry) -> str | None:
        """Refuse what would make the bet larger than the limit."""
        equity = entry.equity
        if equity <= 0:
            return "nothing is left to bet"
        weights = {}
        for symbol, book in entry.after.books.items():
            value = sum(math.copysign(book.value(leg), leg.lots) for leg in book.legs.values())
            value *= entry.after.price(book.instrument.settle) if value else 1.0
            if value:
                weights[symbol] = value / equity
        vector = np.array(list(weights.values()))
        bet = float(np.sqrt(max(0.0, vector @ self._correlations(list(weights)) @ vector)))
        return (
            None
            if bet <= self.limit
            else f"correlated positions would be a bet of {bet:.2f} times equity, {self.limit:g} is allowed"
        )

    def _correlations(self, symbols: list[str]) -> Any:
        closes = [self._closes.get(symbol, ()) for symbol in symbols]
        if len(symbols) < 2 or any(len(one) <= self.window for one in closes):
            return np.ones((len(symbols), len(symbols)))
        returns = np.diff(np.log(np.array([list(one) for one in closes])), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nan_to_num(np.corrcoef(returns), nan=1.0)
