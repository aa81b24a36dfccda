# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders in a halt wait where that is asked for; sizes of many lots are exact."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import pandas as pd
import pytest

from crossmargin_bt import CrossMarginBroker, Instrument, feeds
from crossmargin_bt.engine.terms.instrument import whole_lots


class Buyer(bt.Strategy):
    """Buys at the market in the first bar, and notes when it filled."""

    def __init__(self) -> None:
        self.filled: list[int] = []

    def notify_order(self, order: Any) -> None:
        if order.status == order.Completed:
            self.filled.append(len(self))

    def next(self) -> None:
        if len(self) == 1:
            self.buy(size=1)


def filled_in(volumes: list[float] | None, *, stock: bool = False, **settings: Any) -> list[int]:
    """Return the bars in which the order filled."""
    index = pd.date_range("2024-01-01", periods=6, freq="h", name="date")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 100.0), index=index)
    if volumes is not None:
        frame["volume"] = volumes
    instrument = Instrument(symbol="X", lot=1.0)
    cerebro = bt.Cerebro(stdstats=False)
    if stock:
        cerebro.adddata(bt.feeds.PandasData(dataname=frame), name="X")
    else:
        cerebro.adddata(feeds.from_frame(frame, name="X", instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(cash=1_000.0, instruments={"X": instrument} if stock else None, **settings))
    cerebro.addstrategy(Buyer)
    return cerebro.run()[0].filled


HALTED = [5.0, 0.0, 0.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize(
    "settings", [{"mode": "cross"}, {"mode": "isolated"}, {"mode": "cash"}, {"engine": "reference"}]
)
def test_orders_wait_for_the_end_of_a_halt(settings: dict, stock: bool) -> None:
    """In bars 2 and 3 nobody trades: by default the order fills in bar 2, else in bar 4."""
    assert filled_in(HALTED, stock=stock, **settings) == [2]
    assert filled_in(HALTED, stock=stock, fill_in_halts=False, **settings) == [4]


@pytest.mark.parametrize("volumes", [None, [0.0] * 6])
def test_an_unknown_volume_is_no_halt(volumes: list[float] | None) -> None:
    """Without volumes, or with none at all, the market trades."""
    assert filled_in(volumes, fill_in_halts=False) == [2]


@pytest.mark.parametrize("lot", [1.0, 0.1, 0.001, 3.0])
@pytest.mark.parametrize("count", [1, 7, 10**9, 10**12 + 1, 10**13 + 7, 10**14 + 3, 10**15 - 1, -(10**15) + 9])
def test_lots_are_exact_to_1e15(lot: float, count: int) -> None:
    """A size made of whole lots is that many lots, and a hair less than another is not one more."""
    instrument = Instrument(symbol="X", lot=lot)
    assert instrument.lots(instrument.size(count)) == count
    assert whole_lots(instrument.size(count), lot, instrument.lots_per_contract) == count
    half = instrument.size(count) + (lot / 2 if count > 0 else -lot / 2)
    assert abs(instrument.lots(half)) == abs(count)
