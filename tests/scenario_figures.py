# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures that a scenario may expect of an account."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import pytest

from crossmargin_bt.engine.admission import settings_changes
from crossmargin_bt.engine.explain import account_view
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import currencies, liquidation_prices, metrics, options


def written(text: str):
    """Return a number to compare with, as exact as it is written: 28.55 means 28.55 to half a cent of its last digit."""
    if text in ("inf", "-inf"):
        return float(text)
    if text == "none":
        return pytest.approx(math.nan, nan_ok=True)
    exponent = Decimal(text).as_tuple().exponent
    return pytest.approx(float(text), rel=1e-12, abs=0.5001 * 10.0 ** int(exponent) if "." in text else 1e-6)


def read(account: Account, key: str) -> float:
    """Return one of the figures a scenario may expect: `NAME` or `NAME:WHERE`."""
    key, _, where = key.partition(":")
    if key in ("liquidation", "fall", "rise"):
        found = estimate(account, key, where)
        return math.nan if found is None else found
    if key == "bankruptcy":
        pool = next(p for p in metrics.pools(account) if where in [f"{s}:{side}" for s, side in p.legs])
        return metrics.bankruptcy_prices(account, pool)[where]
    if key.partition("_")[0] in ("maintenance", "level", "ratio"):
        return risk_figure(account, key, where)
    if key in OF_A_POOL:
        return getattr(metrics.pool_balance(account, where or account.valuation.unit), OF_A_POOL[key])
    return (
        OF_AN_ACCOUNT[key](account)
        if key in OF_AN_ACCOUNT
        else OF_A_PART[key](account, where or account.valuation.unit)
    )


OF_AN_ACCOUNT: dict[str, Callable[[Account], float]] = {
    "bad_debt": lambda account: account.bad_debt,
    "fees": lambda account: account.fees,
    "funding": lambda account: account.funding,
    "interest": lambda account: account.interest,
    "total_equity": metrics.total_equity,
    "total_used": metrics.total_margin_used,
    "exposure": metrics.account_exposure,
}
OF_A_POOL = {
    "equity": "equity",
    "in_use": "in_use",
    "used": "margin_used",
    "free": "free_margin",
    "available": "available_balance",
    "haircut": "haircut",
    "option_value": "option_value",
    "profit": "cross_profit",
}


def holding(account: Account, currency: str) -> currencies.Holding:
    """Return one currency of a multi-currency pool."""
    return next(one for one in currencies.holdings(account) if one.currency == currency)


OF_A_CURRENCY: dict[str, Callable[[Account, str], float]] = {
    "balance": lambda account, currency: account.balances[currency],
    "withdrawable": settings_changes.withdrawable,
    "collateral": lambda account, currency: account_view.currency_view(account, currency).collateral_value,
    "debt": lambda account, currency: holding(account, currency).debt,
    "debt_initial": lambda account, currency: holding(account, currency).initial_margin,
    "debt_maintenance": lambda account, currency: holding(account, currency).maintenance_margin,
}


def loan(account: Account, symbol: str) -> account_view.LoanView:
    """Return the loan of a margin pair."""
    book = account.books[symbol]
    return account_view.loan_view(account, book, book.legs["net"])


def greek(name: str) -> Callable[[Account, str], float]:
    """Return what reads one of an option's Greeks."""
    return lambda account, symbol: getattr(options.option_greeks(account.books[symbol], account.now_ms), name)


OF_A_SYMBOL: dict[str, Callable[[Account, str], float]] = {
    "realised": lambda account, symbol: sum(account.books[symbol].realised.values()),
    "value": lambda account, symbol: account.books[symbol].value(account.books[symbol].leg("net")),
    "assets": lambda account, symbol: loan(account, symbol).assets,
    "owed": lambda account, symbol: loan(account, symbol).liability,
    "owed_interest": lambda account, symbol: loan(account, symbol).interest,
    "closable": lambda account, symbol: loan(account, symbol).closable,
    **{name: greek(name) for name in ("delta", "gamma", "vega", "theta")},
}


OF_A_PART = OF_A_CURRENCY | OF_A_SYMBOL


def estimate(account: Account, key: str, where: str) -> float | None:
    """Return a liquidation price, or how far all prices may fall or rise together (betas as ETH=2)."""
    if key == "liquidation":
        symbol, _, side = where.partition(":")
        return liquidation_prices.liquidation_price(account, symbol, side or "net").price
    betas = {symbol: float(beta) for symbol, beta in (pair.split("=") for pair in where.split(",") if pair)}
    return getattr(liquidation_prices.aggregate_distance(account, betas), key)


def risk_figure(account: Account, key: str, where: str) -> float:
    """Return requirement, margin level or the venue's ratio of a pool."""
    name, _, positions = key.partition("_")
    pool = next((p for p in metrics.pools(account) if p.name == (where or account.valuation.unit)), None)
    if pool is None:
        return {"maintenance": 0.0, "level": math.inf, "ratio": 0.0}[name]
    risk = metrics.risk(account, pool, with_orders=not positions)
    if name == "ratio":
        return risk.ratio(account.rules.ratio)
    return {"maintenance": risk.requirement, "level": risk.margin_level}[name]
