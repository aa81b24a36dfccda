# SPDX-License-Identifier: GPL-3.0-or-later
"""A strategy that does anything backtrader allows, from a seed, and candles for it to do it on."""

from __future__ import annotations

import datetime as dt
import random

import backtrader as bt
import numpy as np
import pandas as pd
import pytest


def seeds(few: int, soak: int) -> list:
    """Return the seeds of a law: the first `few` in every run of the tests, the others up to `soak` with `-m slow`."""
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, soak))]


def candles(seed: int, bars: int, *, volatility: float = 0.02, start: float = 100.0) -> pd.DataFrame:
    """Return seeded hourly candles with gaps between bars, mark price and funding."""
    generator = np.random.default_rng(seed)
    closes = start * np.exp(np.cumsum(generator.normal(0, volatility, bars)))
    opens = np.concatenate(([start], closes[:-1])) * np.exp(generator.normal(0, volatility / 4, bars))
    high = np.maximum(opens, closes) * (1 + np.abs(generator.normal(0, volatility / 2, bars)))
    low = np.minimum(opens, closes) * (1 - np.abs(generator.normal(0, volatility / 2, bars)))
    premium = 1 + generator.normal(0, volatility / 20, bars)
    frame = pd.DataFrame(
        {"open": opens, "high": high, "low": low, "close": closes, "volume": 1000.0},
        index=pd.date_range("2025-01-01", periods=bars, freq="h"),
    )
    for price in ("open", "high", "low", "close"):
        frame[f"mark_{price}"] = frame[price] * premium
    frame["funding_rate"] = np.where(np.arange(bars) % 8 == 0, generator.normal(0, 0.0005, bars), np.nan)
    return frame


class RandomTrader(bt.Strategy):
    """Orders of every kind, brackets, groups, cancels. Decisions come from the seed and prices, never from the broker.

    `record` holds every notification, `curve` cash and value a bar. With `hedged` every order names
    a leg; `reduces` lets orders be reduce-only.
    """

    params = (("seed", 0), ("hedged", False), ("reduces", False), ("size", 10.0), ("rate", 0.6))

    def __init__(self) -> None:
        self.random = random.Random(self.p.seed)  # noqa: S311 - a seeded test
        self.mine: list = []
        self.numbers: dict[int, int] = {}
        self.record: list = []
        self.curve: list = []
        self.trades: list = []

    def notify_order(self, order) -> None:
        number = self.numbers.setdefault(order.ref, len(self.numbers))
        executed = order.executed
        self.record.append(
            (
                number, order.getstatusname(), order.isbuy(), order.exectype, executed.size, executed.price,
                executed.comm, executed.pnl, executed.value, executed.remsize, order.created.price,
            )
        )  # fmt: skip

    def notify_trade(self, trade) -> None:
        self.trades.append((trade.data._name, trade.status, trade.size, trade.price, trade.pnl, trade.pnlcomm))

    def notify_cashvalue(self, cash, value) -> None:
        self.curve.append((cash, value))

    def next(self) -> None:
        if self.random.random() > self.p.rate:
            return
        data = self.random.choice(self.datas)
        if not len(data):
            return
        choice = self.random.random()
        if choice < 0.12 and self.mine:
            self.cancel(self.random.choice(self.mine))
        elif choice < 0.25:
            self.bracket(data)
        else:
            self.single(data)

    def single(self, data) -> None:
        kind = self.random.choice(
            ("Market", "Market", "Limit", "Stop", "StopLimit", "StopTrail", "StopTrailLimit", "Close")
        )
        buys = self.random.random() < 0.5
        price = data.close[0] * (1 + self.random.uniform(-0.03, 0.03))
        keywords = {"exectype": getattr(bt.Order, kind)}
        if kind in ("Limit", "Stop", "StopLimit"):
            keywords["price"] = price
        if kind == "StopLimit":
            keywords["plimit"] = price * (1 + self.random.uniform(-0.01, 0.01))
        if kind.startswith("StopTrail"):
            keywords["trailpercent"] = self.random.uniform(0.005, 0.03)
        if kind == "StopTrailLimit":
            keywords["price"] = data.close[0]
            keywords["plimit"] = data.close[0] * (1 + self.random.uniform(-0.01, 0.01))
        if kind != "Market" and self.random.random() < 0.4:
            keywords["valid"] = dt.timedelta(hours=self.random.randint(1, 12))
        alive = [order for order in self.mine if order.alive()]
        if kind in ("Limit", "Stop") and alive and self.random.random() < 0.25:
            keywords["oco"] = self.random.choice(alive)
        keywords["tradeid"] = self.random.choice((0, 0, 0, 1))
        if self.p.reduces and self.random.random() < 0.2:
            keywords["reduce_only"] = True
        self.enter(self.buy if buys else self.sell, data, **keywords)

    def bracket(self, data) -> None:
        close = data.close[0]
        up, down = close * (1 + self.random.uniform(0.005, 0.03)), close * (1 - self.random.uniform(0.005, 0.03))
        market = {"exectype": bt.Order.Market}
        if self.random.random() < 0.5:
            orders = self.enter(self.buy_bracket, data, stopprice=down, limitprice=up, **market)
        else:
            orders = self.enter(self.sell_bracket, data, stopprice=up, limitprice=down, **market)
        self.mine.extend(orders)

    def enter(self, method, data, **keywords):
        if self.p.hedged:
            keywords["position_side"] = self.random.choice(("long", "short"))
        order = method(data=data, size=self.random.uniform(0.1, 1.0) * self.p.size, **keywords)
        if isinstance(order, list):
            return order
        self.mine.append(order)
        return order
