# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin_bt.batch` against the broker: every account ends as a run of the broker does, bit for bit."""

import math
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_origin, get_type_hints

import backtrader as bt
import msgspec
import numpy as np
import pandas as pd
import pytest
from budget import examples
from compared import frame_of
from hypothesis import assume, given
from hypothesis import strategies as st
from places import PROJECT

import crossmargin_bt as cm
from crossmargin_bt import batch, venues
from crossmargin_bt.batch.layout import OrderSchedule, PositionArrays, RestingOrders
from crossmargin_bt.batch.market import Market
from crossmargin_bt.batch.rule_support import (
    ANY,
    BROKER_FALLBACK,
    NOT_APPLICABLE,
    PER_CONTRACT,
    SUPPORT,
    unsupported_rules,
)
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.engine.math.intrabar_path import Candle, candle_path
from crossmargin_bt.engine.terms.rates import flat_rate, tier_table
from crossmargin_bt.engine.terms.rules import ContractTerms, Rules
from crossmargin_bt.engine.terms.volatility import VolatilityScaling
from crossmargin_bt.errors import ConfigurationError, FeedError

pytest.importorskip("numba")
broker_fallback = pytest.importorskip("crossmargin_bt.batch.broker_fallback")
resting = pytest.importorskip("crossmargin_bt.batch.resting")

VENUES = ("generic", "okx", "binance", "bitget", "kucoin", "gate", "kraken", "binance_coinm", "bybit", "derive", "dydx")
MODES = ("cross", "isolated")
KEEP_FEES_WITH_MARGINS = ("bybit", "kucoin")
"""Venues that hold the closing fee in an isolated margin (KuCoin until 2025-05-22), which a batch does not know."""
MARKETS_AND_ACCOUNTS: dict[str, Any] = {
    "seed": st.integers(0, 10_000),
    "count": st.integers(1, 3),
    "venue": st.sampled_from(VENUES),
    "mode": st.sampled_from(MODES),
    "leverage": st.sampled_from([1.0, 3.0, 10.0, 20.0, 50.0]),
    "path": st.sampled_from(["path", "path", "adverse", "close"]),
    "wild": st.sampled_from([0.3, 1.0, 2.0]),
    "marked": st.booleans(),
    "funded": st.booleans(),
}


