# SPDX-License-Identifier: GPL-3.0-or-later
"""Funding carry: long spot, short the perpetual, while funding pays more than borrowing costs.

The price exposure of the two legs cancels. The return is the funding received by the short, less interest on borrowed money,
less fees.
"""

from collections import deque
from fractions import Fraction
from math import lcm

import backtrader as bt


class FundingCarry(bt.Strategy):
    """`size` is the value of each leg as a multiple of equity; above 1 it needs an account that lends.

    The position is opened when the annualised mean of the last `settlements` rates exceeds `enter` plus the interest on the
    borrowed part, and closed when it falls below `leave` plus that interest. `interest` is the assumed annual borrowing rate.
    The short is opened after the coins have been bought, in the same quantity: one that whole lots of both markets make up.
    """

    params = (("size", 0.8), ("settlements", 21), ("enter", 0.05), ("leave", 0.0), ("interest", 0.1), ("a_day", 3))

    def __init__(self):
        kinds = {data.instrument.kind: data for data in reversed(self.datas)}
        self.spot, self.perpetual = kinds["spot"], kinds["perpetual"]
        self.rates = deque(maxlen=self.p.settlements)
        self.contract = self.perpetual.instrument.contract_size
        self.lot = common_lot(self.spot.instrument.lot, self.perpetual.instrument.lot * self.contract)

    def next(self):
        rate = self.perpetual.funding_rate[0]
        due = rate == rate  # noqa: PLR0124 - NaN means that nothing is due at this bar
        if due:
            self.rates.append(rate)
        if len(self.rates) < self.p.settlements:
            return
        yearly = sum(self.rates) / len(self.rates) * self.p.a_day * 365
        cost = max(0.0, self.p.size - 1) / self.p.size * self.p.interest
        coins = self.getposition(self.spot).size
        short = -self.getposition(self.perpetual).size * self.contract
        if due and not coins and yearly > self.p.enter + cost:
            wanted = self.p.size * self.broker.getvalue() / self.spot.close[0]
            if wanted >= self.lot:
                self.buy(data=self.spot, size=wanted // self.lot * self.lot)
        elif due and coins and yearly < self.p.leave + cost:
            self.sell(data=self.spot, size=coins)
            self.close(data=self.perpetual)
        elif coins - short > self.lot / 2:
            self.sell(data=self.perpetual, size=(coins - short) / self.contract)


def common_lot(one, other):
    """Return the smallest quantity that whole lots of both sizes make up."""
    a, b = (Fraction(str(lot)) for lot in (one, other))
    return float(Fraction(lcm(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator))
