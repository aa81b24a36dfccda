# SPDX-License-Identifier: GPL-3.0-or-later
"""Corners of accounts with every product, each of which went wrong once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from scripted import Scripted
from whole_accounts import CALL, COIN, INVERSE, PUT, candles, refusals

import crossmargin_bt
from crossmargin_bt import CrossMarginBroker, HedgeStrategy, Instrument, Reserve, analyzers, feeds, guards, venues
from crossmargin_bt.broker.sizers import FreeMarginSizer, SafeDistanceSizer
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import currencies, metrics, portfolio
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.errors import FeedError

FREE = {"maker": 0.0, "taker": 0.0, "maintenance": flat_rate(0.005)}
PERP = Instrument(symbol="BTC", underlying="BTC", lot=0.001, **FREE)
FUTURE = msgspec.structs.replace(PERP, symbol="BTC-F", kind="future", expiry=datetime(2025, 1, 1, 8, tzinfo=UTC))
PAIR = Instrument(symbol="PAIR", kind="margin", underlying="BTC", lot=0.001, **FREE)
FLAT = (10_000.0,) * 8


def bars(*rows: float | tuple[float, float, float, float]) -> pd.DataFrame:
    """Return hourly bars: a price is a flat bar, four prices are open, high, low and close."""
    full = [row if isinstance(row, tuple) else (row,) * 4 for row in rows]
    index = pd.date_range("2025-01-01", periods=len(full), freq="h")
    return pd.DataFrame(full, columns=["open", "high", "low", "close"], index=index)


def run(broker, script, *pairs, strategy=Scripted, sizer=None, **analyzed):
    """Run a script on (instrument, candles or closes) pairs."""
    cerebro = bt.Cerebro(stdstats=False)
    for instrument, given in pairs:
        frame = given if isinstance(given, pd.DataFrame) else candles(*given)
        cerebro.adddata(feeds.from_frame(frame, name=instrument.symbol, instrument=instrument))
    cerebro.setbroker(broker)
    cerebro.addstrategy(strategy, script=script)
    if sizer is not None:
        cerebro.addsizer(sizer[0], **sizer[1])
    for name, analyzer in analyzed.items():
        cerebro.addanalyzer(analyzer, _name=name)
    return cerebro.run()[0]


def test_a_coin_that_was_sold_is_bought_back_only_with_what_is_there() -> None:
    """Sold at 10,000, the price gaps to 15,000: the buy that was admitted at 10,000 is refused, and nothing of it trades."""
    frame = bars(10_000.0, 10_000.0, 10_000.0, 10_000.0, 15_000.0, 15_000.0)
    broker = CrossMarginBroker(cash=10.0, deposits={"BTC": 1.0}, check=True)
    strategy = run(broker, {1: lambda s: s.sell(size=1.0), 4: lambda s: s.buy(size=1.0)}, (COIN, frame))
    (refused,) = refusals(strategy)
    assert refused.needed == pytest.approx(15_000.0)
    assert broker.account.balances == {"USDT": 10_010.0, "BTC": 0.0}
    assert [status for status, *_ in strategy.orders_heard][-1] == "Margin"


def test_estimates_and_previews_know_coins() -> None:
    """A coin has no liquidation price; asking for one, for a preview or what if ends no run."""
    seen = {}

    def ask(strategy) -> None:
        broker = strategy.broker
        seen["estimate"] = broker.liquidation_price(strategy.datas[0])
        seen["preview"] = broker.preview(data=strategy.datas[1], size=-0.1)
        seen["what if"] = broker.what_if({"BTC/USDT": 12_000.0})

    script = {1: lambda s: s.buy(s.datas[0], size=0.1), 3: ask}
    run(CrossMarginBroker(cash=10_000.0), script, (COIN, FLAT), (PERP, FLAT), sizer=(SafeDistanceSizer, {}))
    assert seen["estimate"].reason == "a spot position is fully paid"
    assert seen["preview"].locked == pytest.approx(100.0)
    assert seen["what if"].equity == pytest.approx(10_200.0)


def test_snapshots_are_in_the_accounts_currency() -> None:
    """100 inverse contracts of 100 dollars at 10x lock 0.1 BTC and keep 0.005: 1,000 and 50 dollars."""
    seen = {}
    script = {1: lambda s: s.buy(s.datas[1], size=100), 3: lambda s: seen.update(one=s.broker.what_if({}))}
    broker = CrossMarginBroker(cash=10_000.0, deposits={"BTC": 1.0}, leverage=10.0)
    run(broker, script, (COIN, FLAT), (INVERSE, FLAT))
    assert (seen["one"].margin_used, seen["one"].requirement) == (pytest.approx(1_000.0), pytest.approx(50.0))
    assert broker.margin_used == pytest.approx(1_000.0)


def test_isolated_margin_moves_in_its_own_currency() -> None:
    """Half a coin is there: five cannot be added to an inverse position, whatever the dollars are."""
    said = []
    script = {
        1: lambda s: s.buy(s.datas[1], size=10),
        3: lambda s: (said.append(s.broker.add_margin(s.datas[1], 50.0)), said.append(s.broker.add_margin(s.datas[1], 0.2))),
    }  # fmt: skip
    broker = CrossMarginBroker(
        cash=100_000.0, deposits={"BTC": 0.5}, pooling="multi_currency", mode="isolated", venue="deribit", leverage=10.0
    )
    run(broker, script, (COIN, FLAT), (INVERSE, FLAT))
    assert said[0].currency == "BTC"
    assert said[0].available < 0.5
    assert said[1] is None


def test_position_mode_waits_for_orders_of_the_same_bar() -> None:
    """An order that was entered a line above is an order."""
    said = []
    script = {1: lambda s: (s.buy(size=0.1), said.append(s.broker.set_position_mode("hedge")))}
    run(CrossMarginBroker(check=True), script, (PERP, FLAT))
    assert "has orders; cancel them" in said[0].reason


def test_sizes_follow_the_value_of_the_contracts_currency() -> None:
    """1 % of 100,000 at 10x are 10,000 dollars: 100 contracts of 100, for the sizer and for a target."""
    held = []

    class Aims(HedgeStrategy):
        params = (("script", None),)

        def next(self) -> None:
            if len(self) == 1:
                self.buy(data=self.datas[1], position_side="long")
                self.order_target_value(self.datas[1], -1_000.0, position_side="short")
            if len(self) == 3:
                held.extend(self.getposition(self.datas[1], side=side).size for side in ("long", "short"))

    broker = CrossMarginBroker(cash=100_000.0, leverage=10.0, pooling="multi_currency", position_mode="hedge")
    run(broker, None, (COIN, FLAT), (INVERSE, FLAT), strategy=Aims, sizer=(FreeMarginSizer, {"share": 0.01}))
    assert held == [100.0, -10.0]


def test_a_reserve_counts_in_the_accounts_currency() -> None:
    """What comes to a pool of coins is taken off the reserve at the coin's price."""
    broker = CrossMarginBroker(
        cash=10_000.0,
        deposits={"BTC": 0.1},
        leverage=20.0,
        reserve=Reserve(amount=1_000.0, at_level=5.0, to_level=20.0),
    )
    closes = (10_000.0, 10_000.0, 9_700.0, 9_318.0, 9_318.0)
    run(broker, {1: lambda s: s.buy(s.datas[1], size=100)}, (COIN, closes), (INVERSE, closes))
    first = next(entry for entry in broker.journal if isinstance(entry, events.CollateralToppedUp))
    price = first.prices["BTC/USDT"][0]
    assert first.left == pytest.approx(1_000.0 - first.amount * price)


