# SPDX-License-Identifier: GPL-3.0-or-later
"""A strategy that looks at candles before it may trade, so that its indicators stand when it begins."""

from typing import Any

from crossmargin_bt.broker.run import time_ms


class _Silence:
    """Put before a strategy class: it is not called on bars before `trade_from_ms`."""

    trade_from_ms = 0
    _begun = False
    datetime: Any

    def _is_silent(self) -> bool:
        return bool(time_ms(self.datetime[0]) < self.trade_from_ms)

    def prenext(self) -> None:
        if not self._is_silent():
            super().prenext()  # type: ignore[misc]

    def nextstart(self) -> None:
        if not self._is_silent():
            self._begun = True
            super().nextstart()  # type: ignore[misc]

    def next(self) -> None:
        if self._begun:
            super().next()  # type: ignore[misc]
        else:
            self.nextstart()

    def notify_timer(self, *arguments: Any, **keywords: Any) -> None:
        if not self._is_silent():
            super().notify_timer(*arguments, **keywords)  # type: ignore[misc]


def warming_up(strategy: Any, trade_from_ms: int) -> Any:
    """Return a strategy whose bars before `trade_from_ms` pass without its being called.

    Its indicators are worked out on all bars. The first bar on which it is called is its `nextstart` where the indicators stand by
    then, as without a warm-up; its `notify_timer` waits too.
    """
    members = {"trade_from_ms": trade_from_ms, "__module__": strategy.__module__, "__doc__": strategy.__doc__}
    return type(strategy)(strategy.__name__, (_Silence, strategy), members)
