# SPDX-License-Identifier: GPL-3.0-or-later
"""backtrader's Cerebro with a lean loop over preloaded feeds."""

import logging
from typing import Any

import backtrader as bt

from crossmargin_bt.cerebro import fallback_reason, vectors
from crossmargin_bt.cerebro.loop import Loop

LOG = logging.getLogger(__name__)


class Cerebro(bt.Cerebro):
    """A drop-in for `bt.Cerebro`: `cerebro = crossmargin_bt.Cerebro()`.

    Runs with `preload` and `runonce`, backtrader's defaults, go through a loop that does per bar what has to be done per
    bar; whatever it does not know goes through backtrader's own, and a log line of `crossmargin_bt.cerebro` says why. Results
    are the same either way.

    Params (beyond those of `bt.Cerebro`):
        turbo: also compute indicators whose sums NumPy adds in another order than backtrader does: their last digits may
            differ (docs/performance.md), and a strategy that compares them may trade at another bar.
    """

    params = (("turbo", False),)

    def stop_writers(self, runstrats: list[Any]) -> None:
        """Let writers write what came out; without any nobody is asked for it."""
        if self.runwriters:
            super().stop_writers(runstrats)

    def _runnext(self, runstrats: list[Any]) -> None:
        LOG.info(
            "backtrader's own run loop: bars are fed one by one (preload or runonce are off, a feed is resampled, replayed or live, "
            "or an indicator needs it)"
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
