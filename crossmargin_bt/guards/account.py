# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that watch the account: its volatility, its gains and losses, its margin level."""

from collections.abc import Callable
from typing import Any

import msgspec

from crossmargin_bt.engine.terms.volatility import RealisedVolatility, VolatilityScaling
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.guards.base import Entry, Guard, share_between
from crossmargin_bt.time_units import MS_PER_DAY


class DeRisk(Guard):
    """When an instrument's annualised volatility rises above `above`, close a share of its positions, and open none until it is back.

    Volatility is measured as rule books that follow it do (`crossmargin_bt.engine.terms.volatility`).
    """

    above: float = msgspec.field(default=1.0)
    share: float = 0.5
    window_days: float = 30.0
    half_life_days: float = 3.0
    _seen: dict[str, RealisedVolatility] = msgspec.field(default_factory=dict)
    _wild: set[str] = msgspec.field(default_factory=set)

    def __post_init__(self) -> None:
        share_between(self, "share", self.share, may_be_whole=True)
        self._scaling()

    def _scaling(self) -> VolatilityScaling:
        return VolatilityScaling(
            reference=self.above, cap=1.0, window_days=self.window_days, half_life_days=self.half_life_days
        )

    def begin(self, broker: Any) -> None:  # noqa: ARG002
        """Forget prices."""
        self._seen, self._wild = {}, set()

    def judge(self, entry: Entry) -> str | None:
        """Refuse entries in what is wild."""
        return f"volatility of {entry.symbol} is above {self.above:.0%}" if entry.symbol in self._wild else None

    def end_bar(self, broker: Any, bars: list[Any]) -> None:
        """Close a share where volatility has risen above."""
        for bar in bars:
            symbol = bar.book.instrument.symbol
            if symbol not in self._seen:
                self._seen[symbol] = RealisedVolatility(self._scaling())
            volatility = self._seen[symbol].add(bar.time_ms, bar.mark.close)
            if volatility is None:
                continue
            if volatility <= self.above:
                self._wild.discard(symbol)
            elif symbol not in self._wild:
                self._wild.add(symbol)
                reason = f"volatility of {symbol} rose to {volatility:.0%}"
                broker.pre_trade_checks.close_share(self, bar.data, self.share, reason)


class ProfitSweep(Guard):
    """When equity has grown by `above` since the last sweep (or the start), take a share of the gain off the account.

    It goes to the broker's `Reserve` where there is one, and no more of it than may be withdrawn.
    """

    above: float = msgspec.field(default=0.2)
    share: float = 0.5
    _mark: float = 0.0

    def __post_init__(self) -> None:
        share_between(self, "share", self.share, may_be_whole=True)
        if not self.above > 0:
            raise ConfigurationError(f"{self.name} sweeps above a gain that is above 0, got {self.above!r}")

    def begin(self, broker: Any) -> None:
        """Measure from the start; what is paid in or out is no gain."""
        self._mark = float(broker.fundvalue)

    def end_bar(self, broker: Any, bars: list[Any]) -> None:  # noqa: ARG002
        """Sweep where equity has grown enough."""
        now = float(broker.fundvalue)
        if now < self._mark * (1 + self.above):
            return
        gain = broker.equity * (1 - self._mark / now)
        if broker.pre_trade_checks.sweep(self, self.share * gain, f"equity grew by {now / self._mark - 1:.1%}"):
            self._mark = now


class MarginLevelAlert(Guard):
    """Tell when the lowest margin level is below `level` at a bar's end: once, until it is above again.

    `callback(broker, level)` is called where one is given; it must not be a lambda where runs are sent to other processes.
    """

    level: float = msgspec.field(default=2.0)
    callback: Callable[[Any, float], None] | None = None
    _told: bool = False

    def __post_init__(self) -> None:
        if not self.level > 1:
            raise ConfigurationError(
                f"the level of {self.name} is a margin level above 1 (2.0 is 200 %), got {self.level!r}"
            )

    def begin(self, broker: Any) -> None:  # noqa: ARG002
        """Be ready to tell."""
        self._told = False

    def end_bar(self, broker: Any, bars: list[Any]) -> None:  # noqa: ARG002
        """Tell of a level that is low."""
        level = broker.margin_level
        if level < self.level and not self._told:
            broker.pre_trade_checks.acted(
                self, "told", amount=level, reason=f"the margin level is {level:.2f}, below {self.level:g}"
            )
            if self.callback is not None:
                self.callback(broker, level)
        self._told = level < self.level


class DailyLossLimit(Guard):
    """When a UTC day has lost a share of the equity it began with, open nothing for the rest of it; with `closes` close all."""

    share: float = msgspec.field(default=0.05)
    closes: bool = False
    _day: float = -1.0
    _began: float = 0.0
    _last: float = 0.0
    _lost: bool = False

    def __post_init__(self) -> None:
        share_between(self, "share", self.share)

    def begin(self, broker: Any) -> None:
        """Begin with the start; what is paid in or out is no loss."""
        self._day, self._lost = -1.0, False
        self._began = self._last = float(broker.fundvalue)

    def judge(self, entry: Entry) -> str | None:  # noqa: ARG002
        """Refuse entries on a day that has lost too much."""
        return f"the day has lost more than {self.share:.0%} of equity" if self._lost else None

    def end_bar(self, broker: Any, bars: list[Any]) -> None:
        """Look what the day has made so far."""
        if not bars:
            return
        day = max(bar.time_ms for bar in bars) // MS_PER_DAY
        if day != self._day:
            self._day, self._began, self._lost = day, self._last, False
        self._last = float(broker.fundvalue)
        if not self._lost and self._last < self._began * (1 - self.share):
            self._lost = True
            lost = 1 - self._last / self._began
            reason = f"the day lost {lost:.1%} of equity"
            broker.pre_trade_checks.acted(self, "stopped", amount=lost, reason=reason)
            for data in broker.pre_trade_checks.feeds:
                broker.pre_trade_checks.cancel_openers(data)
            for data in broker.pre_trade_checks.feeds if self.closes else ():
                broker.pre_trade_checks.close_share(self, data, 1.0, reason)
