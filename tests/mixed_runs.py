# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the random trader on every product of one coin at once."""

from __future__ import annotations

from datetime import UTC, datetime

import backtrader as bt
from random_trader import RandomTrader, candles

from crossmargin_bt import CrossMarginBroker, Instrument, feeds
from crossmargin_bt.candles.theoretical import theoretical_candles
from crossmargin_bt.engine.terms.rates import flat_rate

END = datetime(2025, 1, 6, 8, tzinfo=UTC)
PLAIN = {"underlying": "BTC", "maintenance": flat_rate(0.01)}
COIN = Instrument(symbol="SPOT", kind="spot", underlying="BTC", lot=0.1)
PERP = Instrument(symbol="PERP", lot=0.1, **PLAIN)
INVERSE = Instrument(symbol="INVERSE", settle="BTC", inverse=True, contract_size=10.0, lot=1.0, **PLAIN)
FUTURE = Instrument(symbol="FUTURE", kind="future", expiry=END, lot=0.1, **PLAIN)
PAIR = Instrument(symbol="PAIR", kind="margin", lot=0.1, **PLAIN)
COINPAIR = Instrument(symbol="COINPAIR", kind="margin", settle="BTC", quote="USDT", lot=0.1, **PLAIN)
CALL = Instrument(symbol="CALL", kind="option", underlying="BTC", lot=0.1, strike=110.0, option="call", expiry=END)
PUT = Instrument(
    symbol="PUT",
    kind="option",
    underlying="BTC",
    settle="BTC",
    quote="USDT",
    lot=0.1,
    strike=95.0,
    option="put",
    expiry=END,
)
PRODUCTS = {one.symbol: one for one in (COIN, PERP, INVERSE, FUTURE, PAIR, COINPAIR, CALL, PUT)}


def run(
    seed: int,
    *,
    bars: int = 240,
    volatility: float = 0.03,
    hedged: bool = False,
    rate: float = 0.9,
    products=PRODUCTS,
    **settings,
):
    """Run a random trader on feeds of one coin, eight unless fewer products are named."""
    base = candles(seed, bars, volatility=volatility)
    plain = base[["open", "high", "low", "close", "volume"]]
    cerebro = bt.Cerebro(stdstats=False, **settings.pop("cerebro", {}))
    for symbol, instrument in products.items():
        frame = base if symbol in ("PERP", "INVERSE") else plain
        if instrument.kind == "option":
            frame = theoretical_candles(plain, instrument, 1.5, price_min=1e-4)
        cerebro.adddata(feeds.from_frame(frame, name=symbol, instrument=instrument))
    broker = CrossMarginBroker(
        cash=3_000.0, deposits={"BTC": 10.0}, leverage=10.0, check=True,
        position_mode="hedge" if hedged else "one_way", **settings,
    )  # fmt: skip
    cerebro.setbroker(broker)
    cerebro.addstrategy(Trader, seed=seed, rate=rate, size=15.0, hedged=hedged)
    return cerebro.run()[0]


class Trader(RandomTrader):
    """Names a leg only where there are two."""

    def buy(self, data=None, **keywords):
        return super().buy(data=data, **self.fitting(data, keywords))

    def sell(self, data=None, **keywords):
        return super().sell(data=data, **self.fitting(data, keywords))

    def fitting(self, data, keywords):
        if data is not None and data.instrument.kind not in ("perpetual", "future"):
            keywords.pop("position_side", None)
        return keywords


MODES = [
    {"mode": "cross"},
    {"mode": "isolated"},
    {"mode": "cross", "pooling": "multi_currency"},
    {"mode": "isolated", "pooling": "multi_currency"},
    {"mode": "portfolio"},
]
