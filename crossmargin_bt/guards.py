# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards: the trader's own discipline, kept by the broker.

`CrossMarginBroker(guards=[EquityBuffer(0.25), StopRequired()])`. A guard looks at every order that opens, and at the account
when a bar has ended; it refuses, reduces, closes or sweeps with a reason, and each time the journal has a `GuardActed`. What only closes
is never refused. Shares are plain fractions, amounts in the account's currency.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crossmargin_bt.engine import reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.volatility import MS_PER_DAY, RealisedVolatility, VolatilityScaling
from crossmargin_bt.errors import ConfigurationError


class Entry(NamedTuple):
    """An order that opens: `after` is the account with it and all immediate orders before it filled."""

    broker: Any
    order: Any
    symbol: str
    side: str
    lots: int
    after: Account

    @property
    def equity(self) -> float:
        """What the whole account would be worth, in its unit."""
        return reading.total_equity(self.after)

    @property
    def margin_used(self) -> float:
        """What would be locked in all its pools, in its unit."""
        return reading.total_margin_used(self.after)


class Guard(msgspec.Struct, kw_only=True):
    """One rule. With `reduces` an order that is too large is made as large as the rule allows, in place of being refused."""

    reduces: bool = False

    @property
    def name(self) -> str:
        """What the journal calls it."""
        return type(self).__name__

    def begin(self, broker: Any) -> None:
        """Forget the run before."""

    def judge(self, entry: Entry) -> str | None:  # noqa: ARG002 - the guards' common shape
        """Return why an order that opens may not, None where it may."""
        return None

    def end_bar(self, broker: Any, bars: list[Any]) -> None:
        """Look at the account when the bars of a moment have ended."""


class EquityBuffer(Guard):
    """Keep a share of equity free: positions and orders may lock no more than the rest.

    Raises:
        ConfigurationError: the share is not between 0 and 1.
    """

    share: float = msgspec.field(default=0.25)

    def __post_init__(self) -> None:
        _share(self, "share", self.share)

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
        exposure = reading.account_exposure(entry.after)
        if equity > 0 and exposure <= self.limit * equity:
            return None
        return f"positions would be worth {exposure:.2f}, {self.limit:g} times equity is {self.limit * max(equity, 0.0):.2f}"


STOPS = ("Stop", "StopLimit", "StopTrail", "StopTrailLimit")


class StopRequired(Guard):
    """Every entry carries a stop: in its bracket, or an opposite stop order of its leg that rests or comes in the same bar."""

    def judge(self, entry: Entry) -> str | None:
        """Refuse an entry without one."""
        discipline = entry.broker.discipline
        stops = [one for one in discipline.orders_waiting(entry.order, opposite=True) if one.getordername() in STOPS]
        if sum(map(discipline.lots_of, stops)) >= abs(entry.lots):
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
        for symbol, price in broker.discipline.last_closes.items() if bars else ():
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


class DeRisk(Guard):
    """When an instrument's annualised volatility rises above `above`, close a share of its positions, and open none until it is back.

    Volatility is measured as rule books that follow it do (`crossmargin_bt.engine.volatility`).
    """

    above: float = msgspec.field(default=1.0)
    share: float = 0.5
    window_days: float = 30.0
    half_life_days: float = 3.0
    _seen: dict[str, RealisedVolatility] = msgspec.field(default_factory=dict)
    _wild: set[str] = msgspec.field(default_factory=set)

    def __post_init__(self) -> None:
        _share(self, "share", self.share, may_be_whole=True)
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
                broker.discipline.close_share(self, bar.data, self.share, reason)


class ProfitSweep(Guard):
    """When equity has grown by `above` since the last sweep (or the start), take a share of the gain off the account.

    It goes to the broker's `Reserve` where there is one, and no more of it than may be withdrawn.
    """

    above: float = msgspec.field(default=0.2)
    share: float = 0.5
    _mark: float = 0.0

    def __post_init__(self) -> None:
        _share(self, "share", self.share, may_be_whole=True)
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
        if broker.discipline.sweep(self, self.share * gain, f"equity grew by {now / self._mark - 1:.1%}"):
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
            broker.discipline.acted(
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
        _share(self, "share", self.share)

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
            broker.discipline.acted(self, "stopped", amount=lost, reason=reason)
            for data in broker.discipline.feeds:
                broker.discipline.cancel_openers(data)
            for data in broker.discipline.feeds if self.closes else ():
                broker.discipline.close_share(self, data, 1.0, reason)


def largest(most: int, passes: Callable[[int], bool]) -> int:
    """Return the largest count up to `most` that passes, where all smaller ones do; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if passes(middle):
            low = middle
        else:
            high = middle - 1
    return low


def checked(guards: Any) -> list[Guard]:
    """Return guards as a list.

    Raises:
        ConfigurationError: one is none.
    """
    for guard in guards:
        if not isinstance(guard, Guard):
            text = (
                f"{guard.__name__}()"
                if isinstance(guard, type) and issubclass(guard, Guard)
                else "EquityBuffer(share=0.25)"
            )
            raise ConfigurationError(f"guards is a list of guards, such as {text}, got {guard!r}")
    return list(guards)


def _share(guard: Guard, what: str, value: float, *, may_be_whole: bool = False) -> None:
    if not (0 < value < 1 or (may_be_whole and value == 1)):
        end = "not above 1" if may_be_whole else "below 1"
        raise ConfigurationError(f"{what} of {guard.name} lies above 0 and {end} (0.25 is 25 %), got {value!r}")