def test_deposits_are_no_profit() -> None:
    """A flat price and no orders: nothing to sweep, no return, a fund worth what it was."""
    broker = CrossMarginBroker(
        cash=10_000.0, deposits={"BTC": 1.0}, guards=[guards.ProfitSweep(), guards.DailyLossLimit(share=0.05)]
    )
    strategy = run(broker, {}, (COIN, FLAT), returns=analyzers.CryptoReturns)
    assert not [entry for entry in broker.journal if isinstance(entry, events.GuardActed)]
    assert broker.fundvalue == pytest.approx(100.0)
    assert broker.startingcash == 20_000.0
    assert strategy.analyzers.returns.get_analysis()["total_return"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("guard", "settings", "contract", "size", "passes"),
    [
        (guards.CorrelatedExposure(limit=1.0), {"pooling": "multi_currency"}, 1, 500, False),
        (guards.MaximumLeverage(limit=2.0), {"cash": 100.0, "deposits": {"BTC": 10.0}}, 1, 100, True),
        (guards.EquityBuffer(share=0.9), {"cash": 100.0, "deposits": {"BTC": 10.0}}, 1, 5_000, False),
    ],
)
def test_guards_see_the_whole_account(guard, settings: dict, contract: int, size: int, passes: bool) -> None:
    """Exposure and equity of all currencies, in the account's."""
    broker = CrossMarginBroker(**{"cash": 10_000.0, "leverage": 10.0, **settings}, guards=[guard])
    run(broker, {1: lambda s: s.buy(s.datas[contract], size=size)}, (COIN, FLAT), (INVERSE, FLAT))
    acted = [entry for entry in broker.journal if isinstance(entry, events.GuardActed)]
    assert bool(acted) is not passes


