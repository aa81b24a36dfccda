# SPDX-License-Identifier: GPL-3.0-or-later
"""backtrader's Cerebro with a faster run loop over preloaded feeds."""

import logging
from typing import Any

import backtrader as bt

from crossmargin_bt.cerebro import fallback_reason, vectors
from crossmargin_bt.cerebro.loop import Loop

LOG = logging.getLogger(__name__)


class Cerebro(bt.Cerebro):
    """A drop-in for `bt.Cerebro`: `cerebro = crossmargin_bt.Cerebro()`.

    Runs with `preload` and `runonce`, backtrader's defaults, use `crossmargin_bt.cerebro.loop`. Runs with features that it does
    not support use backtrader's own loop, and the logger `crossmargin_bt.cerebro` records the reason. Results are the same
    either way.

    Params (beyond those of `bt.Cerebro`):
        turbo: also vectorise indicators for which NumPy's floating-point result may differ from backtrader's in the last digits
            (docs/performance.md). A strategy that compares such values may trade at another bar.
    """

    params = (("turbo", False),)

    def stop_writers(self, runstrats: list[Any]) -> None:
        """Write the results; without writers they are not collected."""
        if self.runwriters:
            super().stop_writers(runstrats)

    def _runnext(self, runstrats: list[Any]) -> None:
        LOG.info(
            "backtrader's own run loop: bars are fed one by one (preload or runonce is off, a feed is resampled, replayed or live, "
            "or an indicator requires it)"
        )
        super()._runnext(runstrats)

    def _runonce(self, runstrats: list[Any]) -> None:
        reason = fallback_reason.reason(self, runstrats)
        if reason is not None:
            LOG.info("backtrader's own run loop: %s", reason)
            super()._runonce(runstrats)
            return
        for strategy in runstrats:
            with vectors.fast_once(strategy, turbo=self.p.turbo):
                strategy._once()
            strategy.reset()
        Loop(self, runstrats).run()
