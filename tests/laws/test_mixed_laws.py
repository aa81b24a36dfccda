# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of an account with every product at once: coins, margin pairs, linear and inverse contracts, futures, options."""

from __future__ import annotations

from typing import get_args

import pytest
from budget import examples
from flows import PRODUCTS, flows
from hypothesis import given
from hypothesis import strategies as st

from crossmargin_bt import venues
from crossmargin_bt.engine.admission.order_admission import admit
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import expiry, fills, interest
from crossmargin_bt.engine.margin import currencies, invariants, metrics
from crossmargin_bt.engine.terms.instrument import Kind

NOW = 1_735_689_600_000
OPTIONS = {"CALL": 0.06, "PUT": 0.05}
"""What they trade at: parts of the coin's price, the put's in coin."""

orders = st.tuples(st.sampled_from(sorted(PRODUCTS)), st.integers(-120, 120).filter(bool), st.booleans())
moves = st.floats(0.85, 1.18)
scripts = st.lists(st.one_of(orders, moves), min_size=3, max_size=25)
accounts = st.fixed_dictionaries(
    {
        "venue": st.sampled_from(["okx", "bybit", "generic", "deribit"]),
        "pooling": st.sampled_from(["single_currency", "multi_currency", "portfolio"]),
        "position_mode": st.sampled_from(["one_way", "hedge"]),
    }
)


class Books:
    """An account that trades a script, with its journal."""

    def __init__(self, venue: str, pooling: str, position_mode: str) -> None:
        portfolio = pooling == "portfolio"
        self.account = Account(
            venues.load(venue).rules, pooling="multi_currency" if portfolio else pooling, portfolio=portfolio,
            position_mode=position_mode,
        )  # fmt: skip
        self.journal: list[events.JournalEntry] = []
        for one in PRODUCTS.values():
            self.account.list_instrument(one)
            self.record(events.SettingChanged(time_ms=NOW, symbol=one.symbol, margin_mode="cross", leverage=5.0))
        self.record(events.CashTransferred(time_ms=NOW, currency="USDT", amount=20_000.0))
        self.record(events.CashTransferred(time_ms=NOW, currency="BTC", amount=1.0))
        self.account.now_ms = NOW
        self.price, self.number = 10_000.0, 0
        self.set_mark(1.0)

    def record(self, entry: events.JournalEntry) -> None:
        self.account.apply(entry)
        self.journal.append(entry)

    def set_mark(self, factor: float) -> None:
        self.price *= factor
        for symbol, instrument in PRODUCTS.items():
            part = OPTIONS.get(symbol)
            at = self.price if part is None else part if instrument.in_coin else part * self.price
            self.account.set_mark(symbol, at)
        self.account.update_option_indices()

    def side(self, symbol: str, lots: int) -> str:
        book = self.account.books[symbol]
        return "net" if not book.hedged else "long" if lots > 0 else "short"

    def order(self, symbol: str, lots: int) -> Refusal | OpenOrder:
        """Ask for an order at the mark and fill it when it is admitted."""
        book = self.account.books[symbol]
        self.number += 1
        order = OpenOrder(self.number, self.side(symbol, lots), lots, book.mark_of(lots), immediate=True)
        found = admit(self.account, symbol, order)
        if isinstance(found, OpenOrder):
            self.fill(symbol, found.side, lots)
        return found

    def fill(self, symbol: str, side: str, lots: int) -> None:
        book = self.account.books[symbol]
        self.record(
            fills.order_fill(
                self.account, NOW, symbol, side, number=self.number, lots=lots, price=book.mark_of(lots), maker=False
            )
        )

    def charge(self, hours: int) -> None:
        for entry in interest.due(self.account, NOW + hours * 3_600_000, interest.debts(self.account)):
            self.record(entry)

    def play(self, script) -> None:
        for n, step in enumerate(script):
            if isinstance(step, float):
                self.set_mark(step)
                for entry in fills.funding_due(self.account, NOW, "PERP", self.price, 0.0003):
                    self.record(entry)
                self.charge(n)
            else:
                symbol, lots, _ = step
                self.order(symbol, lots)
            invariants.check(self.account)

    def close_all(self) -> None:
        for symbol, book in self.account.books.items():
            for side, leg in list(book.legs.items()):
                if symbol != "SPOT":
                    self.fill(symbol, side, -leg.lots)


