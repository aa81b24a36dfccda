# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear contracts: margins, tiers, liquidation prices, funding."""

from __future__ import annotations

from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import waterfall
from crossmargin_bt.engine.liquidation.forced_close import PoolCloser
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.liquidation_steps import Tiers
from crossmargin_bt.engine.terms.rates import PowerRate, SizeRate, flat_rate, tier_table
from published.stage import account, isolated_price, requirement, rest, shared, trade


def binance_cross(case: dict) -> dict:
    """The wallet carries the others' requirement and profit as a lump; the tier's deduction comes from a lower tier."""
    given = case["inputs"]
    rate, cum = given["mmr"], given["cumB"]
    # One lower tier, whose bound makes the deduction what the page prints.
    rule = (
        flat_rate(rate)
        if not cum
        else tier_table([(0.0, rate / 2, None), (cum / (rate / 2), rate, None)], marginal=True)
    )
    made = account(cash=given["WB"] - given["TMM1"] + given["UPNL1"], X={"leverage": 1.0, "rule": rule})
    trade(made, "X", given["side"] * given["pos"], given["ep"])
    return {"liq_price": liquidation_prices.liquidation_price(made, "X").price}


def binance_isolated(case: dict) -> dict:
    given = case["inputs"]
    margin, rate = given["entry"] * given["qty"] / given["leverage"], given["mmr"]
    rule = tier_table([(0.0, rate / 2, None), (given["cum"] / (rate / 2), rate, None)], marginal=True)
    return {"liq_price": isolated_price(case, rule=rule, size=given["qty"], cash=margin * 1.000001)}


def order_margin(case: dict) -> dict:
    given = case["inputs"]
    results = []
    for venue, offset in (("kucoin", "opening"), ("kucoin", "sum")):
        made = account(cash=1e6, rules={"venue": venue, "order_offset": offset}, X={"leverage": 10.0})
        trade(made, "X", given["position_qty"], 10 * given["position_margin"] / given["position_qty"])
        if given["same_dir_orders_margin"]:
            rest(made, "X", 2, 100.0, given["same_dir_orders_margin"] / 10)
        opening = given["opposite_orders_qty"] - given["position_qty"]
        price = 10 * given["opposite_orders_chargeable_margin"] / opening if opening > 0 else 12.0
        rest(made, "X", 3, -given["opposite_orders_qty"], price)
        results.append(metrics.pool_balance(made, "USDT").in_use)
    return {"cross_margin": results[0], "isolated_style_sum": results[1]}


def risk_rate(case: dict) -> dict:
    given = case["inputs"]
    facts = {
        entry["sym"]: {"leverage": 10.0, "contract_size": entry["mult"], "rule": flat_rate(entry["mmr"])}
        for entry in given["positions"] + given["orders"]
    }
    made = account(cash=given["total_margin"], rules={"venue": "kucoin", "taker": given["taker"]}, **facts)
    for entry in given["positions"]:
        trade(made, entry["sym"], entry["qty"], entry["mark"])
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=made.fees))
    for number, entry in enumerate(given["orders"], start=2):
        made.set_mark(entry["sym"], entry["mark"])
        rest(made, entry["sym"], number, entry["qty"], entry["mark"])
    return {"risk_rate": shared(made).ratio(made.rules.ratio)}


def risk_exposure(case: dict) -> dict:
    given = case["inputs"]
    results = []
    for counted in ("gross", "sum"):
        rules = {"venue": "kucoin", "orders_in_maintenance": counted, "closing_fee_in_maintenance": "none"}
        made = account(cash=1e6, rules=rules, X={"leverage": 10.0, "rule": flat_rate(given["mmr"])})
        trade(made, "X", given["position"], given["price"])
        rest(made, "X", 2, given["buy_orders"], given["price"])
        rest(made, "X", 3, -given["sell_orders"], given["price"])
        results.append(shared(made).requirement)
    return {"maintenance_margin": results[0], "naive_maintenance_margin": results[1]}


def size_rate(case: dict, **constants: float) -> dict:
    given = case["inputs"]
    rule = SizeRate(**{"cap": 0.3, "initial_factor": 1.3, **constants})
    return {"mmr": requirement(given["N_base"] * 1000.0, rule, given["N_base"]) / (given["N_base"] * 1000.0)}


