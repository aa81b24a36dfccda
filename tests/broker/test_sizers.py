# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizers: what they order, by hand, in whole lots, never more than fits."""

from __future__ import annotations

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from scripted import FLAT, PLAIN, bars

from crossmargin_bt import (  # fmt: skip
    CrossMarginBroker,
    FreeMarginSizer,
    HedgeStrategy,
    Instrument,
    RiskSizer,
    SafeDistanceSizer,
    VolatilitySizer,
    feeds,
)
from crossmargin_bt.errors import ConfigurationError

COIN = Instrument(symbol="BTC", lot=1.0, contract_size=1000.0, inverse=True, settle="USDT", maker=0.0, taker=0.0)


class Once(bt.Strategy):
    """Buys or sells once, leaving the size to the sizer."""

    params = (("buys", True), ("at", 1))
    stop_price = 95.0

    def next(self) -> None:
        if len(self) == self.p.at:
            self.buy() if self.p.buys else self.sell()


def sized(
    sizer, *, frame=None, instrument=PLAIN, mode="cross", strategy=Once, position_mode="one_way", params=None, **wanted
):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(bars(*[FLAT] * 4) if frame is None else frame, name="BTC", instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(cash=1000.0, leverage=10.0, mode=mode, position_mode=position_mode))
    cerebro.addstrategy(strategy, **wanted)
    cerebro.addsizer(sizer, **(params or {}))
    (ran,) = cerebro.run()
    return ran


def size_of(*args, **kwargs) -> float:
    ran = sized(*args, **kwargs)
    return ran.broker.getposition(ran.data).size


@pytest.mark.parametrize(
    ("sizer", "params", "size"),
    [
        (FreeMarginSizer, {"share": 0.1}, 10),  # 100 of margin at 10x
        (FreeMarginSizer, {"share": 0.555}, 55),
        (RiskSizer, {"risk": 0.01, "stop": 0.02}, 5),  # 10 lost over 2 a contract
        (RiskSizer, {"risk": 0.01, "stop": "stop_price"}, 2),  # over 5 a contract
        (RiskSizer, {"risk": 0.9, "stop": 0.001}, 100),  # no more than fits
        (RiskSizer, {"risk": 0.01, "stop": "p"}, None),
    ],
)
def test_a_size_by_hand(sizer, params: dict, size: float | None) -> None:
    if size is None:
        with pytest.raises(TypeError):
            size_of(sizer, params=params)
        return
    assert size_of(sizer, params=params) == size
    if params.get("stop") != "stop_price":
        assert size_of(sizer, params=params, buys=False) == -size


def test_a_stop_on_the_wrong_side_orders_nothing() -> None:
    assert size_of(RiskSizer, params={"stop": "stop_price"}, buys=False) == 0


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("buys", [True, False])
def test_after_a_safe_size_prices_may_move_so_far(mode: str, buys: bool) -> None:
    """20 % are survived, and with one lot more they are not; in isolated mode at 10x no size survives that."""
    ran = sized(SafeDistanceSizer, params={"distance": 0.2}, mode=mode, buys=buys)
    broker, size = ran.broker, ran.broker.getposition(ran.data).size
    if mode == "isolated":
        assert size == 0
        return
    assert abs(size) > 20
    moves = [move for move in broker.aggregate_distance() if move is not None]
    assert min(abs(move) for move in moves) >= 0.2
    direction = 1 if buys else -1
    more = broker.preview(data="BTC", size=direction).after.distance
    assert min(abs(move) for move in more if move is not None) < 0.2


def test_volatility_is_what_was_wanted() -> None:
    """Hourly returns of 1 % are 93.6 % a year: a fifth of equity's volatility takes 0.21 of it in value."""
    closes = 100 * np.exp(np.cumsum([0.01 if n % 2 else -0.01 for n in range(80)]))
    frame = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close"), closes), index=pd.date_range("2025-01-01", periods=80, freq="h")
    )
    fine = Instrument(symbol="BTC", lot=0.001, maker=0.0, taker=0.0)
    found = size_of(VolatilitySizer, params={"target": 0.2, "window": 24}, frame=frame, instrument=fine, at=50)
    assert found == pytest.approx(0.2 / (0.01 * np.sqrt(365 * 24)) * 1000 / closes[49], abs=0.002)
    assert size_of(VolatilitySizer, params={"target": 0.2, "window": 24}, frame=frame, instrument=fine, at=20) == 0
    assert size_of(VolatilitySizer, params={"window": 2}, at=4) == 0  # prices that stand still


def test_inverse_contracts_are_sized_in_coin() -> None:
    """1,000 coins of collateral, a tenth of it at 10x: 1,000 coins' worth at 1,000 USD a contract and 100 a coin."""
    assert size_of(FreeMarginSizer, params={"share": 0.1}, instrument=COIN) == 100


def test_legs_are_sized_by_side() -> None:
    class Both(HedgeStrategy):
        def next(self) -> None:
            if len(self) == 1:
                self.buy(position_side="long")
                self.sell(position_side="short")

    ran = sized(FreeMarginSizer, params={"share": 0.1}, strategy=Both, position_mode="hedge")
    assert [ran.getposition(side=side).size for side in ("long", "short")] == [10, -10]


def test_params_are_checked() -> None:
    for sizer, params, text in (
        (FreeMarginSizer, {"share": 0}, "is above 0"),
        (RiskSizer, {"stop": -1}, "is above 0"),
        (VolatilitySizer, {"target": "x"}, "target of VolatilitySizer must be a number, got 'x'"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            size_of(sizer, params=params)
