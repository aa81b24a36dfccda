# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and futures with an end: prices and Greeks against QuantLib, margins, orders, expiry."""

from __future__ import annotations

from datetime import UTC, datetime

import backtrader as bt
import msgspec
import pandas as pd
import pytest
import QuantLib
from hypothesis import given
from hypothesis import strategies as st
from whole_accounts import CALL, FRIDAY, PUT, candles, refusals, replayed, run

from crossmargin_bt import CrossMarginBroker, Instrument, feeds, venues
from crossmargin_bt.candles.theoretical import theoretical_candles
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics, scenarios
from crossmargin_bt.engine.margin.modes import option
from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.terms.option_terms import OptionTerms
from crossmargin_bt.engine.terms.portfolio_terms import ChargeTier, Grid, UnitTerms, VolatilityShock
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.errors import FeedError, RuleError

INDEX = Instrument(symbol="BTC", underlying="BTC", lot=0.001, maintenance=flat_rate(0.005), maker=0.0, taker=0.0)
FUTURE = msgspec.structs.replace(INDEX, symbol="BTC-F", kind="future", expiry=FRIDAY)

OPTIONS = {
    "forward": st.floats(10.0, 1e5),
    "moneyness": st.floats(0.5, 2.0),
    "years": st.floats(1 / 365, 2.0),
    "volatility": st.floats(0.1, 2.0),
    "sign": st.sampled_from([1, -1]),
}


@given(**OPTIONS)
def test_prices_and_greeks_are_quantlibs(
    forward: float, moneyness: float, years: float, volatility: float, sign: int
) -> None:
    """Black-76 and its derivatives, to the ninth digit of an independent library."""
    strike = forward * moneyness
    kind = QuantLib.Option.Call if sign > 0 else QuantLib.Option.Put
    other = QuantLib.BlackCalculator(QuantLib.PlainVanillaPayoff(kind, strike), forward, volatility * years**0.5, 1.0)
    found = pricing.greeks(forward, strike, years, volatility, sign)
    scale = 1e-9 * forward
    assert pricing.price(forward, strike, years, volatility, sign) == pytest.approx(other.value(), rel=1e-9, abs=scale)
    assert found.delta == pytest.approx(other.deltaForward(), rel=1e-9, abs=1e-12)
    assert found.gamma == pytest.approx(other.gammaForward(), rel=1e-9, abs=1e-12)
    assert found.vega == pytest.approx(other.vega(years), rel=1e-9, abs=scale)
    # QuantLib's theta is by the year on the spot; on a forward without rates they are the same.
    later = pricing.price(forward, strike, years - 1e-6, volatility, sign)
    earlier = pricing.price(forward, strike, years + 1e-6, volatility, sign)
    assert found.theta * 365 == pytest.approx((later - earlier) / 2e-6, rel=1e-4, abs=1e-4 * forward)


@given(**OPTIONS)
def test_implied_volatility_is_the_one_it_was_priced_at(
    forward: float, moneyness: float, years: float, volatility: float, sign: int
) -> None:
    """Where the price says anything about it: the volatility found gives the price back."""
    strike = forward * moneyness
    value = pricing.price(forward, strike, years, volatility, sign)
    implied = pricing.implied_volatility(value, forward, strike, years, sign)
    assert pricing.price(forward, strike, years, implied, sign) == pytest.approx(value, rel=1e-9, abs=1e-9 * forward)


def account(*instruments: Instrument, cash: float = 10_000.0, index: float = 10_000.0, **changes) -> Account:
    """Return an account at which nothing costs a fee."""
    free = OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.075, fee=0.0)
    rules = msgspec.structs.replace(
        venues.load("generic").rules, maker=0.0, taker=0.0, **{"options": (free,), **changes}
    )
    made = Account(rules)
    for one in (INDEX, *instruments):
        made.list_instrument(one)
    made.set_mark("BTC", index)
    made.update_option_indices()
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=cash))
    return made


def trade(made: Account, symbol: str, size: float, price: float) -> None:
    made.set_mark(symbol, price)
    lots = made.books[symbol].instrument.lots(size)
    made.apply(fills.order_fill(made, 0, symbol, "net", number=1, lots=lots, price=price, maker=False))


def test_a_long_option_is_paid_and_keeps_nothing() -> None:
    """2 calls at 300: 600 leave the balance, equity keeps them, nothing is locked, no pool is at risk of them."""
    made = account(CALL)
    trade(made, "BTC-C", 2.0, 300.0)
    total = metrics.pool_balance(made, "USDT")
    assert (total.balance, total.option_value, total.equity, total.in_use) == (9_400.0, 600.0, 10_000.0, 0.0)
    made.set_mark("BTC-C", 0.01)
    (pool,) = metrics.pools(made)
    assert metrics.risk(made, pool) == (9_400.0, 0.0)


