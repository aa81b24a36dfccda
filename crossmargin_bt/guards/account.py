# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that monitor the account: volatility, gains and losses, margin level."""

from collections.abc import Callable
from typing import Any

import msgspec

from crossmargin_bt.engine.terms.volatility import RealisedVolatility, VolatilityScaling
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.guards.base import Entry, Guard, GuardedBroker, check_share
from crossmargin_bt.time_units import MS_PER_DAY


class DeRisk(Guard):
    """Close a share of an instrument's positions when its annualised volatility exceeds `above`, and refuse entries until it falls back.

    The estimator is that of rule books with volatility scaling (`crossmargin_bt.engine.terms.volatility`).
    """

    above: float = msgspec.field(default=1.0)
    share: float = 0.5
    window_days: float = 30.0
    half_life_days: float = 3.0
    _estimators: dict[str, RealisedVolatility] = msgspec.field(default_factory=dict)
    _blocked: set[str] = msgspec.field(default_factory=set)

    def __post_init__(self) -> None:
        check_share(self, "share", self.share, may_be_whole=True)
        self._scaling()

    def _scaling(self) -> VolatilityScaling:
        return VolatilityScaling(
            reference=self.above, cap=1.0, window_days=self.window_days, half_life_days=self.half_life_days
        )

    def begin(self, broker: GuardedBroker) -> None:  # noqa: ARG002
        """Reset the volatility estimates."""
        self._estimators, self._blocked = {}, set()

    def judge(self, entry: Entry) -> str | None:
        """Refuse entries in an instrument whose volatility is above the limit."""
        return f"volatility of {entry.symbol} is above {self.above:.0%}" if entry.symbol in self._blocked else None

    def end_bar(self, broker: GuardedBroker, bars: list[Any]) -> None:
        """Update the estimates, and close a share of positions whose volatility has risen above the limit."""
        for bar in bars:
            symbol = bar.book.instrument.symbol
            if symbol not in self._estimators:
                self._estimators[symbol] = RealisedVolatility(self._scaling())
            volatility = self._estimators[symbol].add(bar.time_ms, bar.mark.close)
            if volatility is None:
                continue
            if volatility <= self.above:
                self._blocked.discard(symbol)
            elif symbol not in self._blocked:
                self._blocked.add(symbol)
                reason = f"volatility of {symbol} rose to {volatility:.0%}"
                broker.pre_trade_checks.close_share(self, bar.data, self.share, reason)


class ProfitSweep(Guard):
    """Withdraw a share of the gain when equity has grown by the fraction `above` since the last sweep, or the start.

    The amount is limited to the withdrawable balance, and goes to the broker's `Reserve` if there is one.
    """

    above: float = msgspec.field(default=0.2)
    share: float = 0.5
    _reference: float = 0.0

    def __post_init__(self) -> None:
        check_share(self, "share", self.share, may_be_whole=True)
        if not self.above > 0:
            raise ConfigurationError(
                f"above of {self.name} must be above 0 (0.2 is a gain of 20 %), got {self.above!r}"
            )

    def begin(self, broker: GuardedBroker) -> None:
        """Set the reference to the fund value at the start, which deposits and withdrawals do not change."""
        self._reference = float(broker.fundvalue)

    def end_bar(self, broker: GuardedBroker, bars: list[Any]) -> None:  # noqa: ARG002
        """Withdraw a share of the gain if the fund value has grown enough."""
        now = float(broker.fundvalue)
        if now < self._reference * (1 + self.above):
            return
        gain = broker.equity * (1 - self._reference / now)
        if broker.pre_trade_checks.sweep(self, self.share * gain, f"equity grew by {now / self._reference - 1:.1%}"):
            self._reference = now


class MarginLevelAlert(Guard):
    """Record an alert when the lowest margin level is below `level` at a bar's end: once, until it is above `level` again.

    `callback(broker, level)` is called as well if one is given; it must not be a lambda if runs are sent to other processes.
    """

    level: float = msgspec.field(default=2.0)
    callback: Callable[[Any, float], None] | None = None
    _has_alerted: bool = False

    def __post_init__(self) -> None:
        if not self.level > 1:
            raise ConfigurationError(
                f"level of {self.name} must be a margin level above 1 (2.0 is 200 %), got {self.level!r}"
            )

    def begin(self, broker: GuardedBroker) -> None:  # noqa: ARG002
        """Arm the alert."""
        self._has_alerted = False

    def end_bar(self, broker: GuardedBroker, bars: list[Any]) -> None:  # noqa: ARG002
        """Record an alert if the margin level has fallen below the limit."""
        level = broker.margin_level
        if level < self.level and not self._has_alerted:
            broker.pre_trade_checks.acted(
                self, "told", amount=level, reason=f"the margin level is {level:.2f}, below {self.level:g}"
            )
            if self.callback is not None:
                self.callback(broker, level)
        self._has_alerted = level < self.level


class DailyLossLimit(Guard):
    """Refuse entries for the rest of a UTC day that has lost a share of its starting equity; with `closes` also close all positions."""

    share: float = msgspec.field(default=0.05)
    closes: bool = False
    _day: float = -1.0
    _start_value: float = 0.0
    _last_value: float = 0.0
    _is_stopped: bool = False

    def __post_init__(self) -> None:
        check_share(self, "share", self.share)

    def begin(self, broker: GuardedBroker) -> None:
        """Start with the fund value of the start, which deposits and withdrawals do not change."""
        self._day, self._is_stopped = -1.0, False
        self._start_value = self._last_value = float(broker.fundvalue)

    def judge(self, entry: Entry) -> str | None:  # noqa: ARG002
        """Refuse entries on a day whose loss exceeds the limit."""
        return f"the day has lost more than {self.share:.0%} of equity" if self._is_stopped else None

    def end_bar(self, broker: GuardedBroker, bars: list[Any]) -> None:
        """Check the day's loss so far; cancel opening orders and close positions if it exceeds the limit."""
        if not bars:
            return
        day = max(bar.time_ms for bar in bars) // MS_PER_DAY
        if day != self._day:
            self._day, self._start_value, self._is_stopped = day, self._last_value, False
        self._last_value = float(broker.fundvalue)
        if not self._is_stopped and self._last_value < self._start_value * (1 - self.share):
            self._is_stopped = True
            lost = 1 - self._last_value / self._start_value
            reason = f"the day lost {lost:.1%} of equity"
            broker.pre_trade_checks.acted(self, "stopped", amount=lost, reason=reason)
            for data in broker.pre_trade_checks.feeds:
                broker.pre_trade_checks.cancel_openers(data)
            for data in broker.pre_trade_checks.feeds if self.closes else ():
                broker.pre_trade_checks.close_share(self, data, 1.0, reason)
