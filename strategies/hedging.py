# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a perpetual, and hedge it while the trend is down.

The long of the first feed stays on. When its fast average falls below its slow one, two hedges
open: a short leg of the same contract, and a short of the second feed, a correlated coin. When the
trend turns up again both are lifted. On one pool the hedges' gains carry the long; with isolated
margin each leg stands alone.
"""

import backtrader as bt


class Hedging(bt.Strategy):
    """Sizes are multiples of equity."""

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
