# SPDX-License-Identifier: GPL-3.0-or-later
"""Every safety bound against the truth itself: marks at every corner of the ranges, random accounts of every product and pool.

A bound that is too tight rarely changes a run, so runs cannot hold it. Each test here fails within seconds when its bound is
loosened; the last tests prove that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, product
from types import SimpleNamespace
from typing import Any

import pytest
from random_trader import seeds

from crossmargin_bt import Instrument, venues
from crossmargin_bt.broker.bar.risk_monitor import RiskMonitor
from crossmargin_bt.broker.bar.screen import BarEvent
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip import admission_bound, portfolio_screen, screen
from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.math.intrabar_path import Candle
from crossmargin_bt.engine.terms.rates import flat_rate, tier_table

TIERS = tier_table([(0.0, 0.01, 50.0), (2_000.0, 0.02, 25.0), (8_000.0, 0.05, 10.0)], marginal=True)
WHOLE = tier_table([(0.0, 0.01, 50.0), (2_000.0, 0.02, 25.0), (8_000.0, 0.05, 10.0)], marginal=False)
END = datetime(2025, 6, 27, 8, tzinfo=UTC)
BTC: dict[str, Any] = {"underlying": "BTC", "maintenance": flat_rate(0.01)}
PRODUCTS = {
    "SPOT": Instrument(symbol="SPOT", kind="spot", underlying="BTC", lot=0.01),
    "PERP": Instrument(symbol="PERP", lot=0.01, underlying="BTC", maintenance=TIERS),
    "ETH": Instrument(symbol="ETH", lot=0.01, underlying="ETH", maintenance=WHOLE),
    "INVERSE": Instrument(symbol="INVERSE", settle="BTC", inverse=True, contract_size=10.0, lot=1.0, **BTC),
    "ETHBTC": Instrument(
        symbol="ETHBTC", settle="BTC", quote="BTC", underlying="ETH", lot=0.01, maintenance=flat_rate(0.02)
    ),
    "PAIR": Instrument(symbol="PAIR", kind="margin", lot=0.01, **BTC),
    "CALL": Instrument(
        symbol="CALL", kind="option", underlying="BTC", lot=0.1, strike=110.0, option="call", expiry=END
    ),
    "PUT": Instrument(symbol="PUT", kind="option", underlying="BTC", lot=0.1, strike=95.0, option="put", expiry=END),
}
PRICES = {
    "SPOT": 100.0,
    "PERP": 100.0,
    "ETH": 20.0,
    "INVERSE": 100.0,
    "ETHBTC": 0.2,
    "PAIR": 100.0,
    "CALL": 6.0,
    "PUT": 5.0,
}
# What prices the coins of a pool of many: in USDT, or in USD through an inverse contract alone.
SETS = {
    "linear": ("PERP", "ETH"),
    "coin": ("SPOT", "PERP", "INVERSE", "ETHBTC"),
    "curved": ("INVERSE", "ETHBTC"),
    "all": ("SPOT", "PERP", "ETH", "PAIR", "CALL", "PUT"),
}


def drawn_account(draw: random.Random, kind: str, *, venue: str = "okx", **settings: Any) -> Account:
    """Return an account with random positions and orders in the instruments of a set."""
    names = SETS[kind]
    unit = "USD" if kind == "curved" else "USDT"
    account = Account(venues.load(venue).rules, unit=unit, **settings)
    for name in names:
        account.list_instrument(PRODUCTS[name])
        mode = "cross" if account.pooled or draw.random() < 0.7 else "isolated"
        leverage = draw.choice([2.0, 5.0, 10.0])
        account.apply(events.SettingChanged(time_ms=0, symbol=name, margin_mode=mode, leverage=leverage))
        price = PRICES[name] * draw.uniform(0.9, 1.1)
        account.set_mark(name, price)
        account.books[name].last = price
    for currency in list(account.balances):
        amount = draw.uniform(0.5, 60.0) if currency == "BTC" else draw.uniform(50.0, 6_000.0)
        account.apply(events.CashTransferred(time_ms=0, currency=currency, amount=amount))
    account.now_ms = datetime(2025, 6, 20, tzinfo=UTC).timestamp() * 1000
    account.update_option_indices()
    for name in names:
        book = account.books[name]
        for side in book.sides:
            if draw.random() < 0.75:
                worth = draw.uniform(20.0, 4_000.0) / (100.0 if book.instrument.settle == "BTC" else 1.0)
                lots = max(1, int(worth / book.instrument.value(1, book.long_mark)))
                sign = -1 if side == "short" or (side == "net" and draw.random() < 0.5) else 1
                if book.instrument.kind == "spot":
                    sign = 1
                price = book.long_mark * draw.uniform(0.95, 1.05)
                entry = fills.order_fill(account, 0, name, side, number=99, lots=sign * lots, price=price, maker=False)
                account.apply(entry)
    return account


def with_orders(draw: random.Random, account: Account, count: int) -> None:
    """Let random orders rest."""
    for number in range(1, count + 1):
        book = account.books[draw.choice(list(account.books))]
        side = draw.choice(book.sides)
        lots = max(1, int(draw.uniform(10.0, 2_000.0) / book.instrument.value(1, book.long_mark)))
        lots = lots if draw.random() < 0.5 else -lots
        price = book.long_mark * draw.uniform(0.9, 1.1)
        placed = OpenOrder(number, side, lots, price, group=number, covered=abs(lots))
        fields = {name: getattr(placed, name) for name in placed.__struct_fields__}
        account.apply(events.OrderPlaced(time_ms=0, symbol=book.instrument.symbol, **fields))


def parts_of(draw: random.Random, account: Account, *warnings: float) -> tuple[BrokerSession, RiskMonitor]:
    """Return a session and a monitor of an account that has been at a random lowest level before."""
    session = BrokerSession(account, currency=account.valuation.unit, check=False)
    session.lowest_level = draw.choice([0.5, 1.0, 2.0, 10.0, 10_000.0])
    params = SimpleNamespace(warning_levels=warnings, reserve=None)
    nobody: Any = None
    host: Any = SimpleNamespace(p=params)
    return session, RiskMonitor(host, session, nobody, nobody)


def corners(ranges: dict[str, tuple[float, float]]) -> list[dict[str, float]]:
    """Return every combination of the ends of ranges, and of their middles."""
    ends = [(low, (low + high) / 2, high) for low, high in ranges.values()]
    return [dict(zip(ranges, marks, strict=True)) for marks in product(*ends)]


def truth(session: BrokerSession, monitor: RiskMonitor, marks: dict[str, float]) -> screen.Slack:
    """Return how far the pools of an account are from their next threshold, and from the lowest level, at these marks."""
    account = session.account
    for symbol, mark in marks.items():
        account.set_mark(symbol, mark)
    account.update_option_indices()
    thresholds = low_level = math.inf
    for pool in metrics.pools(account):
        risk = metrics.risk(account, pool)
        if risk.requirement or risk.collateral <= 0:
            thresholds = min(thresholds, monitor.next_threshold(pool).gap_of(risk))
        if monitor.watches_deficit(pool) and any(book.orders for book in account.books.values()):
            balance = metrics.pool_balance(account, pool.currency)
            thresholds = min(thresholds, balance.collateral_value + balance.cross_profit - balance.in_use)
        if risk.requirement:
            low_level = min(low_level, risk.collateral - session.lowest_level * risk.requirement)
    return screen.Slack(thresholds, low_level)


SCREENED = [
    ("linear", {}),
    ("linear", {"venue": "binance", "position_mode": "hedge"}),
    ("linear", {"venue": "kucoin"}),
    ("coin", {}),
    ("coin", {"pooling": "multi_currency"}),
    ("coin", {"pooling": "multi_currency", "venue": "bybit"}),
    ("curved", {"pooling": "multi_currency"}),
    ("curved", {"pooling": "multi_currency", "venue": "bybit"}),
]


def slack_violations(seed: int, kind: str, settings: dict[str, Any], tries: int) -> tuple[int, int]:
    """Return how many bounds lie above the truth, and how many were compared."""
    draw = random.Random(f"{seed} {kind} {settings}")  # noqa: S311 - a seeded test
    broken = compared = 0
    for _ in range(tries):
        account = drawn_account(draw, kind, **settings)
        if not account.pooled:
            with_orders(draw, account, draw.randint(0, 3))
        if account.rules.order_loss_in_ratio and any(book.orders for book in account.books.values()):
            continue
        session, monitor = parts_of(draw, account, *draw.choice([(), (3.0,)]))
        width = draw.choice([0.005, 0.05, 0.15])
        ranges = {
            symbol: (book.long_mark * (1 - draw.uniform(0, width)), book.long_mark * (1 + draw.uniform(0, width)))
            for symbol, book in account.books.items()
        }
        pools = session.pools()
        if not pools:
            continue
        before = account.prices()
        bound = screen.BoundScreen(session, monitor).slack(ranges, pools)
        assert account.prices() == before, "a question moves no mark"
        scale = 1e-9 * (1.0 + abs(account.balance(account.valuation.unit)) + max(map(abs, account.balances.values())))
        for marks in corners(ranges):
            found = truth(session, monitor, marks)
            compared += 1
            broken += bound.thresholds > found.thresholds + scale or bound.low_level > found.low_level + scale
    return broken, compared


@pytest.mark.parametrize("seed", seeds(2, 20))
@pytest.mark.parametrize(("kind", "settings"), SCREENED, ids=str)
def test_slack_is_a_lower_bound_at_every_corner(seed: int, kind: str, settings: dict[str, Any]) -> None:
    """No pool is nearer to a threshold, or to a new low, at any corner of the ranges than the screen says."""
    broken, compared = slack_violations(seed, kind, settings, 40)
    assert compared > 200
    assert not broken


def test_the_slack_test_sees_a_missing_revaluation_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the factor for requirements settled in coin the bound lies above the truth, and the test above says so."""
    monkeypatch.setattr(screen, "revaluation_factor", lambda account, books: 1.0)
    assert slack_violations(0, "curved", {"pooling": "multi_currency"}, 120)[0]