def test_a_loss_beyond_the_balance_is_a_debt_by_itself() -> None:
    """100 dollars and coins, a perpetual 2,000 down: 1,900 are owed and bear interest, whatever else is owed."""
    broker = CrossMarginBroker(
        cash=100.0, deposits={"BTC": 5.0}, pooling="multi_currency", interest_rates={"USDT": 0.876}, leverage=10.0
    )
    closes = (10_000.0, 10_000.0, 8_000.0, 8_000.0, 8_000.0)
    run(broker, {1: lambda s: s.buy(s.datas[1], size=1.0)}, (COIN, closes), (PERP, closes))
    assert broker.currency("USDT").liability == pytest.approx(1_900.0, rel=1e-3)
    assert broker.account.interest == pytest.approx(3 * 0.19, rel=1e-2)


def test_dust_is_no_debt() -> None:
    """Tenths that do not add up to zero leave no requirement and no interest."""
    script = {n: lambda s, n=n: (s.buy, s.sell)[n > 3](size=(0.2, 0.2, 0.1)[(n - 1) % 3]) for n in range(1, 7)}
    broker = CrossMarginBroker(cash=100_000.0, pooling="multi_currency")
    run(broker, script, (COIN, FLAT + FLAT))
    assert abs(broker.account.balances["BTC"]) < 1e-12
    assert broker.margin_level == float("inf")
    assert not [entry for entry in broker.journal if isinstance(entry, events.InterestCharged)]


def test_a_reversed_pair_owes_another_currency() -> None:
    """Long 1, then short 1: the coin's loan is charged its first hour when it is made."""
    script = {1: lambda s: s.buy(s.datas[0], size=1.0), 3: lambda s: s.sell(s.datas[0], size=2.0)}
    broker = CrossMarginBroker(cash=50_000.0, leverage=2.0, interest_rates={"USDT": 0.876, "BTC": 0.876})
    run(broker, script, (PAIR, FLAT), (COIN, FLAT))
    charged = [(entry.currency, entry.periods) for entry in broker.journal if isinstance(entry, events.InterestCharged)]
    assert ("USDT", 1) in charged
    assert ("BTC", 1) in charged
    assert [entry.name for entry in broker.journal if isinstance(entry, events.DebtRepaid)] == ["PAIR:net:USDT"]


def test_only_what_is_there_of_a_currency_leaves() -> None:
    """Not on the strength of another one, and not what a resting sell has reserved."""
    said = []
    script = {
        1: lambda s: (s.broker.add_cash(-5_000.0), s.sell(size=1.0, price=11_000.0, exectype=bt.Order.Limit)),
        3: lambda s: said.append(s.broker.transfer("BTC", -1.0)),
    }
    broker = CrossMarginBroker(cash=100.0, deposits={"BTC": 1.0}, pooling="multi_currency")
    run(broker, script, (COIN, FLAT))
    assert broker.account.balances == {"USDT": 100.0, "BTC": 1.0}
    assert said[0].available == 0.0


def test_a_reduce_only_sale_of_coins_stops_at_the_position() -> None:
    """1 coin held, 5 to sell, reduce-only: 1 is sold, as of a contract."""
    script = {1: lambda s: s.buy(size=1.0), 3: lambda s: s.sell(size=5.0, reduce_only=True)}
    broker = CrossMarginBroker(cash=20_000.0, check=True)
    strategy = run(broker, script, (COIN, FLAT))
    assert not refusals(strategy)
    assert broker.account.balances == {"USDT": 20_000.0, "BTC": 0.0}


