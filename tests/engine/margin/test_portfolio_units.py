# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an account makes up a risk unit: the margin of an account is that of a unit put together by hand."""

from __future__ import annotations

import pytest
import scenario
from scenario_margin_model import expected

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.scenarios import LinearPosition, OptionPosition, RiskUnit
from crossmargin_bt.engine.terms.portfolio_terms import UnitTerms

HEAD = """
mode portfolio
fees 0 0
cash 100000
"""
PERPETUAL = "instrument P underlying=BTC lot=0.001\nmark P 10000"
CALL = (
    "instrument C kind=option underlying=BTC expiry=2026-01-01T00:00:00Z strike=10000 option=call lot=0.01 taker=0\n"
    "mark C 796.56\nvolatility C 0.2"
)
FAR = (
    "instrument F kind=option underlying=BTC expiry=2025-07-02T12:00:00Z strike=12000 option=call lot=0.01 taker=0\n"
    "mark F 200\nvolatility F 0.4"
)


def opened(venue: str, *lines: str) -> Account:
    """Return the account of a scenario, whose instruments and deposits come before everything that happens."""
    every = [line for part in lines for line in part.splitlines()]
    every.sort(key=lambda line: not line.startswith(("instrument", "deposit", "price", "currency")))
    return scenario.run_text("\n".join([f"venue {venue}", HEAD, *every])).account


def option(
    size: float, strike: float = 10_000.0, years: float = 1.0, volatility: float = 0.2, **more
) -> OptionPosition:
    return OptionPosition(size, strike, 1, more.pop("forward", 10_000.0), years, volatility, **more)


def same(account: Account, unit: RiskUnit) -> None:
    """Compare the requirement and the margin in use of an account with those of one unit of BTC."""
    terms: UnitTerms = account.rules.portfolio.unit_terms("BTC")
    figures = expected(terms, unit, None)
    pool = metrics.pools(account)[0]
    assert metrics.required(account, pool) == pytest.approx(figures["maintenance"], rel=1e-6)
    assert metrics.pool_balance(account, pool.name).in_use == pytest.approx(figures["initial"], rel=1e-6)


def test_coins_count_up_to_the_delta_of_all_options() -> None:
    """Two calls sold: the coin held offsets their deltas, 0.539828 of a coin and that of the other."""
    account = opened("okx", "deposit BTC 0.2", PERPETUAL, CALL, FAR, "fill C -50 @ 796.56", "fill F -30 @ 200")
    sold = (option(-0.5), option(-0.3, 12_000.0, 0.5, 0.4))
    same(account, RiskUnit(10_000.0, (), sold, coins=0.2))
    account = opened("okx", "deposit BTC 1", PERPETUAL, CALL, "fill C -50 @ 796.56")
    same(account, RiskUnit(10_000.0, (), (option(-0.5),), coins=0.5 * 0.539828))
    # What does not offset does not count: a coin held beside a call bought.
    account = opened("okx", "deposit BTC 1", PERPETUAL, CALL, "fill C +50 @ 796.56")
    same(account, RiskUnit(10_000.0, (), (option(0.5),)))


def test_a_venue_may_count_all_coins() -> None:
    """Derive: two coins held make up a unit by themselves, and dollars none."""
    account = opened("derive", "currency USDC", "deposit BTC 2", "instrument P underlying=BTC settle=USDC lot=0.001",
                     "mark P 10000", "fill P +1000 @ 10000")  # fmt: skip
    same(account, RiskUnit(10_000.0, (LinearPosition(1.0, 10_000.0),), coins=2.0))


def test_orders_fill_on_the_worse_side() -> None:
    """One lot bid for counts, an order that only closes does not."""
    account = opened("okx", PERPETUAL, "fill P +1000 @ 10000", "order P +1 @ 10000", "order P -500 @ 10000 reduce")
    same(account, RiskUnit(10_000.0, (LinearPosition(1.001, 10_000.0),)))


def test_options_of_another_dollar_are_valued_in_the_accounts() -> None:
    """A call in USDC at 0.98: strike, forward and delta in USDT, hedged across the peg as far as its delta goes."""
    calls = CALL.replace("kind=option", "kind=option settle=USDC")
    account = opened("okx", "price USDC 0.98", PERPETUAL, calls, "fill P +200 @ 10000", "fill C -50 @ 796.56")
    delta = 0.5 * 0.539828 * 9_800.0
    call = option(-0.5, 9_800.0, forward=9_800.0)
    hedged = min(2_000.0, delta)
    same(account, RiskUnit(10_000.0, (LinearPosition(0.2, 10_000.0),), (call,), peg_hedges=(0.0, hedged, 0.0)))


def test_options_alone_take_their_spot_from_the_index() -> None:
    """No market of the coin is listed: net short options are charged at the index of their candles."""
    account = opened("okx", CALL.replace("mark C 796.56", "index C 10000\nmark C 796.56"), "fill C -50 @ 796.56")
    same(account, RiskUnit(10_000.0, (), (option(-0.5),)))


def test_an_option_that_no_volatility_explains_has_none() -> None:
    """Marked below its intrinsic value: revalued without volatility."""
    deep = (
        "instrument D kind=option underlying=BTC expiry=2026-01-01T00:00:00Z strike=5000 option=call lot=0.01 taker=0"
    )
    account = opened("okx", PERPETUAL, deep, "mark D 4000", "fill D +100 @ 4000")
    unit = RiskUnit(10_000.0, (), (option(1.0, 5_000.0, volatility=1e-9),))
    terms = account.rules.portfolio.unit_terms("BTC")
    pool = metrics.pools(account)[0]
    assert metrics.required(account, pool) == pytest.approx(expected(terms, unit, None)["maintenance"], rel=1e-6)
