# SPDX-License-Identifier: GPL-3.0-or-later
"""Inverse contracts: the harmonic entry, profit and margin in coin."""

from __future__ import annotations

import math

from crossmargin_bt.engine.admission import maximum_order
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import flat_rate, tier_table
from published.stage import account, rest, shared, trade

COIN = {"inverse": True, "settle": "USDT", "lot": 1.0}
"""The stage counts in its one currency, here standing for the coin."""


def bankruptcy(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e6, mode="isolated", X={"leverage": given["leverage"], **COIN})
    trade(made, "X", 1000.0, given["hp"])
    (pool,) = metrics.pools(made)
    return {"bankruptcy_price": metrics.bankruptcy_prices(made, pool)["X:net"]}


def kucoin_position(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1.0, mode="isolated", X={"leverage": given["leverage"], **COIN})
    trade(made, "X", given["qty_usd"], given["entry"])
    found = {"posInit": made.books["X"].legs["net"].margin}
    made = account(
        cash=1.0, rules={"venue": "kucoin"}, X={"leverage": given["leverage"], "rule": flat_rate(0.01), **COIN}
    )
    trade(made, "X", given["qty_usd"], given["entry"])
    made.set_mark("X", given["mark"])
    return {**found, "posMargin": metrics.pool_balance(made, "USDT").in_use, "upnl": made.books["X"].unrealised()}


def average(case: dict) -> dict:
    made = account(cash=1e6, X=COIN)
    for size, price in case["inputs"]["fills"]:
        trade(made, "X", size, price)
    book = made.books["X"]
    leg = book.legs["net"]
    return {"avg_entry": leg.entry, "value_btc": book.instrument.value(leg.lots, leg.entry)}


def kucoin_shared_by_value(case: dict) -> dict:
    given = case["inputs"]
    prices = {}
    for name, rate, taker in (("liquidation_price", given["mmr"], given["taker"]), ("bankrupt_price", 1e-12, 0.0)):
        made = account(
            cash=given["total_margin"], rules={"venue": "kucoin", "taker": taker}, X={"rule": flat_rate(rate), **COIN}
        )
        trade(made, "X", given["qty_usd"], given["mark"])
        made.balances["USDT"] = given["total_margin"]
        prices[name] = liquidation_prices.liquidation_price(made, "X").price
    return prices


def risk_limit(case: dict) -> dict:
    """The limit itself is still allowed, so the tier above starts a hair behind it."""
    given = case["inputs"]
    bound = math.nextafter(given["risk_limit_btc"], math.inf)
    rule = tier_table([(0.0, 0.01, 50.0), (bound, 0.02, 10.0)], marginal=False)
    made = account(cash=1e9, rules={"tier_leverage_breach": "refuse"}, X={"leverage": 50.0, "rule": rule, **COIN})
    made.set_mark("X", given["price"])
    lots = maximum_order.maximum_order_lots(made, "X", "net", 1, given["price"])
    return {"max_contracts": made.books["X"].instrument.size(lots)}


def coinm_maintenance(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e3, X={"contract_size": given["mult"], "rule": flat_rate(given["mmr"]), **COIN})
    trade(made, "X", given["contracts"], given["mark"])
    return {
        "notional_btc": metrics.exposure_value(made, "USDT"),
        "maintenance_margin": shared(made).requirement,
    }


def coinm_amount(case: dict) -> dict:
    """The tier before carries the page's deduction, made by a still lower tier."""
    given = case["inputs"]
    low, previous, rate = given["cum_prev"] / (given["mmr_prev"] / 2), given["mmr_prev"], given["mmr_n"]
    rule = tier_table([(0.0, previous / 2, None), (low, previous, None), (given["floor"], rate, None)], marginal=True)
    return {"cum": rule.deductions[2]}


def coinm_liquidation(case: dict) -> dict:
    given = case["inputs"]
    rate, cum = given["mmr"], given["cum"]
    rule = tier_table([(0.0, rate / 2, None), (cum / (rate / 2), rate, None)], marginal=True)
    made = account(cash=given["WB"], X={"contract_size": given["cm"], "rule": rule, **COIN})
    trade(made, "X", given["side"] * given["contracts"], given["entry"])
    return {"liq_price": liquidation_prices.liquidation_price(made, "X").price}


def bybit_isolated(case: dict) -> dict:
    given = case["inputs"]
    found = {}
    for name, size in (("liq_long", given["qty_usd"]), ("liq_short", -given["qty_usd"])):
        rules = {"isolated_maintenance_price": "entry"}
        facts = {"leverage": given["leverage"], "rule": flat_rate(given["mmr"]), **COIN}
        made = account(cash=1e3, mode="isolated", rules=rules, X=facts)
        trade(made, "X", size, given["entry"])
        (pool,) = metrics.pools(made)
        found[name] = liquidation_prices.liquidation_price(made, "X").price
        found["im"] = made.books["X"].legs["net"].margin
        found["mm"] = metrics.risk(made, pool).requirement
        found["position_value"] = metrics.exposure_value(made, "USDT")
    return found


def at_last_price(case: dict) -> dict:
    """The last price counts, wherever the mark stands."""
    given = case["inputs"]
    facts = {"leverage": given["leverage"], "contract_size": float(given["face"]), **COIN}
    made = account(cash=1e3, rules={"initial_price": "last"}, X=facts)
    trade(made, "X", given["qty"], given["price"])
    made.set_mark("X", given["price"] * 2)
    return {"position_margin": metrics.pool_balance(made, "USDT").in_use}


def rates(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e3, X={"leverage": 1 / given["imr"], "rule": flat_rate(given["mmr"]), **COIN})
    trade(made, "X", given["qty"], given["price"])
    return {"im": metrics.pool_balance(made, "USDT").in_use, "mm": shared(made).requirement}


def funding(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e3, X=COIN)
    trade(made, "X", -given["qty_usd"], given["mark"])
    for entry in fills.funding_due(made, 0, "X", given["mark"], given["rate"]):
        made.apply(entry)
    return {"fee_btc": made.funding}


def bybit_cost(case: dict) -> dict:
    given = case["inputs"]
    rules = {
        "order_fees_reserved": True,
        "closing_fee_reserved": "bankruptcy",
        "taker": given["taker"],
    }
    made = account(cash=1e3, rules=rules, X={"leverage": given["leverage"], **COIN})
    made.set_mark("X", given["price"])
    rest(made, "X", 1, given["qty_usd"], given["price"])
    return {"order_cost": metrics.pool_balance(made, "USDT").in_use}


CHECKED = {
    "kucoin-bankr-02": bankruptcy,
    "kucoin-cross-inverse-01": kucoin_position,
    "kucoin-inv-avg-01": average,
    "bybit-inv-avg-01": average,
    "kucoin-liq-cross-03": kucoin_shared_by_value,
    "kucoin-inv-risklimit-01": risk_limit,
    "binance-coinm-mm-01": coinm_maintenance,
    "binance-coinm-maintamt-01": coinm_amount,
    "binance-coinm-liq-01": coinm_liquidation,
    "bybit-iso-inv-01": bybit_isolated,
    "htx-margin-01": at_last_price,
    "htx-margin-02": at_last_price,
    "nautilus-inv-01": rates,
    "wisebitcoin-funding-01": funding,
    "bybit-cost-02": bybit_cost,
}
