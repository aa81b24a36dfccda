# SPDX-License-Identifier: GPL-3.0-or-later
"""Observers: their lines, and that they can be plotted without a display."""

from __future__ import annotations

import math

import backtrader as bt
import pytest
from random_runs import INSTRUMENTS
from random_trader import RandomTrader, candles

from crossmargin_bt import CrossMarginBroker, feeds, observers
from crossmargin_bt.engine.ledger import events


def watched(mode: str, position_mode: str = "one_way", **settings):
    cerebro = bt.Cerebro(**settings)
    for number, (name, instrument) in enumerate(INSTRUMENTS.items()):
        frame = candles(number + 3, 150, start=100.0 * (number + 1))
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(mode=mode, position_mode=position_mode, cash=1000.0, leverage=20.0))
    cerebro.addstrategy(RandomTrader, seed=2, size=40.0, hedged=position_mode == "hedge")
    for kind in (observers.MarginLevel, observers.Margin):
        cerebro.addobserver(kind)
    for kind in (observers.LiquidationBand, observers.VenueMarks):
        cerebro.addobservermulti(kind)
    return cerebro, cerebro.run()[0]


def lines_of(strategy, kind, name: str) -> list[list[float]]:
    found = getattr(strategy.stats, kind.__name__.lower())
    each = found if isinstance(found, list) else [found]
    return [list(getattr(one.lines, name).get(size=len(strategy))) for one in each]


@pytest.mark.parametrize("mode", ["cash", "isolated", "cross"])
@pytest.mark.parametrize("runonce", [True, False])
def test_lines_say_what_the_account_was(mode: str, runonce: bool) -> None:
    """One value per bar, and one marker per bar with a refusal or a forced close."""
    _, strategy = watched(mode, runonce=runonce)
    (used,) = lines_of(strategy, observers.Margin, "used")
    assert len(used) == len(strategy)
    assert used[-1] == strategy.broker.margin_used
    (levels,) = lines_of(strategy, observers.MarginLevel, "level")
    seen = [level for level in levels if not math.isnan(level)]
    marks = lines_of(strategy, observers.VenueMarks, "liquidation") + lines_of(
        strategy, observers.VenueMarks, "refusal"
    )
    if mode == "cash":
        assert not seen
        assert all(math.isnan(value) for line in marks for value in line)
        return
    assert 100 < max(seen) <= 1000
    journal = strategy.broker.journal
    for number, symbol in enumerate(INSTRUMENTS):
        forced = [e.price for e in journal if isinstance(e, events.Filled) and e.forced and e.symbol == symbol]
        drawn = [value for value in marks[number] if not math.isnan(value)]
        assert bool(drawn) == bool(forced)
        assert set(drawn) <= set(forced)
    lower, upper = (lines_of(strategy, observers.LiquidationBand, name) for name in ("lower", "upper"))
    for data, low, high in zip(strategy.datas, lower, upper, strict=True):
        closes = list(data.close.get(size=len(strategy)))
        assert sum(not math.isnan(value) for value in low) > 5
        assert all(math.isnan(value) or value < close * 1.001 for value, close in zip(low, closes, strict=True))
        assert all(math.isnan(value) or value > close * 0.999 for value, close in zip(high, closes, strict=True))


@pytest.mark.parametrize("position_mode", ["one_way", "hedge"])
def test_a_run_can_be_plotted_without_a_display(position_mode: str) -> None:
    """With the Agg backend: one figure that contains every observer."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")

    cerebro, _ = watched("cross", position_mode)
    figures = cerebro.plot(style="candlestick", iplot=False)
    assert len(figures[0]) == 1
    titles = [
        text.get_text()
        for axes in figures[0][0].get_axes()
        for text in (axes.get_legend().get_texts() if axes.get_legend() else ())
    ]
    assert any("Margin level" in title for title in titles)
    plt.close("all")
