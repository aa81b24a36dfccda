# SPDX-License-Identifier: GPL-3.0-or-later
"""Maximum order sizes and leverages."""

from __future__ import annotations

from crossmargin_bt.engine.admission import maximum_order
from crossmargin_bt.engine.terms.rates import PowerRate, flat_rate, tier_table
from published.stage import account, rest, trade


def kucoin(case: dict) -> dict:
    """The venue's own constants of the contract."""
    given = case["inputs"]
    lot = given.get("lot", 0.001)
    made = account(
        cash=given["total_margin"],
        rules={"venue": "kucoin", "taker": 0.0006},
        XBTUSDTM={"leverage": given["leverage"], "lot": lot},
    )
    made.set_mark("XBTUSDTM", given["price"])
    lots = maximum_order.maximum_order_lots(made, "XBTUSDTM", "net", 1, given["price"])
    instrument = made.books["XBTUSDTM"].instrument
    return {
        "max_open_lots": lots,
        "max_open_value": instrument.value(lots, given["price"]),
        "max_open": instrument.size(lots),
    }


def orderly(case: dict) -> dict:
    given = case["inputs"]
    taker = given["taker_bps"] / 10_000
    rule = PowerRate(base=given["imr"] / 2, factor=given["imr_factor"] / 2, exponent=0.8, initial_factor=2.0)
    facts = {"leverage": 1 / given["imr"], "rule": rule}
    made = account(
        cash=given["collateral"], rules={"venue": "orderly", "taker": taker}, BTC=facts,
        ETH={"leverage": 10.0, "rule": flat_rate(0.05)},
    )  # fmt: skip
    trade(made, "ETH", 1.0, 10 * given["other_im"])
    return _both_sides(made, given, given["mark"], cash=given["collateral"])


def _both_sides(made, given: dict, mark: float, *, cash: float) -> dict:
    trade(made, "BTC", given["pos"], mark)
    for number, size in ((2, given["buys"]), (3, -given["sells"])):
        if size:
            rest(made, "BTC", number, size, mark)
    made.balances["USDT"] = cash
    book = made.books["BTC"]
    return {
        name: book.instrument.size(maximum_order.maximum_order_lots(made, "BTC", "net", direction, mark))
        for name, direction in (("max_long", 1), ("max_short", -1))
    }


def orderly_base(case: dict) -> dict:
    """Collateral that makes the page's base size, at a mark of 1."""
    given = case["inputs"]
    rules = {"venue": "orderly", "taker": 0.0, "order_size_share": 1.0, "order_size_fees": 0}
    cash = given["base"] / 10
    made = account(cash=cash, rules=rules, BTC={"leverage": 10.0, "rule": flat_rate(0.05), "lot": 1e-9})
    return _both_sides(made, given, 1.0, cash=cash)


def leverage(case: dict) -> dict:
    given = case["inputs"]
    rule = tier_table([(low, 1 / (2 * most), most) for low, _, most in given["tiers"]], marginal=False)
    made = account(cash=1.0, X={"rule": rule})
    made.set_mark("X", 1.0)
    return {"max_leverage": maximum_order.maximum_leverage(made, "X", given["stake"])}


CHECKED = {
    "kucoin-maxopen-01": kucoin,
    "kucoin-maxopen-02": kucoin,
    "orderly-maxqty-01": orderly,
    "orderly-maxqty-03": orderly_base,
    "orderly-maxqty-04": orderly_base,
    "freqtrade-maxlev-01": leverage,
}