def insurance(case: dict) -> dict:
    given = case["inputs"]
    facts = {"leverage": given["leverage"], "rule": flat_rate(given["mmr"])}
    made = account(cash=5000.0, mode="isolated", rules={"isolated_maintenance_price": "entry"}, X=facts)
    trade(made, "X", given["qty"], given["entry"])
    (pool,) = metrics.pools(made)
    found = {
        "liq_price": liquidation_prices.liquidation_price(made, "X").price,
        "bankruptcy_price": metrics.bankruptcy_prices(made, pool)["X:net"],
    }
    made.set_mark("X", given["fill_price"])
    work = PoolCloser(made, 0, pool, lambda close: given["fill_price"])
    _, taken, fill = _applied(made, waterfall.liquidate(work))
    return {**found, "loss": taken.amount - fill.realised, "insurance_pays": made.bad_debt}


def down_to_the_first_tier(case: dict) -> dict:
    """The page's legacy swaps: from the third tier up a position is cut to the first; tiers are whole contracts."""
    given = case["inputs"]
    first = given["tier1_max"] + 1.0
    rule = tier_table([(0.0, 0.005, None), (first, 0.01, None), (2.5 * first, 0.02, None)], marginal=False)
    steps = (Tiers(down=given["contracts"]),)
    made = account(cash=1e6, rules={"liquidation": steps}, X={"leverage": 100.0, "rule": rule, "lot": 1.0})
    trade(made, "X", given["contracts"], 1.0)
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=-1e6 + 250.0))  # against 300
    (pool,) = metrics.pools(made)
    entries = _applied(made, waterfall.liquidate(PoolCloser(made, 0, pool, lambda close: 1.0)))
    return {"closed": -sum(entry.lots for entry in entries if isinstance(entry, events.Filled))}


def _applied(made: Account, entries):
    for entry in entries:
        made.apply(entry)
        yield entry


def bankruptcy(case: dict) -> dict:
    given = case["inputs"]
    facts = {"leverage": given["leverage"], "contract_size": given.get("mult", 1.0)}
    made = account(cash=1e6, mode="isolated", X=facts)
    size = given.get("vol", 1.0) * (-1 if given["side"] == "short" else 1)
    trade(made, "X", size, given.get("hp", given.get("entry")))
    (pool,) = metrics.pools(made)
    return {"bankruptcy_price": metrics.bankruptcy_prices(made, pool)["X:net"]}


def free_margin(case: dict) -> dict:
    made = account(
        cash=800.0, rules={"venue": "okx"}, ISO={"leverage": 10.0}, MAR={"leverage": 10.0}, FUT={"leverage": 10.0}
    )
    made.apply(events.SettingChanged(time_ms=0, symbol="ISO", margin_mode="isolated", leverage=10.0))
    for symbol, size, entry, orders in (("ISO", 100, 10.0, 200), ("MAR", 100, 9.9, 200), ("FUT", 10, 9.5, 20)):
        trade(made, symbol, size, entry)
        made.set_mark(symbol, 10.0)
        rest(made, symbol, orders, orders, 10.0)
    total = metrics.pool_balance(made, "USDT")
    lots = made.books["FUT"].instrument.lots(200.0)
    refusal = order_admission.admit(made, "FUT", OpenOrder(9, "net", lots, 10.0))
    return {
        "in_use": total.in_use,
        "free_margin": total.free_margin,
        "order_accepted": int(isinstance(refusal, OpenOrder)),
    }


def order_at_leverage(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=given["free_margin"], rules={"venue": "okx"}, X={"leverage": given["leverage"]})
    made.set_mark("X", 1.0)
    refusal = order_admission.admit(
        made, "X", OpenOrder(1, "net", made.books["X"].instrument.lots(given["order_qty"]), 1.0)
    )
    rest(made, "X", 1, given["order_qty"], 1.0)
    return {
        "requirement": metrics.pool_balance(made, "USDT").in_use,
        "order_accepted": int(isinstance(refusal, OpenOrder)),
    }


def initial_margin(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=given["balance"], X={"leverage": given["leverage"], "rule": flat_rate(0.005)})
    trade(made, "X", given["qty"], given["price"])
    found = {"initial_margin": metrics.pool_balance(made, "USDT").in_use}
    for name, pnl in (("total_margin_after_profit", given["pnl"]), ("total_margin_after_loss", -given["pnl"])):
        made.set_mark("X", given["price"] + pnl / given["qty"])
        found[name] = shared(made).collateral
    return found


