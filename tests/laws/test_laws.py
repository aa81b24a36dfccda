# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of DESIGN: what holds for every account, whatever is traded on it."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise, product
from typing import Any

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from budget import examples, in_rotation
from engines import both_engines
from hypothesis import assume, given
from hypothesis import strategies as st
from random_runs import INSTRUMENTS, INVERSE, PLAIN, TIERS, check_books, trade
from random_trader import RandomTrader, candles, seeds

from crossmargin_bt import Cerebro, CrossMarginBroker, Instrument, Recorder, feeds, venues
from crossmargin_bt.broker.skip.precomputed import PrecomputedEquity
from crossmargin_bt.broker.skip.quiet_interval import QuietInterval
from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.explain.explanations import is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger import journal as journals
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import flat_rate

VARIANTS = [
    (mode, venue, position_mode)
    for mode in ("cross", "isolated")
    for venue, position_mode in (
        ("generic", "one_way"), ("generic", "hedge"), ("kucoin", "one_way"), ("kucoin", "hedge"), ("okx", "hedge"),
        ("binance", "one_way"),
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "venue", "position_mode", "seed"),
    [
        pytest.param(*variant, seed, marks=() if seed // 2 == place % 2 else pytest.mark.slow)
        for place, variant in enumerate(VARIANTS)
        for seed in range(40)
    ],
)
def test_random_strategies(seed: int, mode: str, venue: str, position_mode: str) -> None:
    """Law 1 on whole runs: cash flows add up, the journal replays, no debt is left, trades agree with positions."""
    strategy = trade(seed, mode=mode, venue=venue, position_mode=position_mode)
    check_books(strategy, INSTRUMENTS, position_mode)


def under_every_venue() -> list:
    """Return mode, position mode and settlement of every venue: half of the eight in every run, the others in a soak.

    The half holds every pair of the three; the next venue takes the other half.
    """
    choices = list(product(("cross", "isolated"), ("one_way", "hedge"), ("linear", "inverse")))
    return [
        pytest.param(venue, *choice, marks=() if (place + number.bit_count()) % 2 == 0 else pytest.mark.slow)
        for place, venue in enumerate(venues.shipped())
        for number, choice in enumerate(choices)
    ]


@pytest.mark.parametrize(("venue", "mode", "position_mode", "settlement"), under_every_venue())
def test_random_strategies_under_every_venue(venue: str, mode: str, position_mode: str, settlement: str) -> None:
    """The same under every rule book with its own rates, and on inverse contracts."""
    # The rates of COIN-M are in coin: there linear contracts bring their own.
    linear = INSTRUMENTS if venue == "binance_coinm" else PLAIN
    instruments = linear if settlement == "linear" else INVERSE
    strategy = trade(11, mode=mode, venue=venue, position_mode=position_mode, instruments=instruments)
    check_books(strategy, instruments, position_mode)


@pytest.mark.parametrize("seed", seeds(6, 40))
@pytest.mark.parametrize("path", ["path", "adverse", "close"])
def test_equity_never_ends_below_zero(seed: int, path: str) -> None:
    """However wild the market and the leverage, what is lost beyond the collateral is the insurance fund's."""
    strategy = trade(seed + 50, path=path, leverage=45.0, cash=120.0)
    assert strategy.broker.equity >= -1e-9
    assert all(value > 0 for _, value in strategy.curve)


@pytest.mark.parametrize(
    ("run_mode", "position_mode"),
    in_rotation([{"runonce": False}, {"exactbars": 1}, {"exactbars": -1}, {"preload": False}], ["one_way", "hedge"]),
    ids=str,
)
def test_same_journal_in_every_run_mode(run_mode: dict, position_mode: str) -> None:
    """Law 8: bit for bit, however backtrader is run.

    With exactbars=1 backtrader takes a waiting feed's only bar away, so a strategy cannot read feeds with holes.
    """
    holes = 0 if run_mode == {"exactbars": 1} else 4
    stock = trade(3, position_mode=position_mode, holes=holes)
    other = trade(3, position_mode=position_mode, holes=holes, **run_mode)
    assert other.broker.journal == stock.broker.journal
    assert other.curve == stock.curve
    assert other.record == stock.record


def test_a_packed_journal_tells_the_same(monkeypatch) -> None:
    """A run whose journal is packed while it grows ends the same, and what was refused long ago can be explained."""
    whole = trade(3)
    monkeypatch.setattr(journals, "BLOCK", 7)
    packed = trade(3)
    assert len(packed.broker.journal) > 50
    assert repr(list(packed.broker.journal)) == repr(list(whole.broker.journal))
    told = [
        [strategy.broker.explain(one) for one in strategy.broker.journal if is_explainable(one)]
        for strategy in (whole, packed)
    ]
    assert told[0] == told[1] != []


def test_same_journal_in_a_second_run() -> None:
    """Law 8: one broker, run twice, starts anew."""
    strategy = trade(5)
    first = list(strategy.broker.journal)
    (second,) = strategy.cerebro_ran.run()
    assert second.broker.journal == first
    assert second.curve == strategy.curve


@pytest.mark.parametrize("venue", venues.shipped())
@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("position_mode", ["one_way", "hedge"])
def test_estimates_are_where_the_pool_gives_out(venue: str, mode: str, position_mode: str) -> None:
    """Put at its estimate, and nothing else moved, a pool of several legs is at 100 %; a hair before it, above."""
    draw = random.Random(f"{venue} {mode} {position_mode}")  # noqa: S311 - a seeded test
    rules = msgspec.structs.replace(venues.load(venue).rules, displayed_liquidation_price="account", taker=0.0)
    found = 0
    for _ in range(15):
        contracts = draw.choice([INSTRUMENTS, INVERSE])
        account = Account(rules, position_mode=position_mode)
        for symbol, instrument in contracts.items():
            account.list_instrument(instrument)
            account.apply(events.SettingChanged(time_ms=0, symbol=symbol, margin_mode=mode, leverage=10.0))
            account.set_mark(symbol, 100.0)
        account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=draw.uniform(500.0, 5000.0)))
        for symbol, book in account.books.items():
            for side in book.sides:
                lots = draw.randint(1, 4000 if contracts is INSTRUMENTS else 100)
                lots = -lots if side == "short" or (side == "net" and draw.random() < 0.5) else lots
                account.apply(fills.order_fill(account, 0, symbol, side, number=1, lots=lots, price=100.0, maker=False))
        for pool in metrics.pools(account):
            for symbol, side in pool.legs:
                found += check_estimate(account, pool, symbol, side)
    assert found > 5