def markets(
    seed: int, count: int, bars: int, *, wild: float, marked: bool, funded: bool, inverse: bool
) -> list[Candles]:
    """Return markets on the same bars, optionally with mark prices and funding every eight bars; odd seeds have missing bars."""
    found = []
    for n in range(count):
        frame = frame_of(seed * 11 + n, bars + bars // 10)
        kept = np.sort(np.random.default_rng(seed).permutation(len(frame))[:bars]) if seed % 2 else np.arange(bars)
        frame = frame.iloc[kept]
        centre = frame["close"].iloc[0]
        prices = ["open", "high", "low", "close"]
        frame[prices] = centre * (frame[prices] / centre) ** wild
        random = np.random.default_rng(seed + n)
        if marked:
            for name in prices:
                frame[f"mark_{name}"] = frame[name] * (1 + random.normal(0, 0.0005))
            frame["mark_high"] = frame[[f"mark_{name}" for name in prices]].max(axis=1)
            frame["mark_low"] = frame[[f"mark_{name}" for name in prices]].min(axis=1)
        funding = None
        if funded:
            funding = pd.Series(random.normal(0, 0.002, len(frame.index[::8])), index=frame.index[::8])
        facts: dict[str, Any] = {"inverse": True, "settle": "BTC", "contract_size": 1.0} if inverse else {}
        found.append(
            Candles(f"S{n}", frame, funding, cm.Instrument(symbol=f"S{n}", lot=1.0 if inverse else 0.01, **facts))
        )
    return found


def same(
    candles: list[Candles],
    targets: Any,
    account: batch.BatchAccount,
    venue: str | venues.Venue,
    path: str = "path",
    orders: batch.LimitOrders | None = None,
) -> batch.BatchResult:
    """Assert that an account of a batch ends exactly as a run of the broker over all bars."""
    placed = [] if orders is None else [orders]
    asked = account if orders is None else account._replace(orders=0)
    (found,) = batch.simulate(candles, [targets], [asked], orders=placed, venue=venue, path=path, curves=True)
    market = Market(candles, venue)
    whole = broker_fallback.run_with_broker(
        market.frames,
        OrderSchedule(market.target_sizes(targets), None if orders is None else market.limit_orders(orders)),
        None,
        {
            "venue": market.venue, "mode": account.mode, "leverage": account.leverage, "cash": account.cash,
            "currency": candles[0].instrument.settle, "path": path,
        },
    )  # fmt: skip
    assert found.curve.tolist() == whole.curve
    assert found.equity == whole.curve[-1]
    sums = (found.fees, found.funding, found.bad_debt)
    assert sums == (whole.sums["fees"], whole.sums["funding"], whole.sums["bad_debt"])
    counts = (found.fills, found.refused, found.warnings, found.liquidations)
    too_small = 0 if orders is None else market.limit_orders(orders).too_small
    assert counts == (whole.fills, whole.refused + too_small, whole.warnings, whole.liquidations)
    return found


@examples(15)
@given(
    **MARKETS_AND_ACCOUNTS,
    exposure=st.sampled_from([0.3, 1.0, 5.0, 15.0]),
)
def test_every_account_ends_as_the_broker_ends_it(
    seed: int,
    count: int,
    venue: str,
    mode: str,
    leverage: float,
    path: str,
    exposure: float,
    wild: float,
    marked: bool,
    funded: bool,
) -> None:
    """Equal equity of every bar, fees, funding, fills, refusals and liquidations: linear and inverse, tiers, partial liquidations."""
    inverse = venue == "binance_coinm"
    assume(venue not in KEEP_FEES_WITH_MARGINS or mode == "cross")
    candles = markets(seed, count, 160, wild=wild, marked=marked, funded=funded, inverse=inverse)
    random = np.random.default_rng(seed)
    targets = np.full((160, count), np.nan)
    changes = random.random(targets.shape) < 0.1
    cash = 10.0 if inverse else 10_000.0
    unit = cash * 100.0 if inverse else cash / 100.0
    targets[changes] = random.choice([0.0, 1.0, -1.0, 2.5], changes.sum()) * unit * exposure / count
    same(candles, targets, batch.BatchAccount(0, leverage, mode, cash), venue, path)


def placed(
    random: np.random.Generator, candles: list[Candles], slots: int, *, often: float, away: float, unit: float
) -> batch.LimitOrders:
    """Return limit orders around the closes, some marketable, placed, replaced and cancelled at random."""
    bars = len(candles[0].frame)
    sizes, prices = np.full((2, bars, len(candles), slots), np.nan)
    said = random.random(sizes.shape) < often
    sizes[said] = random.choice([0.0, 1.0, -1.0, 2.5, -0.7], said.sum()) * unit
    for n, one in enumerate(candles):
        close = one.frame["close"].to_numpy()[:, None]
        prices[:, n] = close * (1 - np.sign(sizes[:, n]) * random.normal(away, 2 * away, (bars, slots)))
    return batch.LimitOrders(sizes, prices)


@examples(15)
@given(
    **MARKETS_AND_ACCOUNTS,
    slots=st.integers(1, 4),
    exposure=st.sampled_from([0.05, 0.3, 1.0, 5.0, 15.0]),
    often=st.sampled_from([0.02, 0.1, 0.5]),
    away=st.sampled_from([0.0, 0.002, 0.01]),
    ticks=st.booleans(),
    with_targets=st.booleans(),
)
def test_every_account_with_limit_orders_ends_as_the_broker_ends_it(
    seed: int,
    count: int,
    slots: int,
    venue: str,
    mode: str,
    leverage: float,
    path: str,
    exposure: float,
    wild: float,
    often: float,
    away: float,
    ticks: bool,
    marked: bool,
    funded: bool,
    with_targets: bool,
) -> None:
    """Fills along the intrabar paths, as maker and as taker, orders offset against positions, refused, cancelled by the venue."""
    inverse = venue == "binance_coinm"
    assume(venue not in KEEP_FEES_WITH_MARGINS or mode == "cross")
    candles = markets(seed, count, 160, wild=wild, marked=marked, funded=funded, inverse=inverse)
    if ticks:
        candles = [one._replace(instrument=msgspec.structs.replace(one.instrument, tick=0.05)) for one in candles]
    random = np.random.default_rng(seed)
    cash = 10.0 if inverse else 10_000.0
    unit = (cash * 100.0 if inverse else cash / 100.0) * exposure / count
    targets = np.full((160, count), np.nan)
    if with_targets:
        changes = random.random(targets.shape) < 0.05
        targets[changes] = random.choice([0.0, 1.0, -1.0, 2.5], changes.sum()) * unit
    orders = placed(random, candles, slots, often=often, away=away, unit=unit / 2)
    same(candles, targets, batch.BatchAccount(0, leverage, mode, cash), venue, path, orders)


class Quoter(bt.Strategy):
    """Two limit orders per side, requoted every five bars."""

    def __init__(self) -> None:
        """Start without quotes."""
        self.quotes: list[Any] = []

    def next(self) -> None:
        """Cancel all quotes and place new ones."""
        if len(self) % 5:
            return
        for order in self.quotes:
            self.cancel(order)
        price = self.data.close[0]
        self.quotes = [self.buy(size=1.0, exectype=bt.Order.Limit, price=price * (1 - off)) for off in (0.004, 0.008)]
        self.quotes += [self.sell(size=1.0, exectype=bt.Order.Limit, price=price * (1 + off)) for off in (0.004, 0.008)]


def test_limit_orders_of_a_batch_are_those_of_a_strategy() -> None:
    """A quoting strategy of backtrader and the same orders as arrays give the same equity, without a bar of the broker."""
    (market,) = markets(3, 1, 500, wild=1.0, marked=False, funded=False, inverse=False)
    broker = cm.CrossMarginBroker(cash=100_000.0, leverage=10.0)
    cerebro = cm.Cerebro(stdstats=False)
    cerebro.setbroker(broker)
    cerebro.adddata(cm.feeds.from_frame(market.frame, name="S0", instrument=market.instrument))
    cerebro.addstrategy(Quoter)
    cerebro.run()
    close = market.frame["close"].to_numpy()
    sizes, prices = np.full((2, 500, 4), np.nan)
    sizes[4::5] = [1.0, 1.0, -1.0, -1.0]
    prices[4::5] = close[4::5, None] * [1 - 0.004, 1 - 0.008, 1 + 0.004, 1 + 0.008]
    account = batch.BatchAccount(targets=None, leverage=10.0, cash=100_000.0, orders=0)
    (found,) = batch.simulate([market], [], [account], orders=[batch.LimitOrders(sizes, prices)])
    assert found.fills == broker.fills > 100
    assert found.equity == broker.getvalue()
    assert found.broker_bars == 0


def test_covered_lots_of_resting_orders_equal_the_brokers() -> None:
    """Limit orders beside a position and a market order: each reserves margin for the lots that it would open."""
    (market,) = markets(2, 1, 40, wild=0.1, marked=False, funded=False, inverse=False)
    random = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        sizes, prices = np.full((2, 40, 4), np.nan)
        sizes[20:24] = np.where(random.random((4, 4)) < 0.5, random.integers(-30, 31, (4, 4)), np.nan)
        prices[:] = 100.0 * (1 - 0.2 * np.sign(np.nan_to_num(sizes)))
        targets = np.full(40, np.nan)
        targets[[10, 20, 22]] = random.integers(-20, 21, 3)
        wide = Market([market], "generic")
        schedule = OrderSchedule(wide.target_sizes(targets), wide.limit_orders(batch.LimitOrders(sizes, prices)))
        account = batch.BatchAccount(0, 10.0, "cross", 1e6, 0)
        settings_of = {
            "venue": wide.venue,
            "mode": "cross",
            "leverage": 10.0,
            "cash": 1e6,
            "currency": "USDT",
            "path": "path",
        }
        whole = broker_fallback.run_with_broker(wide.frames, schedule, None, settings_of)
        orders = resting_after(wide, account, schedule)
        assert orders == whole.orders
        seen |= {order.covered == abs(order.lots) for order in orders}
    assert seen == {True, False}


def resting_after(market: Market, account: batch.BatchAccount, schedule: OrderSchedule) -> list[Any]:
    """Return the resting limit orders after the last bar of the compiled loop."""
    held, orders = PositionArrays.empty(1), RestingOrders.empty(1, 4)
    assert schedule.limit_orders is not None
    (period,) = market.periods
    money, counts = np.array([account.cash, 0.0, 0.0, account.cash, 0.0]), np.zeros(4, np.int64)
    ended = batch.simulation.compiled_loop().run(
        0, market.bars, market.last, market.mark, market.funding, False, schedule.targets, period.contracts,
        period.tables("cross"), period.levels, period.terms(account, market.path), *held, money, counts, np.zeros(0), orders.bounds, *schedule.limit_orders[:-1],
        orders.orders, orders.prices,
    )  # fmt: skip
    assert ended == market.bars - 1
    return orders.by_arrival()


def test_the_loop_reaches_a_level_when_the_engines_path_does() -> None:
    """For either order of the extremes, and for levels equal to a corner of the path."""
    random = np.random.default_rng(1)
    for _ in range(500):
        opened, close = random.integers(95, 105, 2) / 1.0
        candle = Candle(
            opened, max(opened, close) + random.integers(0, 4), min(opened, close) - random.integers(0, 4), close
        )
        level = random.integers(int(candle.low * 4), int(candle.high * 4) + 1) / 4
        for low_first in (False, True):
            expected = candle_path(candle, low_first=low_first).reaches(level)
            assert resting.moment_reached(np.array([[candle]]), 0, 0, level, low_first) == expected


def test_a_liquidation_is_processed_by_the_broker_and_the_loop_continues() -> None:
    """Liquidation in phases by OKX's rules; the refusals that follow need no further bars of the broker."""
    frame = frame_of(5, 400)
    falls = np.linspace(1.0, 0.5, 400)
    frame[["open", "high", "low", "close"]] = frame[["open", "high", "low", "close"]].to_numpy() * falls[:, None]
    candles = [Candles("BTC-USDT-SWAP", frame, None, cm.Instrument(symbol="BTC-USDT-SWAP", lot=0.01))]
    found = same(candles, np.full(400, 1500.0), batch.BatchAccount(0, 20.0, "cross", 12_000.0), "okx")
    assert found.liquidations >= 1
    assert found.refused > 50
    assert found.broker_bars < 200


@pytest.mark.parametrize("mode", MODES)
def test_an_order_may_fit_because_of_a_rebate(mode: str) -> None:
    """The lower bound on the cost of an opening order includes a negative fee."""
    index = pd.date_range("2024-01-01", periods=40, freq="h")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 100.0), index=index)
    instrument = cm.Instrument(symbol="S0", lot=0.01, maker=0.0, taker=-0.001, maintenance=flat_rate(0.005))
    found = same(
        [Candles("S0", frame, None, instrument)],
        np.full(40, 100.5),
        batch.BatchAccount(0, 10.0, mode, 1000.0),
        "generic",
    )
    assert found.fills == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_warned_account_continues_in_the_compiled_loop(mode: str) -> None:
    """OKX warns at 300 %: once per crossing, however long the account stays below it."""
    frame = frame_of(7, 600)
    falls = np.repeat([1.0, 0.9875, 1.0, 0.9875, 1.0], [50, 250, 50, 200, 50])
    frame[["open", "high", "low", "close"]] = 1000.0 * falls[:, None] * [1.0, 1.0005, 0.9995, 1.0]
    instrument = cm.Instrument(symbol="S0", lot=0.01, maintenance=flat_rate(0.004))
    account = batch.BatchAccount(0, 50.0, mode, 2_100.0)
    found = same([Candles("S0", frame, None, instrument)], np.full(600, 95.0), account, "okx")
    assert found.liquidations == 0
    assert found.warnings == 2
    assert found.broker_bars < 50, "450 bars are below the level"