def test_fees_of_two_currencies_are_added_at_their_prices() -> None:
    """The analyzer's sum is the account's."""
    dear = msgspec.structs.replace(INVERSE, taker=0.001)
    script = {1: lambda s: (s.buy(s.datas[1], size=100), s.buy(s.datas[0], size=0.1))}
    broker = CrossMarginBroker(cash=10_000.0, deposits={"BTC": 1.0}, leverage=10.0)
    strategy = run(
        broker,
        script,
        (msgspec.structs.replace(COIN, taker=0.001), FLAT),
        (dear, FLAT),
        ledger=analyzers.FundingAndFees,
    )
    assert strategy.analyzers.ledger.get_analysis()["fees"] == pytest.approx(broker.account.fees) == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("settings", "product", "size", "left"),
    [
        ({"cash": 1_000.0, "leverage": 10.0}, FUTURE, 0.9, 0.0),
        ({"cash": 5_000.0, "leverage": 10.0, "mode": "isolated"}, FUTURE, 0.9, 4_100.0),
        ({"cash": 1_000.0, "leverage": 10.0, "pooling": "multi_currency"}, FUTURE, 0.9, 0.0),
    ],
)
def test_a_settlement_beyond_the_collateral_is_covered(settings: dict, product, size: float, left: float) -> None:
    """The price halves at the expiry: an isolated leg loses its margin, a protected account ends at nothing."""
    frame = bars(*FLAT, 5_000.0, 5_000.0)
    broker = CrossMarginBroker(check=True, **settings)
    run(broker, {1: lambda s: s.buy(s.datas[1], size=size)}, (PERP, frame), (product, frame))
    assert broker.equity == pytest.approx(left, abs=1e-6)
    assert broker.account.bad_debt > 0


def test_a_short_option_is_liquidated_where_margins_leave_the_mark_out() -> None:
    """Paradex keeps 7.5 % of the index and counts what options are worth: a call that runs away is bought back."""
    frame = (10_000.0, 10_000.0, 10_000.0, 12_000.0, 15_000.0, 20_000.0, 20_000.0)
    calls = (300.0, 300.0, 300.0, 1_500.0, 4_100.0, 9_050.0, 9_050.0)
    broker = CrossMarginBroker(cash=3_000.0, venue="paradex", check=True)
    run(broker, {1: lambda s: s.sell(s.datas[1], size=1.0)}, (PERP, frame), (CALL, calls))
    (liquidated,) = [entry for entry in broker.journal if isinstance(entry, events.Liquidated)]
    assert liquidated.collateral == pytest.approx(liquidated.requirement)
    assert 0 <= broker.equity < 3_000.0


def test_an_option_takes_its_index_in_its_own_currency() -> None:
    """ETH in dollars beside ETH in bitcoin: a put of 2,000 dollars looks at the dollars, though a coin market ranks first."""
    later = datetime(2025, 1, 1, 4, tzinfo=UTC)
    eth = Instrument(symbol="ETHUSDT", underlying="ETH", lot=0.01, **FREE)
    cross = Instrument(symbol="ETH/BTC", kind="spot", underlying="ETH", settle="BTC", lot=0.01)
    put = Instrument(
        symbol="P", kind="option", underlying="ETH", settle="ETH", strike=2_000.0, option="put", expiry=later, lot=0.01
    )
    broker = CrossMarginBroker(cash=1_000.0, deposits={"ETH": 1.0, "BTC": 0.1}, venue="deribit")
    run(
        broker, {1: lambda s: s.buy(s.datas[3], size=1.0)},
        (eth, (2_100.0,) * 7), (cross, (0.05,) * 7), (COIN, (42_000.0,) * 7), (put, (0.03,) * 7),
    )  # fmt: skip
    (expired,) = [entry for entry in broker.journal if isinstance(entry, events.Expired)]
    assert (expired.underlying, expired.price) == (2_100.0, 0.0)


def test_an_option_needs_an_index() -> None:
    """Nothing that prices its coin, and no column: an error says so before the first bar."""
    other = Instrument(symbol="ETH", underlying="ETH", lot=0.01)
    with pytest.raises(FeedError, match="nothing prices the underlying of BTC-P: add a feed of BTC"):
        run(CrossMarginBroker(), {}, (other, FLAT), (PUT, (300.0,) * 8))
    frame = candles(*(300.0,) * 8).assign(index_price=8_000.0, volatility=0.8)
    broker = CrossMarginBroker(cash=20_000.0)
    run(broker, {1: lambda s: s.buy(s.datas[1], size=1.0)}, (other, FLAT), (PUT, frame))
    assert broker.account.books["BTC-P"].index == 8_000.0