def check_estimate(account: Account, pool: metrics.Pool, symbol: str, side: str) -> bool:
    """Check one estimate; return whether there was a price to check."""
    price = liquidation_prices.liquidation_price(account, symbol, side).price
    if price is None or metrics.risk(account, pool, with_orders=False).gap <= 0:
        return False
    moved = account.copy(symbol)
    book = moved.books[symbol]
    gaps = []
    for at in (price + (100.0 - price) * 1e-6, price - (100.0 - price) * 1e-6):
        book.set_mark(at)
        gaps.append(metrics.risk(moved, pool, with_orders=False).gap)
    assert gaps[0] > 0 >= gaps[1], f"{pool.name} {symbol}:{side} at {price}: {gaps}"
    return True


# Laws of a single account, drawn by hypothesis.

PRICES = st.floats(10.0, 1000.0, allow_nan=False)
LOTS = st.integers(-500, 500).filter(bool)


def account_of(
    instruments, *, cash: float, mode: str = "cross", leverage: float = 10.0, position_mode: str = "one_way", **rules
) -> Account:
    account = Account(msgspec.structs.replace(venues.load("generic").rules, **rules), position_mode=position_mode)
    for instrument in instruments:
        account.list_instrument(instrument)
        account.apply(events.SettingChanged(time_ms=0, symbol=instrument.symbol, margin_mode=mode, leverage=leverage))
    account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=cash))
    return account


def fill(account: Account, symbol: str, lots: int, price: float, side: str = "net") -> events.Filled:
    entry = fills.order_fill(account, 0, symbol, side, number=1, lots=lots, price=price, maker=False)
    account.apply(entry)
    return entry