def test_an_account_far_from_its_limits_needs_no_bar_of_the_broker() -> None:
    """All bars of a low-leverage account are processed by the compiled loop."""
    candles = markets(1, 2, 300, wild=1.0, marked=True, funded=True, inverse=False)
    targets = np.sign(np.random.default_rng(1).normal(size=(300, 2))) * 5
    found = same(candles, targets, batch.BatchAccount(0, 10.0, "cross", 100_000.0), "binance")
    assert found.broker_bars == 0
    assert found.fills > 200


def test_orders_of_less_than_a_lot_are_refused() -> None:
    """As a target at any bar's end, the last included, and as a limit order; rounding errors are not orders."""
    (market,) = markets(2, 1, 3, wild=1.0, marked=False, funded=False, inverse=False)
    found = same([market], np.array([0.3, 0.1 + 0.2, 0.305]), batch.BatchAccount(cash=1000), "generic")
    assert (found.fills, found.refused) == (1, 1)
    orders = batch.LimitOrders(np.array([[0.005], [0.0], [1e-12]]), np.full((3, 1), 90.0))
    assert same([market], np.full(3, np.nan), batch.BatchAccount(), "generic", orders=orders).refused == 1
    one = market._replace(frame=market.frame.iloc[:1])
    assert same([one], np.array([0.004]), batch.BatchAccount(), "generic").refused == 1


