# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole accounts: equity, free margin, what may be withdrawn, estimates with several positions."""

from __future__ import annotations

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from published.stage import account, shared, trade


def kucoin_estimates(case: dict) -> dict:
    given = case["inputs"]
    facts = {
        one["sym"]: {"contract_size": one["mult"], "leverage": 10.0, "rule": flat_rate(one["mmr"])}
        for one in given["positions"]
    }
    made = account(cash=0.0, rules={"venue": "kucoin", "taker": given["taker"]}, **facts)
    for one in given["positions"]:
        trade(made, one["sym"], one["qty"], one["mark"])
    made.balances["USDT"] = given["total_margin"]
    return {
        "amr": given["total_margin"] / metrics.exposure_value(made, "USDT"),
        "eth_liq_price": liquidation_prices.liquidation_price(made, "ETHUSDT").price,
        "btc_liq_price": liquidation_prices.liquidation_price(made, "BTCUSDT").price,
    }


def hyperliquid(case: dict) -> dict:
    """Whatever the entry was: the account's value is its dollars and what it holds."""
    given = case["inputs"]
    value = given["total_ntl_pos"]
    made = account(
        cash=given["total_raw_usd"] + 0.9 * value,
        rules={"venue": "hyperliquid", "taker": 0.0},
        X={"leverage": 25.0, "rule": flat_rate(0.01)},
    )
    trade(made, "X", 1.0, 0.9 * value)
    made.set_mark("X", value)
    total = metrics.pool_balance(made, "USDT")
    return {
        "account_value": total.equity,
        "withdrawable": total.withdrawable,
        "margin_fraction": total.in_use / metrics.exposure_value(made, "USDT"),
    }


def kraken_balance(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=given["eb"], X={"leverage": 5.0})
    mark = 5 * given["m"]
    trade(made, "X", 1.0, mark - given["n"])
    made.set_mark("X", mark)
    total = metrics.pool_balance(made, "USDT")
    return {"e": total.equity, "mf": total.free_margin}


def kraken_used(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=given["balance"], X={"leverage": given["leverage"]})
    trade(made, "X", 1.0, given["position_value"])
    total = metrics.pool_balance(made, "USDT")
    return {"used_margin": total.in_use, "free_margin": total.free_margin}


def lean_shared(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=given["collateral"], ETH={"leverage": given["leverage"]})
    trade(made, "ETH", given["eth_qty"], given["eth_price"])
    total = metrics.pool_balance(made, "USDT")
    return {"eth_mm": total.in_use, "buying_power": total.free_margin}


def orderly_ratio(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e6, X={"rule": flat_rate(0.05)})
    trade(made, "X", 1.0, given["notional"])
    return {"total_mmr": shared(made).requirement / metrics.exposure_value(made, "USDT")}


def okx_currencies(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=given["USDT"], X={"leverage": 10.0})
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=float(given["BTC"])))
    trade(made, "X", given["perp_qty"], given["entry"])
    made.set_mark("X", given["mark"])
    total = metrics.pool_balance(made, "USDT")
    return {
        "upl": total.cross_profit,
        "usdt_equity": total.equity,
        "btc_equity": metrics.pool_balance(made, "BTC").equity,
    }


CHECKED = {
    "kucoin-liq-cross-01": kucoin_estimates,
    "kucoin-liq-cross-02": kucoin_estimates,
    "hyperliquid-acct-01": hyperliquid,
    "kraken-tb-01": kraken_balance,
    "kraken-used-01": kraken_used,
    "lean-shared-01": lean_shared,
    "orderly-ratio-01": orderly_ratio,
    "okx-multi-equity-01": okx_currencies,
}
