# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guard is, what it is shown, and how a list of them is checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
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
        return metrics.total_equity(self.after)

    @property
    def margin_used(self) -> float:
        """What would be locked in all its pools, in its unit."""
        return metrics.total_margin_used(self.after)


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
    for guard in guards if isinstance(guards, list | tuple) else [guards]:
        if isinstance(guards, Guard) or not isinstance(guard, Guard):
            text = (
                f"{guard.__name__}()"
                if isinstance(guard, type) and issubclass(guard, Guard)
                else "EquityBuffer(share=0.25)"
            )
            raise ConfigurationError(f"guards is a list of guards, such as [{text}], got {guard!r}")
    return list(guards)


def share_between(guard: Guard, what: str, value: float, *, may_be_whole: bool = False) -> None:
    """Check that a value lies between 0 and 1.

    Raises:
        ConfigurationError: it does not.
    """
    if not (0 < value < 1 or (may_be_whole and value == 1)):
        end = "not above 1" if may_be_whole else "below 1"
        raise ConfigurationError(f"{what} of {guard.name} lies above 0 and {end} (0.25 is 25 %), got {value!r}")