def test_threads_change_nothing() -> None:
    """Results are in the order of the accounts."""
    candles = markets(2, 1, 200, wild=1.5, marked=False, funded=True, inverse=False)
    targets = [np.sign(np.random.default_rng(n).normal(size=200)) * 400 for n in range(3)]
    asked = batch.accounts(3, leverages=(2.0, 20.0), modes=MODES, cash=(5000.0,))
    assert len(asked) == 12
    alone = batch.simulate(candles, targets, asked, venue="okx")
    assert alone == batch.simulate(candles, targets, asked, venue="okx", workers=2)
    assert [one.account for one in alone] == asked


def test_unsupported_inputs_are_refused() -> None:
    """The message names the input and the alternative."""
    candles = markets(1, 2, 50, wild=1.0, marked=False, funded=False, inverse=False)
    account = [batch.BatchAccount()]
    flat_targets = np.zeros((50, 2))
    with pytest.raises(ConfigurationError, match=r"no table of tiers.*\(venue hyperliquid\); use the broker"):
        batch.simulate(candles, [flat_targets], account, venue="hyperliquid")
    with pytest.raises(ConfigurationError, match=r"closing fees kept with isolated margins \(venue bybit\)"):
        batch.simulate(candles, [flat_targets], [batch.BatchAccount(mode="isolated")], venue="bybit")
    with pytest.raises(ConfigurationError, match=r"modes must be a sequence, got 'cross'; write \('cross',\)"):
        batch.accounts(1, modes="cross")
    with pytest.raises(ConfigurationError, match="workers must be a whole number of at least 1, got 0"):
        batch.simulate(candles, [flat_targets], account, workers=0)
    with pytest.raises(ConfigurationError, match=r"write \[targets\] for a single one"):
        batch.simulate(candles[:1], flat_targets[:, 0], account)  # type: ignore[arg-type]  # what is tested
    for not_a_list in (candles[0], [candles[0].frame]):
        with pytest.raises(FeedError, match=r"a list of batch\.Candles"):
            batch.simulate(not_a_list, [flat_targets], account)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="modes 'cross' and 'isolated', got 'portfolio'"):
        batch.simulate(candles, [flat_targets], [batch.BatchAccount(mode="portfolio")])
    with pytest.raises(ConfigurationError, match=r"shape \(49, 2\), candles are 50 bars of 2 markets"):
        batch.simulate(candles, [flat_targets[1:]], account)
    with pytest.raises(ConfigurationError, match="the account names index 1"):
        batch.simulate(candles, [flat_targets], [batch.BatchAccount(1)])
    with pytest.raises(ConfigurationError, match=r"a target of 1e\+200 contracts of S0 is too large"):
        batch.simulate(candles, [flat_targets + 1e200], account)
    with pytest.raises(ConfigurationError, match="0 arrays of limit orders, the account names index 0"):
        batch.simulate(candles, [flat_targets], [batch.BatchAccount(orders=0)])
    quotes = batch.LimitOrders(np.ones((50, 2, 1)), np.full((50, 2, 1), 100.0))
    nowhere = quotes._replace(prices=np.where(np.arange(50) == 7, -1.0, 100.0)[:, None, None] + np.zeros((50, 2, 1)))
    with pytest.raises(ConfigurationError, match="limit order of bar 7, S0, slot 0 has the price -1; give one above 0"):
        batch.simulate(candles, [flat_targets], account, orders=[nowhere])
    coarse = candles[0]._replace(instrument=cm.Instrument(symbol="S0", lot=0.01, tick=0.5))
    low = batch.LimitOrders(np.ones((50, 1)), np.full((50, 1), 0.4))
    with pytest.raises(ConfigurationError, match="has the price 0 on its ticks; give one above 0"):
        batch.simulate([coarse], [], [batch.BatchAccount(None, orders=0)], orders=[low])
    with pytest.raises(ConfigurationError, match=r"sizes of shape \(50, 2, 1\) and prices of \(49, 2, 1\)"):
        batch.simulate(candles, [flat_targets], account, orders=[quotes._replace(prices=quotes.prices[1:])])
    with pytest.raises(ConfigurationError, match=r"shape \(50, 1, 1\), candles are 50 bars of 2 markets"):
        batch.simulate(candles, [flat_targets], account, orders=[batch.LimitOrders(*(one[:, :1] for one in quotes))])
    with pytest.raises(ConfigurationError, match="infinite"):
        batch.simulate(candles, [flat_targets + np.inf], account)
    with pytest.raises(FeedError, match="S1 and S0 have different bars"):
        batch.simulate([candles[0], candles[1]._replace(frame=candles[1].frame.iloc[1:])], [flat_targets], account)
    coin = Candles(
        "C/USDT", candles[0].frame, None, cm.Instrument(symbol="C/USDT", kind="spot", underlying="C", lot=0.1)
    )
    with pytest.raises(ConfigurationError, match="C/USDT, which is of kind 'spot'"):
        batch.simulate([coin], [flat_targets[:, :1]], account)
    steep = cm.Instrument(symbol="S0", lot=0.01, leverage_max=5.0, maintenance=flat_rate(0.01))
    with pytest.raises(ConfigurationError, match="leverage 10 of S0 is above its maximum of 5"):
        batch.simulate([candles[0]._replace(instrument=steep)], [flat_targets[:, :1]], account)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"accounts": batch.BatchAccount()}, r"accounts must be a list of batch\.BatchAccount"),
        ({"accounts": [(0, 10.0)]}, r"accounts must be a list of batch\.BatchAccount"),
        ({"accounts": [batch.BatchAccount(targets="0")]}, "the account names index '0'"),
        ({"accounts": [batch.BatchAccount(targets=0.0)]}, r"the account names index 0\.0"),
        ({"accounts": [batch.BatchAccount(leverage="10")]}, "leverage of S0 must be a number, got '10'"),
        ({"accounts": [batch.BatchAccount(cash=math.inf)]}, "cash must be above 0, got inf"),
        ({"accounts": [batch.BatchAccount(cash="1000")]}, "cash must be a number, got '1000'"),
        (
            {"orders": batch.LimitOrders(np.ones((50, 1)), np.ones((50, 1)))},
            r"orders must be a list of batch\.LimitOrders",
        ),
        ({"workers": "2"}, "workers must be a whole number of at least 1, got '2'"),
        ({"workers": 1.5}, "workers must be a whole number of at least 1"),
        ({"targets": [["long"] * 50]}, "targets must be arrays of numbers"),
        ({"targets": [np.ones(50) * 1j]}, "targets must be arrays of numbers, got complex128"),
        ({"targets": [pd.Series(np.ones(50))]}, "targets have other times than the candles"),
    ],
)
def test_invalid_arguments_are_refused(changes: dict[str, Any], text: str) -> None:
    """No invalid argument leads to an internal error."""
    candles = markets(1, 1, 50, wild=1.0, marked=False, funded=False, inverse=False)
    given = {"targets": [np.ones(50)], "accounts": [batch.BatchAccount()]} | changes
    with pytest.raises(ConfigurationError, match=text):
        batch.simulate(candles, **given)