def test_a_short_call_locks_its_margin() -> None:
    """Sold at 300 with the index 1,000 below the strike: max(1,500 - 1,000, 1,000) + 300, kept 750 + 300."""
    made = account(CALL)
    trade(made, "BTC-C", -2.0, 300.0)
    total = metrics.pool_balance(made, "USDT")
    assert (total.balance, total.equity, total.in_use) == (10_600.0, 10_000.0, pytest.approx(2 * 1_300.0))
    (pool,) = metrics.pools(made)
    assert metrics.risk(made, pool) == (10_600.0, pytest.approx(2 * 1_050.0))


def test_a_spread_of_one_expiry_keeps_its_largest_loss_where_the_venue_says_so() -> None:
    """Short 1 call of 11,000, long 1 of 11,200: 200 at most, whatever the short alone would keep."""
    further = msgspec.structs.replace(CALL, symbol="BTC-C2", strike=11_200.0)
    capped = OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.075, fee=0.0, capped_by_payoff=True)
    made = account(CALL, further, options=(capped,))
    trade(made, "BTC-C", -1.0, 300.0)
    trade(made, "BTC-C2", 1.0, 250.0)
    assert metrics.pool_balance(made, "USDT").in_use == pytest.approx(200.0)
    assert metrics.risk(made, metrics.pools(made)[0]).requirement == pytest.approx(200.0)


def test_orders_lock_what_they_open_and_close() -> None:
    """A buy its premium, a sell the margin less the premium, closing orders next to nothing."""
    made = account(CALL)
    made.set_mark("BTC-C", 300.0)
    book = made.books["BTC-C"]
    book.orders[1] = OpenOrder(1, "net", 100, 280.0)
    assert option.in_use(book) == pytest.approx(280.0)
    book.orders = {2: OpenOrder(2, "net", -100, 320.0)}
    assert option.in_use(book) == pytest.approx(1_300.0 - 320.0)
    trade(made, "BTC-C", 1.0, 300.0)
    assert option.in_use(book) == 0.0


def test_premium_is_not_paid_out_of_floating_profit() -> None:
    """1,000 of balance all but locked, 2,000 of profit: a call of 500 has to wait, a perpetual need not."""
    script = {
        1: lambda s: s.buy(s.datas[0], size=0.9),
        3: lambda s: (s.buy(s.datas[1], size=1.0), s.buy(s.datas[0], size=0.1)),
    }
    closes = (10_000.0, 10_000.0, 12_000.0, 12_000.0, 12_000.0)
    calls = (600.0,) * 5
    strategy = run(CrossMarginBroker(venue="okx", cash=1_000.0, leverage=10.0), script, (INDEX, closes), (CALL, calls))
    (refused,) = refusals(strategy)
    assert refused.symbol == "BTC-C"
    assert "available balance" in refused.reason


@pytest.mark.parametrize(
    ("instrument", "ends", "settled", "profit"),
    [
        (CALL, 12_500.0, 1_500.0, 1_200.0),
        (CALL, 10_500.0, 0.0, -300.0),
        (PUT, 7_500.0, 1_500.0, 1_200.0),
        (FUTURE, 12_500.0, 12_500.0, 2_500.0),
    ],
)
def test_contracts_settle_at_their_expiry(instrument: Instrument, ends: float, settled: float, profit: float) -> None:
    """At 08:00, on the price of what they are on, without the strategy's doing; what still rests on them goes."""
    fee = OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.075, fee=0.0)
    start = 10_000.0 if instrument.kind == "future" else 300.0
    closes = (*(10_000.0,) * 7, ends, ends, ends)
    own = (start,) * 10
    later = {}
    script = {
        1: lambda s: s.buy(s.datas[1], size=1.0),
        3: lambda s: s.sell(s.datas[1], size=0.5, price=99_999.0, exectype=2),
        9: lambda s: later.update(order=s.buy(s.datas[1], size=1.0)),
    }
    broker = CrossMarginBroker(cash=20_000.0, leverage=5.0, check=True)
    broker.venue = msgspec.structs.replace(
        broker.venue, rules=msgspec.structs.replace(broker.venue.rules, options=(fee,))
    )
    broker.init()
    strategy = run(broker, script, (INDEX, closes), (instrument, own))
    (expired,) = [entry for entry in broker.journal if isinstance(entry, events.Expired)]
    assert (expired.price, expired.underlying) == (settled, ends)
    assert expired.time_ms == FRIDAY.timestamp() * 1000
    assert broker.equity == pytest.approx(20_000.0 + profit)
    assert strategy.trades_closed == [(0, pytest.approx(profit))]
    assert [entry.reason for entry in broker.journal if isinstance(entry, events.OrderRemoved)][-1] == "expired"
    assert "expired at 2025-01-01 08:00:00+00:00" in refusals(strategy)[-1].reason
    assert replayed(broker, INDEX, instrument).balances == broker.account.balances


