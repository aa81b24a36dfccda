# SPDX-License-Identifier: GPL-3.0-or-later
"""Breakout scalping with a grid of limit orders on both sides, and a stop on every trade.

A close beyond the channel adds an entry in its direction, up to `entries` of them, each a bracket with a protective stop. A
grid of limit orders surrounds the price; each of its fills has a stop too. A close back through the middle of the
channel closes the position.
"""

import backtrader as bt


class Scalping(bt.Strategy):
    """`unit` and `step` are multiples of equity; distances are multiples of the average true range."""

    params = (
        ("channel", 24), ("entries", 4), ("unit", 1.0), ("step", 0.25), ("rungs", 3),
        ("spacing", 1.0), ("stop", 2.5), ("requote", 12),
    )  # fmt: skip

    def __init__(self):
        self.atr = bt.ind.ATR(self.data, period=self.p.channel)
        self.top = bt.ind.Highest(self.data.high(-1), period=self.p.channel)
        self.bottom = bt.ind.Lowest(self.data.low(-1), period=self.p.channel)
        self.grid, self.taken = [], 0

    def size(self, multiple):
        return multiple * self.broker.getvalue() / self.data.close[0]

    def protected(self, *, buys, size, **entry):
        price = entry.get("price", self.data.close[0])
        distance = self.p.stop * self.atr[0] * (1 if buys else -1)
        bracket = self.buy_bracket if buys else self.sell_bracket
        # backtrader's bracket methods take the stop as stopprice on both sides, also above the price of a short.
        return bracket(
            size=size, stopprice=price - distance, stopargs={"reduce_only": True}, limitexec=None, **entry,
        )[0]  # fmt: skip

    def next(self):
        close, held = self.data.close[0], self.position.size
        middle = (self.top[0] + self.bottom[0]) / 2
        if held * (close - middle) < 0:
            self.close(reduce_only=True)
            self.taken = 0
        elif (close > self.top[0] or close < self.bottom[0]) and self.taken < self.p.entries:
            buys = close > self.top[0]
            if held * (1 if buys else -1) >= 0:
                self.protected(buys=buys, size=self.size(self.p.unit), exectype=bt.Order.Market)
                self.taken += 1
        if len(self) % self.p.requote == 0:
            self.quote(close)

    def quote(self, close):
        for order in self.grid:
            self.cancel(order)
        self.grid = []
        for rung in range(1, self.p.rungs + 1):
            distance = rung * self.p.spacing * self.atr[0]
            for buys, price in ((True, close - distance), (False, close + distance)):
                if price > 0:
                    self.grid.append(self.protected(buys=buys, size=self.size(self.p.step), price=price))
