# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripted runs of a coin and contracts on it in one account."""

from __future__ import annotations

from datetime import UTC, datetime

import backtrader as bt
import msgspec
import pandas as pd
from scripted import Scripted

from crossmargin_bt import Instrument, feeds
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import replay
from crossmargin_bt.engine.terms.rates import flat_rate

COIN = Instrument(symbol="BTC/USDT", kind="spot", underlying="BTC", lot=0.001, maker=0.0, taker=0.0)
SHORT = Instrument(symbol="BTC", underlying="BTC", lot=0.001, maintenance=flat_rate(0.005), maker=0.0, taker=0.0)
INVERSE = Instrument(
    symbol="BTCUSD", inverse=True, settle="BTC", underlying="BTC", contract_size=100.0, lot=1.0,
    maintenance=flat_rate(0.005), maker=0.0, taker=0.0,
)  # fmt: skip


def candles(*closes: float) -> pd.DataFrame:
    """Return bars that open where the last one closed and go straight to their closes."""
    opens = [closes[0], *closes[:-1]]
    index = pd.date_range("2025-01-01", periods=len(closes), freq="h")
    rows = [(a, max(a, b), min(a, b), b) for a, b in zip(opens, closes, strict=True)]
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index)


def run(broker, script, *pairs, **settings):
    """Run a script on (instrument, closes) pairs."""
    cerebro = bt.Cerebro(stdstats=False, **settings)
    for instrument, closes in pairs:
        cerebro.adddata(feeds.from_frame(candles(*closes), name=instrument.symbol, instrument=instrument))
    cerebro.setbroker(broker)
    cerebro.addstrategy(Scripted, script=script)
    cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
    return cerebro.run()[0]


def refusals(strategy) -> list[events.OrderRefused]:
    return [entry for entry in strategy.broker.journal if isinstance(entry, events.OrderRefused)]


def replayed(broker, *instruments, **more):
    """Return the account that a run's journal alone leads to."""
    listed = {one.symbol: one for one in instruments}
    return replay(
        broker.journal, broker.account.rules, listed, position_mode=broker.p.position_mode,
        pooling=broker.p.pooling, unit=broker.p.currency, prices=broker.fixed_prices, **more,
    )  # fmt: skip


FRIDAY = datetime(2025, 1, 1, 8, tzinfo=UTC)
CALL = Instrument(
    symbol="BTC-C", kind="option", underlying="BTC", expiry=FRIDAY, strike=11_000.0, option="call", lot=0.01
)
PUT = msgspec.structs.replace(CALL, symbol="BTC-P", option="put", strike=9_000.0)
