# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits exactly on paper is accepted by every control, though its floats may be a rounding error above what is free."""

from __future__ import annotations

import backtrader as bt
import pytest
from random_trader import candles
from scripted import Scripted

from crossmargin_bt import CrossMarginBroker, Instrument, feeds, venues
from crossmargin_bt.engine.terms.rates import flat_rate

LEVERAGES = (3, 6, 7, 9, 11, 13)


def flat_frame(price: float):
    """Return bars at one price."""
    frame = candles(1, 6)
    for column in frame.columns:
        frame[column] = 1e9 if column == "volume" else price
    return frame[["open", "high", "low", "close", "volume"]]


def run(cash: float, script: dict, *, leverage: float = 100.0):
    """Run a script without fees on feeds at 100 and 300."""
    cerebro = bt.Cerebro(stdstats=False)
    for name, price in (("AAA", 100.0), ("BBB", 300.0)):
        instrument = Instrument(
            symbol=name, lot=0.01, maintenance=flat_rate(0.001), leverage_max=100.0, maker=0.0, taker=0.0
        )
        cerebro.adddata(feeds.from_frame(flat_frame(price), name=name, instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(cash=cash, leverage=leverage, venue=venues.load("generic")))
    cerebro.addstrategy(Scripted, script=script)
    return cerebro.run()[0]


@pytest.mark.parametrize("leverage", LEVERAGES)
def test_set_leverage_accepts_an_exact_fit(leverage: int) -> None:
    """Positions of 1,000 and 1,800 lock 2,800 / leverage: the whole cash."""
    answers = []

    def lower(strategy) -> None:
        answers.extend(strategy.broker.set_leverage(data, leverage) for data in strategy.datas)

    run(2800 / leverage, {1: lambda s: (s.buy(s.data0, size=10.0), s.buy(s.data1, size=6.0)), 3: lower})
    assert answers == [None, None]


@pytest.mark.parametrize("leverage", LEVERAGES)
def test_set_leverage_refuses_a_thousandth_less(leverage: int) -> None:
    """The tolerance is one of rounding: the same positions with a thousandth less cash do not fit."""
    answers = []

    def lower(strategy) -> None:
        answers.extend(strategy.broker.set_leverage(data, leverage) for data in strategy.datas)

    run(2800 / leverage * 0.999, {1: lambda s: (s.buy(s.data0, size=10.0), s.buy(s.data1, size=6.0)), 3: lower})
    assert answers[0] is None
    assert answers[1].code == "insufficient_margin"


@pytest.mark.parametrize("leverage", LEVERAGES)
def test_all_free_margin_can_be_withdrawn(leverage: int) -> None:
    """Deposited 2,800 / leverage and 1,000: what positions do not lock leaves the account to the last cent."""
    cash = 2800 / leverage
    strategy = run(
        cash + 1000.0,
        {
            1: lambda s: (s.buy(s.data0, size=10.0), s.buy(s.data1, size=6.0)),
            3: lambda s: s.broker.add_cash(-(cash + 1000.0 - 2800 / leverage)),
        },
        leverage=leverage,
    )
    assert strategy.broker.equity == pytest.approx(cash, rel=1e-12)
