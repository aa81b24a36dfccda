# SPDX-License-Identifier: GPL-3.0-or-later
"""Random traders on every product at once: whatever they do, the account stays whole and its journal tells all."""

from __future__ import annotations

import backtrader as bt
import msgspec
import pytest
from budget import in_rotation
from flows import flows as flows_of
from mixed_runs import CALL, COIN, INVERSE, MODES, PERP, PRODUCTS, run
from random_trader import candles

from crossmargin_bt import CrossMarginBroker, feeds
from crossmargin_bt.broker.skip.safe_range import SafePriceRange
from crossmargin_bt.engine.explain.explanations import is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import replay


def named(value) -> str:
    """Return the name of a parameter of a test."""
    return "-".join(value.values()) if isinstance(value, dict) else str(value)


# Seeds 0 and 1, 2 and 3, 4 and 5 take turns: both position modes and two venues for every mode.
PAIRS = [(0, 1), (2, 3), (4, 5)]


@pytest.mark.parametrize(
    ("settings", "seed"),
    [
        pytest.param(settings, seed, marks=() if seed in PAIRS[place % len(PAIRS)] else pytest.mark.slow)
        for place, settings in enumerate(MODES)
        for seed in range(40)
    ],
    ids=named,
)
def test_a_random_trader_on_everything(seed: int, settings: dict) -> None:
    """The run ends, no balance comes from nowhere, a protected account ends at zero or above, the journal replays."""
    venue = ("okx", "generic", "bybit")[seed % 3]
    strategy = run(seed, hedged=bool(seed % 2), venue=venue, **settings)
    broker = strategy.broker
    assert broker.equity >= -1e-6
    listed = {symbol: book.instrument for symbol, book in broker.account.books.items()}
    again = replay(broker.journal, broker.account.rules, listed, **broker.account.setup)
    assert again.balances == broker.account.balances
    for currency, balance in broker.account.balances.items():
        assert balance == pytest.approx(brought(broker.journal, currency), rel=1e-9, abs=1e-7)
    fills = [entry for entry in broker.journal if isinstance(entry, events.Filled)]
    assert len({entry.symbol for entry in fills}) > 3


@pytest.mark.parametrize("settings", MODES, ids=lambda one: "-".join(one.values()))
def test_decisions_are_explained(settings: dict) -> None:
    """Refusals, states and liquidations of every mode: the figures that decided them stand in the text."""
    broker = run(4, bars=160, volatility=0.05, venue="okx", **settings).broker
    told = [entry for entry in broker.journal if is_explainable(entry)]
    assert len(told) > 5
    for entry in (*told[:4], *told[-4:]):
        text = broker.explain(entry)
        if isinstance(entry, events.Liquidated) and settings["mode"] != "portfolio":
            assert f"= {entry.collateral!r}" in text
            assert f"= {entry.requirement!r}" in text


@pytest.mark.parametrize("settings", [MODES[0], MODES[2], MODES[4]], ids=lambda one: "-".join(one.values()))
def test_bars_that_are_not_walked_hide_nothing(settings: dict) -> None:
    """With every bar walked all figures are the same."""
    as_is = told(8, bars=90, volatility=0.05, venue="okx", **settings)
    assert as_is == told(8, bars=90, volatility=0.05, venue="okx", engine="reference", **settings)


@pytest.mark.parametrize(
    ("settings", "seed"),
    [
        pytest.param(settings, seed, marks=() if seed < 8 and (seed + place) % 2 == 0 else pytest.mark.slow)
        for place, settings in enumerate(MODES[2:])
        for seed in range(80)
    ],
    ids=named,
)
def test_bands_of_pools_of_many_currencies_hide_nothing(seed: int, settings: dict) -> None:
    """Where prices stay within a band pools are not looked at; with every bar walked all figures are the same."""
    asked = {
        "bars": 240, "volatility": (0.01, 0.002)[seed % 2], "rate": 0.04, "venue": ("okx", "generic", "bybit")[seed % 3],
        "hedged": seed % 4 == 3, "products": {one.symbol: one for one in (COIN, PERP, INVERSE, *([CALL] if seed % 4 < 2 else []))},
    }  # fmt: skip
    as_is = told(80 + seed, **asked, **settings)
    assert as_is == told(80 + seed, engine="reference", **asked, **settings)


class Holder(bt.Strategy):
    """Buys once, and holds."""

    def next(self):
        if len(self) == 1:
            self.buy(data=self.getdatabyname("PERP"), size=10.0)


@pytest.mark.parametrize(("settings", "least"), [(MODES[2], 300), (MODES[4], 60)], ids=["many", "portfolio"])
def test_a_pool_of_many_currencies_is_seldom_looked_at(settings: dict, least: int, monkeypatch) -> None:
    """While a position is held most bars stay within a band that was proven before; of a portfolio fewer, which is bounded coarsely."""
    held = []
    holds = SafePriceRange.contains
    monkeypatch.setattr(
        SafePriceRange, "contains", lambda *args, **keywords: held.append(holds(*args, **keywords)) or held[-1]
    )
    frame = candles(7, 400, volatility=0.002).drop(columns="funding_rate")
    cerebro = bt.Cerebro(stdstats=False)
    for one in (COIN, PERP):
        cerebro.adddata(feeds.from_frame(frame, name=one.symbol, instrument=one))
    cerebro.setbroker(CrossMarginBroker(venue="okx", cash=3_000.0, leverage=10.0, **settings))
    cerebro.addstrategy(Holder)
    (strategy,) = cerebro.run()
    assert strategy.getpositionbyname("PERP").size == 10.0
    assert sum(held) > least


def told(seed: int, **settings):
    """Return the journal of a run, its lowest margin level, and cash and value at the end of every bar."""
    strategy = run(seed, **settings)
    broker = strategy.broker
    return [msgspec.to_builtins(entry) for entry in broker.journal], broker.lowest_margin_level, strategy.curve


def brought(journal, currency: str) -> float:
    """Return what a journal brings into a currency."""
    total = flows_of(journal, currency, PRODUCTS)
    for entry in journal:
        if isinstance(entry, events.DebtCovered) and entry.currency == currency:
            total += entry.amount
        elif isinstance(entry, events.Converted):
            total -= entry.amount if entry.currency == currency else 0.0
            total += entry.received if entry.into == currency else 0.0
        elif isinstance(entry, events.IsolatedMarginAdjusted) and PRODUCTS[entry.symbol].settle == currency:
            total -= entry.amount
    return total


@pytest.mark.parametrize(
    ("settings", "run_mode"),
    in_rotation([MODES[0], MODES[2], MODES[4]], [{"runonce": False}, {"exactbars": -1}, {"preload": False}]),
    ids=str,
)
def test_run_modes_agree_on_everything(settings: dict, run_mode: dict) -> None:
    """next, runonce, exactbars and without preloading: the same journal, bit for bit."""
    journals = []
    for cerebro in ({}, run_mode):
        strategy = run(3, bars=80, venue="okx", cerebro=cerebro, **settings)
        journals.append([msgspec.to_builtins(entry) for entry in strategy.broker.journal])
    assert journals[0] == journals[1]