def test_a_coin_settled_option_pays_in_coin() -> None:
    """A put of 9,000 at 7,500: 1,500 / 7,500 = 0.2 BTC."""
    put = msgspec.structs.replace(PUT, settle="BTC", quote="USDT")
    closes = (*(10_000.0,) * 7, 7_500.0, 7_500.0)
    broker = CrossMarginBroker(cash=1_000.0, deposits={"BTC": 1.0}, check=True, venue="deribit")
    run(broker, {1: lambda s: s.buy(s.datas[1], size=1.0)}, (INDEX, closes), (put, (0.03,) * 9))
    # The premium, and a fee of 0.03 % of a coin.
    assert broker.account.balances["BTC"] == pytest.approx(1.0 - 0.03 - 0.0003 + 0.2)


def test_a_short_call_is_liquidated_as_its_underlying_rises() -> None:
    """Maintenance margin of a call is 0.075 S + mark: the index runs away and the short is bought back; a long beside it stays."""
    further = msgspec.structs.replace(CALL, symbol="BTC-C2", strike=20_000.0)
    closes = (10_000.0, 10_000.0, 11_000.0, 13_000.0, 14_000.0, 14_000.0)
    calls = (300.0, 300.0, 700.0, 2_100.0, 3_050.0, 3_050.0)
    script = {1: lambda s: (s.sell(s.datas[1], size=1.0), s.buy(s.datas[2], size=1.0))}
    broker = CrossMarginBroker(cash=2_000.0, leverage=5.0, check=True)
    run(broker, script, (INDEX, closes), (CALL, calls), (further, (10.0,) * 6))
    (liquidated,) = [entry for entry in broker.journal if isinstance(entry, events.Liquidated)]
    assert liquidated.collateral == pytest.approx(liquidated.requirement)
    closed = [entry for entry in broker.journal if isinstance(entry, events.Filled) and entry.forced]
    assert {entry.symbol for entry in closed} == {"BTC-C"}
    assert broker.getposition(broker.cerebro.datas[2]).size == 1.0


def test_theoretical_candles_follow_their_underlying() -> None:
    """A call rises with its underlying, a put falls; each bar's prices are the model's, and they end before the expiry."""
    frame = candles(10_000.0, 10_500.0, 9_500.0, 9_800.0, 9_900.0, 9_900.0, 9_900.0, 9_900.0, 9_900.0, 9_900.0)
    call, put = (theoretical_candles(frame, one, 3.0) for one in (CALL, PUT))
    assert len(call) == 8
    assert call["open"].iloc[2] > call["open"].iloc[1]
    assert put["open"].iloc[2] < put["open"].iloc[1]
    at = pricing.price(10_500.0, 11_000.0, 6 / 24 / 365, 3.0, 1)
    assert call["open"].iloc[2] == pytest.approx(max(at, 1e-6))
    coin = theoretical_candles(frame, msgspec.structs.replace(PUT, settle="BTC"), lambda strike, years, time: 3.0)
    assert coin["open"].iloc[2] == pytest.approx(max(1e-6, put["open"].iloc[2] / 10_500.0))
    assert (call["high"] >= call[["open", "close"]].max(axis=1)).all()
    frame["vol"] = 3.0
    assert theoretical_candles(frame, CALL, "vol").equals(call)


