# SPDX-License-Identifier: GPL-3.0-or-later
"""Warm-up of a strategy: its indicators are computed on candles before the first bar it may trade on."""

import functools
from collections.abc import Callable
from typing import Any

from crossmargin_bt.broker.session.bars import time_ms

Hook = Callable[..., Any]

# Hooks suppressed during warm-up, besides `next` and `nextstart`. `start` is still called: strategies set leverage in it.
_SUPPRESSED_HOOKS = ("prenext", "notify_timer", "notify_cashvalue", "notify_fund", "notify_data", "notify_store")


def with_warmup(strategy: Any, trade_from_ms: int) -> Any:
    """Return a subclass of the strategy whose hooks are not called on bars before `trade_from_ms`.

    Indicators are computed on all bars. If they are ready before `trade_from_ms`, `nextstart` is called on the first
    bar from then on.
    """
    members = {
        "__module__": strategy.__module__, "__doc__": strategy.__doc__, "_trade_from_ms": trade_from_ms, "_nextstart_pending": False,
    }  # fmt: skip
    warming = type(strategy)(strategy.__name__, (strategy,), members)
    # After the class is created, because the metaclass of backtrader's SignalStrategy replaces `next`.
    for name in _SUPPRESSED_HOOKS:
        setattr(warming, name, _suppress_in_warmup(getattr(warming, name)))
    warming.next = _suppress_in_warmup(_run_pending_nextstart(warming.nextstart, warming.next))
    warming.nextstart = _defer_nextstart(warming.nextstart)
    return warming


def _is_warming_up(self: Any) -> bool:
    return not len(self.data) or time_ms(self.data.datetime[0]) < self._trade_from_ms


def _suppress_in_warmup(hook: Hook) -> Hook:
    @functools.wraps(hook)
    def call(self: Any, *arguments: Any, **keywords: Any) -> None:
        if not _is_warming_up(self):
            hook(self, *arguments, **keywords)

    return call


def _defer_nextstart(nextstart: Hook) -> Hook:
    """Return a `nextstart` that is deferred if it falls into the warm-up."""

    def call(self: Any) -> None:
        self._nextstart_pending = _is_warming_up(self)
        if not self._nextstart_pending:
            nextstart(self)

    return call


def _run_pending_nextstart(nextstart: Hook, following: Hook) -> Hook:
    """Return a `next` that first runs a deferred `nextstart`."""

    def call(self: Any) -> None:
        pending, self._nextstart_pending = self._nextstart_pending, False
        (nextstart if pending else following)(self)

    return call