@pytest.mark.parametrize("given", [-1, "3", 2.0, None])
def test_accounts_take_a_count_or_indices(given: Any) -> None:
    """Any other argument is refused."""
    with pytest.raises(ConfigurationError, match="targets must be the number of arrays"):
        batch.accounts(given)
    assert batch.accounts(np.int64(2), orders=np.int64(1), leverages=np.array([5, 10])) == batch.accounts(
        [0, 1], orders=[0], leverages=(5, 10)
    )


def test_targets_with_columns_and_accounts_of_numpy_numbers() -> None:
    """One column per symbol in any order; a frame of other symbols is refused."""
    candles = markets(1, 2, 50, wild=1.0, marked=False, funded=False, inverse=False)
    plain = np.column_stack([np.linspace(-5, 5, 50), np.linspace(9, 1, 50)])
    named = pd.DataFrame(plain[:, ::-1], index=candles[0].frame.index, columns=["S1", "S0"])
    asked = [batch.BatchAccount(leverage=np.int64(10), cash=np.float32(10_000.0))]
    (found,), (expected,) = (
        batch.simulate(candles, [named], asked),
        batch.simulate(candles, [plain], [batch.BatchAccount()]),
    )
    assert found[1:] == expected[1:]
    with pytest.raises(ConfigurationError, match="targets have the columns S1, S9; give one for each of S0, S1"):
        batch.simulate(candles, [named.rename(columns={"S0": "S9"})], asked)