@given(
    steps=st.lists(st.tuples(st.sampled_from(["AAA", "BBB"]), LOTS, PRICES), max_size=12),
    mode=st.sampled_from(["cross", "isolated"]),
)
def test_closing_everything_leaves_the_sum(steps, mode: str) -> None:
    """Law 2: flat again, the balance is start + realised - fees and nothing is required."""
    account = account_of(INSTRUMENTS.values(), cash=1e7, mode=mode)
    entries = []
    for symbol, lots, price in steps:
        account.set_mark(symbol, price)
        entries.append(fill(account, symbol, lots, price))
    for symbol, book in account.books.items():
        if book.legs:
            entries.append(fill(account, symbol, -book.leg("net").lots, book.long_mark))
    expected = math.fsum([1e7, *(entry.realised - entry.fee for entry in entries)])
    assert account.balances["USDT"] == pytest.approx(expected, rel=1e-12)
    assert metrics.pool_balance(account, "USDT").margin_used == 0
    assert not metrics.pools(account)


@examples(25)
@given(
    seed=st.integers(0, 10_000), long=st.booleans(), leverage=st.integers(5, 50), share=st.floats(0.2, 0.9),
    path=st.sampled_from(["path", "close", "adverse"]),
)  # fmt: skip
def test_cross_is_never_liquidated_before_isolated(
    seed: int, long: bool, leverage: int, share: float, path: str
) -> None:
    """Law 3: a lone position under one maintenance rule."""
    times = {mode: liquidated_at(seed, long, leverage, 1000.0, share, mode, path)[0] for mode in ("cross", "isolated")}
    assert times["cross"] >= times["isolated"]


@examples(25)
@given(
    seed=st.integers(0, 10_000), long=st.booleans(), leverage=st.integers(5, 40), more=st.floats(1.0, 3.0),
    mode=st.sampled_from(["cross", "isolated"]),
)  # fmt: skip
def test_collateral_and_leverage_only_help(seed: int, long: bool, leverage: int, more: float, mode: str) -> None:
    """Law 6: more cash never brings a liquidation forward, nor does less leverage on the same size."""
    plain, size = liquidated_at(seed, long, leverage, 1000.0, 0.9, mode)
    richer, _ = liquidated_at(seed, long, leverage, 1000.0 * more, 0.9, mode, size=size)
    calmer, _ = liquidated_at(seed, long, max(1.0, leverage / more), 1000.0 * more, 0.9, mode, size=size)
    assert richer >= plain
    assert calmer >= plain


class Holder(bt.Strategy):
    """Opens one position on the first bar and waits."""

    params = (("long", True), ("size", 1.0))

    def next(self) -> None:
        if len(self) == 1:
            (self.buy if self.p.long else self.sell)(size=self.p.size)


