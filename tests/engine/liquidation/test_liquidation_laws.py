# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of a liquidation: it ends as soon as it may, takes no lot too many, and every amount has a payer."""

from __future__ import annotations

import math
import random

import pytest

from crossmargin_bt import Instrument, venues
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import waterfall
from crossmargin_bt.engine.liquidation.forced_close import PoolCloser
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import tier_table

TIERS = tier_table([(0.0, 0.01, 50.0), (20_000.0, 0.02, 25.0), (60_000.0, 0.05, 10.0)], marginal=True)
CONTRACTS = [
    Instrument(symbol="AAA", lot=1.0, underlying="A", maintenance=TIERS),
    Instrument(symbol="AAB", lot=3.0, underlying="A", maintenance=TIERS),
    Instrument(symbol="BBB", lot=1.0, maintenance=TIERS),
]
EXACT = ("pairs", "hedges", "reduce", "above")


def breached(draw: random.Random, venue: str, mode: str, position_mode: str) -> tuple[Account, metrics.Pool] | None:
    """Return an account of random legs one of whose pools has come to its end, or None where none has."""
    fund, protected = draw.choice([(math.inf, True), (500.0, True), (500.0, False), (0.0, False)])
    rules = venues.load(venue).rules
    scale = 20 if venue == "kucoin" else 1  # whose steps begin at 600,000
    cash = scale * draw.uniform(5_000, 40_000) if mode == "cross" else 1e6 * scale
    account = Account(rules, position_mode=position_mode, insurance_fund=fund, protected=protected)
    account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=cash))
    for instrument in CONTRACTS:
        book = account.list_instrument(instrument)
        symbol = instrument.symbol
        account.apply(events.SettingChanged(time_ms=0, symbol=symbol, margin_mode=mode, leverage=20.0))
        account.set_mark(symbol, 100.0)
        for side in book.sides:
            lots = scale * draw.randint(0, 900)
            lots = -lots if side == "short" or (side == "net" and draw.random() < 0.5) else lots
            if lots:
                account.apply(fills.order_fill(account, 0, symbol, side, number=1, lots=lots, price=100.0, maker=False))
    for symbol in account.books:
        account.set_mark(symbol, 100.0 * draw.uniform(0.9, 1.1))
    due = [pool for pool in metrics.pools(account) if pool.legs and metrics.risk(account, pool).gap <= 0]
    return (account, draw.choice(due)) if due else None


@pytest.mark.parametrize("venue", ["generic", "okx", "bybit", "bitget", "kucoin", "hyperliquid", "dydx"])
@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("position_mode", ["one_way", "hedge"])
def test_laws_of_a_liquidation(venue: str, mode: str, position_mode: str) -> None:
    """On random pools, closed at prices a little off their marks."""
    draw = random.Random(f"{venue} {mode} {position_mode}")  # noqa: S311 - a seeded test
    seen: set[str] = set()
    for _ in range(150):
        found = breached(draw, venue, mode, position_mode)
        if found is not None:
            seen |= check_liquidation(*found, off=draw.choice([0.0, 0.0, 0.002, 0.02]))
    assert {"whole", "borne"} <= seen
    assert "part" in seen or not venues.load(venue).rules.liquidation


def check_liquidation(account: Account, pool: metrics.Pool, *, off: float) -> set[str]:
    """Check one liquidation, its prices `off` the marks by that part; return what was seen in it."""

    def market(close) -> float:
        book = account.books[close.symbol]
        lots = book.legs[close.side].lots
        return book.mark_of(lots) * (1 - math.copysign(off, lots))

    work = PoolCloser(account, 0, pool, market)
    fund, fees = account.insurance_fund, account.fees
    worth = value_at(account, pool, market)
    borne = by_fund = 0.0
    last: tuple[Account, events.LiquidationStepTaken] | None = None
    for entry in waterfall.liquidate(work):
        if isinstance(entry, events.LiquidationStepTaken):
            assert last is None or not work.is_safe, "a step after the pool was safe"
            last = account.copy(*account.books), entry
        if isinstance(entry, events.InsuranceFundTakeover | events.DebtCovered):
            borne += entry.amount
            by_fund += entry.by_fund
        account.apply(entry)
    assert last is not None
    # What the pool was worth in the market went to fees, or is still there; what was missing was borne.
    left = value_at(account, pool, market)
    assert left == pytest.approx(worth + borne - (account.fees - fees), abs=1e-6)
    collateral = metrics.risk(account, pool).collateral
    rests = last[1].step == "fraction"  # until it is looked at again
    assert collateral >= 0 or not account.protected or rests
    assert by_fund <= borne + 1e-9
    if math.isfinite(fund):
        assert account.insurance_fund == pytest.approx(fund - by_fund)
        assert account.insurance_fund >= -1e-9
    before, step = last
    if work.all_legs() and step.step in EXACT:
        assert not one_lot_less(before, pool, market, step).is_safe, f"{step} closes more than it takes"
    return {"part" if work.all_legs() else "whole", "borne" if borne else "paid"}


def value_at(account: Account, pool: metrics.Pool, market) -> float:
    """Return the balance and what the pool's legs would bring at market prices, fees apart."""
    amount = account.balances["USDT"]
    for close in PoolCloser(account, 0, pool, market).all_legs():
        book = account.books[close.symbol]
        leg = book.legs[close.side]
        amount += leg.margin + book.instrument.profit(leg.lots, leg.entry, market(close))
    return amount


def one_lot_less(before: Account, pool: metrics.Pool, market, step: events.LiquidationStepTaken) -> PoolCloser:
    """Return the pool as it would be had the step closed one lot less: of a hedge, one of the coarser contract."""
    work = PoolCloser(before, 0, pool, market)
    units = {leg: before.books[leg.rpartition(":")[0]].instrument.units_per_lot for leg in step.closes}
    return work.after(
        [
            close._replace(lots=abs(step.closes[leg]) - round(max(units.values()) / units[leg]))
            for close in work.all_legs()
            if (leg := f"{close.symbol}:{close.side}") in step.closes
        ]
    )