def dydx(case: dict) -> dict:
    given = case["inputs"]
    equity, size, price = given.get("e"), given.get("s", given.get("size")), given.get("p", given.get("oracle"))
    equity = given["quote_balance"] + size * price if equity is None else equity
    imf = given.get("imf", 0.1)
    made = account(cash=equity, X={"leverage": 1 / imf, "rule": flat_rate(given["mmf"])})
    trade(made, "X", size, price)
    total = metrics.pool_balance(made, "USDT")
    return {
        "equity": total.equity,
        "free_collateral": total.free_margin,
        "liq_price": liquidation_prices.liquidation_price(made, "X").price,
    }


def tier_amounts(case: dict) -> dict:
    rows = [(low, rate, leverage) for low, _, rate, leverage, _ in case["inputs"]["tiers"]]
    rule = tier_table(rows, marginal=True)
    found = {"maint_amounts": list(rule.deductions)}
    for value in case["inputs"].get("values", ()):
        tier = max(n for n, row in enumerate(rows) if row[0] <= value)
        found.setdefault("mmr", []).append(rule.tiers[tier].maintenance_rate)
        found.setdefault("amount", []).append(rule.deductions[tier])
    return found


def funding(case: dict) -> dict:
    given = case["inputs"]
    found = {}
    for side, sign in (("funding_short", -1), ("funding_long", 1)):
        made = account(cash=1000.0, X={})
        trade(made, "X", sign * given["size"], 2.77)
        for _, mark, rate in given["events"]:
            for entry in fills.funding_due(made, 0, "X", mark, rate):
                made.apply(entry)
        found[side] = made.funding
    return found


def hedge(case: dict) -> dict:
    given = case["inputs"]
    made = account(
        cash=1000.0, position_mode="hedge", rules={"venue": "kucoin"}, X={"leverage": 1.0, "rule": flat_rate(0.005)}
    )
    trade(made, "X", given["long_qty"], given["margin_per_contract"], "long")
    trade(made, "X", -given["short_qty"], given["margin_per_contract"], "short")
    margin = metrics.pool_balance(made, "USDT").in_use
    return {"margin": margin}


def added_legs(case: dict) -> dict:
    given = case["inputs"]
    rules = {"venue": "okx", "closing_fee_in_maintenance": "none"}
    made = account(cash=1e6, position_mode="hedge", rules=rules, X={"rule": flat_rate(0.01)})
    trade(made, "X", given["long"], 1.0, "long")
    trade(made, "X", -given["short"], 1.0, "short")
    return {"tier_contracts_cross": shared(made).requirement / 0.01}


def paradex_open(case: dict) -> dict:
    given = case["inputs"]
    rule = flat_rate(given["imf"] * given["mmf_factor"])
    rules = {
        "order_offset": "net",
        "order_fees_reserved": False,
        "closing_fee_in_maintenance": "mark",
        "taker": given["fee"],
    }
    made = account(cash=1e6, rules=rules, X={"leverage": 1 / given["imf"], "rule": rule})
    trade(made, "X", given["pos"], given["mark"])
    rest(made, "X", 2, given["buys"], given["mark"])
    rest(made, "X", 3, -given["sells"], given["mark"])
    locked = metrics.pool_balance(made, "USDT").in_use
    return {"net_imr": locked, "mmr": shared(made).requirement, "sell_open": locked / given["mark"] / given["imf"]}


def orderly_mmr(case: dict) -> dict:
    found = []
    for base, base_imr, factor, value in case["inputs"]["cases"]:
        rule = PowerRate(base=base, factor=base / base_imr * factor, exponent=0.8, initial_factor=1.0)
        found.append(requirement(value, rule) / value)
    return {"mmr": found}


def orderly_liquidation(case: dict) -> dict:
    given = case["inputs"]
    made = account(
        cash=given["collateral"], BTC={"rule": flat_rate(given["mmr"])}, ETH={"rule": flat_rate(given["mmr"])}
    )
    trade(made, "BTC", *given["btc"])
    trade(made, "ETH", *given["eth"])
    return {
        "btc_liq": liquidation_prices.liquidation_price(made, "BTC").price,
        "eth_liq": liquidation_prices.liquidation_price(made, "ETH").price,
        "total_mm": shared(made).requirement,
    }