def test_an_ended_future_prices_nothing() -> None:
    """The second future settles at its own price, and the coin is worth what the one that lives says."""
    early = msgspec.structs.replace(FUTURE, symbol="F1", expiry=datetime(2025, 1, 1, 3, tzinfo=UTC))
    late = msgspec.structs.replace(FUTURE, symbol="F2", expiry=datetime(2025, 1, 1, 6, tzinfo=UTC))
    closes = (10_000.0, 10_000.0, 10_000.0, 10_000.0, 12_000.0, 13_000.0, 13_000.0, 13_000.0)
    broker = CrossMarginBroker(cash=20_000.0, deposits={"BTC": 1.0}, leverage=5.0)
    seen = []
    script = {
        1: lambda s: s.buy(s.datas[1], size=1.0),
        5: lambda s: seen.append(s.broker.account.price("BTC")),
    }
    run(broker, script, (early, FLAT), (late, closes))
    assert seen == [12_000.0]
    expired = [(entry.symbol, entry.price) for entry in broker.journal if isinstance(entry, events.Expired)]
    assert expired == [("F1", 10_000.0), ("F2", 13_000.0)]
    assert broker.account.balances["USDT"] == pytest.approx(23_000.0)


def test_how_far_prices_may_move_with_options() -> None:
    """A short call gives out where it is worth too much, a protected long not at all: options follow their coin."""
    later = msgspec.structs.replace(CALL, expiry=datetime(2025, 3, 28, tzinfo=UTC))
    seen = {}
    frame = candles(*(300.0,) * 4).assign(volatility=0.6)
    script = {1: lambda s: s.sell(s.datas[1], size=1.0), 3: lambda s: seen.update(short=s.broker.aggregate_distance())}
    run(CrossMarginBroker(cash=3_000.0), script, (PERP, FLAT[:4]), (later, frame))
    assert 0.1 < seen["short"].rise < 0.4
    guard = msgspec.structs.replace(PUT, strike=10_000.0, expiry=datetime(2025, 3, 28, tzinfo=UTC))
    puts = candles(*(600.0,) * 4).assign(volatility=0.6)
    script = {
        1: lambda s: (s.buy(s.datas[0], size=1.0), s.buy(s.datas[1], size=1.0)),
        3: lambda s: seen.update(protected=s.broker.aggregate_distance(), moved=s.broker.what_if({"BTC": 6_000.0})),
    }
    run(CrossMarginBroker(cash=3_000.0, mode="portfolio", leverage=5.0), script, (PERP, FLAT[:4]), (guard, puts))
    assert seen["protected"].fall is None


def test_resting_option_orders_are_walked_like_all_else() -> None:
    """A sell that rests is margined by the index: a spike inside the bar acts, whether every bar is walked or not."""
    index = bars(
        10_000.0, 10_000.0, 10_000.0, 10_000.0, 10_000.0, 10_000.0, (10_000.0, 11_500.0, 9_990.0, 10_000.0), 10_000.0
    )
    call = bars(1.0, 1.0, 1.0, 1.0, (1.0, 40.0, 1.0, 1.0), 1.0, (1.0, 1.5, 1.0, 1.0), 1.0)
    script = {3: lambda s: s.sell(s.datas[1], size=1.0, price=50.0, exectype=bt.Order.Limit)}
    later = msgspec.structs.replace(CALL, expiry=datetime(2025, 3, 28, tzinfo=UTC))
    journals = []
    for engine in ("skipping", "reference"):
        broker = CrossMarginBroker(engine=engine, cash=1_500.0, venue="okx")
        run(broker, script, (PERP, index), (later, call))
        journals.append(broker.journal)
    assert journals[0] == journals[1]
    assert any(isinstance(entry, events.RiskState) for entry in journals[0])


def journals_of(script, *pairs, **settings) -> list:
    """Return the journal of a run as it is, and with every bar walked."""
    journals = []
    for engine in ("skipping", "reference"):
        broker = CrossMarginBroker(engine=engine, venue="okx", pooling="multi_currency", leverage=10.0, **settings)
        run(broker, script, *pairs)
        journals.append(broker.journal)
    return journals


STEADY = msgspec.structs.replace(PERP, symbol="OTHER", underlying="OTHER")