@pytest.mark.parametrize(
    ("changes", "volatility", "text"),
    [
        ({"kind": "perpetual", "expiry": None, "strike": None, "option": None}, 0.5, "is not an option"),
        ({}, 0.0, "must be above 0"),
        ({}, "iv", "no column 'iv'"),
        ({"expiry": datetime(2020, 1, 1, tzinfo=UTC)}, 0.5, "no bar of the underlying is before the expiry"),
    ],
)
def test_theoretical_candles_say_what_is_wrong(changes: dict, volatility, text: str) -> None:
    """Which instrument, and what about it."""
    with pytest.raises(FeedError, match=text):
        theoretical_candles(candles(10_000.0, 10_000.0), msgspec.structs.replace(CALL, **changes), volatility)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"kind": "spot"}, "spot needs an underlying coin"),
        ({"kind": "spot", "underlying": "USDT"}, "needs a settle currency other than"),
        ({"kind": "future", "underlying": "BTC"}, "need an expiry"),
        ({"expiry": FRIDAY}, "must have none"),
        ({"kind": "future", "expiry": datetime(2025, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - what is tested
        ({"kind": "option", "underlying": "BTC", "expiry": FRIDAY}, "needs a strike"),
        ({"strike": 5.0}, "must have neither"),
        ({"kind": "margin", "underlying": "BTC", "inverse": True}, "inverse is for perpetuals"),
    ],
)
def test_instruments_that_cannot_be(facts: dict, text: str) -> None:
    """A kind has what belongs to it and nothing else."""
    with pytest.raises(RuleError, match=text):
        Instrument(symbol="X", **facts)


def test_greeks_are_read_off_the_broker() -> None:
    """With the volatility of its candles, or the one its mark implies."""
    frame = candles(*(10_000.0,) * 6)
    seen = {}
    script = {3: lambda s: seen.update(found=s.broker.greeks(s.datas[1]))}
    import backtrader as bt  # noqa: PLC0415 - only here
    from scripted import Scripted  # noqa: PLC0415

    for drop in ([], ["volatility"]):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feeds.from_frame(frame, name="BTC", instrument=INDEX))
        option_frame = theoretical_candles(frame, CALL, 3.0).drop(columns=drop)
        cerebro.adddata(feeds.from_frame(option_frame, name="BTC-C", instrument=CALL))
        cerebro.setbroker(CrossMarginBroker())
        cerebro.addstrategy(Scripted, script=script)
        cerebro.run()
        years = 6 / 24 / 365
        expected = pricing.greeks(10_000.0, 11_000.0, years, 3.0, 1)
        assert seen["found"].delta == pytest.approx(expected.delta, rel=0.2)
    assert pd.Timestamp(FRIDAY).hour == 8


def test_hedges_between_dollars_are_charged() -> None:
    """10,000,000 hedged between two dollars in OKX's printed tiers, 0.75, 1.75 and 2.5 %: 202,500 (MR9)."""
    tiers = (ChargeTier(0.0, 0.0075), ChargeTier(1e6, 0.0175), ChargeTier(5e6, 0.025))
    terms = UnitTerms(grids=(Grid((0.0,)),), volatility=VolatilityShock(up=0.0, down=0.0), peg=tiers)
    unit = scenarios.RiskUnit(
        1.0, (scenarios.LinearPosition(1e7, 1.0), scenarios.LinearPosition(-1e7, 1.0)), peg_hedges=(1e7, 0.0, 0.0)
    )
    assert scenarios.scenario_margin(terms, unit).maintenance == pytest.approx(202_500.0)


def test_dollars_are_matched_in_turn() -> None:
    """Long in USDT, short the same in USDC: hedged across a peg; both in USDT: not."""
    other = msgspec.structs.replace(INDEX, symbol="BTC-USDC", settle="USDC")
    kept = {}
    for settle, second in (("USDT", msgspec.structs.replace(INDEX, symbol="BTC-2")), ("USDC", other)):
        made = Account(venues.load("okx").rules, portfolio=True, prices={"USDC": 1.0})
        for one in (INDEX, second):
            made.list_instrument(one)
            made.set_mark(one.symbol, 10_000.0)
        made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=1e6))
        trade(made, "BTC", 10.0, 10_000.0)
        trade(made, second.symbol, -10.0, 10_000.0)
        kept[settle] = metrics.risk(made, metrics.pools(made)[0]).requirement
    assert kept["USDC"] - kept["USDT"] == pytest.approx(100_000.0 * 0.005)


def test_an_interest_rate_discounts_what_a_portfolio_holds() -> None:
    """The column of an option's candles reaches its risk unit as a discount factor."""
    frame = candles(*(300.0,) * 4).assign(volatility=0.6, interest_rate=0.2)
    later = msgspec.structs.replace(CALL, expiry=datetime(2026, 1, 1, 3, tzinfo=UTC))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(candles(*(10_000.0,) * 4), name="BTC", instrument=INDEX))
    cerebro.adddata(feeds.from_frame(frame, name="BTC-C", instrument=later))
    cerebro.setbroker(CrossMarginBroker(mode="portfolio", venue="derive"))
    cerebro.addstrategy(bt.Strategy)
    account = cerebro.run()[0].broker.account
    assert account.books["BTC-C"].interest_rate == 0.2


def test_a_lost_peg_raises_the_initial_margin() -> None:
    """Derive, one perpetual at 3,000 with the account's dollar at 0.9: 540 x (1 + 2 x 0.08) + 60; kept 540 x 0.8 + 45."""
    rules = msgspec.structs.replace(venues.load("derive").rules, maker=0.0, taker=0.0)
    made = Account(rules, portfolio=True, prices={"USD": 1 / 0.9})
    made.list_instrument(INDEX)
    made.set_mark("BTC", 3_000.0)
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=10_000.0))
    trade(made, "BTC", 1.0, 3_000.0)
    assert metrics.pool_balance(made, "USDT").in_use == pytest.approx(540.0 * 1.16 + 60.0)
    assert metrics.risk(made, metrics.pools(made)[0]).requirement == pytest.approx(540.0 * 0.8 + 45.0)
