# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole accounts worked by hand: collateral, debts, options and portfolio margin, from the sentences that books name as sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import partial

import pytest

from crossmargin_bt import Instrument, venues
from crossmargin_bt.engine.explain import account_view
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import currencies, metrics

PERPETUAL = Instrument(symbol="BTCUSDT", underlying="BTC", lot=0.001)
OTHER = Instrument(symbol="BTCUSDT-2", underlying="BTC", lot=0.001)


def account(
    venue: str,
    *instruments: Instrument,
    day: date | None = None,
    cash: float = 1e9,
    portfolio: bool = False,
    pooled: bool = True,
    unit: str = "USDT",
) -> Account:
    """Return an account of a shipped book as of a day, with cash in its unit and BTC at 50,000."""
    made = Account(
        venues.load(venue).at(day).rules, unit=unit, prices={"BTC": 50_000.0} if unit != "BTC" else {}, portfolio=portfolio,
        pooling="multi_currency" if pooled else "single_currency",
    )  # fmt: skip
    made.now_ms = datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000
    for instrument in instruments:
        made.list_instrument(instrument)
    made.apply(events.CashTransferred(time_ms=0, currency=unit, amount=cash))
    return made


def trade(made: Account, symbol: str, size: float, price: float) -> None:
    """Fill `size` at `price` without a fee, marked there."""
    made.set_mark(symbol, price)
    book = made.books[symbol]
    made.apply(fills.fill_entry(book, 0, "net", lots=book.instrument.lots(size), price=price, fee=0.0))


def collateral(venue: str, currency: str, amount: float, price: float, counted: float, day: date | None = None) -> None:
    """Compare what an amount of a currency counts for in a pool of many."""
    made = account(venue, cash=0.0, day=day)
    if currency != "USDT":
        made.valuation.fixed[currency] = price
    made.apply(events.CashTransferred(time_ms=0, currency=currency, amount=amount))
    found = next(one for one in currencies.holdings(made) if one.currency == currency)
    assert found.collateral_value == pytest.approx(counted, rel=1e-12)
    assert account_view.currency_view(made, currency).collateral_value == found.collateral_value


def debt(venue: str, initial: float, maintenance: float) -> None:
    """Compare the margins of 10,000 USDT borrowed against one BTC."""
    made = account(venue, cash=-10_000.0)
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=1.0))
    found = next(one for one in currencies.holdings(made) if one.currency == "USDT")
    assert (found.debt, found.initial_margin, found.maintenance_margin) == pytest.approx(
        (10_000.0, initial, maintenance), rel=1e-12
    )


def lone_perpetual(venue: str, maintenance: float, initial: float) -> None:
    """Compare the portfolio margin of 2 BTC sold at 50,000: 100,000."""
    made = account(venue, PERPETUAL, portfolio=True)
    trade(made, "BTCUSDT", -2.0, 50_000.0)
    pool = metrics.pools(made)[0]
    assert metrics.required(made, pool) == pytest.approx(maintenance, rel=1e-12)
    assert metrics.pool_balance(made, "USDT").in_use == pytest.approx(initial, rel=1e-12)


def minimum_charge(day: date, maintenance: float) -> None:
    """Compare OKX's minimum charge of 2,000 BTC long against as many short in another contract: 0.4 % of 200,000,000 in tiers."""
    made = account("okx", PERPETUAL, OTHER, day=day, portfolio=True)
    trade(made, "BTCUSDT", 2_000.0, 50_000.0)
    trade(made, "BTCUSDT-2", -2_000.0, 50_000.0)
    assert metrics.required(made, metrics.pools(made)[0]) == pytest.approx(maintenance, rel=1e-12)


def short_call(venue: str, initial: float, maintenance: float) -> None:
    """Compare the margins, in BTC, of one call of 55,000 sold with the index at 50,000 and a mark of 0.02 BTC."""
    call = Instrument(
        symbol="CALL", kind="option", option="call", settle="BTC", underlying="BTC", lot=1.0, strike=55_000.0,
        expiry=datetime(2026, 6, 26, 8, tzinfo=UTC),
    )  # fmt: skip
    made = account(venue, call, pooled=False, unit="BTC", cash=10.0)
    made.books["CALL"].index = 50_000.0
    trade(made, "CALL", -1.0, 0.02)
    assert metrics.required(made, metrics.pools(made)[0]) == pytest.approx(maintenance, rel=1e-12)
    assert metrics.pool_balance(made, "BTC").in_use == pytest.approx(initial, rel=1e-12)