def orderly_dynamic(case: dict) -> dict:
    given = case["inputs"]
    rule = PowerRate(base=0.006, factor=0.6 * given["imr_factor"], exponent=0.8, initial_factor=1.0)
    made = account(cash=given["collateral"] - given["eth_mm"], X={"leverage": 10.0, "rule": rule})
    trade(made, "X", given["qty"], given["mark"])
    return {"liq_price": liquidation_prices.liquidation_price(made, "X").price}


def hyperliquid(case: dict) -> dict:
    given = case["inputs"]
    rule = flat_rate(1 / (2 * given["max_lev"]))
    found = {"mm": requirement(given["position"], rule)}
    for leverage in given["levs"]:
        made = account(cash=1e6, X={"leverage": leverage, "rule": rule})
        trade(made, "X", 1.0, given["position"])
        found[f"im_{leverage}x"] = metrics.pool_balance(made, "USDT").in_use
    return found


def bitget_form(case: dict) -> dict:
    given = case["inputs"]
    leverage = given["entry"] * given["size"] / given["position_margin"]
    prices = []
    for direction in given["directions"]:
        side = {"inputs": {"leverage": leverage, "entry": given["entry"], "mmr": given["mmr"], "short": direction < 0}}
        prices.append(isolated_price(side, fee=given["taker"], size=given["size"]))
    return {"liq": prices}


def kucoin_average(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e9, X={"contract_size": given["mult"]})
    for contracts, price in given["fills"]:
        trade(made, "X", contracts, price)
    entry = made.books["X"].legs["net"].entry
    made = account(cash=1e9, X={"contract_size": given["mult"]})
    trade(made, "X", given["long"]["contracts"], given["long"]["entry"])
    made.set_mark("X", given["long"]["mark"])
    return {"avg_entry": entry, "upnl": made.books["X"].unrealised()}


def flat_tier(case: dict) -> dict:
    """The bound is inclusive above, so the row of an upper bound starts where the one before ends."""
    given = case["inputs"]
    lows = [0.0, *(row[0] for row in given["table"][:-1])]
    rule = tier_table([(low, row[1], row[3]) for low, row in zip(lows, given["table"], strict=True)], marginal=False)
    value = given["notional"]
    return {"mmr": requirement(value, rule) / value, "max_leverage": 1 / rule.initial_floor(value, 1.0)}


def marginal_tiers(case: dict) -> dict:
    given = case["inputs"]
    rows = [
        (low, rate, None)
        for low, rate in zip([0, *(row[0] for row in given["tiers"])], [row[1] for row in given["tiers"]], strict=False)
    ]
    value = given["qty"] * given["price"]
    return {"mm": requirement(value, tier_table(rows, marginal=True))}


def hyperliquid_tiers(case: dict) -> dict:
    rows = [(low, 1 / (2 * leverage), leverage) for low, leverage in case["inputs"]["table"]]
    return {"mm": requirement(case["inputs"]["notional"], tier_table(rows, marginal=True))}


def maintenance_amount(case: dict) -> dict:
    given = case["inputs"]
    # The tier before carries the page's deduction, made by a still lower tier.
    low, previous, rate = given["cum_prev"] / (given["mmr_prev"] / 2), given["mmr_prev"], given["mmr_n"]
    rule = tier_table([(0.0, previous / 2, None), (low, previous, None), (given["floor"], rate, None)], marginal=True)
    return {"cum": rule.deductions[2]}


def linear_im(case: dict) -> dict:
    given = case["inputs"]
    if "qty_btc" in given:
        size, name = given["qty_btc"], "im_linear_usdt"
    else:
        size, name = (
            given.get("btcusdt_qty", given.get("qty")),
            "im_usdt" if "btcusdt_qty" in given else "position_margin",
        )
    made = account(cash=1e9, X={"leverage": given["leverage"], "rule": flat_rate(0.001)})
    trade(made, "X", size, given["price"])
    return {name: metrics.pool_balance(made, "USDT").in_use}


def paradex_margin(case: dict) -> dict:
    given = case["inputs"]
    made = account(cash=1e6, X={"leverage": 1 / given["imf"], "rule": flat_rate(given["imf"] * given["mmf_factor"])})
    trade(made, "X", given["size"], given["mark"])
    return {"imr": metrics.pool_balance(made, "USDT").in_use, "mmr": shared(made).requirement}