def liquidated_at(
    seed: int,
    long: bool,
    leverage: float,
    cash: float,
    share: float,
    mode: str,
    path: str = "path",
    size: float | None = None,
) -> tuple[float, float]:
    """Return when a lone position is liquidated (infinity: never), and its size."""
    frame = candles(seed, 60, volatility=0.03)
    first = frame["open"].iloc[1]
    size = round(share * cash * leverage / first / 1.05, 2) if size is None else size
    cerebro = bt.Cerebro(stdstats=False)
    instrument = Instrument(symbol="AAA", lot=0.01, maintenance=flat_rate(0.01))
    cerebro.adddata(feeds.from_frame(frame, name="AAA", instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(mode=mode, cash=cash, leverage=leverage, path=path))
    cerebro.addstrategy(Holder, long=long, size=size)
    journal = cerebro.run()[0].broker.journal
    assume(any(isinstance(event, events.Filled) for event in journal))
    return min((float(e.time_ms) for e in journal if isinstance(e, events.Liquidated)), default=math.inf), size


@given(
    held=st.integers(-200, 200), orders=st.lists(st.tuples(LOTS, PRICES), max_size=6), mark=PRICES,
    offset=st.sampled_from(["sum", "opening", "net"]),
)  # fmt: skip
def test_offset_margin_lies_between_worst_fill_and_sum(held: int, orders, mark: float, offset: str) -> None:
    """Law 4, at one price: never above the sum of its parts, never below the margin of the worst net fill."""
    account = account_of([Instrument(symbol="AAA", lot=1.0)], cash=1e9, order_offset=offset, order_fees_reserved=False)
    account.set_mark("AAA", mark)
    if held:
        fill(account, "AAA", held, mark)
    for number, (lots, _) in enumerate(orders, start=2):
        account.apply(
            events.OrderPlaced(
                time_ms=0, number=number, symbol="AAA", side="net", lots=lots, price=mark, reduce_only=False,
                group=None, immediate=False, covered=abs(lots),
            )
        )  # fmt: skip
    locked = metrics.pool_balance(account, "USDT").in_use
    buys = sum(lots for lots, _ in orders if lots > 0)
    sells = -sum(lots for lots, _ in orders if lots < 0)
    one = mark / 10
    assert locked <= (abs(held) + buys + sells) * one * (1 + 1e-12)
    assert locked >= max(abs(held + buys), abs(held - sells)) * one * (1 - 1e-12)


@given(
    held=LOTS, part=st.floats(0.01, 1.0), entry=PRICES, mark=PRICES, resting=st.lists(LOTS, max_size=4),
    cash=st.floats(0.01, 100.0), mode=st.sampled_from(["cross", "isolated"]), immediate=st.booleans(),
)  # fmt: skip
def test_reducing_is_never_refused(held, part, entry, mark, resting, cash, mode, immediate) -> None:
    """Law 5: whatever the account has lost and whatever else rests."""
    account = account_of([Instrument(symbol="AAA", lot=0.01)], cash=cash, mode=mode)
    account.set_mark("AAA", entry)
    fill(account, "AAA", held, entry)
    account.set_mark("AAA", mark)
    for number, lots in enumerate(resting, start=2):
        account.apply(
            events.OrderPlaced(
                time_ms=0, number=number, symbol="AAA", side="net", lots=lots, price=mark, reduce_only=False,
                group=None, immediate=False, covered=abs(lots),
            )
        )  # fmt: skip
    lots = -max(1, int(abs(held) * part)) if held > 0 else max(1, int(abs(held) * part))
    order = OpenOrder(99, "net", lots, mark, immediate=immediate)
    admitted = order_admission.admit(account, "AAA", order)
    assert isinstance(admitted, OpenOrder)
    account.books["AAA"].orders[99] = admitted
    reducing = fills.order_fill(account, 0, "AAA", "net", number=99, lots=lots, price=mark, maker=False)
    assert order_admission.admit_fill(account, reducing) is None


class Pair(bt.Strategy):
    """Holds a position in each of two feeds from the eighth bar on."""

    params = (("sizes", (1.0, 1.0)),)

    def next(self) -> None:
        if len(self) == 8:
            for data, size in zip(self.datas, self.p.sizes, strict=True):
                (self.buy if size > 0 else self.sell)(data=data, size=abs(size))


@pytest.mark.parametrize("seed", seeds(15, 200))
def test_the_safe_band_never_hides_anything(seed: int, monkeypatch) -> None:
    """With the band, and with every bar walked, the journal and the lowest level are the same.

    One feed is hourly, the other delivers every four hours.
    """

    def told(engine: str) -> Any:
        cerebro = bt.Cerebro(stdstats=False)
        for n, name in enumerate(("AAA", "BBB")):
            frame = candles(seed * 2 + n, 250, volatility=0.006).drop(columns="funding_rate")
            contract = Instrument(symbol=name, lot=0.01, maintenance=TIERS)
            cerebro.adddata(feeds.from_frame(frame.iloc[:: 1 + 3 * n], name=name, instrument=contract))
        cerebro.setbroker(CrossMarginBroker(engine=engine, cash=130.0 + 5 * seed, leverage=25.0))
        sizes = (10.0 if seed % 2 else -10.0, 10.0 if seed % 3 else -10.0)
        cerebro.addstrategy(Pair, sizes=sizes)
        broker = cerebro.run()[0].broker
        return broker.journal, broker.lowest_margin_level

    as_is, walked = both_engines(told)
    assert as_is == walked


def test_liquidation_is_found_where_a_fine_walk_finds_it() -> None:
    """A pool of tiered positions breaches where a walk in ten thousand steps says it does."""
    found = 0
    for seed in range(40):
        frame = candles(seed, 12, volatility=0.03)
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feeds.from_frame(frame, name="AAA", instrument=INSTRUMENTS["AAA"]))
        cerebro.setbroker(CrossMarginBroker(cash=90.0, leverage=20.0))
        cerebro.addstrategy(Holder, long=seed % 2 == 0, size=14.0)
        broker = cerebro.run()[0].broker
        ends = [event for event in broker.journal if isinstance(event, events.Liquidated)]
        opened = [event for event in broker.journal if isinstance(event, events.Filled)]
        if not opened or not ends:
            continue
        found += 1
        entry, end = opened[0], ends[0]
        bar = frame.loc[pd.to_datetime(end.time_ms, unit="ms")]
        size = entry.lots * 0.01
        walked = next(
            price
            for price in _fine_walk(bar)
            if 90.0 - entry.fee + _funding(broker.journal, end.time_ms) + size * (price - entry.price)
            <= TIERS.margin(abs(size) * price, 0.0)
        )
        step = (bar["mark_high"] - bar["mark_low"]) / 5000
        assert end.marks["AAA:net"] == pytest.approx(walked, abs=step)
    assert found > 10


