# SPDX-License-Identifier: GPL-3.0-or-later
"""What an order costs and a position locks where fees and losses are part of it."""

from __future__ import annotations

from datetime import date

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from published.stage import account, isolated_price, requirement, rest, shared, trade


def order_cost(case: dict) -> dict:
    """The parts are read one after the other, as the rules add them."""
    given = case["inputs"]
    size, price = given.get("qty", 1), given["price"]
    costs = []
    for opening, closing in ((False, "none"), (True, "none"), (True, "bankruptcy")):
        rules = {"order_fees_reserved": opening, "closing_fee_reserved": closing, "taker": given["taker"]}
        made = account(cash=1e6, rules=rules, X={"leverage": given["leverage"]})
        made.set_mark("X", price)
        rest(made, "X", 1, size, price)
        costs.append(metrics.pool_balance(made, "USDT").in_use)
    made = account(cash=1e6, mode="isolated", X={"leverage": given["leverage"]})
    trade(made, "X", size, price)
    (pool,) = metrics.pools(made)
    return {
        "im": costs[0],
        "open_fee": costs[1] - costs[0],
        "close_fee": costs[2] - costs[1],
        "order_cost": costs[2],
        "bankruptcy_price": metrics.bankruptcy_prices(made, pool)["X:net"],
    }


def two_fees(case: dict) -> dict:
    given = case["inputs"]
    rules = {"order_fees_reserved": True, "closing_fee_reserved": "entry", "taker": given["fee"]}
    made = account(cash=1e6, rules=rules, X={"leverage": given["leverage"], "contract_size": given["mult"]})
    made.set_mark("X", given["price"])
    rest(made, "X", 1, given["contracts"], given["price"])
    return {"cost": metrics.pool_balance(made, "USDT").in_use}


def bybit_margin(case: dict) -> dict:
    given = case["inputs"]
    found = {}
    for name, sign in (("long", 1), ("short", -1)):
        made = account(
            cash=1e6,
            rules={"venue": "bybit", "taker": given["taker"]},
            X={"leverage": given["leverage"], "rule": flat_rate(0.005)},
        )
        trade(made, "X", sign * given["qty"], given["entry"])
        made.set_mark("X", given["mark"])
        found[name] = metrics.pool_balance(made, "USDT").in_use
    margin = given["qty"] * given["mark"] / given["leverage"]
    return {"im_displayed_long": found["long"], "close_fee_short": found["short"] - margin}


def bybit_live(case: dict) -> dict:
    given = case["inputs"]
    made = account(
        cash=1e6,
        rules={"venue": "bybit", "taker": given["taker"]},
        X={"leverage": given["leverage"], "rule": flat_rate(given["mmr"])},
    )
    trade(made, "X", -given["size"], given["entry"])
    made.set_mark("X", given["mark"])
    initial, maintenance = metrics.pool_balance(made, "USDT").in_use, shared(made).requirement
    return {"position_im": initial, "position_mm": maintenance, "im_over_mm": initial / maintenance}


def open_loss(case: dict) -> dict:
    given = case["inputs"]
    found = {}
    for name, sign in (("long", 1), ("short", -1)):
        costs = []
        for loss in (False, True):
            rules = {"venue": "binance", "sell_order_markup": None, "order_loss_reserved": loss}
            made = account(cash=1e6, rules=rules, X={"leverage": given["leverage"], "rule": flat_rate(0.005)})
            made.set_mark("X", given["mark"])
            rest(made, "X", 1, sign * given["qty"], given["order_price"])
            costs.append(metrics.pool_balance(made, "USDT").in_use)
        found.update({"initial_margin": costs[0], f"open_loss_{name}": costs[1] - costs[0], f"cost_{name}": costs[1]})
    return found


def assuming_price(case: dict) -> dict:
    """The last price is that of the latest fill."""
    given = case["inputs"]
    rules = {"venue": "binance", "order_loss_reserved": False}
    made = account(cash=1e6, rules=rules, X={"leverage": given["leverage"], "rule": flat_rate(0.005)})
    trade(made, "X", 1.0, given["last"])
    trade(made, "X", -1.0, given["last"])
    made.set_mark("X", given["mark"])
    rest(made, "X", 1, -given["qty"], given["order_price"])
    margin = metrics.pool_balance(made, "USDT").in_use
    return {"initial_margin": margin, "assuming_price": margin * given["leverage"] / given["qty"]}


