# SPDX-License-Identifier: GPL-3.0-or-later
"""Coins, debts, inverse contracts and several currencies through the broker."""

from __future__ import annotations

import pytest
from whole_accounts import COIN, INVERSE, SHORT, refusals, replayed, run

from crossmargin_bt import CrossMarginBroker
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.errors import ConfigurationError, FeedError


@pytest.mark.parametrize("pooling", ["single_currency", "multi_currency"])
@pytest.mark.parametrize("position_mode", ["one_way", "hedge"])
def test_a_spot_hedge_stands_through_a_crash(pooling: str, position_mode: str) -> None:
    """Half a coin long, half a perpetual short: equity stays where it is while the price halves and doubles."""
    side = {"position_side": "short"} if position_mode == "hedge" else {}
    seen = []
    script = {
        1: lambda s: (s.buy(s.datas[0], size=0.5), s.sell(s.datas[1], size=0.5, **side)),
        3: lambda s: seen.append(s.broker.getposition(s.datas[0]).size),
        5: lambda s: (s.sell(s.datas[0], size=0.5), s.buy(s.datas[1], size=0.5, **side)),
    }
    closes = (10_000.0, 10_000.0, 5_000.0, 10_000.0, 12_000.0, 12_000.0)
    broker = CrossMarginBroker(cash=10_000.0, leverage=10.0, pooling=pooling, position_mode=position_mode, check=True)
    strategy = run(broker, script, (COIN, closes), (SHORT, closes))
    assert seen == [0.5]
    assert not refusals(strategy)
    assert broker.equity == pytest.approx(10_000.0)
    assert broker.account.balances == {"USDT": pytest.approx(10_000.0), "BTC": pytest.approx(0.0)}
    assert {key[1] for key in strategy.trades_closed} == {1_000.0, -1_000.0}
    assert replayed(broker, COIN, SHORT).balances == broker.account.balances


def test_a_coin_is_not_sold_twice() -> None:
    """What is not there cannot be sold in a pool of one currency, in one of many it is borrowed."""
    script = {1: lambda s: s.buy(s.datas[0], size=0.5), 3: lambda s: s.sell(s.datas[0], size=0.7)}
    closes = (10_000.0,) * 5
    strategy = run(CrossMarginBroker(cash=10_000.0), script, (COIN, closes))
    (refused,) = refusals(strategy)
    assert (refused.needed, refused.available) == (pytest.approx(0.7), pytest.approx(0.5))
    assert "available balance is 0.5 BTC" in refused.reason
    broker = CrossMarginBroker(cash=10_000.0, pooling="multi_currency", interest_rates={"BTC": 0.876}, check=True)
    strategy = run(broker, script, (COIN, closes))
    assert not refusals(strategy)
    charged = [entry for entry in broker.journal if isinstance(entry, events.InterestCharged)]
    # Borrowed in the bar of 03:00, charged then and at 04:00 on what the first hour's interest made of it.
    assert [(entry.currency, entry.periods) for entry in charged] == [("BTC", 1), ("BTC", 2)]
    assert broker.account.balances["BTC"] == pytest.approx(-0.2 * (1 + 1e-4) ** 2)
    assert broker.account.interest == pytest.approx(0.2 * ((1 + 1e-4) ** 2 - 1) * 10_000.0)


def test_a_debt_that_grows_too_large_is_paid_back() -> None:
    """Two coins sold short for 20,000: when they are worth more than the account can keep, they are bought back."""
    script = {1: lambda s: s.sell(s.datas[0], size=2.0)}
    closes = (10_000.0, 10_000.0, 12_000.0, 14_000.0, 15_000.0, 15_000.0)
    broker = CrossMarginBroker(
        cash=10_000.0, pooling="multi_currency", interest_rates={"BTC": 0.0}, on_liquidation="continue", check=True
    )
    run(broker, script, (COIN, closes))
    journal = broker.journal
    (liquidated,) = [entry for entry in journal if isinstance(entry, events.Liquidated)]
    (bought,) = [entry for entry in journal if isinstance(entry, events.Filled) and entry.forced]
    # 30,000 - 2 P = 5 % of 2 P: P = 30,000 / 2.1.
    assert liquidated.collateral == pytest.approx(liquidated.requirement)
    assert liquidated.prices["BTC/USDT"][0] == pytest.approx(30_000.0 / 2.1)
    # Bought back in its market at that price, so the position ends with the debt.
    assert (bought.lots, bought.price) == (2_000, pytest.approx(30_000.0 / 2.1))
    assert broker.account.balances["BTC"] == pytest.approx(0.0, abs=1e-9)
    assert broker.getposition(broker.cerebro.datas[0]).size == 0
    assert broker.equity == pytest.approx(30_000.0 - 2 * 30_000.0 / 2.1)


