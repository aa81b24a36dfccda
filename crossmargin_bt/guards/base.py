# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of guards, the order that they judge, and the check of a list of guards."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.errors import ConfigurationError


class Entry(NamedTuple):
    """An opening order; `after` is the account after it and all immediate orders before it have filled."""

    broker: Any
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

    def begin(self, broker: Any) -> None:
        """Reset the state at the start of a run."""

    def judge(self, entry: Entry) -> str | None:  # noqa: ARG002 - the guards' common signature
        """Return the reason for refusing an opening order, None to accept it."""
        return None

    def end_bar(self, broker: Any, bars: list[Any]) -> None:
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
