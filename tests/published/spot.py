# SPDX-License-Identifier: GPL-3.0-or-later
"""Coins and debts: haircuts, margin levels, interest, margin pairs, what may be withdrawn."""

from __future__ import annotations

import msgspec

from crossmargin_bt import venues
from crossmargin_bt.engine.admission import settings_changes
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import interest
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.modes import margin_pair
from crossmargin_bt.engine.terms.borrowing import Borrowing, DebtTerms, DebtTier, InterestClock
from crossmargin_bt.engine.terms.collateral import CollateralTerms, CollateralTier
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rates import flat_rate
from published.stage import account, trade

DOLLARS = CollateralTerms((CollateralTier(0.0, 1.0),))


def pool(balances: dict[str, float], prices: dict[str, float], *, terms=(DOLLARS,), **rules) -> Account:
    """Return an account of many currencies, in USDT."""
    base = venues.load("generic").rules
    made = Account(
        msgspec.structs.replace(base, maker=0.0, taker=0.0, collateral=terms, **rules),
        pooling="multi_currency",
        prices=prices,
    )
    for currency, amount in balances.items():
        made.apply(events.CashTransferred(time_ms=0, currency=currency, amount=amount))
    return made


def tiers(rows) -> tuple[CollateralTier, ...]:
    """Return tiers from rows of (up to, rate)."""
    bounds = [0.0, *(row[0] for row in rows[:-1])]
    return tuple(CollateralTier(bound, row[1]) for bound, row in zip(bounds, rows, strict=True))


def counted(made: Account) -> float:
    return sum(one.collateral_value for one in currencies.holdings(made))


def okx_discount(case: dict) -> dict:
    given = case["inputs"]
    terms = CollateralTerms(tiers(given["tiers"]), ("USDT",), "amount")
    return {"collateral": counted(pool({"USDT": given["amount"]}, {}, terms=(terms,)))}


def binance_haircut(case: dict) -> dict:
    given = case["inputs"]
    terms = CollateralTerms(tiers(given["tiers"]), ("BTC",))
    made = pool({"BTC": given["btc"]}, {"BTC": given["price"]}, terms=(terms,))
    return {"collateral_value": counted(made)}


def mexc(case: dict) -> dict:
    given = case["inputs"]
    terms = CollateralTerms(tiers(given["tiers"]), ("BTC",), "amount")
    return {"collateral_btc": counted(pool({"BTC": given["btc"]}, {"BTC": 1.0}, terms=(terms,)))}


def orderly(case: dict) -> dict:
    """The unsettled profit is a perpetual's; what has a discount of 0 is worth something and counts for nothing."""
    given = case["inputs"]
    terms = (
        CollateralTerms((CollateralTier(0.0, 1.0),), ("USDT",)),
        CollateralTerms((CollateralTier(0.0, given["discount"]),), ("X",)),
    )
    made = pool({"USDT": given["usdc"], "X": given["other"]}, {"X": given["index"]}, terms=terms)
    made.list_instrument(Instrument(symbol="P", lot=1.0))
    made.apply(events.SettingChanged(time_ms=0, symbol="P", margin_mode="cross", leverage=10.0))
    trade(made, "P", 1.0, 100.0)
    made.set_mark("P", 100.0 + given["unsettled"])
    total = metrics.pool_balance(made, "USDT")
    return {"total_collateral": total.collateral_value + total.cross_profit, "total_value": total.equity}


def derive_base(case: dict) -> dict:
    given = case["inputs"]
    terms = venues.load("derive").rules.collateral
    made = pool({"ETH": given["eth"]}, {"ETH": given["spot"]}, terms=terms)
    return {"im": metrics.pool_balance(made, "USDT").free_margin, "mm": counted(made)}


def binance_pro(case: dict) -> dict:
    given = case["inputs"]

    def terms(currency: str, rows) -> DebtTerms:
        bounds = [0.0, *(row[0] for row in rows[:-1])]
        steps = tuple(DebtTier(bound, row[2], row[1]) for bound, row in zip(bounds, rows, strict=True))
        return DebtTerms((currency,), steps)

    lends = Borrowing(
        initial=1.0, maintenance=flat_rate(0.05), otherwise=0.0,
        debts=(terms("BTC", given["btc_tiers"]), terms("ETH", given["eth_tiers"])),
    )  # fmt: skip
    made = pool(
        {"USDT": 1e6, "BTC": -given["btc_liab"], "ETH": -given["eth_liab"]},
        {"BTC": given["btc_px"], "ETH": given["eth_px"]}, borrowing=lends,
    )  # fmt: skip
    (only,) = metrics.pools(made)
    required = metrics.risk(made, only).requirement
    return {
        "initial_margin": metrics.pool_balance(made, "USDT").in_use,
        "maintenance_margin": required,
        "maintenance_margin_fast": required,
    }


def _levels(made: Account) -> tuple[float, float]:
    """Return what an account holds and what it owes, in USDT."""
    found = currencies.holdings(made)
    return sum(max(one.value, 0.0) for one in found), sum(one.debt * one.price for one in found)


def kucoin_debt(case: dict) -> dict:
    """A coin worth the leverage times the trader's own money, the rest of it borrowed."""
    leverage = case["inputs"]["leverage"]
    made = pool({"USDT": 1.0 - leverage, "BTC": leverage}, {"BTC": 1.0})
    holds, owes = _levels(made)
    return {"debt_ratio_initial": owes / holds}


