# SPDX-License-Identifier: GPL-3.0-or-later
"""Trend hedging of a long position: hold a coin as a perpetual or as spot, and hedge it during downtrends.

The long position stays open. Hedges are opened when the fast average crosses below the slow one, and closed when it crosses
above it. In cross margin the profit of the hedges supports the long; in isolated margin each leg has only its own margin.
Held as spot, the long locks no margin, only the short does.
"""

import backtrader as bt


class Hedging(bt.Strategy):
    """Long and short legs of the first perpetual, and a short of the second. Sizes are multiples of equity."""

    position_mode = "hedge"
    params = (("core", 2.0), ("hedge", 1.0), ("proxy", 0.75), ("fast", 48), ("slow", 192), ("retry", 24))

    def __init__(self):
        self.coin, self.proxy = self.datas[0], self.datas[1]
        self.fast = bt.ind.EMA(self.coin.close, period=self.p.fast)
        self.slow = bt.ind.EMA(self.coin.close, period=self.p.slow)

    def held(self, data, side):
        return abs(self.broker.getposition(data, side).size)

    def open(self, order, data, side, multiple):
        order(data=data, size=multiple * self.broker.getvalue() / data.close[0], position_side=side)

    def next(self):
        if len(self) % self.p.retry:
            return
        if not self.held(self.coin, "long"):
            self.open(self.buy, self.coin, "long", self.p.core)
        falling = self.fast[0] < self.slow[0]
        for data, multiple in ((self.coin, self.p.hedge), (self.proxy, self.p.proxy)):
            size = self.held(data, "short")
            if falling and not size:
                self.open(self.sell, data, "short", multiple)
            elif size and not falling:
                self.buy(data=data, size=size, position_side="short", reduce_only=True)


class SpotHedging(bt.Strategy):
    """Spot bought for the fraction `core` of equity, and a short of its perpetual of the same quantity during downtrends."""

    params = (("core", 0.6), ("fast", 48), ("slow", 192), ("retry", 24))

    def __init__(self):
        kinds = {data.instrument.kind: data for data in reversed(self.datas)}
        self.spot, self.perpetual = kinds["spot"], kinds["perpetual"]
        self.fast = bt.ind.EMA(self.spot.close, period=self.p.fast)
        self.slow = bt.ind.EMA(self.spot.close, period=self.p.slow)

    def next(self):
        if len(self) % self.p.retry:
            return
        coins, short = self.getposition(self.spot).size, self.getposition(self.perpetual).size
        if not coins:
            self.buy(data=self.spot, size=self.p.core * self.broker.getvalue() / self.spot.close[0])
        falling = self.fast[0] < self.slow[0]
        if falling and coins and not short:
            self.sell(data=self.perpetual, size=coins)
        elif short and not falling:
            self.close(data=self.perpetual)