def test_what_a_resting_sale_would_borrow_follows_the_coins_price() -> None:
    """13 coins at 100 would lock a fifth of 1,300: with 10 for a position of 100 the 300 carry it; at 111.54 no longer."""
    script = {
        1: lambda s: s.buy(s.datas[1], size=1.0),
        3: lambda s: s.sell(s.datas[0], size=13.0, price=500.0, exectype=bt.Order.Limit),
    }
    pairs = (COIN, (*[100.0] * 6, 125.0, 125.0)), (STEADY, [100.0] * 8)
    as_is, walked = journals_of(script, *pairs, cash=300.0)
    assert as_is == walked
    (cancelled,) = [entry for entry in as_is if getattr(entry, "state", "") == "orders_cancelled"]
    assert cancelled.prices["BTC/USDT"][0] == pytest.approx((300.0 - 10.0) / (13 * 0.2))


def test_profit_in_a_coin_falls_with_its_price_while_the_contract_pauses() -> None:
    """From 100 to 1,000 a contract gains 8.1 coins; they fall in value with the one held to 700 though it has no bar then.

    3,000 and 95 % of 9.1 coins carry 50.5 (0.5 % of 10,000, and of 100 for the order) and 0.0045 coins: a warning at 200
    times that comes as the coin passes 916.72.
    """
    closes = (100.0, 100.0, 1_000.0, 1_000.0, 1_000.0, 700.0, 700.0)
    contract = msgspec.structs.replace(INVERSE, contract_size=10.0)
    script = {
        1: lambda s: (s.buy(s.datas[1], size=90.0), s.buy(s.datas[2], size=100.0)),
        3: lambda s: s.buy(s.datas[2], size=1.0, price=10.0, exectype=bt.Order.Limit),
    }
    pairs = (COIN, closes), (contract, candles(*closes).iloc[[0, 1, 2, 3, 4, 6]]), (STEADY, candles(*[100.0] * 7))
    account = {"cash": 3_000.0, "deposits": {"BTC": 1.0}, "warning_levels": (200.0,)}
    as_is, walked = journals_of(script, *pairs, **account)
    assert as_is == walked
    bought, warned = [entry for entry in as_is if isinstance(entry, events.RiskState)]
    assert bought.prices["BTC/USDT"][0] == 100.0
    assert warned.prices["BTC/USDT"][0] == pytest.approx((200 * 50.5 - 3_000) / (0.95 * 9.1 - 200 * 0.0045))


@pytest.mark.parametrize("venue", ["okx", "deribit", "bybit"])
@pytest.mark.parametrize("price", [5_000.0, 10_000.0, 20_000.0])
def test_a_coin_hedged_by_an_inverse_short_is_no_risk(venue: str, price: float) -> None:
    """1 BTC and short 10,000 dollars of it are worth 10,000 at every price: no scenario loses."""
    account = Account(venues.load(venue).rules, portfolio=True)
    for one in (COIN, INVERSE):
        account.list_instrument(one)
        account.set_mark(one.symbol, 10_000.0)
    account.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=1.0))
    short = crossmargin_bt.engine.lifecycle.fills.order_fill(
        account, 0, "BTCUSD", "net", number=1, lots=-100, price=10_000.0, maker=False
    )
    account.apply(short)
    for symbol in ("BTC/USDT", "BTCUSD"):
        account.set_mark(symbol, price)
    assert metrics.total_equity(account) == pytest.approx(10_000.0)
    (unit,) = portfolio.units(account, with_orders=True)
    assert unit.without_orders.worst_loss == pytest.approx(0.0, abs=1e-6)


def test_a_short_put_hedges_a_short() -> None:
    """The step of hedged sets closes short put and short perpetual together, never a short put with a long."""
    later = msgspec.structs.replace(PUT, strike=10_000.0, expiry=datetime(2025, 3, 28, tzinfo=UTC))
    for size, hedged in ((1.0, False), (-1.0, True)):
        broker = CrossMarginBroker(venue="okx", cash=2_600.0 if size > 0 else 2_300.0, leverage=20.0)
        prices = (
            (10_000.0, 10_000.0, 9_000.0, 8_000.0, 7_000.0)
            if size > 0
            else (10_000.0, 10_000.0, 11_000.0, 13_000.0, 13_000.0)
        )
        puts = (900.0, 900.0, 1_500.0, 2_300.0, 3_100.0) if size > 0 else (900.0, 900.0, 800.0, 700.0, 700.0)
        script = {
            1: lambda s, size=size: (s.buy if size > 0 else s.sell)(s.datas[0], size=1.0),
            2: lambda s: s.sell(s.datas[1], size=1.0),
        }
        run(broker, script, (PERP, prices), (later, candles(*puts).assign(volatility=0.9)))
        steps = [entry.step for entry in broker.journal if isinstance(entry, events.LiquidationStepTaken)]
        assert ("hedges" in steps) is hedged


