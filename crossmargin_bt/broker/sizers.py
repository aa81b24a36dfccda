# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizers that ask the margin account."""

from typing import Any

import backtrader as bt

from crossmargin_bt.errors import ConfigurationError


class MaximumSizer(bt.Sizer):
    """A share of the largest order that would be admitted now, in whole lots.

    Params:
        share: the part of it to order, above 0 and not above 1.

    In hedge mode `buy()` sizes the long leg and `sell()` the short one.
    """

    params = (("share", 0.95),)

    def __init__(self) -> None:
        if not 0 < self.p.share <= 1:
            raise ConfigurationError(f"share lies above 0 and not above 1, got {self.p.share!r}")
        super().__init__()

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:  # noqa: ARG002, FBT001 - backtrader's signature
        side = None
        if self.broker.p.position_mode == "hedge":
            side = "long" if isbuy else "short"
        largest = self.broker.maximum_order_size(data, isbuy=isbuy, side=side)
        size = largest * self.p.share
        instrument = getattr(comminfo, "instrument", None)
        return float(size if instrument is None else instrument.size(instrument.lots(size)))