def initial_floor(case: dict) -> dict:
    """The rate of the order margin of one contract, with the floor of a position of its printed rate."""
    given = case["inputs"]
    rule = SizeRate(doubling=300.0, leverage_constant=125.0, cap=0.3, initial_factor=given["f"])
    made = account(cash=1e9, XBT={"leverage": given["leverage"], "rule": rule, "leverage_max": 125.0})
    trade(made, "XBT", 12.102, 100_000.0)
    return {"imr": metrics.pool_balance(made, "USDT").in_use / 1_210_200.0}


def binance_maintenance(case: dict) -> dict:
    given = case["inputs"]
    rate = given["mmr"]
    rule = tier_table([(0.0, rate / 2, None), (given["cum"] / (rate / 2), rate, None)], marginal=True)
    made = account(cash=1e9, X={"leverage": 1.0, "rule": rule})
    trade(made, "X", given["pos"], given["entry"])
    made.set_mark("X", given["mark"])
    return {"maintenance_margin": shared(made).requirement, "upnl": made.books["X"].unrealised()}


CHECKED = {
    "kucoin-order-margin-01": order_margin,
    "kucoin-order-margin-02": order_margin,
    "kucoin-mmr-01": lambda case: size_rate(case, doubling=300.0, leverage_constant=125.0),
    "kucoin-mmr-02": lambda case: size_rate(case, doubling=4110.0, leverage_constant=100.0),
    "kucoin-mmr-03": lambda case: size_rate(case, doubling=300.0, leverage_constant=100.0),
    "kucoin-imr-01": initial_floor,
    "kucoin-risk-01": risk_rate,
    "kucoin-risk-02": risk_exposure,
    "kucoin-im-01": initial_margin,
    "kucoin-liq-iso-01": lambda case: {"liq_price": isolated_price(case, at_entry=True)},
    "kucoin-bankr-01": bankruptcy,
    "kucoin-tiers-01": flat_tier,
    "kucoin-hedge-01": hedge,
    "kucoin-insurance-01": insurance,
    "kucoin-lin-avg-01": kucoin_average,
    "okx-partial-01": down_to_the_first_tier,
    "okx-free-margin-01": free_margin,
    "okx-free-margin-02": order_at_leverage,
    "okx-tier-01": added_legs,
    "okx-im-01": linear_im,
    "lean-im-01": linear_im,
    "gate-iso-margin-01": linear_im,
    "binance-liq-cross-01": binance_cross,
    "binance-liq-cross-02": binance_cross,
    "binance-liq-iso-02": binance_cross,
    "binance-liq-cross-03": binance_cross,
    "binance-mm-01": binance_maintenance,
    "binance-maintamt-01": maintenance_amount,
    "bybit-mm-01": marginal_tiers,
    "bybit-bankr-01": bankruptcy,
    "bybit-iso-linear-01": lambda case: {"liq_price": isolated_price(case, at_entry=True)},
    "dydx-liq-01": dydx,
    "dydx-acct-02": dydx,
    "hyperliquid-mm-01": hyperliquid,
    "hyperliquid-tiers-02": hyperliquid_tiers,
    "bitget-liq-form-01": bitget_form,
    "jesse-iso-02": lambda case: {"liq_price": isolated_price(case, at_entry=True)},
    "paradex-open-01": paradex_open,
    "paradex-xm-01": paradex_margin,
    "orderly-mmr-01": orderly_mmr,
    "orderly-liq-01": orderly_liquidation,
    "orderly-liq-dyn-01": orderly_dynamic,
    "orderly-liq-dyn-02": orderly_dynamic,
    "freqtrade-tiers-02": tier_amounts,
    "freqtrade-tiers-03": tier_amounts,
    "freqtrade-funding-01": funding,
    "freqtrade-funding-02": funding,
    **{f"freqtrade-binance-iso-0{n}": binance_isolated for n in (2, 3, 4, 6, 7, 8)},
    **{
        name: lambda case: {"liq_price": isolated_price(case, fee=case["inputs"]["taker"])}
        for name in ("freqtrade-gate-iso-01", "freqtrade-gate-iso-02", "freqtrade-okx-iso-04", "freqtrade-gate-iso-05")
    },
    **{
        f"freqtrade-bybit-iso-0{n}": lambda case: {"liq_price": isolated_price(case, at_entry=True)} for n in (2, 4, 6, 8)
    },
}  # fmt: skip