PORTFOLIOS = [
    ("coin", {"portfolio": True}),
    ("all", {"portfolio": True}),
    ("all", {}),
    ("all", {"pooling": "multi_currency"}),
    ("coin", {"pooling": "multi_currency"}),
]


def bars_around(draw: random.Random, account: Account, width: float) -> list[Bar]:
    """Return a bar per instrument that opens at its mark."""
    bars = []
    for book in account.books.values():
        opened = book.long_mark
        mark = Candle(opened, opened * (1 + draw.uniform(0, width)), opened * (1 - draw.uniform(0, width)), opened)
        bars.append(Bar(None, book, 0, mark, mark, 0.0))
    return bars


def brought_to_the_bound(draw: random.Random, session: BrokerSession, monitor: RiskMonitor, bars: list[Bar]) -> None:
    """Pay money in or out until the slack of the shared pool is little more than the bound takes of it within these bars."""
    account = session.account
    pool = next((pool for pool in metrics.pools(account) if not pool.isolated), None)
    price = account.price(pool.currency) if pool is not None else 0.0
    if pool is None or not price:
        return
    for _ in range(3):  # what is paid in may change the bound itself
        change = portfolio_screen.value_change_bound(account, portfolio_screen.relative_moves(bars))
        slack = portfolio_screen.threshold_slacks(session, monitor, pool, price)[0]
        wanted = slack.used_by(change) * draw.choice([1.01, 1.01, 1.2]) - slack.slack
        account.apply(events.CashTransferred(time_ms=0, currency=account.valuation.unit, amount=wanted))


