# SPDX-License-Identifier: GPL-3.0-or-later
"""Portfolio margin: Derive's PMRM_2 through portfolio accounts, and single terms of OKX, Deribit, Dederi and Binance."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec

from crossmargin_bt import venues
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics, scenarios
from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.terms.collateral import CollateralTerms, CollateralTier
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.portfolio_terms import Grid, UnitTerms, VolatilityShock
from published.stage import account, trade

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def derive(case: dict) -> dict:
    """An account in USDC: cash, collateral at its haircuts, options at their model prices, perpetuals."""
    given = case["inputs"]
    base = venues.load("derive").rules
    collaterals = given.get("Collaterals", [])
    coin = next((one["Name"] for one in collaterals if one["IsRiskCancelling"]), "BASE")
    terms = [
        CollateralTerms(
            (CollateralTier(0.0, 1 - one["MMHaircut"]),),
            (one["Name"],),
            initial_haircut=one["IMHaircut"],
            in_scenarios=one["IsRiskCancelling"],
        )
        for one in collaterals
    ]
    terms.append(CollateralTerms((CollateralTier(0.0, 1.0),), ("USDC",), in_scenarios=False))
    stable = given["StablePrice"]
    free = msgspec.structs.replace(base.options[0], fee=0.0)
    rules = msgspec.structs.replace(base, collateral=tuple(terms), options=(free,), maker=0.0, taker=0.0)
    prices = {"BASE": given["SpotPrice"], **{one["Name"]: one["Price"] / stable for one in collaterals}}
    made = Account(rules, portfolio=True, unit="USDC", prices={"USD": 1 / stable, **prices})
    if given.get("NumPerps"):
        made.list_instrument(Instrument(symbol="PERP", settle="USDC", underlying=coin, lot=1e-6))
        made.list_instrument(Instrument(symbol="SPOT", kind="spot", settle="USDC", underlying=coin))
        made.set_mark("SPOT", given["SpotPrice"])
    feeds = {one["FeedExpiry"]: one for one in given.get("OptionFeeds", [])}
    for n, one in enumerate(given.get("Options", [])):
        made.list_instrument(_option(f"O{n}", one, coin))
    made.apply(
        events.CashTransferred(time_ms=0, currency="USDC", amount=given["Cash"] + given.get("UnrealisedFunding", 0.0))
    )
    for one in collaterals:
        made.apply(events.CashTransferred(time_ms=0, currency=one["Name"], amount=one["Amount"]))
    if given.get("NumPerps"):
        trade(made, "PERP", given["NumPerps"], given["LastEntryPrice"])
        made.set_mark("PERP", given["PerpPrice"])
    for n, one in enumerate(given.get("Options", [])):
        _hold(made, f"O{n}", one, feeds[one["Expiry"]])
    total = metrics.pool_balance(made, "USDC")
    risk = metrics.risk(made, metrics.Pool("USDC", "USDC", (), isolated=False))
    return {
        "portfolio_mtm": total.equity,
        "IM": total.collateral_value + total.cross_profit - total.in_use,
        "MM": risk.collateral - risk.requirement,
    }


def _option(symbol: str, one: dict, coin: str) -> Instrument:
    return Instrument(
        symbol=symbol, kind="option", settle="USDC", underlying=coin, lot=1e-6, strike=one["Strike"],
        option="call" if one["IsCall"] else "put", expiry=EPOCH + timedelta(seconds=one["Expiry"]),
    )  # fmt: skip


def _hold(made: Account, symbol: str, one: dict, feed: dict) -> None:
    """Give an option its forward, volatility and rate, mark it at the model's price and hold it, paid for by nobody."""
    book = made.books[symbol]
    book.index, book.volatility = feed["Forward"], one["MarkVol"]
    years = pricing.years_to_expiry(book.instrument.expiry_ms, 0.0)
    book.interest_rate = -math.log(one["MarkDiscount"]) / years
    sign = 1 if one["IsCall"] else -1
    price = pricing.price(book.index, one["Strike"], years, book.volatility, sign) * one["MarkDiscount"]
    lots = book.instrument.lots(one["Amount"])
    made.set_mark(symbol, price)
    made.apply(fills.order_fill(made, 0, symbol, "net", number=1, lots=lots, price=price, maker=False))
    made.apply(events.CashTransferred(time_ms=0, currency="USDC", amount=one["Amount"] * price))