def test_a_refusal_is_explained_with_the_index_of_the_time() -> None:
    """Where the index is a column of the option's own candles, the arithmetic of a refusal finds it again."""
    other = Instrument(symbol="ETH", underlying="ETH", lot=0.01)
    frame = candles(*(300.0,) * 8).assign(index_price=10_000.0, volatility=0.8)
    broker = CrossMarginBroker(cash=2_000.0, venue="okx")
    strategy = run(broker, {1: lambda s: s.sell(s.datas[1], size=5.0)}, (other, FLAT), (CALL, frame))
    (refused,) = refusals(strategy)
    left = 2_000.0 - refused.needed
    text = broker.explain(refused)
    told = float(re.search(r"Available after the fill \(.*\): (\S+)", text)[1])
    # The fee of 0.02 % on five coins besides.
    assert told == pytest.approx(left - 10.0)


def test_feeds_may_come_in_any_order() -> None:
    """A contract in coin before the market that prices the coin, every entry checked."""
    broker = CrossMarginBroker(pooling="multi_currency", check=True)
    run(broker, {}, (INVERSE, FLAT), (COIN, FLAT))
    assert broker.equity == 10_000.0


def test_closable_coins_of_an_isolated_pair_are_its_own_matter() -> None:
    """An unrelated cross position changes nothing of it."""
    seen = []
    script = {
        1: lambda s: (s.sell(s.datas[0], size=1.0), s.buy(s.datas[1], size=0.1)),
        3: lambda s: seen.append(s.broker.loan(s.datas[0]).closable),
    }
    closes = (10_000.0, 10_000.0, 11_000.0, 11_000.0)
    pair = msgspec.structs.replace(PAIR, settle="USDT", maintenance=flat_rate(0.05))
    broker = CrossMarginBroker(cash=50_000.0, leverage=5.0, interest_rates={"BTC": 0.0})
    broker.set_margin_mode("PAIR", "isolated")
    run(broker, script, (pair, closes), (PERP, closes), (COIN, closes))
    # 2,000 of margin less 1,000 of loss are below 2,200: the maintenance rate on top of the coin, not the initial one.
    assert seen == [pytest.approx(1.05)]


def test_a_coin_that_has_not_begun_has_no_price() -> None:
    """Its equity cannot be told yet; a sentence says so, and when it begins what was paid in is no gain."""
    late = Instrument(symbol="ETH/USDT", kind="spot", underlying="ETH", lot=0.01)
    frame = candles(*(100.0,) * 8)
    frame.index = frame.index + timedelta(hours=3)
    broker = CrossMarginBroker(cash=1_000.0, deposits={"ETH": 10.0})
    values = []

    class Watches(Scripted):
        def prenext(self) -> None:
            values.append(self.broker.fundvalue)

        def next(self) -> None:
            values.append(self.broker.fundvalue)

    run(broker, {}, (COIN, FLAT), (late, frame), strategy=Watches)
    assert values == [pytest.approx(100.0)] * len(values)
    assert currencies.is_in_debt(Account(venues.load("generic").rules, pooling="multi_currency")) is False


@pytest.mark.parametrize(
    ("settings", "instrument", "size", "wick"),
    [
        ({"cash": 1.0, "currency": "BTC", "deposits": {"USDT": 5_000.0}, "pooling": "multi_currency"}, PERP, 0.5, 8_000.0),
        (
            {"cash": 1_000.0, "deposits": {"DOGE": 52.0}, "prices": {"DOGE": 0.1}, "pooling": "multi_currency"},
            Instrument(
                symbol="DOGEUSD", inverse=True, settle="DOGE", underlying="DOGE", contract_size=1.0, lot=1.0, **FREE
            ),
            50, 0.08,
        ),
    ],
)  # fmt: skip
def test_a_pool_in_a_small_currency_is_watched(settings: dict, instrument, size: float, wick: float) -> None:
    """A wick takes an isolated position whose currency is worth a fraction of the account's."""
    flat_price = wick / 0.8
    frame = bars(flat_price, flat_price, (flat_price, flat_price, wick, flat_price), flat_price)
    broker = CrossMarginBroker(mode="isolated", leverage=10.0, check=True, **settings)
    run(broker, {1: lambda s: s.buy(size=size)}, (instrument, frame))
    (liquidated,) = [entry for entry in broker.journal if isinstance(entry, events.Liquidated)]
    assert liquidated.collateral == pytest.approx(liquidated.requirement)


