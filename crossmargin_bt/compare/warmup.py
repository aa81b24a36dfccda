# SPDX-License-Identifier: GPL-3.0-or-later
"""A strategy that looks at candles before it may trade, so that its indicators stand when it begins."""

import functools
from collections.abc import Callable
from typing import Any

from crossmargin_bt.broker.session.bars import time_ms

Hook = Callable[..., Any]

# What backtrader calls with every bar or at a time of its own, beside next. `start` is called: it is where leverage is set.
_CALLED = ("prenext", "notify_timer", "notify_cashvalue", "notify_fund", "notify_data", "notify_store")


def warming_up(strategy: Any, trade_from_ms: int) -> Any:
    """Return a strategy that is not called on bars before `trade_from_ms`.

    Its indicators are worked out on all bars. The first bar on which it is called is its `nextstart` where the indicators stand by
    then, as without a warm-up.
    """
    members = {
        "__module__": strategy.__module__, "__doc__": strategy.__doc__, "_trade_from_ms": trade_from_ms, "_owes_nextstart": False,
    }  # fmt: skip
    warming = type(strategy)(strategy.__name__, (strategy,), members)
    # Once the class is made: metaclasses of backtrader's own strategies put a next of theirs into it.
    for name in _CALLED:
        setattr(warming, name, _silenced(getattr(warming, name)))
    warming.next = _silenced(_beginning(warming.nextstart, warming.next))
    warming.nextstart = _owing(warming.nextstart)
    return warming


def _is_silent(self: Any) -> bool:
    return not len(self.data) or time_ms(self.data.datetime[0]) < self._trade_from_ms


def _silenced(hook: Hook) -> Hook:
    @functools.wraps(hook)
    def call(self: Any, *arguments: Any, **keywords: Any) -> None:
        if not _is_silent(self):
            hook(self, *arguments, **keywords)

    return call


def _owing(nextstart: Hook) -> Hook:
    """Return a nextstart that is made up for later where its bar is silent."""

    def call(self: Any) -> None:
        self._owes_nextstart = _is_silent(self)
        if not self._owes_nextstart:
            nextstart(self)

    return call


def _beginning(nextstart: Hook, following: Hook) -> Hook:
    """Return a next whose first bar is the nextstart that is owed."""

    def call(self: Any) -> None:
        owed, self._owes_nextstart = self._owes_nextstart, False
        (nextstart if owed else following)(self)

    return call