def _funding(journal, until: int) -> float:
    return sum(e.amount for e in journal if isinstance(e, events.FundingPaid) and e.time_ms <= until)


def _fine_walk(bar: pd.Series):
    down, up = bar["open"] - bar["low"], bar["high"] - bar["open"]
    extremes = ("low", "high") if down < up else ("high", "low")
    corners = [bar[f"mark_{name}"] for name in ("open", *extremes, "close")]
    for left, right in pairwise(corners):
        for step in range(10_001):
            yield left + (right - left) * step / 10_000


class Again(bt.Strategy):
    """Buys at the start, and again after it was liquidated."""

    def next(self) -> None:
        if len(self) in (1, 6):
            self.buy(size=10)


@pytest.mark.parametrize("warnings", [(), (5.0, 3.0)])
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_a_level_that_has_been_below_every_threshold_hides_none(
    mode: str, warnings: tuple[float, ...], monkeypatch
) -> None:
    """After a gap took the level below 1, the next position is warned of and liquidated as if nothing had been before."""
    closes = [100.0] * 3 + [80.0] * 4 + [80 * (1 - 0.001 * n) for n in range(1, 160)]
    opens = [100.0, *closes[:-1]]
    opens[3] = 80.0
    frame = pd.DataFrame(
        {"open": opens, "close": closes}, index=pd.date_range("2025-01-01", periods=len(closes), freq="h")
    )
    frame["high"], frame["low"], frame["volume"] = frame.max(axis=1) * 1.002, frame.min(axis=1) * 0.998, 1.0

    def told(engine: str) -> Any:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feeds.from_frame(frame, name="AAA", instrument=Instrument(symbol="AAA", lot=0.001)))
        broker = CrossMarginBroker(engine=engine, cash=5000.0, leverage=10.0, mode=mode, warning_levels=warnings)
        cerebro.setbroker(broker)
        cerebro.addstrategy(Again)
        cerebro.run()
        return broker.journal, broker.lowest_margin_level, broker.equity

    as_is, walked = both_engines(told)
    assert as_is == walked
    if mode == "isolated":
        assert sum(isinstance(event, events.Liquidated) for event in as_is[0]) == 2


