# SPDX-License-Identifier: GPL-3.0-or-later
"""Short runs of one contract: bars written out, and orders by the number of their bar."""

import backtrader as bt
import pandas as pd

from crossmargin_bt import Instrument, feeds
from crossmargin_bt.engine.terms.rates import flat_rate

BTC = Instrument(symbol="BTC", lot=0.01)


def bars(*rows: tuple[float, float, float, float], freq: str = "h") -> pd.DataFrame:
    """Return candles from open, high, low, close."""
    index = pd.date_range("2025-01-01", periods=len(rows), freq=freq)
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index)


class Scripted(bt.Strategy):
    """Calls `script[len(self)]` with itself; keeps what it hears."""

    params = (("script", None), ("name", ""))

    def __init__(self) -> None:
        self.orders_heard: list = []
        self.trades_closed: list = []

    def notify_order(self, order) -> None:
        self.orders_heard.append((order.getstatusname(), order.executed.size, order.tradeid))

    def notify_trade(self, trade) -> None:
        if trade.isclosed:
            self.trades_closed.append((trade.tradeid, round(trade.pnl, 9)))

    def next(self) -> None:
        step = (self.p.script or {}).get(len(self))
        if step:
            step(self)


def run(broker, *frames, scripts=({},), instrument=BTC, **settings):
    """Run scripted strategies on frames."""
    cerebro = bt.Cerebro(stdstats=False, **settings)
    for n, frame in enumerate(frames):
        name = f"{instrument.symbol}{n or ''}"
        feed = feeds.from_frame(frame, name=name, instrument=instrument if not n else Instrument(symbol=name, lot=0.01))
        cerebro.adddata(feed)
    cerebro.setbroker(broker)
    for script in scripts:
        cerebro.addstrategy(Scripted, script=script)
    return cerebro.run()


FLAT = (100.0, 100.0, 100.0, 100.0)
PLAIN = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0, maintenance=flat_rate(0.005))