def phemex(case: dict) -> dict:
    given = case["inputs"]
    rules = {"isolated_fee_in_margin": "bankruptcy", "isolated_closing_fee": "mark", "taker": given["taker"]}
    facts = {"leverage": given["leverage"], "rule": flat_rate(given["mmr"])}
    made = account(cash=1e6, mode="isolated", rules=rules, X=facts)
    trade(made, "X", given["size"], given["price"])
    return {
        "assigned": made.books["X"].legs["net"].margin,
        "liq_price": liquidation_prices.liquidation_price(made, "X").price,
    }


def fee_buffer(case: dict) -> dict:
    given = case["inputs"]
    rules = {"isolated_fee_in_margin": "entry", "taker": given["fee_buffer"]}
    facts = {"leverage": given["leverage"], "rule": flat_rate(given["base_mmr"])}
    made = account(cash=1e6, mode="isolated", rules=rules, X=facts)
    trade(made, "X", given["qty"], given["price"])
    return {"liq_price": liquidation_prices.liquidation_price(made, "X").price}


def extra_margin(case: dict) -> dict:
    given = case["inputs"]
    rules = {"isolated_maintenance_price": "entry"}
    facts = {"leverage": given["leverage"], "rule": flat_rate(given["mmr"])}
    made = account(cash=1e6, mode="isolated", rules=rules, X=facts)
    trade(made, "X", given["qty"] * (-1 if given["side"] == "short" else 1), given["entry"])
    made.apply(events.IsolatedMarginAdjusted(time_ms=0, symbol="X", side="net", amount=float(given["extra_margin"])))
    return {"liq_price": liquidation_prices.liquidation_price(made, "X").price}


def frozen_fee(case: dict) -> dict:
    """The rules before 2025-05: the fee of closing is kept with the margin, the predicted funding part of the rate."""
    given = case["inputs"]
    cost = given["entry"] * given["qty"]
    leverage = cost / (given["pos_margin"] - given["pos_comm"])
    rules = {
        "venue": "kucoin",
        "at": date(2025, 5, 21),
        "taker": given["pos_comm"] / (cost * (1 - 1 / leverage)),
    }
    facts = {
        "leverage": leverage,
        "rule": flat_rate(given["mmr"] + given["predicted_funding_rate"]),
    }
    made = account(cash=1e6, mode="isolated", rules=rules, X=facts)
    trade(made, "X", given["qty"], given["entry"])
    (pool,) = metrics.pools(made)
    return {
        "liquidation_price": liquidation_prices.liquidation_price(made, "X").price,
        "pos_maint": metrics.risk(made, pool).requirement,
        "bankrupt_price": metrics.bankruptcy_prices(made, pool)["X:net"],
    }


def isolated_margin(case: dict) -> dict:
    given = case["inputs"]
    rules = {"isolated_fee_in_margin": "entry", "taker": given["posComm"] / given["posInit"] / 3}
    made = account(cash=1e6, mode="isolated", rules=rules, X={"leverage": 3.0})
    trade(made, "X", 1.0, 3 * given["posInit"])
    made.apply(events.IsolatedMarginAdjusted(time_ms=0, symbol="X", side="net", amount=given["posCross"]))
    for entry in fills.funding_due(made, 0, "X", 1.0, given["posLoss"]):
        made.apply(entry)
    return {"posMargin": made.books["X"].legs["net"].margin}


def mexc(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e6, mode="isolated", X={"leverage": given["leverage"], "rule": flat_rate(given["mmr"])})
    trade(made, "X", given["qty"], given["entry"])
    return {
        "liq_price": isolated_price(case, at_entry=True, size=given["qty"]),
        "position_margin": made.books["X"].legs["net"].margin,
        "mm": requirement(given["qty"] * given["entry"], flat_rate(given["mmr"]), given["qty"]),
    }


CHECKED = {
    "bybit-cost-01": order_cost,
    "bybit-cost-03": order_cost,
    "aax-cost-01": two_fees,
    "bybit-im-01": bybit_margin,
    "bybit-live-01": bybit_live,
    "binance-cost-01": open_loss,
    "binance-cost-02": assuming_price,
    "phemex-liq-01": phemex,
    "orderly-iso-liq-01": fee_buffer,
    "bybit-iso-linear-02": extra_margin,
    "bybit-iso-linear-03": extra_margin,
    "kucoin-iso-position-01": frozen_fee,
    "kucoin-iso-posmargin-01": isolated_margin,
    "mexc-liq-01": mexc,
}