def test_candles_may_have_their_times_in_a_column() -> None:
    """As for feeds; markets at other times are refused, and the broker processes the same bars."""
    candles = markets(3, 2, 200, wild=3.0, marked=True, funded=True, inverse=False)
    listed = [one._replace(frame=one.frame.reset_index(names="date")) for one in candles]
    targets = np.sign(np.random.default_rng(3).normal(size=(200, 2))) * 400
    (found,), (expected,) = (
        batch.simulate(one, [targets], [batch.BatchAccount(leverage=20.0)]) for one in (listed, candles)
    )
    assert found == expected
    assert found.broker_bars > 0
    late = listed[1]._replace(frame=listed[1].frame.assign(date=listed[1].frame["date"] + pd.Timedelta("3h")))
    with pytest.raises(FeedError, match="S1 and S0 have different bars"):
        batch.simulate([listed[0], late], [targets], [batch.BatchAccount()])


def test_unsound_candles_are_refused() -> None:
    """The same contract twice, a close outside high and low, funding that is not a number."""
    one, other = markets(3, 2, 50, wild=1.0, marked=True, funded=False, inverse=False)
    with pytest.raises(FeedError, match="two of the candles are of the same instrument"):
        batch.simulate([one, other._replace(instrument=one.instrument)], [np.zeros((50, 2))], [batch.BatchAccount()])
    for column in ("close", "mark_close"):
        frame = one.frame.copy()
        frame.loc[frame.index[20], column] *= 0.5
        with pytest.raises(
            FeedError, match=f"open or close is outside of high and low at {frame.index[20]:%Y-%m-%d %H:%M}"
        ):
            batch.simulate([one._replace(frame=frame)], [np.zeros(50)], [batch.BatchAccount()])
    for rate, text in ((math.inf, "funding_rate is inf"), ("1 bp", "funding_rate is '1 bp' .* not a number")):
        with pytest.raises(FeedError, match=text):
            batch.simulate(
                [one._replace(frame=one.frame.assign(funding_rate=rate))], [np.zeros(50)], [batch.BatchAccount()]
            )


