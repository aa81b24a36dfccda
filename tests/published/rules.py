# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates that grow, tiers picked by both legs or by orders, fees inside tiers."""

from __future__ import annotations

from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.margin.modes import cross
from crossmargin_bt.engine.terms.rates import PowerRate, flat_rate, tier_table
from published.stage import account, rest, shared, trade


def bitget(case: dict) -> dict:
    given = case["inputs"]
    found = {}
    for name, marginal in (("mm_tiered", True), ("mm_flat", False)):
        rule = tier_table(
            [(0.0, given["tiers"][0][1], None), (given["tiers"][0][0], given["tiers"][1][1], None)], marginal=marginal
        )
        made = account(cash=1e6, rules={"venue": "bitget", "taker": given["fee"]}, X={"rule": rule})
        trade(made, "X", given["qty"], given["mark"])
        found[name] = shared(made).requirement
    return {**found, "value": metrics.exposure_value(made, "USDT")}


def htx_net(case: dict) -> dict:
    found = {}
    for name, (long, short) in case["inputs"].items():
        made = account(
            cash=1e9, position_mode="hedge", rules={"tier_exposure": "net"}, X={"rule": flat_rate(0.01), "lot": 1.0}
        )
        trade(made, "X", long, 1.0, "long")
        if short:
            trade(made, "X", -short, 1.0, "short")
        found[f"net_{name}"] = cross.margined_sides(made.books["X"], with_orders=True)[0].tier_lots
    return found


def coinex(case: dict) -> dict:
    given = case["inputs"]
    lows = [0.0, *(row[0] for row in given["table"][:-1])]
    rule = tier_table([(low, row[1], row[3]) for low, row in zip(lows, given["table"], strict=True)], marginal=False)
    rules = {"tier_exposure": "larger", "orders_in_tier": True, "order_fees_reserved": False}
    made = account(
        cash=1e9, position_mode="hedge", rules=rules, X={"leverage": 1000.0, "leverage_max": 1000.0, "rule": rule}
    )
    trade(made, "X", given["long_pos"], 1.0, "long")
    for number, side, size in ((2, "long", given["long_orders"]), (3, "short", -given["short_orders"])):
        lots = made.books["X"].instrument.lots(size)
        made.apply(
            events.OrderPlaced(
                time_ms=0, number=number, symbol="X", side=side, lots=lots, price=1.0, reduce_only=False, group=None,
                immediate=False, covered=0,
            )
        )  # fmt: skip
    tier = cross.margined_sides(made.books["X"], with_orders=True)[0].tier_lots
    exposed = given["long_pos"] + given["long_orders"] + given["short_orders"]
    return {
        "tier_qty": made.books["X"].instrument.size(tier),
        "mmr": shared(made).requirement / given["long_pos"],
        "imr": metrics.pool_balance(made, "USDT").in_use / exposed,
        "max_leverage": exposed / metrics.pool_balance(made, "USDT").in_use,
    }


def deribit(case: dict) -> dict:
    """The venue's own terms of the contract, at no more leverage than they allow."""
    given = case["inputs"]
    coin = "btc" if "pos_btc" in given else "sol"
    symbol = f"{coin.upper()}USDC"
    made = account(cash=1e12, rules={"venue": "deribit"}, **{symbol: {"leverage": 125.0}})
    trade(made, symbol, given[f"pos_{coin}"], given["price"])
    value = given[f"pos_{coin}"] * given["price"]
    initial, maintenance = metrics.pool_balance(made, "USDT").in_use, shared(made).requirement
    return {
        "imr": initial / value,
        f"im_{coin}": initial / given["price"],
        "im_usdc": initial,
        "mmr": maintenance / value,
        f"mm_{coin}": maintenance / given["price"],
    }


def ftx(case: dict) -> dict:
    given = case["inputs"]
    rule = PowerRate(base=0.05, factor=given["imf_factor"], exponent=0.5, initial_factor=1.0, measure="quantity")
    made = account(cash=1e12, rules={"order_offset": "net"}, X={"leverage": 20.0, "rule": rule, "lot": 1.0})
    trade(made, "X", given["tokens"], 1.0)
    return {"imf": metrics.pool_balance(made, "USDT").in_use / given["tokens"]}


def orderly_free(case: dict) -> dict:
    given = case["inputs"]
    facts = {
        name: {
            "leverage": given["max_leverage"],
            "rule": PowerRate(
                base=given["base_imr"] / 2, factor=given[name]["imr_factor"] / 2, exponent=0.8, initial_factor=2.0
            ),
        }
        for name in ("btc", "eth")
    }
    made = account(cash=given["collateral"], rules={"venue": "orderly", "taker": 0.0}, **facts)
    for name in ("btc", "eth"):
        mark = given[name]["mark"]
        trade(made, name, given[name]["pos"], mark)
        for number, size in ((2, given[name]["buys"]), (3, -given[name]["sells"])):
            if size:
                rest(made, name, number, size, mark)
    total = metrics.pool_balance(made, "USDT")
    return {"total_im": total.in_use, "free_collateral": total.free_margin}


def paradex_check(case: dict) -> dict:
    given = case["inputs"]
    rules = {"venue": "paradex", "taker": 0.0}
    made = account(
        cash=given["collateral"], rules=rules, X={"leverage": 1 / given["imf"], "rule": flat_rate(given["imf"] / 2)}
    )
    trade(made, "X", given["pos"], given["mark0"])
    found = {"imr0": metrics.pool_balance(made, "USDT").in_use}
    made.set_mark("X", given["mark"])
    total = metrics.pool_balance(made, "USDT")
    order = OpenOrder(2, "net", made.books["X"].instrument.lots(-5.0), given["mark"])
    return {
        **found,
        "imr": total.in_use,
        "upnl": total.cross_profit,
        "account_value": total.equity,
        "offset_sell5_accepted": int(isinstance(order_admission.admit(made, "X", order), OpenOrder)),
    }


def derive(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=0.0, X={"leverage": 1 / given["imr"], "rule": flat_rate(given["mmr"])})
    trade(made, "X", given["qty"], given["entry"])
    made.set_mark("X", given["perp"])
    return {"mm": shared(made).gap, "im": metrics.available_margin(made, made.books["X"])}


def new_position(case: dict) -> dict:
    """What the estimate would be once the order has filled."""
    given = case["inputs"]
    made = account(cash=given["collateral"], X={"leverage": 10.0, "rule": flat_rate(given["mmr"])})
    made.set_mark("X", given["order_price"])
    book = made.books["X"]
    made.apply(
        fills.fill_entry(
            book, 0, "net", number=1, lots=book.instrument.lots(given["order_qty"]), price=given["order_price"],
            fee=given["fee"],
        )
    )  # fmt: skip

    return {"liq_price": liquidation_prices.liquidation_price(made, "X").price}


CHECKED = {
    "bitget-mm-01": bitget,
    "htx-net-01": htx_net,
    "coinex-tier-01": coinex,
    "deribit-fut-01": deribit,
    "deribit-fut-02": deribit,
    "deribit-sol-02": deribit,
    "ftx-imf-01": ftx,
    "orderly-free-01": orderly_free,
    "paradex-check-01": paradex_check,
    **{f"derive-srm-perp-0{n}": derive for n in (1, 4, 5, 6)},
    "orderly-estliq-04": new_position,
}
