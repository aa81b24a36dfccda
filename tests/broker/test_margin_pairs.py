# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin pairs, changes of modes and money during a run, rolling futures. Every figure by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from whole_accounts import COIN, SHORT, refusals, replayed, run

from crossmargin_bt import CrossMarginBroker, Instrument, roll
from crossmargin_bt.engine.explain import account_view
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills, interest
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.venues import load

PAIR = Instrument(
    symbol="PAIR", kind="margin", underlying="BTC", lot=0.001, maintenance=flat_rate(0.03), maker=0.0, taker=0.0
)
COINPAIR = msgspec.structs.replace(PAIR, symbol="COINPAIR", settle="BTC", quote="USDT")
HOUR = 3_600_000


def account(instrument: Instrument, *, mode: str = "cross", **rules) -> Account:
    """Return an account with 10,000 dollars and a coin, OKX's rules and a rate of a ten-thousandth an hour."""
    made = Account(msgspec.structs.replace(load("okx").rules, **rules))
    made.list_instrument(instrument)
    made.list_instrument(COIN)
    made.apply(events.SettingChanged(time_ms=0, symbol=instrument.symbol, margin_mode=mode, leverage=5.0))
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=10_000.0))
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=1.0))
    made.interest_rates.update(USDT=0.876, BTC=0.876)
    mark(made, 10_000.0)
    return made


def mark(made: Account, price: float) -> None:
    for symbol in made.books:
        made.set_mark(symbol, price)


def trade(made: Account, size: float, price: float) -> None:
    symbol = next(iter(made.books))
    mark(made, price)
    lots = made.books[symbol].instrument.lots(size)
    made.apply(fills.order_fill(made, 0, symbol, "net", number=1, lots=lots, price=price, maker=False))


def pair(made: Account) -> account_view.LoanView:
    book = made.books[next(iter(made.books))]
    return account_view.loan_view(made, book, book.legs["net"])


def charge(made: Account, hours: int) -> None:
    for entry in interest.due(made, hours * HOUR, interest.debts(made)):
        made.apply(entry)


def risk(made: Account, currency: str) -> metrics.Risk:
    return metrics.risk(made, next(pool for pool in metrics.pools(made) if pool.currency == currency))


@pytest.mark.parametrize(
    ("instrument", "size", "asset", "owes", "in_use", "kept", "gained"),
    [
        # Long: 10,000 dollars owed, worth 10,000 / 12,500 = 0.8 coins at the new mark.
        (PAIR, 1.0, "BTC", "USDT", 2_000.0, 300.0, 2_500.0),
        (COINPAIR, 1.0, "BTC", "USDT", 0.16, 0.024, 0.2),
        # Short: one coin owed, worth 12,500 at the new mark.
        (PAIR, -1.0, "USDT", "BTC", 2_500.0, 375.0, -2_500.0),
        (COINPAIR, -1.0, "USDT", "BTC", 0.2, 0.03, -0.2),
    ],
)
def test_a_margin_pair_in_four_forms(instrument, size, asset, owes, in_use, kept, gained) -> None:
    """Opened at 10,000, marked at 12,500, at 5x and 3 %: what it locks and keeps is a share of its debt."""
    made = account(instrument)
    trade(made, size, 10_000.0)
    mark(made, 12_500.0)
    view = pair(made)
    assert (view.asset, view.liability_currency) == (asset, owes)
    assert view.liability == (10_000.0 if owes == "USDT" else 1.0)
    assert view.assets == (10_000.0 if asset == "USDT" else 1.0)
    total = metrics.pool_balance(made, instrument.settle)
    assert total.in_use == pytest.approx(in_use)
    assert total.cross_profit == pytest.approx(gained)
    # OKX counts the fee of paying back on debt and margin; this pair costs none.
    assert risk(made, instrument.settle).requirement == pytest.approx(kept)


def test_interest_grows_the_debt_and_is_paid_at_the_close() -> None:
    """Three hours on 10,000 at a ten-thousandth, two begun hours more by the clock; half of it leaves with half the coins."""
    made = account(PAIR)
    trade(made, 1.0, 10_000.0)
    charge(made, 0)
    charge(made, 3)
    view = pair(made)
    assert view.interest == pytest.approx(4.0)
    assert metrics.pool_balance(made, "USDT").cross_profit == pytest.approx(-4.0)
    assert metrics.pool_balance(made, "USDT").in_use == pytest.approx(10_004.0 / 5)
    trade(made, -0.5, 10_000.0)
    assert pair(made).interest == pytest.approx(2.0)
    assert made.balances["USDT"] == pytest.approx(10_000.0 - 2.0)
    trade(made, -0.5, 11_000.0)
    assert made.balances["USDT"] == pytest.approx(10_000.0 - 4.0 + 500.0)
    charge(made, 4)
    assert made.loans == {}