def okx_minimum(case: dict) -> dict:
    """A raw charge of 30,000 in the tiers of the profile, against 40,000 of everything else."""
    given = case["inputs"]
    terms = venues.load("okx").rules.portfolio.unit_terms("BTC")
    scaled = terms.minimum.scaled(given["mr7_raw"])
    plain = UnitTerms(
        grids=(Grid((0.0, 0.5)),), volatility=VolatilityShock(up=0.0, down=0.0),
        minimum=msgspec.structs.replace(terms.minimum, linear=given["mr7_raw"] / (2 * given["MR"])),
    )  # fmt: skip
    unit = scenarios.RiskUnit(1.0, (scenarios.LinearPosition(2.0 * given["MR"], 1.0),))
    bare = msgspec.structs.replace(plain, minimum=None)
    return {
        "mr7_adj": scaled,
        "mmr_after": scenarios.scenario_margin(plain, unit).maintenance,
        "mmr_before": scenarios.scenario_margin(bare, unit).maintenance,
    }


def deribit(case: dict) -> dict:
    """Net shorts by strike, the smaller side of futures, the shock of volatility for an expiry."""
    given = case["inputs"]
    shock = VolatilityShock(up=given["base"], down=0.0, short_power=given["power"])
    years = given["dte"] / 365

    def charge(unit: scenarios.RiskUnit) -> float:
        terms = UnitTerms(
            grids=(Grid((0.0,), ("same",)),),
            volatility=shock,
            short_option=given["short_cont"],
            offset=given["fut_cont"],
        )
        return scenarios.scenario_margin(terms, unit).charges

    options = tuple(
        scenarios.OptionPosition(given[kind], 100.0, sign, 100.0, years, 0.5)
        for kind, sign in (("call", 1), ("put", -1))
    )
    futures = tuple(scenarios.LinearPosition(given[name], 1.0) for name in ("fut_a", "fut_b"))
    short = charge(scenarios.RiskUnit(1.0, options=options))
    return {
        "net_short": short / given["short_cont"],
        "option_contingency": short,
        "future_contingency": charge(scenarios.RiskUnit(1.0, futures)),
        "iv_shock": shock.tenor_scale(given["dte"]) * given["base"],
    }


def dederi(case: dict) -> dict:
    """Ten futures at a forward of index x exp(rate x time), moved by -15 and +3 %."""
    given = case["inputs"]
    forward = given["index"] * math.exp(given["abr"] * given["days"] / 365)
    shock = VolatilityShock(up=0.0, down=0.0)
    unit = scenarios.RiskUnit(given["index"], (scenarios.LinearPosition(given["qty"], forward, given["days"] / 365),))

    def worst(move: float, qty: int) -> float:
        terms = UnitTerms(grids=(Grid((abs(move),)),), volatility=shock, linear=given["factor"])
        return scenarios.scenario_margin(
            terms, unit._replace(linears=(unit.linears[0]._replace(coins=qty),))
        ).worst_loss

    terms = UnitTerms(grids=(Grid((0.0,)),), volatility=shock, linear=given["factor"])
    return {
        "fwd": forward,
        "contingency": scenarios.scenario_margin(terms, unit).charges,
        "pnl_m15": -worst(-0.15, given["qty"]),
        "pnl_p3": worst(0.03, -given["qty"]),
    }


def binance_profits(case: dict) -> dict:
    """Two linear contracts and an inverse one in one account, each keeping half a percent of its value."""
    given = case["inputs"]
    (perpetual, quarter), inverse = given["um"], given["cm"]
    made = account(cash=1e6, P={}, Q={}, C={"inverse": True, "settle": "BTC"})
    for symbol, (size, entry, mark) in (("P", perpetual), ("Q", quarter)):
        trade(made, symbol, size, entry)
        made.set_mark(symbol, mark)
    trade(made, "C", inverse["qty_usd"], inverse["entry"])
    made.set_mark("C", inverse["mark"])
    return {
        "upnl_perp": made.books["P"].unrealised(),
        "upnl_quarter": made.books["Q"].unrealised(),
        "upnl_coinm_btc": made.books["C"].unrealised(),
        "mm_um_usdt": next(metrics.risk(made, p).requirement for p in metrics.pools(made) if p.currency == "USDT"),
        "mm_cm_btc": next(metrics.risk(made, p).requirement for p in metrics.pools(made) if p.currency == "BTC"),
    }


DERIVE = (
    "3-collateral_multiple_stables", "10-collateral_negative_margin_from_collat", "11-collateral_usdc_depeg_only_cash",
    "12-risk_cancelling_naked_short_call", "13-risk_cancelling_btc_covered_call", "18-structures_OTM_call_spread",
    "22-structures_long_box", "23-structures_short_box", "29-perps_basic_perp",
)  # fmt: skip
CHECKED = {
    **{f"derive-pmrm-{name}": derive for name in DERIVE},
    "okx-pm-mr7-01": okx_minimum,
    "deribit-pm-01": deribit,
    "dederi-pm-01": dederi,
    "binance-pm-upnl-01": binance_profits,
}
