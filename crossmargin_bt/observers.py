# SPDX-License-Identifier: GPL-3.0-or-later
"""Observers of a margin account, for `cerebro.plot()` and as lines that a strategy can read.

`cerebro.addobserver(MarginLevel)`, `cerebro.addobserver(Margin)`, and one per feed with
`cerebro.addobservermulti(LiquidationBand)` and `cerebro.addobservermulti(VenueMarks)`. In cash mode all lines are NaN, except
those of `Margin`.
"""

import math
from typing import Any, ClassVar

import backtrader as bt

from crossmargin_bt.engine.ledger import events


class MarginLevel(bt.Observer):
    """The lowest margin level of all pools in percent, with lines at thresholds; NaN if nothing is required.

    Params:
        levels: margin levels (3.0 is 300 %) of additional horizontal lines; liquidation at 100 % is always drawn.
        highest: upper limit of the plotted level.
    """

    lines: ClassVar[Any] = ("level",)
    params = (("levels", (1.5, 3.0)), ("highest", 10.0))
    plotinfo: ClassVar[Any] = {"plot": True, "subplot": True, "plotname": "Margin level, %"}

    def __init__(self) -> None:
        self.plotinfo.plothlines = [100.0, *(100 * level for level in self.p.levels)]

    def next(self) -> None:
        """Read the margin level at the close of the bar."""
        level = self._owner.broker.margin_level
        self.lines.level[0] = 100 * min(level, self.p.highest) if math.isfinite(level) else math.nan


class Margin(bt.Observer):
    """Margin used and free margin."""

    lines: ClassVar[Any] = ("used", "free")
    plotinfo: ClassVar[Any] = {"plot": True, "subplot": True, "plotname": "Margin"}

    def next(self) -> None:
        """Read both at the close of the bar."""
        broker = self._owner.broker
        self.lines.used[0] = broker.margin_used
        self.lines.free[0] = broker.getcash()


class LiquidationBand(bt.Observer):
    """The liquidation prices of the feed's positions: `lower` for a long, `upper` for a short."""

    lines: ClassVar[Any] = ("lower", "upper")
    plotinfo: ClassVar[Any] = {"plot": True, "subplot": False, "plotlinelabels": True}
    plotlines: ClassVar[Any] = {
        "lower": {"color": "#D55E00", "ls": "--", "_plotskip": False},
        "upper": {"color": "#0072B2", "ls": "--", "_plotskip": False},
    }

    def next(self) -> None:
        """Read the liquidation prices at the close of the bar."""
        broker = self._owner.broker
        account = broker.account
        self.lines.lower[0] = self.lines.upper[0] = math.nan
        book = None if account is None else account.books.get(_symbol(broker, self.data))
        if book is None:
            return
        for side in broker.sides(self.data):
            lots = book.leg(side).lots
            price = broker.liquidation_price(self.data, side).price if lots else None
            if price is not None:
                (self.lines.lower if lots > 0 else self.lines.upper)[0] = price


class VenueMarks(bt.Observer):
    """Markers at forced closes of positions of the feed (`liquidation`) and at refused orders (`refusal`)."""

    lines: ClassVar[Any] = ("liquidation", "refusal")
    plotinfo: ClassVar[Any] = {"plot": True, "subplot": False, "plotlinelabels": True}
    plotlines: ClassVar[Any] = {
        "liquidation": {"marker": "X", "markersize": 9.0, "color": "#D55E00", "ls": ""},
        "refusal": {"marker": "s", "markersize": 6.0, "color": "#E69F00", "ls": ""},
    }

    def __init__(self) -> None:
        self._read = 0

    def next(self) -> None:
        """Process the journal events since the previous bar."""
        broker = self._owner.broker
        symbol = _symbol(broker, self.data)
        journal = broker.journal
        self.lines.liquidation[0] = self.lines.refusal[0] = math.nan
        for event in journal[self._read :]:
            if (
                isinstance(event, events.Filled)
                and event.cause in ("liquidation", "repayment")
                and event.symbol == symbol
            ):
                self.lines.liquidation[0] = event.price
            elif isinstance(event, events.OrderRefused) and event.symbol == symbol:
                self.lines.refusal[0] = event.price or self.data.close[0]
        self._read = len(journal)


def _symbol(broker: Any, data: Any) -> str:
    instrument = getattr(data, "instrument", None) or (broker.p.instruments or {}).get(data._name)
    return "" if instrument is None else str(instrument.symbol)
