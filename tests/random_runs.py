# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the random trader on two contracts, and what holds at the end of every run."""

from __future__ import annotations

import math

import backtrader as bt
import msgspec
import pytest
from random_trader import RandomTrader, candles

from crossmargin_bt import CrossMarginBroker, Instrument, feeds
from crossmargin_bt.engine.explain.explanations import account_before, explain, is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import flat_rate, tier_table

TIERS = tier_table([(0.0, 0.01, 50.0), (500.0, 0.02, 25.0), (2000.0, 0.05, 10.0)], marginal=True)
WHOLE = tier_table([(0.0, 0.01, 50.0), (500.0, 0.02, 25.0), (2000.0, 0.05, 10.0)], marginal=False)
INSTRUMENTS = {
    "AAA": Instrument(symbol="AAA", lot=0.01, maintenance=TIERS),
    "BBB": Instrument(symbol="BBB", lot=0.1, contract_size=0.1, maintenance=WHOLE),
}


# The venues' own rates; and contracts in coin, worth about as much as the others.
PLAIN = {symbol: msgspec.structs.replace(one, maintenance=None) for symbol, one in INSTRUMENTS.items()}
INVERSE = {
    "AAA": Instrument(symbol="AAA", lot=1.0, contract_size=5000.0, inverse=True, maintenance=flat_rate(0.01)),
    "BBB": Instrument(symbol="BBB", lot=0.1, contract_size=10_000.0, inverse=True, maintenance=WHOLE),
}


def trade(
    seed: int, *, mode: str = "cross", venue: str = "generic", position_mode: str = "one_way", path: str = "path",
    bars: int = 120, holes: int = 4, leverage: float = 20.0, cash: float = 1000.0,
    instruments: dict[str, Instrument] = INSTRUMENTS, **cerebro_settings,
) -> RandomTrader:  # fmt: skip
    """Run the random strategy on both instruments in a margin mode, invariants checked after every entry."""
    cerebro = bt.Cerebro(stdstats=False, **cerebro_settings)
    for number, (name, instrument) in enumerate(instruments.items()):
        frame = candles(seed + number, bars, start=100.0 * (number + 1))
        # The second feed starts later and has holes: feeds need not share every bar.
        frame = frame.iloc[number * 5 :].drop(frame.index[60 : 60 + holes * number])
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    broker = CrossMarginBroker(
        mode=mode, venue=venue, position_mode=position_mode, path=path, cash=cash, leverage=leverage, check=True,
        slip_perc=0.0005, slip_open=True,
    )  # fmt: skip
    cerebro.setbroker(broker)
    hedged = position_mode == "hedge"
    cerebro.addstrategy(RandomTrader, seed=seed, hedged=hedged, reduces=True, size=40.0)
    strategy = cerebro.run()[0]
    strategy.cerebro_ran = cerebro
    return strategy


def wallet(account: Account) -> float:
    """Return balance and isolated margins: everything but floating profit."""
    total = metrics.pool_balance(account, "USDT")
    return total.balance + total.isolated_margin


def check_books(strategy: RandomTrader, instruments: dict[str, Instrument], position_mode: str) -> None:
    """Check what holds at the end of every run."""
    broker = strategy.broker
    account, journal = broker.account, broker.journal
    filled = [event for event in journal if isinstance(event, events.Filled)]
    assert filled
    flows = math.fsum(
        [
            event.amount
            for event in journal
            if isinstance(
                event, events.CashTransferred | events.FundingPaid | events.DebtCovered | events.CollateralToppedUp
            )
        ]
        + [event.realised - event.fee for event in filled]
    )
    scale = sum(abs(event.realised) for event in filled) + 1000.0
    assert wallet(account) == pytest.approx(flows, abs=1e-9 * scale)
    again = replay(journal, account.rules, instruments, position_mode=position_mode)
    assert again.balances == account.balances
    assert all(again.books[symbol].legs == book.legs for symbol, book in account.books.items())
    assert broker.equity >= -1e-9
    assert all(value > 0 for _, value in strategy.curve)
    for data in strategy.datas:
        trades = [book[-1] for book in strategy._trades[data].values()]
        book = account.books[data._name]
        held = sum(leg.lots for leg in book.legs.values())
        assert sum(trade.size for trade in trades) == pytest.approx(book.instrument.size(held), abs=1e-9)
        assert broker.positions[data].size == book.instrument.size(held)
    explained = [n for n, entry in enumerate(journal) if is_explainable(entry)]
    for at in explained[:3] + explained[-3:]:
        check_explanation(journal, at, account, instruments, position_mode)
    resting = {number for book in account.books.values() for number in book.orders}
    assert {broker.bar_engine.session.number(order) for order in broker.pending if order.active()} == resting


def check_explanation(journal, at: int, account: Account, instruments, position_mode: str) -> None:
    """What is written down about an entry ends in the entry's own figures, to the last digit."""
    entry = journal[at]
    before = account_before(journal, at, account.rules, instruments, position_mode=position_mode)
    text = "\n".join(explain(before, entry))
    if getattr(entry, "state", "") in ("closed_out", "margin_call", "orders_cancelled"):
        return  # nothing is left to add up, or what is in use was looked at
    for figure in ("collateral", "requirement", "needed", "available", "left", "wanted"):
        if getattr(entry, figure, 0.0):
            assert repr(getattr(entry, figure)) in text, f"{figure} of {entry} is not in {text}"
