# SPDX-License-Identifier: GPL-3.0-or-later
"""Cash mode trades exactly as backtrader's own broker does."""

from itertools import product

import backtrader as bt
import pytest
from budget import in_rotation
from random_trader import RandomTrader, candles

from crossmargin_bt import CrossMarginBroker, Instrument, feeds

COMMISSIONS = {
    "stocks": {"commission": 0.001},
    "futures": {"commission": 2.0, "margin": 50.0, "mult": 3.0},
    "leveraged": {"commission": 0.0005, "leverage": 4.0, "interest": 0.2, "interest_long": True},
}
SETTINGS = {
    "plain": {},
    "slippage": {"slip_perc": 0.002, "slip_open": True},
    "cheat on close": {"coc": True},
    "cheat on open": {"coo": True},
    "filler": {"filler": bt.broker.fillers.FixedSize(size=3)},
    "no short cash": {"shortcash": False},
}


def run(broker, seed: int, commission: dict, **settings) -> RandomTrader:
    """Run the random strategy on two feeds."""
    cerebro = bt.Cerebro(stdstats=False, **settings)
    for number, name in enumerate(("AAA", "BBB")):
        feed = feeds.from_frame(candles(seed + number, 150), name=name, instrument=Instrument(symbol=name))
        cerebro.adddata(feed)
    broker.setcommission(**commission)
    cerebro.setbroker(broker)
    cerebro.addstrategy(RandomTrader, seed=seed)
    return cerebro.run()[0]


@pytest.mark.parametrize(
    ("setting", "commission", "seed"), in_rotation(product(SETTINGS, COMMISSIONS), range(40), each=2)
)
def test_fills_cash_and_value_equal_the_stock_brokers(seed: int, commission: str, setting: str) -> None:
    """The same notifications, trades, cash and value, bit for bit, for every order type."""
    stock = run(bt.brokers.BackBroker(cash=3000.0, **SETTINGS[setting]), seed, COMMISSIONS[commission])
    ours = run(CrossMarginBroker(mode="cash", cash=3000.0, **SETTINGS[setting]), seed, COMMISSIONS[commission])
    assert ours.record == stock.record
    assert ours.trades == stock.trades
    assert ours.curve == stock.curve
    assert any(status == "Completed" for _, status, *_ in ours.record)


@pytest.mark.parametrize(
    "settings",
    [
        {"runonce": False},
        {"preload": False},
        {"preload": False, "runonce": False},
        {"exactbars": 1},
        {"exactbars": -1},
        {"exactbars": -2},
        {"cheat_on_open": True},
        {"quicknotify": True},
    ],
    ids=str,
)
def test_equal_in_other_run_modes(settings: dict) -> None:
    """Also bar by bar, with minimal memory, and cheating on open."""
    stock = run(bt.brokers.BackBroker(cash=3000.0), 7, COMMISSIONS["stocks"], **settings)
    ours = run(CrossMarginBroker(mode="cash", cash=3000.0), 7, COMMISSIONS["stocks"], **settings)
    assert (ours.record, ours.trades, ours.curve) == (stock.record, stock.trades, stock.curve)


class Reducer(bt.Strategy):
    """Sells reduce-only more than it holds, and once more when it is flat."""

    def __init__(self) -> None:
        self.heard = []

    def notify_order(self, order) -> None:
        if not order.alive():
            self.heard.append((order.getstatusname(), order.executed.size))

    def next(self) -> None:
        if len(self) == 1:
            self.buy(size=5)
        elif len(self) in (3, 5):
            self.sell(size=8, reduce_only=True)


def test_reduce_only_holds_in_cash_mode_too() -> None:
    """A strategy written for margin modes does not open a short where it meant to close."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(candles(1, 10), name="AAA", instrument=Instrument(symbol="AAA")))
    cerebro.setbroker(CrossMarginBroker(mode="cash"))
    cerebro.addstrategy(Reducer)
    strategy = cerebro.run()[0]
    assert strategy.heard == [("Completed", 5), ("Completed", -5), ("Canceled", 0)]
    assert strategy.position.size == 0
