# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross-sectional momentum: long the strongest coin, short the weakest, rebalanced at fixed intervals.

Strength is the return over the look-back period. The first feed, the most liquid one, has a higher leverage than the others,
so the two sides lock different margin for the same exposure.
"""

import backtrader as bt


class LongShort(bt.Strategy):
    """`exposure` is the value of each side as a multiple of equity."""

    params = (("lookback", 168), ("every", 72), ("exposure", 1.5), ("band", 0.2), ("major", 10), ("minor", 4))

    def __init__(self):
        self.strength = {data: bt.ind.RateOfChange(data.close, period=self.p.lookback) for data in self.datas}

    def start(self):
        for data in self.datas:
            self.broker.set_leverage(data, self.p.major if data is self.datas[0] else self.p.minor)

    def next(self):
        if len(self) % self.p.every:
            return
        ranked = sorted(self.datas, key=lambda data: self.strength[data][0])
        equity = self.broker.getvalue()
        targets = {ranked[-1]: self.p.exposure * equity, ranked[0]: -self.p.exposure * equity}
        # Reducing orders go first: they free the margin that the increasing orders need.
        changes = []
        for data in self.datas:
            size = targets.get(data, 0.0) / data.close[0] - self.getposition(data).size
            held = self.getposition(data).size
            if abs(size) * data.close[0] > self.p.band * self.p.exposure * equity or (data not in targets and held):
                changes.append((size * held >= 0, data, size))
        for _, data, size in sorted(changes, key=lambda change: change[0]):
            order = self.buy if size > 0 else self.sell
            order(data=data, size=abs(size))