def htx(case: dict) -> dict:
    given = case["inputs"]
    made = pool({"BTC": given["assets"], "USDT": -given["loan"]}, {"BTC": 1.0})
    made.apply(
        events.InterestCharged(
            time_ms=0,
            currency="USDT",
            owed=given["loan"],
            rate=0.02,
            periods=1,
            since_ms=0,
            amount=given["interest"],
        )
    )
    holds, owes = _levels(made)
    return {"risk_ratio": holds / owes}


def bybit_borrow(case: dict) -> dict:
    given = case["inputs"]
    made = pool({"USDT": given["wallet_usdt"]}, {})
    made.list_instrument(Instrument(symbol="P", lot=1.0))
    trade(made, "P", 1.0, 1000.0)
    made.set_mark("P", 1000.0 + given["upnl"])
    (holding,) = currencies.holdings(made)
    return {"equity": holding.amount, "borrowed": holding.debt}


def isolated_margin_pair(case: dict) -> dict:
    """One coin bought with borrowed money, isolated, its margin in the coin."""
    given = case["inputs"]
    facts = {"kind": "margin", "settle": "BTC", "underlying": "BTC", "quote": "USDT", "leverage": given["leverage"]}
    made = account(cash=0.0, mode="isolated", X=facts)
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=1.0))
    trade(made, "X", given["open_btc"], given["price"])
    book, leg = made.books["X"], made.books["X"].legs["net"]
    return {
        "margin_btc": leg.margin,
        "assets_btc": margin_pair.assets(book, leg) + leg.margin,
        "liability_usdt": margin_pair.principal(book, leg),
    }


def binance_interest(case: dict) -> dict:
    given = case["inputs"]

    def at(text: str) -> int:
        hours, minutes = text.split(":")
        return (int(hours) * 60 + int(minutes)) * 60_000

    clock = venues.load("binance").rules.borrowing.clock
    periods, paid = charged(clock, given["principal"], given["hourly"], at(given["borrow"]), at(given["repay"]))
    return {"hours": periods, "interest": paid}


def charged(clock: InterestClock, owed: float, rate: float, since_ms: int, until_ms: int) -> tuple[int, float]:
    """Return the periods and the interest an account is charged that owes so much from one time to another, `rate` a period."""
    terms = Borrowing(
        initial=0.1,
        maintenance=flat_rate(0.05),
        otherwise=0.0,
        clock=clock,
        yearly={"DEBT": rate * 24 * 365 / clock.hours},
    )
    made = pool({"USDT": 1e9, "DEBT": -owed}, {"DEBT": 1.0}, borrowing=terms)
    periods, paid = 0, 0.0
    for now_ms in sorted({since_ms, until_ms, *range(since_ms, until_ms, 60_000)}):
        for entry in interest.due(made, now_ms, [interest.Debt("DEBT", owed)]):
            made.apply(entry)
            periods, paid = entry.periods, paid + entry.amount
    return periods, paid


def freqtrade_interest(case: dict) -> dict:
    """Its Binance counts hours begun at a daily rate, its Kraken an opening fee and four hours begun."""
    given = case["inputs"]
    kraken = case["exchange"] == "kraken"
    clock = venues.load("kraken").rules.borrowing.clock if kraken else InterestClock("elapsed")
    rate = given["rate"] if kraken else given["rate"] / 24
    _, paid = charged(clock, given["borrowed"], rate, 0, round(given["hours"] * 3_600_000))
    return {"interest": paid}


def withdrawals(case: dict) -> dict:
    """Of each row (dollars, free, floating profit) an account: other collateral makes up what is free beyond them."""
    found = []
    for dollars, free, profit in case["inputs"]["cases"]:
        margin = 0.1 * 10_000.0
        other = max(0.0, free - dollars - profit + margin)
        locked = max(0.0, dollars + profit - margin + other - free)
        made = pool({"USDT": dollars, "X": other}, {"X": 1.0}, profit_pays_for=("cross_orders",))
        made.list_instrument(Instrument(symbol="P", lot=1.0))
        made.apply(events.SettingChanged(time_ms=0, symbol="P", margin_mode="cross", leverage=10.0))
        trade(made, "P", 1.0, 10_000.0 - profit)
        made.set_mark("P", 10_000.0)
        made.apply(events.SetAside(time_ms=0, currency="X", amount=locked, reason="orders"))
        found.append(settings_changes.withdrawable(made, "USDT"))
    return {"max_withdraw": found}


CHECKED = {
    "okx-discount-01": okx_discount,
    "binance-haircut-01": binance_haircut,
    "mexc-collateral-01": mexc,
    "orderly-collateral-01": orderly,
    "derive-srm-base-01": derive_base,
    "binance-crosspro-01": binance_pro,
    "kucoin-debt-01": kucoin_debt,
    "htx-margin-level-01": htx,
    "bybit-borrow-01": bybit_borrow,
    "okx-iso-margin-01": isolated_margin_pair,
    "binance-interest-01": binance_interest,
    **{f"freqtrade-interest-0{n}": freqtrade_interest for n in range(1, 9)},
    "orderly-withdraw-01": withdrawals,
}
