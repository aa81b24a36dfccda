# SPDX-License-Identifier: GPL-3.0-or-later
"""Balances, positions, orders, loans and settings of an account change by `Account.apply` alone.

The state is compared before every entry with the state after the entry before it, in whole runs, so a write of anything else
is found at the next entry. Marks and last prices are not part of it: they are set on the books and not journaled. Copies made
for a "what if" are free to differ, as long as the account itself does not change with them.
"""

from __future__ import annotations

import mixed_runs
import numpy as np
import pytest
import random_runs
from budget import in_rotation
from random_trader import candles

import crossmargin_bt as cm
from crossmargin_bt import batch, compare, venues
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare import rule_attribution
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.events import CashTransferred
from crossmargin_bt.engine.terms.rates import flat_rate

MARKET_FIELDS = {"long_mark", "short_mark", "last", "index", "volatility", "interest_rate"}


def state_of(account: Account) -> str:
    """Return all of an account that entries change, every float to its last bit."""
    books = {
        symbol: [
            {name: getattr(book, name) for name in book.__struct_fields__ if name not in MARKET_FIELDS | {"orders"}},
            list(book.orders.items()),
        ]
        for symbol, book in account.books.items()
    }
    held = (account.balances, account.set_aside, account.loans, account.interest_rates, account.sums)
    return repr((held, account.insurance_fund, account.protected, account.version, books))


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compare the state before every entry with that after the last; return the entries seen."""
    applied: list[str] = []
    apply, copy = Account.apply, Account.copy

    def marked(self: Account, *symbols: str) -> Account:
        other = copy(self, *symbols)
        other.__dict__["is_copy"] = True
        return other

    def guarded(self: Account, entry: object) -> None:
        if "is_copy" in self.__dict__:
            apply(self, entry)
            return
        known = self.__dict__.get("state_seen")
        assert known in (None, state_of(self)), f"something else than an entry changed the account before {entry}"
        apply(self, entry)
        self.__dict__["state_seen"] = state_of(self)
        applied.append(type(entry).__name__)

    monkeypatch.setattr(Account, "apply", guarded)
    monkeypatch.setattr(Account, "copy", marked)
    return applied


@pytest.mark.parametrize(("number", "engine"), in_rotation(range(len(mixed_runs.MODES)), ["skipping", "reference"]))
def test_in_runs_of_every_product(number: int, engine: str, entries: list[str]) -> None:
    """Orders, fills, funding, interest, borrowing, expiry and liquidations of a random trader."""
    settings = mixed_runs.MODES[number]
    strategy = mixed_runs.run(number, bars=50, volatility=0.08, venue="okx", engine=engine, **settings)
    account = strategy.broker.account
    assert account.__dict__["state_seen"] == state_of(account)
    assert {"OrderPlaced", "Filled", "CashTransferred"} <= set(entries)


def test_in_runs_of_perpetuals_that_are_liquidated(entries: list[str]) -> None:
    """Hedge mode, isolated and cross, forced closes included."""
    for seed, mode in ((1, "cross"), (2, "isolated")):
        strategy = random_runs.trade(seed, mode=mode, position_mode="hedge", leverage=50.0)
        assert strategy.broker.account.__dict__["state_seen"] == state_of(strategy.broker.account)
    assert "Liquidated" in entries


def test_in_a_batch_that_hands_bars_to_the_broker(entries: list[str]) -> None:
    """The account of a stretch is restored by an entry."""
    frame = candles(3, 200, start=100.0, volatility=0.05)
    market = [Candles("X", frame, None, cm.Instrument(symbol="X", lot=0.1, maintenance=flat_rate(0.01)))]
    targets = np.where(np.arange(len(frame)) % 20 < 10, 150.0, -150.0)[:, None]
    (result,) = batch.simulate(market, [targets], [batch.BatchAccount(0, 20.0, "cross", 1_000.0)], venue="generic")
    assert result.liquidations
    assert "AccountRestored" in entries


def test_when_another_venue_judges_a_decision(entries: list[str]) -> None:
    """The decision is repeated on an account that the journal leads to under the other venue's rules."""
    frame = candles(5, 120, start=100.0, volatility=0.06)
    spec = compare.StrategySpec("Trader", random_runs.RandomTrader)
    market = [Candles(name, frame, None, cm.Instrument(symbol=name, lot=0.1)) for name in ("AAA", "BBB")]
    settings = compare.Settings(cash=1_000.0, leverage=20.0)
    results = [compare.run(spec, market, venue=venue, mode="cross", settings=settings) for venue in ("okx", "bybit")]
    entries.clear()
    rule_attribution.differences(results, {name: venues.load(name) for name in ("okx", "bybit")})
    assert {"OrderPlaced", "Filled"} <= set(entries)


def test_a_write_beside_the_journal_is_found(entries: list[str]) -> None:
    """The guard itself: a balance, a position's size, and an order that is taken away."""
    strategy = random_runs.trade(4)
    account = strategy.broker.account
    deposit = CashTransferred(time_ms=0, currency="USDT", amount=1.0)
    account.apply(deposit)
    account.balances["USDT"] += 1e-9
    with pytest.raises(AssertionError, match="something else than an entry"):
        account.apply(deposit)
    account.__dict__["state_seen"] = state_of(account)
    account.books["AAA"].leverage += 1.0
    with pytest.raises(AssertionError, match="something else than an entry"):
        account.apply(deposit)