def cases() -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield every case with its name."""
    # 11,000,000 USDT count for 10,825,000: 5,000,000 + 5,000,000 x 97.5 % + 1,000,000 x 95 %.
    yield "okx collateral", partial(collateral, "okx", "USDT", 11e6, 1.0, 10_825_000.0)
    yield "okx collateral of a coin", partial(collateral, "okx", "BTC", 2.0, 50_000.0, 100_000.0 * 0.95)
    # 6,000 BTC at 20,000 count for 119,500,000: 100,000,000 + 20,000,000 x 97.5 %.
    yield "binance collateral", partial(collateral, "binance", "BTC", 6_000.0, 20_000.0, 119_500_000.0)
    yield "bybit collateral", partial(collateral, "bybit", "BTC", 2.0, 50_000.0, 100_000.0 * 0.95)
    yield "generic collateral", partial(collateral, "generic", "ETH", 2.0, 3_000.0, 6_000.0 * 0.95)
    yield "kraken collateral", partial(collateral, "kraken", "BTC", 2.0, 50_000.0, 100_000.0 * 0.95)
    # At 5x a debt needs a fifth, and keeps 5 % or 8 %; at Bybit 10x and 4 %.
    before, since = date(2022, 9, 14), date(2022, 9, 15)
    yield "okx collateral 2022-09-14", partial(collateral, "okx", "USDT", 11e6, 1.0, 10_825_000.0, before)
    yield "okx collateral of a dollar 2022-09-14", partial(collateral, "okx", "USD", 1e3, 1.0, 1e3, before)
    yield "okx collateral of a coin 2022-09-14", partial(collateral, "okx", "BTC", 2.0, 50_000.0, 95_000.0, before)
    # 120,000,000 of ETH: to 5, 20, 40 and 100 million, nothing above.
    kept = 5e6 * 0.95 + 15e6 * 0.925 + 20e6 * 0.9 + 60e6 * 0.85
    yield "okx collateral of ETH 2022-09-14", partial(collateral, "okx", "ETH", 40_000.0, 3_000.0, kept, before)
    kept = 5e6 * 1.0 + 15e6 * 0.975 + 20e6 * 0.95 + 60e6 * 0.9
    yield "okx collateral of ETH 2022-09-15", partial(collateral, "okx", "ETH", 40_000.0, 3_000.0, kept, since)
    yield "okx debt", partial(debt, "okx", 2_000.0, 500.0)
    yield "binance debt", partial(debt, "binance", 2_000.0, 800.0)
    yield "kraken debt", partial(debt, "kraken", 2_000.0, 800.0)
    yield "bybit debt", partial(debt, "bybit", 1_000.0, 400.0)
    # The worst of the moves, 12 %, x 1.3; 10 % and 0.4 % of the net, x 1.2; 16 %, x 1.3.
    yield "okx portfolio", partial(lone_perpetual, "okx", 12_000.0, 15_600.0)
    yield "bybit portfolio", partial(lone_perpetual, "bybit", 10_400.0, 12_480.0)
    yield "deribit portfolio", partial(lone_perpetual, "deribit", 16_000.0, 20_800.0)
    # 800,000 in tiers: 10,000 + 2 x 60,000 + 4 x 100,000 + 6 x 130,000 + 8 x 170,000 + 10 x 230,000 + 12 x 100,000.
    yield "okx minimum 2025-01-14", partial(minimum_charge, date(2025, 1, 14), 6_170_000.0)
    # 250,000 + 2 x 250,000 + 4 x 300,000.
    yield "okx minimum 2025-01-15", partial(minimum_charge, date(2025, 1, 15), 1_950_000.0)
    # max(0.15 - 5,000 / 50,000, 0.1) + 0.02; kept 0.075 + 0.02.
    yield "deribit short call", partial(short_call, "deribit", 0.12, 0.095)