@pytest.mark.parametrize(("example", "accounts"), [(1, 12), (2, 6)])
def test_the_examples_of_the_documentation_run(example: int, accounts: int, capsys: Any, monkeypatch: Any) -> None:
    """Each prints one line per account."""
    monkeypatch.chdir(PROJECT)
    code = (
        (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8").split("```python\n")[example].split("```")[0]
    )
    exec(compile(code, "performance.md", "exec"), {})  # noqa: S102 - our own text
    assert capsys.readouterr().out.count("BatchAccount(targets=") == accounts


def answers_of(key: str) -> set[Any]:
    """Return the answers that the type of a rule lists: of a literal, a boolean, or a tuple of literals; empty for other types."""
    kind = get_type_hints(Rules)[key]
    if kind is bool:
        return {False, True}
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return set(get_args(kind)) if get_origin(kind) is Literal else set()


def test_every_rule_has_an_entry_in_the_table_of_support() -> None:
    """None is missing, none is extra, each states its reason, and each rule of listed answers names the supported ones."""
    assert list(SUPPORT) == list(Rules.__struct_fields__)
    for key, support in SUPPORT.items():
        assert support.reason.endswith("."), key
        if isinstance(support.answers, str):
            assert support.answers in {ANY, NOT_APPLICABLE, BROKER_FALLBACK, PER_CONTRACT}
        elif answers_of(key):
            assert set(support.answers) <= answers_of(key), key


def test_an_answer_outside_the_table_is_refused(monkeypatch: Any) -> None:
    """A new answer, and a new rule without an entry, are named; a restriction of one mode leaves the other alone."""
    rules = venues.load("generic").rules
    assert unsupported_rules(rules) == []
    assert unsupported_rules(msgspec.structs.replace(rules, order_offset="none")) == ["order_offset = 'none'"]
    paid = msgspec.structs.replace(rules, profit_pays_for=("cross_orders", "interest"))
    assert unsupported_rules(paid) == ["profit_pays_for = ('cross_orders', 'interest')"]
    carried = msgspec.structs.replace(rules, isolated_fee_in_margin="mark")
    assert unsupported_rules(carried) == unsupported_rules(carried, "cross") == []
    assert unsupported_rules(carried, "isolated") == ["closing fees kept with isolated margins"]
    scaled = msgspec.structs.replace(
        rules, volatility_scaling=VolatilityScaling(reference=0.5, cap=2.0, window_days=30.0, half_life_days=7.0)
    )
    assert unsupported_rules(scaled) == ["rates that follow volatility"]
    monkeypatch.delitem(SUPPORT, "safe_level")
    assert unsupported_rules(rules) == ["the rule safe_level"]


def test_the_broker_processes_only_the_bars_at_which_terms_change() -> None:
    """A small long at Binance from 2022 to 2025: a bar for each of ten new tables of BTCUSDT, and one equity either way."""
    index = pd.date_range("2022-03-01", "2025-12-31", freq="D")
    close = 40_000.0 + 10.0 * np.arange(len(index))
    frame = pd.DataFrame({"open": close, "high": close + 5, "low": close - 5, "close": close, "volume": 1.0}, index)
    market = Candles("BTCUSDT", frame, None, cm.Instrument(symbol="BTCUSDT", lot=0.001))
    found = same([market], np.full(len(index), 0.1), batch.BatchAccount(0, 10.0, "cross", 10_000.0), "binance")
    assert (found.fills, found.broker_bars) == (1, 10)


RULES_CHANGE, TIERS_CHANGE = datetime(2025, 1, 3, 7, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)


def supported_rules() -> st.SearchStrategy[dict[str, Any]]:
    """Return rule books as changes of a venue's: every rule of listed answers has any of the supported ones."""
    listed = {
        key: st.sampled_from(sorted(answers_of(key)) if isinstance(one.answers, str) or one.mode else one.answers)
        for key, one in SUPPORT.items()
        if answers_of(key) and key != "profit_pays_for"
    }
    paid = st.sampled_from([(), ("cross_orders",), ("isolated_orders",), ("cross_orders", "isolated_orders")])
    return st.fixed_dictionaries(
        {
            **listed,
            "profit_pays_for": paid,
            "sell_order_markup": st.sampled_from([None, 0.0015]),
            "warning_levels": st.sampled_from([(), (3.0, 1.5)]),
            "order_cancel_level": st.sampled_from([None, 1.2]),
            "safe_level": st.sampled_from([1.0, 1.2]),
        }
    )


@examples(12)
@given(
    **MARKETS_AND_ACCOUNTS,
    rules=supported_rules(),
    later=st.none() | supported_rules(),
    tiers_change=st.booleans(),
    exposure=st.sampled_from([0.3, 1.0, 5.0, 15.0]),
    with_orders=st.booleans(),
)
def test_rule_books_made_of_supported_answers_end_as_the_broker_ends_them(
    seed: int,
    count: int,
    venue: str,
    mode: str,
    leverage: float,
    path: str,
    wild: float,
    marked: bool,
    funded: bool,
    rules: dict[str, Any],
    later: dict[str, Any] | None,
    tiers_change: bool,
    exposure: float,
    with_orders: bool,
) -> None:
    """The table of support is true of answers that no venue combines: random rule books, with limit orders or without.

    Rules change in the middle of the run, and the tiers of the first contract.
    """
    shipped = venues.load(venue)
    fixed = {key: one.answers[0] for key, one in SUPPORT.items() if one.mode == mode}
    contracts = [ContractTerms(symbols=("S0",), maintenance=shipped.rules.maintenance, source="a test")]
    if tiers_change:
        steeper = tier_table([(0.0, 0.01, 20.0), (5_000.0, 0.03, 10.0)], marginal=True)
        contracts.append(ContractTerms(symbols=("S0",), maintenance=steeper, source="a test", since=TIERS_CHANGE))
    changed = (
        {} if later is None else {key: "none" if value is None else value for key, value in (later | fixed).items()}
    )
    changes = (
        [venues.VenueChange(since=RULES_CHANGE, source="a test", says="new rules", rules=changed)] if changed else []
    )
    book = msgspec.structs.replace(
        shipped,
        rules=msgspec.structs.replace(shipped.rules, contracts=tuple(contracts), **(rules | fixed)),
        changes=tuple(changes),
    )
    inverse = venue == "binance_coinm"
    candles = markets(seed, count, 120, wild=wild, marked=marked, funded=funded, inverse=inverse)
    random = np.random.default_rng(seed)
    cash = 10.0 if inverse else 10_000.0
    unit = (cash * 100.0 if inverse else cash / 100.0) * exposure / count
    targets = np.full((120, count), np.nan)
    sent = random.random(targets.shape) < 0.08
    targets[sent] = random.choice([0.0, 1.0, -1.0, 2.5], sent.sum()) * unit
    orders = placed(random, candles, 2, often=0.1, away=0.002, unit=unit / 2) if with_orders else None
    same(candles, targets, batch.BatchAccount(0, leverage, mode, cash), book, path, orders)


def test_the_page_names_the_unsupported_venues() -> None:
    """Those whose maintenance rule is not a table of tiers."""
    frame = frame_of(1, 50)
    market = Candles("X", frame, None, cm.Instrument(symbol="X", lot=0.1))
    unknown, why = [], []
    for venue in venues.names():
        try:
            batch.simulate([market], [np.zeros(50)], batch.accounts(1), venue=venue)
        except ConfigurationError as error:
            unknown.append(venue)
            why.append(str(error))
    assert all("no table of tiers" in text for text in why)
    page = (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"no table of tiers ({', '.join(venue.capitalize() for venue in sorted(unknown))})" in page
    assert set(VENUES) == set(venues.names()) - set(unknown)