@pytest.mark.parametrize(
    ("instrument", "size"), [(PAIR, 1.0), (COINPAIR, 1.0), (PAIR, -1.0), (COINPAIR, -1.0)], ids=str
)
def test_isolated_liquidation_prices(instrument: Instrument, size: float) -> None:
    """OKX's formulas: where assets and margin are worth (debt + interest) x (1 + MMR) x (1 + fee)."""
    taker = 0.001
    made = account(msgspec.structs.replace(instrument, taker=taker), mode="isolated")
    trade(made, size, 10_000.0)
    charge(made, 0)
    charge(made, 23)
    leg = made.books[instrument.symbol].legs["net"]
    owed = (pair(made).liability + leg.interest) * 1.03 * (1 + taker)
    expected = {
        ("PAIR", 1.0): (owed - leg.margin) / 1.0,
        ("COINPAIR", 1.0): owed / (1.0 + leg.margin),
        ("PAIR", -1.0): (10_000.0 + leg.margin) / owed,
        ("COINPAIR", -1.0): 10_000.0 / (owed - leg.margin),
    }[instrument.symbol, size]
    assert liquidation_prices.liquidation_price(made, instrument.symbol).price == pytest.approx(expected)


def test_what_may_be_traded_to_close() -> None:
    """Assets that are the margin too pay the debt with the initial rate on top, below the initial margin with MMR's."""
    made = account(COINPAIR)
    trade(made, 1.0, 10_000.0)
    mark(made, 8_000.0)
    assert pair(made).closable == pytest.approx(10_000.0 / 8_000.0 * 1.2)
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=-0.9))
    assert pair(made).closable == pytest.approx(10_000.0 / 8_000.0 * 1.03)
    other = account(PAIR)
    trade(other, 1.0, 10_000.0)
    assert pair(other).closable == 1.0


def test_a_pair_reduces_and_reverses() -> None:
    """Long 0.5, sold 0.8: the long's debt is paid and 0.3 coins are owed; a reduce-only order stops at flat."""
    seen = []
    script = {
        1: lambda s: s.buy(s.datas[0], size=0.5),
        3: lambda s: s.sell(s.datas[0], size=0.8),
        4: lambda s: s.buy(s.datas[0], size=9.0, reduce_only=True),
        5: lambda s: seen.append(s.broker.loan(s.datas[0])),
    }
    closes = (10_000.0, 10_000.0, 12_000.0, 12_000.0, 12_000.0)
    broker = CrossMarginBroker(cash=10_000.0, leverage=5.0, interest_rates={"USDT": 0.0, "BTC": 0.0}, check=True)
    strategy = run(broker, script, (PAIR, closes), (COIN, closes))
    assert seen == [None]
    assert not refusals(strategy)
    # 0.5 from 10,000 to 12,000, then 0.3 from 12,000 to 12,000.
    assert broker.account.balances["USDT"] == pytest.approx(11_000.0)


def test_a_deficit_is_taken_from_equity() -> None:
    """A long of 4,000 borrowed dollars whose coins bring 2,000 leaves the balance 2,000 lower."""
    script = {1: lambda s: s.buy(s.datas[0], size=0.4), 3: lambda s: s.close(s.datas[0])}
    closes = (10_000.0, 10_000.0, 5_000.0, 5_000.0, 5_000.0)
    broker = CrossMarginBroker(cash=10_000.0, leverage=5.0, interest_rates={"USDT": 0.0}, check=True)
    run(broker, script, (PAIR, closes), (COIN, closes))
    assert broker.account.balances["USDT"] == pytest.approx(8_000.0)


