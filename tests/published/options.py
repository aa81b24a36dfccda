# SPDX-License-Identifier: GPL-3.0-or-later
"""Options: premiums, what orders lock, what shorts keep, an account with options in coin."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from crossmargin_bt import venues
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import option
from crossmargin_bt.engine.terms.instrument import Instrument
from published.stage import rest, trade

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def account(
    venue: str, *, coin: bool = False, index: float, cash: float = 1e9, terms: dict | None = None, **options
) -> Account:
    """Return an account with options given by symbol as (call or put, strike, contract size), under a venue's terms."""
    rules = venues.load(venue).rules
    settle = "BTC" if coin else "USDT"
    if terms:
        own = next((one for one in rules.options if "BTC" in one.underlyings), rules.options[0])
        rules = msgspec.structs.replace(rules, options=(msgspec.structs.replace(own, underlyings=(), **terms),))
    made = Account(rules)
    for symbol, (kind, strike, size) in options.items():
        made.list_instrument(
            Instrument(
                symbol=symbol, kind="option", underlying="BTC", settle=settle, quote="USDT", option=kind,
                strike=strike, contract_size=size, lot=1e-6, expiry=LATER,
            )
        )  # fmt: skip
        made.books[symbol].index = index
    made.apply(events.CashTransferred(time_ms=0, currency=settle, amount=cash))
    return made


def pool(made: Account) -> metrics.Risk:
    return metrics.risk(made, metrics.pools(made)[0])


def okx_buy(case: dict) -> dict:
    given = case["inputs"]
    terms = {"fee": given["fee"] / given["mult"], "fee_cap": 1.0}
    made = account("okx", coin=True, index=5_900.0, terms=terms, C=("call", 6_000.0, given["mult"]))
    rest(made, "C", 1, given["qty"], given["price"])
    return {"order_margin": metrics.pool_balance(made, "BTC").in_use}


def okx_sell(case: dict) -> dict:
    """A tier's factor of 1.02; the fee is printed for a contract."""
    given = case["inputs"]
    terms = {"fee": given["fee"] / given["mult"], "fee_cap": 1.0, "factor": given["factor"]}
    strike = given["fwd"] + given["otm"]
    made = account("okx", coin=True, index=given["fwd"], terms=terms, C=("call", strike, given["mult"]))
    made.set_mark("C", given["mark"])
    rest(made, "C", 1, -given["qty"], given["price"])
    order = metrics.pool_balance(made, "BTC").in_use
    made.books["C"].orders.clear()
    trade(made, "C", -1.0, given["mark"])
    return {"position_margin": metrics.pool_balance(made, "BTC").in_use, "order_margin": order}


def okx_close(case: dict) -> dict:
    """Closing orders of a long and of a short of that margin lock nothing beyond the position."""
    given = case["inputs"]
    found = {}
    for name, held, price in (
        ("sell_to_close", 100.0, "sell_close_price"),
        ("buy_to_close", -100.0, "buy_close_price"),
    ):
        terms = {"fee": given["fee"] / given["mult"], "fee_cap": 1.0, "factor": 1.02}
        made = account("okx", coin=True, index=5_900.0, terms=terms, C=("call", 6_000.0, given["mult"]))
        trade(made, "C", held, 0.0575)
        before = metrics.pool_balance(made, "BTC").in_use
        rest(made, "C", 1, -held, given[price])
        found[name] = metrics.pool_balance(made, "BTC").in_use - before
    return found


def bybit_short(case: dict) -> dict:
    given = case["inputs"]
    made = account(
        "bybit", index=given["index"], cash=given["margin_balance"], terms={"fee": 0.0}, C=("call", 31_000.0, 1.0)
    )
    trade(made, "C", given["qty"], given["mark"])
    # The margin balance is printed after the sale.
    made.balances["USDT"] = given["margin_balance"]
    risk = pool(made)
    return {"position_mm": risk.requirement, "account_mm_pct": 100 * risk.ratio("requirement_over_collateral")}