def test_a_debt_without_a_position_is_exchanged() -> None:
    """Coins that were withdrawn below zero by a coin-margined loss are bought for dollars, less the taker fee."""
    script = {1: lambda s: s.sell(s.datas[1], size=200)}
    closes = (10_000.0, 10_000.0, 13_000.0, 16_000.0, 18_000.0, 18_000.0)
    broker = CrossMarginBroker(
        cash=6_000.0,
        deposits={"BTC": 0.05},
        leverage=10.0,
        pooling="multi_currency",
        interest_rates={"BTC": 0.0},
        check=True,
    )
    run(broker, script, (COIN, closes), (INVERSE, closes))
    paid = next(entry for entry in broker.journal if isinstance(entry, events.Converted))
    assert (paid.currency, paid.into) == ("USDT", "BTC")
    price = paid.amount * (1 - 0.0005) / paid.received
    liquidated = next(entry for entry in broker.journal if isinstance(entry, events.Liquidated))
    assert price == pytest.approx(liquidated.prices["BTC/USDT"][0])


def test_trades_of_inverse_contracts_agree_with_the_account() -> None:
    """100 contracts at 10,000 and 100 at 12,500, closed at 20,000: 1 + 0.8 - 2 x 0.5 = 0.8 BTC."""
    script = {
        1: lambda s: s.buy(size=100),
        2: lambda s: s.buy(size=100),
        3: lambda s: s.close(),
    }
    closes = (10_000.0, 12_500.0, 20_000.0, 20_000.0, 20_000.0)
    # Orders fill at the next open, which is the last close.
    broker = CrossMarginBroker(cash=1.0, currency="BTC", leverage=5.0, check=True)
    strategy = run(broker, script, (INVERSE, closes))
    assert broker.account.balances["BTC"] == pytest.approx(1.8)
    assert strategy.trades_closed == [(0, pytest.approx(0.8))]
    assert strategy.analyzers.trades.get_analysis().pnl.net.total == pytest.approx(0.8)


def test_pools_of_two_currencies_side_by_side() -> None:
    """A coin-margined and a dollar-margined contract each draw on their own pool; trades are told in dollars."""
    script = {
        1: lambda s: (s.buy(s.datas[0], size=100), s.sell(s.datas[1], size=0.5)),
        3: lambda s: (s.close(s.datas[0]), s.close(s.datas[1])),
    }
    closes = (10_000.0, 10_000.0, 12_500.0, 12_500.0)
    broker = CrossMarginBroker(cash=10_000.0, deposits={"BTC": 1.0}, leverage=5.0, check=True)
    strategy = run(broker, script, (INVERSE, closes), (SHORT, closes))
    # Filled at 10,000 and closed at 12,500: 10,000 USD are 1 BTC, then 0.8.
    assert broker.account.balances == {"USDT": pytest.approx(10_000.0 - 1_250.0), "BTC": pytest.approx(1.2)}
    assert broker.equity == pytest.approx(8_750.0 + 1.2 * 12_500.0)
    assert sorted(profit for _, profit in strategy.trades_closed) == [pytest.approx(-1_250.0), pytest.approx(2_500.0)]


@pytest.mark.parametrize(
    ("settings", "instruments", "error", "text"),
    [
        ({}, [INVERSE], FeedError, "BTCUSD settles in BTC, the account holds USDT"),
        ({"deposits": {"XRP": 5.0}}, [SHORT], FeedError, "nothing prices XRP in USDT"),
        ({"deposits": {"BTC": -1.0}}, [SHORT], ConfigurationError, "deposits of BTC must not be negative"),
        ({"prices": [1]}, [SHORT], ConfigurationError, "prices is a dict by currency"),
        ({"pooling": "multi"}, [SHORT], ConfigurationError, "unknown pooling 'multi'"),
        ({"pooling": "multi_currency", "venue": "dydx"}, [SHORT], ConfigurationError, "has no pool of many currencies"),
        ({"mode": "cash"}, [INVERSE], FeedError, "is an inverse contract"),
    ],
)
def test_settings_that_cannot_be(settings: dict, instruments: list, error: type, text: str) -> None:
    """What was wrong and what to do, before the first bar."""
    with pytest.raises(error, match=text):
        run(CrossMarginBroker(**settings), {}, *((one, (100.0, 100.0)) for one in instruments))