def test_position_mode_changes_while_nothing_is_open() -> None:
    """Refused with an open position or order, and then both legs can be held."""
    said = []
    script = {
        1: lambda s: s.buy(s.datas[0], size=0.1),
        3: lambda s: (said.append(s.broker.set_position_mode("hedge")), s.close(s.datas[0])),
        5: lambda s: said.append(s.broker.set_position_mode("hedge")),
        6: lambda s: (
            s.buy(s.datas[0], size=0.1, position_side="long"), s.sell(s.datas[0], size=0.2, position_side="short")
        ),
        8: lambda s: said.append(s.broker.getposition(s.datas[0], "short").size),
    }  # fmt: skip
    broker = CrossMarginBroker(cash=10_000.0, leverage=5.0, check=True)
    strategy = run(broker, script, (SHORT, (10_000.0,) * 10))
    assert said[0].reason == "BTC has a position; close everything before changing the position mode"
    assert said[1:] == [None, -0.2]
    assert not refusals(strategy)
    again = replayed(broker, SHORT)
    assert {s: b.legs for s, b in again.books.items()} == {s: b.legs for s, b in broker.account.books.items()}
    with pytest.raises(ConfigurationError, match="unknown position_mode 'both'"):
        broker.set_position_mode("both")


def test_modes_that_a_product_has_not() -> None:
    """A coin has no isolated mode, a portfolio has no isolated positions; the reasons say so."""
    said = []
    script = {1: lambda s: said.extend(s.broker.set_margin_mode(data, "isolated") for data in s.datas)}
    closes = (10_000.0,) * 3
    run(CrossMarginBroker(), script, (SHORT, closes), (COIN, closes))
    run(CrossMarginBroker(mode="portfolio"), script, (SHORT, closes), (COIN, closes))
    assert said[0] is None
    assert [str(one) for one in said[1:]] == [
        "BTC/USDT has no isolated mode: it is paid for in full",
        "a portfolio account has no isolated positions",
        "a portfolio account has no isolated positions",
    ]


@pytest.mark.parametrize("pooling", ["single_currency", "multi_currency"])
def test_transfers_and_amounts_set_aside(pooling: str) -> None:
    """What is set aside counts as in use and cannot be withdrawn; a transfer moves one currency."""
    said = {}

    def script(strategy) -> None:
        broker = strategy.broker
        said["aside"] = broker.set_aside("USDT", 4_000.0, "grid bot")
        said["in use"] = broker.margin_used
        said["out"] = broker.transfer("USDT", -7_000.0)
        said["less"] = broker.transfer("USDT", -6_000.0)
        said["in"] = broker.transfer("BTC", 0.5)
        said["view"] = broker.currency("BTC")
        said["equity"] = broker.total_equity()
        said["in coin"] = broker.total_equity("BTC")
        said["free"] = broker.set_aside("USDT", -4_000.0)
        said["too much"] = broker.set_aside("USDT", 5_000.0)
        said["set aside"] = broker.currency("USDT").in_use

    broker = CrossMarginBroker(cash=10_000.0, pooling=pooling, check=True)
    run(broker, {1: script}, (COIN, (10_000.0,) * 3))
    assert said["aside"] is None
    assert said["in use"] == 4_000.0
    assert (said["out"].needed, said["out"].available) == (7_000.0, 6_000.0)
    assert said["less"] is None
    assert said["in"] is None
    assert (said["view"].equity, said["view"].price) == (0.5, 10_000.0)
    assert (said["equity"], said["in coin"]) == (9_000.0, 0.9)
    assert said["free"] is None
    assert said["too much"].available == 4_000.0
    assert said["set aside"] == 0.0
    with pytest.raises(ConfigurationError, match="the account has no 'XRP'"):
        broker.transfer("XRP", 1.0)


def test_a_future_is_rolled_into_the_next() -> None:
    """A day before its end the position is closed and opened in the later contract, as many coins of it."""
    near = msgspec.structs.replace(SHORT, symbol="NEAR", kind="future", expiry=datetime(2025, 1, 2, tzinfo=UTC))
    far = msgspec.structs.replace(
        SHORT, symbol="FAR", kind="future", expiry=datetime(2025, 3, 28, tzinfo=UTC), contract_size=0.1, lot=1.0
    )
    seen = []
    script = {n: lambda s: seen.append(roll(s, s.datas[0], s.datas[1]) is not None) for n in range(4, 9)}
    script[1] = lambda s: (seen.append(roll(s, s.datas[0], s.datas[1])), s.sell(s.datas[0], size=0.5))
    broker = CrossMarginBroker(cash=10_000.0, leverage=5.0, check=True)
    closes = (10_000.0,) * 30
    run(broker, script, (near, closes), (far, closes))
    assert seen == [None, True, False, False, False, False]
    assert broker.getposition(broker.cerebro.datas[0]).size == 0
    assert broker.getposition(broker.cerebro.datas[1]).size == -5.0
    with pytest.raises(ConfigurationError, match="needs an expiry"):
        roll(None, broker.cerebro.datas[1].__class__, None)