def portfolio_draws(seed: int, kind: str, settings: dict[str, Any], tries: int) -> Iterator[int]:
    """Yield, for every draw of bars called quiet, at how many prices of the bars and of the range found they are not."""
    draw = random.Random(f"{seed} {kind} {settings}")  # noqa: S311 - a seeded test
    for _ in range(tries):
        account = drawn_account(draw, kind, **settings)
        with_orders(draw, account, draw.choice([0, 0, 2]))
        session, monitor = parts_of(draw, account)
        session.lowest_level = draw.choice([0.1, 0.5])
        if not session.pools() or not portfolio_screen.has_no_single_worst_price(account):
            continue
        bars = bars_around(draw, account, draw.choice([0.002, 0.01, 0.05]))
        if draw.random() < 0.9:
            brought_to_the_bound(draw, session, monitor, bars)
        before = account.prices()
        event, found = portfolio_screen.screen_bars(session, monitor, bars)
        assert account.prices() == before, "a question moves no mark"
        if event is not BarEvent.NOTHING:
            continue
        broken = 0
        ranges = {bar.book.instrument.symbol: (bar.mark.low, bar.mark.high) for bar in bars}
        for region in (ranges, found.ranges):
            if not region:
                continue
            at_corners = (
                corners(region)
                if len(region) < 5
                else [{symbol: draw.choice(ends) for symbol, ends in region.items()} for _ in range(60)]
            )
            for marks in at_corners:
                slack = truth(session, monitor, marks)
                broken += slack.thresholds <= 0 or slack.low_level < -1e-9
        yield broken


@pytest.mark.parametrize("seed", seeds(2, 20))
@pytest.mark.parametrize(("kind", "settings"), PORTFOLIOS, ids=str)
def test_quiet_bars_of_a_portfolio_are_quiet_at_every_corner(seed: int, kind: str, settings: dict[str, Any]) -> None:
    """Where the Lipschitz bound rules events out, no corner of the bars or of the range found has one."""
    assert not any(portfolio_draws(seed, kind, settings, 30))