def test_a_journal_brings_the_insurance_fund_back() -> None:
    """Paid in coin, counted in dollars at the price of the moment: the fund is what the journal says."""
    frame = bars(10_000.0, 10_000.0, 10_000.0, 8_800.0, 8_800.0)
    broker = CrossMarginBroker(
        cash=1_000.0, deposits={"BTC": 0.1}, mode="isolated", leverage=10.0, insurance_fund=500.0
    )
    run(broker, {1: lambda s: s.buy(s.datas[0], size=20)}, (INVERSE, frame), (COIN, frame))
    account = broker.account
    assert 0 < account.insurance_fund < 500.0
    listed = {symbol: book.instrument for symbol, book in account.books.items()}
    again = crossmargin_bt.engine.ledger.account.replay(broker.journal, account.rules, listed, **account.setup)
    assert again.insurance_fund == account.insurance_fund
    assert again.protected == account.protected


def test_a_repayment_leaves_no_other_debt_behind() -> None:
    """A coin is bought back with dollars that a floating loss has used: the other dollars pay for it."""
    btc = (10_000.0,) * 6
    eth = bars(1_000.0, 1_000.0, 1_000.0, (1_000.0, 1_000.0, 560.0, 560.0), 560.0, 560.0)
    coin = Instrument(symbol="ETH", underlying="ETH", lot=0.01, maintenance=flat_rate(0.01), maker=0.0, taker=0.0)
    broker = CrossMarginBroker(
        cash=5_000.0, deposits={"USDC": 7_000.0}, leverage=5.0, pooling="multi_currency",
        interest_rates={"BTC": 0.0, "USDT": 0.0}, check=True,
    )  # fmt: skip
    script = {1: lambda s: (s.sell(s.datas[0], size=1.0), s.buy(s.datas[1], size=26.0))}
    run(broker, script, (COIN, btc), (coin, eth))
    assert broker.account.balances["USDC"] < 1_000.0
    assert broker.currency("USDT").liability < 100.0


@pytest.mark.parametrize("venue", ["okx", "bybit", "generic"])
def test_a_debt_that_nothing_pays_back_stays(venue: str) -> None:
    """With no fund and no protection what a liquidation leaves below zero is owed; it is not liquidated for ever."""
    broker = CrossMarginBroker(
        cash=1_000.0, leverage=10.0, venue=venue, pooling="multi_currency", negative_balance_protection=False, insurance_fund=0.0
    )  # fmt: skip
    contract = msgspec.structs.replace(PERP, lot=0.1)
    falls = bars(*[100.0] * 3, *[80.0] * 20)
    strategy = run(broker, {1: lambda s: s.buy(size=90)}, (contract, falls))
    assert strategy.broker.equity < -500
    assert sum(isinstance(event, events.Liquidated) for event in broker.journal) == 1
    states = [event.state for event in broker.journal if isinstance(event, events.RiskState)]
    assert states[-1] == "closed_out"
    assert len(broker.journal) < 40


def test_a_debt_is_paid_back_once_there_is_something_to_pay_with() -> None:
    """Coins that come in later are exchanged for what is owed, as far as they reach; then there is nothing to do again."""
    broker = CrossMarginBroker(
        cash=1_000.0, leverage=10.0, pooling="multi_currency", negative_balance_protection=False, insurance_fund=0.0,
        prices={"ETH": 100.0}, deposits={"ETH": 0.0},
    )  # fmt: skip
    contract = msgspec.structs.replace(PERP, lot=0.1)
    falls = bars(*[100.0] * 3, *[80.0] * 20)
    script = {1: lambda s: s.buy(size=90), 10: lambda s: s.broker.transfer("ETH", 2.0)}
    run(broker, script, (contract, falls))
    converted = [event for event in broker.journal if isinstance(event, events.Converted)]
    assert [(event.currency, event.amount) for event in converted] == [("ETH", 2.0)]
    assert broker.account.balances["ETH"] == 0
    assert broker.equity < -500
    assert len(broker.journal) < 60
