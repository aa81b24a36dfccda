# SPDX-License-Identifier: GPL-3.0-or-later
"""Options overlay on a perpetual: a protective put, partly financed by a call spread.

For the nearest expiry that is at least `days` away: long the perpetual, long the put, short the lower call and long the higher
one. Under standard margin the short call locks margin of its own; under portfolio margin the four legs are margined as one
portfolio.
"""

from datetime import UTC, timedelta

import backtrader as bt


class OptionsOverlay(bt.Strategy):
    """`core` is the value of the perpetual as a multiple of equity; options have the same size in coins."""

    params = (("core", 1.0), ("days", 20))

    def __init__(self):
        self.perpetual = next(data for data in self.datas if data.instrument.kind == "perpetual")
        self.expiries = {}
        for data in self.datas:
            if data.instrument.kind == "option":
                self.expiries.setdefault(data.instrument.expiry, []).append(data)

    def next(self):
        soon = self.perpetual.datetime.datetime(0).replace(tzinfo=UTC) + timedelta(days=self.p.days)
        left = [expiry for expiry in sorted(self.expiries) if expiry > soon]
        coins = self.getposition(self.perpetual).size
        if not coins:
            coins = self.p.core * self.broker.getvalue() / self.perpetual.close[0]
            self.buy(data=self.perpetual, size=coins)
        if not left or any(self.getposition(data).size for series in self.expiries.values() for data in series):
            return
        series = self.expiries[left[0]]
        calls = sorted((data for data in series if data.instrument.is_call), key=lambda data: data.instrument.strike)
        puts = sorted((data for data in series if not data.instrument.is_call), key=lambda data: data.instrument.strike)
        if len(calls) > 1 and puts:
            self.buy(data=puts[-1], size=coins)
            self.buy(data=calls[-1], size=coins)
            self.sell(data=calls[0], size=coins)