def test_the_portfolio_test_sees_quiet_bars_and_a_bound_too_tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars are called quiet often enough to matter; at a tenth of the bound some of them are not quiet."""
    quiet = (draw for kind, settings in PORTFOLIOS for draw in portfolio_draws(0, kind, settings, 30))
    assert len(list(islice(quiet, 21))) == 21
    monkeypatch.setattr(portfolio_screen, "LIPSCHITZ", 0.2)
    assert any(any(portfolio_draws(0, kind, settings, 60)) for kind, settings in PORTFOLIOS)


BOUNDED = ("generic", "okx", "binance", "bitget", "kucoin", "gate", "kraken")


def order_costs(seed: int, tries: int) -> tuple[float, int]:
    """Return the largest cost of an order as a part of its upper bound, and how many were compared."""
    draw = random.Random(seed)  # noqa: S311 - a seeded test
    highest, compared = 0.0, 0
    for _ in range(tries):
        venue = draw.choice(BOUNDED)
        mode = draw.choice(["one_way", "hedge"])
        account = drawn_account(draw, draw.choice(["linear"]), venue=venue, position_mode=mode)
        for book in account.books.values():
            book.rates = dict.fromkeys(("cross", "isolated"), flat_rate(0.01))
        account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=1e7))
        with_orders(draw, account, draw.randint(0, 4))
        book = account.books[draw.choice(list(account.books))]
        side = draw.choice(book.sides)
        held = abs(book.leg(side).lots) or 50
        lots = draw.choice([1, -1]) * max(1, int(held * draw.choice([0.5, 1.0, 1.5, 2.0, 3.0])))
        price = book.long_mark * draw.uniform(0.9, 1.1)
        bounded = admission_bound.BoundedAdmission(account, {})
        rate = admission_bound._cost_rate(account, book, {})
        if rate is None or admission_bound._may_uncover_losses(book, side, lots):
            continue
        bound = bounded.cost_upper_bound(book, side, lots, price, rate)
        symbol = book.instrument.symbol
        free = metrics.available_margin(account, book)
        rests, filled = account.copy(symbol), account.copy(symbol)
        order = OpenOrder(77, side, lots, price, group=77)
        rests.books[symbol].orders[77] = order
        filled.apply(fills.order_fill(account, 0, symbol, side, number=0, lots=lots, price=price, maker=False))
        for after in (rests, filled):
            cost = free - metrics.available_margin(after, after.books[symbol])
            compared += 1
            highest = max(highest, cost / bound)
    return highest, compared


@pytest.mark.parametrize("seed", seeds(4, 40))
def test_no_order_costs_more_than_its_upper_bound(seed: int) -> None:
    """Resting or filled, an order lowers the available margin by no more than the bound that admits it."""
    highest, compared = order_costs(seed, 150)
    assert compared > 100
    assert highest <= 1.0


def test_the_order_bound_is_tight() -> None:
    """The costliest orders reach nine tenths of the bound, so a bound cut below that fails the test above."""
    assert max(order_costs(seed, 300)[0] for seed in range(4)) > 0.9


@pytest.mark.parametrize("seed", seeds(3, 20))
def test_the_margin_lower_bound_is_one(seed: int) -> None:
    """The cheap bound on the available margin never exceeds it."""
    draw = random.Random(seed)  # noqa: S311 - a seeded test
    finite = 0
    for _ in range(100):
        account = drawn_account(draw, "linear", venue=draw.choice(BOUNDED))
        for book in account.books.values():
            book.rates = dict.fromkeys(("cross", "isolated"), flat_rate(0.01))
        with_orders(draw, account, draw.randint(0, 4))
        for book in account.books.values():
            bound = admission_bound.margin_lower_bound(account, book, {})
            finite += math.isfinite(bound)
            assert bound <= metrics.available_margin(account, book) + 1e-9
    assert finite > 20


def test_orders_admitted_by_the_bound_are_admitted_exactly() -> None:
    """A reservation that fits is never refused by the exact sums."""
    draw = random.Random(5)  # noqa: S311 - a seeded test
    admitted = 0
    for _ in range(200):
        account = drawn_account(draw, "linear", venue=draw.choice(BOUNDED))
        for book in account.books.values():
            book.rates = dict.fromkeys(("cross", "isolated"), flat_rate(0.01))
        with_orders(draw, account, draw.randint(0, 3))
        name = draw.choice(list(account.books))
        book = account.books[name]
        lots = draw.choice([1, -1]) * draw.randint(1, 3_000)
        order = OpenOrder(77, "net", lots, book.long_mark * draw.uniform(0.95, 1.05), group=77)
        if admission_bound.BoundedAdmission(account, {}).try_reserve(book, "net", lots, order.price):
            admitted += 1
            assert isinstance(order_admission.admit(account, name, order), OpenOrder)
    assert admitted > 20