# Up to seed 11 with many orders, from 12 on with few; each half has every venue, mode and volatility.
OFTEN_AND_SELDOM = (0, 2, 5, 7, 9, 10, 12, 15, 17, 20, 22, 23)


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=() if seed in OFTEN_AND_SELDOM else pytest.mark.slow) for seed in range(200)],
)
def test_bands_and_calm_hide_nothing_from_a_random_trader(seed: int, monkeypatch) -> None:
    """Orders of every kind, warnings and phases of liquidation: with every bar walked the journal is the same.

    So are cash and value of every bar.
    """

    def told(engine: str) -> Any:
        cerebro: Any = (bt.Cerebro if seed % 5 else Cerebro)(stdstats=False)
        cerebro.addanalyzer(Recorder)
        for n, name in enumerate(("AAA", "BBB")):
            frame = candles(seed * 2 + n, 200 + 50 * n, volatility=(0.003, 0.01, 0.02)[seed % 3])
            contract = Instrument(symbol=name, lot=0.01, maintenance=TIERS)
            cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
        broker = CrossMarginBroker(
            engine=engine, cash=(300.0, 3000.0)[seed % 2], leverage=20.0, venue=("okx", "gate", "kraken", "kucoin")[seed % 4],
            mode=("cross", "isolated")[seed // 4 % 2], warning_levels=(5.0, 3.0, 1.5), on_liquidation="refill",
        )  # fmt: skip
        cerebro.setbroker(broker)
        cerebro.addstrategy(RandomTrader, seed=seed, rate=0.6 if seed < 12 else 0.03)
        (strategy,) = cerebro.run()
        kept = broker.curve
        assert len(kept.equity) == broker.bars
        curves = (strategy.curve, kept.equity, kept.margin_used, kept.free_margin)
        return broker.journal, broker.lowest_margin_level, broker.equity, curves

    as_is, walked = both_engines(told)
    assert as_is == walked


class Reader(bt.Strategy):
    """Holds two positions, changes one now and then, and reads the account every so many bars, while its curve is kept."""

    params = (("every", 1),)

    def __init__(self) -> None:
        self.read: list[tuple[float, ...]] = []

    def start(self) -> None:
        self.broker.keep_curve()

    def next(self) -> None:
        if len(self) in (5, 60, 61, 150, 231):
            self.buy(data=self.data0, size=1 + len(self) % 3)
        if len(self) == 150:
            self.sell(data=self.data1, size=2, exectype=bt.Order.Limit, price=self.data1.close[0] * 1.1)
        broker = self.broker
        if not len(self) % self.p.every:
            self.read.append((broker.getcash(), broker.getvalue(), broker.get_fundvalue(), broker.equity))


def rule_book(name: str) -> venues.Venue:
    """Return a shipped rule book, or one where floating profit pays for nothing."""
    if name != "profit pays for nothing":
        return venues.load(name)
    generic = venues.load("generic")
    return msgspec.structs.replace(generic, rules=msgspec.structs.replace(generic.rules, profit_pays_for=()))


BOOKS = ["okx", "kucoin", "binance", "bybit", "profit pays for nothing"]
READ = list(product(["cross", "isolated"], [False, True], [1, 7]))


@pytest.mark.parametrize(
    ("venue", "mode", "unequal", "every"),
    [
        pytest.param(venue, *choice, marks=() if (place + number.bit_count()) % 2 == 0 else pytest.mark.slow)
        for place, venue in enumerate(BOOKS)
        for number, choice in enumerate(READ)
    ],
)
def test_figures_of_calm_bars_are_those_of_bars_walked(
    venue: str, mode: str, unequal: bool, every: int, monkeypatch
) -> None:
    """Worked out ahead where they are read in every bar, behind where they are not, with feeds that pause and end."""
    looked = Counter[bool]()
    ahead = PrecomputedEquity.of_bar

    def counted(self: PrecomputedEquity, bar: int) -> Any:
        found = ahead(self, bar)
        looked[found is not None] += 1
        return found

    def told(engine: str) -> Any:
        monkeypatch.setattr(PrecomputedEquity, "of_bar", counted)
        cerebro: Any = (bt.Cerebro if every == 1 else Cerebro)(stdstats=False)  # stock's loop asks in every bar itself
        for n, name in enumerate(("AAA", "BBB")):
            frame = candles(n, 300, volatility=0.002)
            frame["funding_rate"] = frame["funding_rate"].where(frame.index.hour == 0)
            frame = frame.drop(frame.index[100:110]).iloc[:280] if n and unequal else frame
            contract = Instrument(symbol=name, lot=0.01, maintenance=flat_rate(0.01))
            cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
        broker = CrossMarginBroker(engine=engine, cash=3000.0, leverage=10.0, venue=rule_book(venue), mode=mode)
        cerebro.setbroker(broker)
        cerebro.addstrategy(Reader, every=every)
        (strategy,) = cerebro.run()
        kept = broker.curve
        assert len(kept.equity) == broker.bars
        return strategy.read, broker.journal, kept.equity, kept.margin_used, kept.free_margin

    as_is, walked = both_engines(told)
    assert as_is == walked
    assert (looked[True] > 60) == (every == 1 and venue != "profit pays for nothing")


class Looker(bt.Strategy):
    """Holds two positions with an order at rest, and looks at the account through one door or another now and then."""

    params = (("door", "figures"), ("every", 7))

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.account: Any = None

    def start(self) -> None:
        if self.p.door == "held account":
            self.account = self.broker.account

    def next(self) -> None:
        if len(self) in (5, 60, 150):
            self.buy(data=self.data0, size=1 + len(self) % 3)
            self.sell(data=self.data1, size=1, exectype=bt.Order.Limit, price=self.data1.close[0] * 1.1)
        if len(self) % self.p.every:
            return
        broker = self.broker
        looks = {
            "figures": lambda: (broker.getvalue(), broker.getcash(), broker.margin_used, broker.get_fundvalue()),
            "level": lambda: (broker.margin_level, broker.lowest_margin_level, broker.get_leverage()),
            "estimates": lambda: (broker.liquidation_price(self.data0), broker.aggregate_distance()),
            "sizes": lambda: (broker.maximum_order_size(self.data1), broker.currency("USDT")),
            "preview": lambda: broker.preview(data=self.data0, size=3.0),
            "account": lambda: sorted((symbol, book.prices()) for symbol, book in broker.account.books.items()),
            "held account": lambda: sorted((symbol, book.prices()) for symbol, book in self.account.books.items()),
            "leverage": lambda: broker.set_leverage(self.data1, 5.0 + len(self) % 3),
            "cash": lambda: broker.add_cash(1.0),
        }
        self.seen.append(looks[self.p.door]())


@pytest.mark.parametrize("inner", ["in step", "pausing"])
@pytest.mark.parametrize(
    "door", ["figures", "level", "estimates", "sizes", "preview", "account", "held account", "leverage", "cash"]
)
def test_who_looks_at_the_account_after_bars_that_passed_unseen_sees_it_as_it_is(
    door: str, inner: str, monkeypatch
) -> None:
    """Bars known beforehand to change nothing are taken in when somebody looks: every door leads to the same figures."""
    unseen = [0]
    catch_up = QuietInterval.catch_up

    def counted(self: QuietInterval) -> int:
        behind = catch_up(self)
        unseen[0] += behind
        return behind

    def told(engine: str) -> Any:
        monkeypatch.setattr(QuietInterval, "catch_up", counted)
        cerebro = Cerebro(stdstats=False)
        cerebro.addanalyzer(Recorder, detail=False)
        for n, name in enumerate(("AAA", "BBB")):
            frame = candles(n, 300, volatility=0.002)
            frame["funding_rate"] = frame["funding_rate"].where(frame.index.day == 4)
            frame = frame.drop(frame.index[100:103]) if n and inner == "pausing" else frame
            contract = Instrument(symbol=name, lot=0.01, maintenance=flat_rate(0.01))
            cerebro.adddata(feeds.from_frame(frame, name=name, instrument=contract))
        broker = CrossMarginBroker(engine=engine, cash=3000.0, leverage=10.0, warning_levels=(3.0,))
        cerebro.setbroker(broker)
        cerebro.addstrategy(Looker, door=door)
        (strategy,) = cerebro.run()
        record = strategy.analyzers[0].get_analysis()
        return strategy.seen, broker.journal, record, broker.equity

    as_is, walked = both_engines(told)
    assert as_is == walked
    expected = inner == "in step" and "account" not in door
    assert (unseen[0] > 100) == expected, unseen