def bybit_cost(case: dict) -> dict:
    given = case["inputs"]
    made = account("bybit", index=given["index"], C=("call", 40_000.0, 1.0))
    made.set_mark("C", given["price"])
    fee = made.books["C"].fee(made.books["C"].instrument.lots(given["qty"]), given["price"])
    rest(made, "C", 1, given["qty"], given["price"])
    cost = metrics.pool_balance(made, "USDT").in_use
    return {"premium": cost - fee, "fee": fee, "cost": cost}


def gate(case: dict) -> dict:
    given = case["inputs"]
    made = account(
        "generic", index=given["underlying"], cash=10.0, terms={"fee": 0.0},
        C=("call", given["call_strike"], given["mult"]), P=("put", given["put_strike"], given["mult"]),
    )  # fmt: skip
    trade(made, "C", given["qty"], given["price"])
    return {
        "premium": 10.0 - made.balances["USDT"],
        "otm_call": option.out_of_the_money(made.books["C"]),
        "otm_put": option.out_of_the_money(made.books["P"]),
    }


def paradex(case: dict) -> dict:
    given = case["inputs"]

    def locked(kind: str, strike: float, size: float, mark: float, index: float) -> float:
        made = account("paradex", index=index, terms={"fee": 0.0}, C=(kind, strike, 1.0))
        trade(made, "C", size, mark)
        return metrics.pool_balance(made, "USDT").in_use

    deep, cap = given["deep"], given["cap"]
    return {
        "short_call_imr": locked("call", given["strike"], -given["size"], 100.0, given["spot"]),
        "long_deep_itm_imr": locked("call", deep["strike"], deep["size"], deep["mark"], deep["spot"]),
        "short_put_imr": locked("put", cap["strike"], -cap["size"], 100.0, given["spot"]),
    }


def derive_spread(case: dict) -> dict:
    """An account with nothing but the spread: what it lacks is its largest loss."""
    legs = case["inputs"]["legs"]
    options = {f"O{n}": (kind, float(strike), 1.0) for n, (kind, strike, _) in enumerate(legs)}
    made = account("derive", index=2_000.0, cash=0.0, terms={"fee": 0.0}, **options)
    for n, (_, _, size) in enumerate(legs):
        trade(made, f"O{n}", float(size), 300.0)
    total = metrics.pool_balance(made, "USDT")
    return {"im": total.balance - total.in_use}


def derive_short(case: dict) -> dict:
    given = case["inputs"]
    made = account("derive", index=given["spot"], cash=0.0, terms={"fee": 0.0}, C=("call", given["strike"], 1.0))
    trade(made, "C", -1.0, 1.0)
    total, risk = metrics.pool_balance(made, "USDT"), pool(made)
    return {"im_minus_mm": (total.balance - total.in_use) - risk.gap}


def deribit(case: dict) -> dict:
    """A coin account: options sold short are part of equity, not of the margin balance."""
    given = case["inputs"]
    balance = given["equity"] - given["options_value"]
    made = account("deribit", coin=True, index=50_000.0, cash=balance, terms={"fee": 0.0}, C=("call", 51_000.0, 1.0))
    trade(made, "C", -1.0, -given["options_value"])
    made.balances["BTC"] = balance
    short = metrics.pool_balance(made, "BTC").in_use
    made.apply(events.SetAside(time_ms=0, currency="BTC", amount=given["initial_margin"] - short, reason="futures"))
    total = metrics.pool_balance(made, "BTC")
    assert total.equity == given["equity"]
    return {"margin_balance": total.collateral_value, "available_funds": total.free_margin}


CHECKED = {
    "okx-opt-01": okx_buy,
    "okx-opt-02": okx_sell,
    "okx-opt-03": okx_close,
    "bybit-opt-mm-01": bybit_short,
    "bybit-opt-cost-01": bybit_cost,
    "gate-option-01": gate,
    "paradex-opt-01": paradex,
    "derive-srm-maxloss-01": derive_spread,
    "derive-srm-maxloss-02": derive_spread,
    "derive-srm-iso-01": derive_short,
    "deribit-acct-01": deribit,
}