@given(accounts, scripts)
def test_money_is_conserved_in_every_currency(made: dict, script: list) -> None:
    """Every balance is the sum of what the journal says went in and out of it, and the journal alone brings it back."""
    books = Books(**made)
    books.play(script)
    for currency, balance in books.account.balances.items():
        assert balance == pytest.approx(flows(books.journal, currency), rel=1e-9, abs=1e-9)
    again = replay(books.journal, books.account.rules, PRODUCTS, **books.account.setup)
    assert again.balances == books.account.balances
    assert again.sums == books.account.sums
    assert {s: b.legs for s, b in again.books.items()} == {s: b.legs for s, b in books.account.books.items()}


@given(accounts, scripts)
def test_closing_everything_leaves_no_requirement(made: dict, script: list) -> None:
    """Equity then is balances alone, at their prices, and nothing is locked but by debts."""
    books = Books(**made)
    books.play(script)
    before = metrics.total_equity(books.account)
    fees = books.account.fees
    books.close_all()
    account = books.account
    paid = account.fees - fees
    worth = sum(amount * account.price(currency) for currency, amount in account.balances.items())
    # At the marks a close brings what was floating, so equity falls by the fees alone.
    assert metrics.total_equity(account) == pytest.approx(worth)
    assert metrics.total_equity(account) == pytest.approx(before - paid, rel=1e-9, abs=1e-6)
    owing = currencies.is_in_debt(account) if account.pooled else False
    for pool in metrics.pools(account):
        assert owing or metrics.risk(account, pool).requirement == 0


@given(accounts, scripts)
def test_what_only_reduces_is_never_refused(made: dict, script: list) -> None:
    """Every derivative leg can be closed, whatever the account looks like; a coin, as far as it is there."""
    books = Books(**made)
    books.play(script)
    account = books.account
    for symbol, book in account.books.items():
        for side, leg in book.legs.items():
            closing = OpenOrder(9_999, side, -leg.lots, book.mark_of(leg.lots), immediate=True)
            if symbol != "SPOT":
                assert isinstance(admit(account, symbol, closing), OpenOrder)
                part, _ = position.split_fill(leg.lots, -leg.lots)
                assert part == -leg.lots


@given(accounts, scripts, st.floats(1.0, 50_000.0))
def test_more_collateral_is_never_worse(made: dict, script: list, more: float) -> None:
    """A deposit of dollars raises the gap of the dollar pool and lowers that of none."""
    books = Books(**made)
    books.play(script)
    account = books.account
    before = {pool.name: metrics.risk(account, pool).gap for pool in metrics.pools(account)}
    free = metrics.pool_balance(account, account.pool_of("USDT")).free_margin
    account.apply(events.CashTransferred(time_ms=NOW, currency="USDT", amount=more))
    assert metrics.pool_balance(account, account.pool_of("USDT")).free_margin >= free - 1e-6
    for pool in metrics.pools(account):
        assert metrics.risk(account, pool).gap >= before.get(pool.name, -1e18) - 1e-6


@given(accounts, scripts)
@examples(60)
def test_options_and_futures_end(made: dict, script: list) -> None:
    """At their expiry every leg settles at the settlement price, no currency gains or loses but by what they were worth."""
    books = Books(**made)
    books.play(script)
    account = books.account
    for symbol in ("FUTURE", "CALL", "PUT"):
        entry = expiry.expiry_entry(account, NOW, symbol)
        legs = dict(account.books[symbol].legs)
        settle = PRODUCTS[symbol].settle
        before = account.balances[settle]
        books.record(entry)
        for settled in list(expiry.settlement_fills(account, entry)):
            books.record(settled)
        due = sum(
            PRODUCTS[symbol].profit(leg.lots, leg.entry if symbol == "FUTURE" else 0.0, entry.price)
            for leg in legs.values()
        )
        assert account.balances[settle] - before == pytest.approx(due, rel=1e-9, abs=1e-9)
        assert not account.books[symbol].legs


@given(accounts, scripts)
@examples(60)
def test_what_an_admitted_order_locks_was_free(made: dict, script: list) -> None:
    """An order that opens is admitted only while free margin stays at or above zero."""
    books = Books(**made)
    for step in script:
        if isinstance(step, float):
            books.set_mark(step)
            continue
        symbol, lots, _ = step
        book = books.account.books[symbol]
        held = book.leg(books.side(symbol, lots)).lots
        if held * lots < 0 or symbol == "SPOT":
            continue
        found = books.order(symbol, lots)
        if isinstance(found, OpenOrder):
            pool = books.account.pool_of(PRODUCTS[symbol].settle)
            total = metrics.pool_balance(books.account, pool)
            left = total.collateral_value + total.cross_profit - total.in_use
            assert left >= -1e-6 * max(1.0, abs(total.in_use))


def test_instruments_of_every_kind_are_drawn() -> None:
    """A kind added later is added here too."""
    assert {one.kind for one in PRODUCTS.values()} == set(get_args(Kind))
