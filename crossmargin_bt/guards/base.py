# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of guards, the order that they judge, and the check of a list of guards."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.errors import ConfigurationError


class GuardChecks(Protocol):
    """What a guard may read of the orders and do to the account (`CrossMarginBroker.pre_trade_checks`)."""

    @property
    def feeds(self) -> list[Any]:
        """The feeds that trade."""
        ...

    @property
    def last_closes(self) -> dict[str, float]:
        """The last close of every instrument that has had a bar."""
        ...

    def orders_waiting(self, order: Any, *, opposite: bool) -> Iterator[Any]:
        """Yield the open orders of an order's leg, of its own direction or of the opposite one."""
        ...

    def lots_of(self, order: Any) -> int:
        """Return the unsigned lots an order has still to trade."""
        ...

    def acted(
        self, guard: "Guard", action: str, *, amount: float, reason: str, order: Any = None, symbol: str = ""
    ) -> None:
        """Record what a guard did in the journal, and notify the strategies at the end of the bar."""
        ...

    def close_share(self, guard: "Guard", data: Any, share: float, reason: str) -> None:
        """Enter orders that close a share of a feed's positions."""
        ...

    def cancel_openers(self, data: Any, *, everything: bool = False) -> None:
        """Cancel the orders of a feed that would open a position, or all of them."""
        ...

    def sweep(self, guard: "Guard", wanted: float, reason: str) -> float:
        """Withdraw an amount, into the reserve where there is one; return how much was withdrawn."""
        ...


class GuardedBroker(Protocol):
    """The broker as a guard sees it."""

    @property
    def pre_trade_checks(self) -> GuardChecks:
        """The checks that call the guards."""
        ...

    @property
    def equity(self) -> float:
        """Equity at the bar's end."""
        ...

    @property
    def fundvalue(self) -> float:
        """The value of a fund share, which deposits and withdrawals leave as it is."""
        ...

    @property
    def margin_level(self) -> float:
        """The margin level at the bar's end."""
        ...


class Entry(NamedTuple):
    """An opening order; `after` is the account after it and all immediate orders before it have filled."""

    broker: GuardedBroker
    order: Any
    symbol: str
    side: str
    lots: int
    after: Account

    @property
    def equity(self) -> float:
        """Total equity of the account after the fill, in its unit."""
        return metrics.total_equity(self.after)

    @property
    def margin_used(self) -> float:
        """Margin locked in all pools after the fill, in the account's unit."""
        return metrics.total_margin_used(self.after)


class Guard(msgspec.Struct, kw_only=True):
    """One risk limit. With `reduces` an order that is too large is reduced to the largest size allowed instead of refused."""

    reduces: bool = False

    @property
    def name(self) -> str:
        """Name of the guard in the journal."""
        return type(self).__name__

    def begin(self, broker: GuardedBroker) -> None:
        """Reset the state at the start of a run."""

    def judge(self, entry: Entry) -> str | None:  # noqa: ARG002 - the guards' common signature
        """Return the reason for refusing an opening order, None to accept it."""
        return None

    def end_bar(self, broker: GuardedBroker, bars: list[Any]) -> None:
        """Check the account after the bars of one timestamp have been processed."""


def largest(most: int, passes: Callable[[int], bool]) -> int:
    """Return the largest count up to `most` that passes, by bisection; 0 if none does. All smaller counts must pass as well."""
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
        ConfigurationError: it is not a list, or an element is not a guard.
    """
    for guard in guards if isinstance(guards, list | tuple) else [guards]:
        if isinstance(guards, Guard) or not isinstance(guard, Guard):
            text = (
                f"{guard.__name__}()"
                if isinstance(guard, type) and issubclass(guard, Guard)
                else "EquityBuffer(share=0.25)"
            )
            raise ConfigurationError(f"guards must be a list of guards such as [{text}], got {guard!r}")
    return list(guards)


def check_share(guard: Guard, what: str, value: float, *, may_be_whole: bool = False) -> None:
    """Check that a share is above 0 and below 1, or with `may_be_whole` at most 1.

    Raises:
        ConfigurationError: it is not.
    """
    if not (0 < value < 1 or (may_be_whole and value == 1)):
        limit = "at most 1" if may_be_whole else "below 1"
        raise ConfigurationError(f"{what} of {guard.name} must be above 0 and {limit} (0.25 is 25 %), got {value!r}")
