# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that exchanges publish, out of accounts, instruments and rules: nothing is computed here.

published.json and published_2026.json beside this file hold the cases. A case that no test names must be on the list below
with its reason, so the list shrinks as the engine grows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import published
from published import costs, dated, inverse, linear, options, portfolio, readings, rules, sizes, spot

FOLDER = Path(published.__file__).parent
FILES = ("published.json", "published_2026.json")
READ = [case for name in FILES for case in json.loads((FOLDER / name).read_text(encoding="utf-8"))]
CASES = {case["id"]: case for case in READ}

NO_BOOK = "no rule book of this venue yet"

# Why a case is not checked yet.
WAITING = {
    "bingx-rate-01": "a ratio that ends at 0: net over initial margin less an adjustment",
    "bybit-inv-cross-01": "closing fee at the account's own bankruptcy price, a rule of before the unified account",
    "bybit-hedge-01": "loss locked by a hedge: which profit offsets it is not printed",
    "binance-mark-01": "marks come from the data",
    "bitmex-net-01": "bids net of offers and all offers: a rule no longer in force",
    "lighter-usage-01": "a quotient of two figures that another account is asked for",
    "nautilus-inv-02": "a counter-example: maintenance divided by the leverage, which exchanges do not do",
    "orderly-unsettled-01": "funding by a cumulated index",
    **dict.fromkeys(
        (
            "aster-auto-exchange-01",
            "aster-market-entry-01",
            "aster-open-cost-01",
            "aster-simple-fee-01",
            "bingx-coinm-pnl-01",
            "bit-usd-perp-01",
            "bitfinex-equity-01",
            "bitmart-im-01",
            "bitmart-level-01",
            "bitmex-cross-01",
            "bitmex-haircut-01",
            "bitmex-risklimit-01",
            "coinbase-intx-margins-01",
            "extended-order-cost-01",
            "gmx-min-collateral-01",
            "grvt-order-adjusted-01",
            "grvt-order-margin-01",
            "interdax-fee-01",
            "lbank-liq-iso-01",
            "liquid-margin-01",
            "mcs-liq-iso-01",
            "mexc-collateral-02",
            "phemex-mm-marginal-01",
            "rysk-health-01",
            "toobit-ratio-01",
            "trubit-pnl-01",
            "weex-margin-rate-01",
        ),
        NO_BOOK,
    ),
    **dict.fromkeys(
        (
            "hyperliquid-pm-borrow-01",
            "hyperliquid-pm-carry-01",
            "hyperliquid-pm-full-01",
            "hyperliquid-pm-health-01",
            "hyperliquid-pm-locked-01",
            "hyperliquid-pm-threshold-01",
            "hyperliquid-interest-01",
        ),
        "portfolio margin of Hyperliquid is no mode of its book",
    ),
    "derive-v3-perp-01": "V3 has no published day, so the book keeps the contracts at 7736900d",
    "derive-v3-buffer-01": "V3 has no published day, so the book keeps the contracts at 7736900d",
    "dydx-oimf-01": "open interest is no column of candles",
    "hyperliquid-adl-01": "other accounts, by which auto-deleveraging ranks, are not simulated",
    "hyperliquid-backstop-01": "the backstop is not modelled: the pool is closed in the market",
    "hyperliquid-funding-01": "funding rates come from the data",
    "orderly-estliq-02": "the page's approximation keeps a new order at its own price and leaves its profit out",
}

STEP = "a step of the page's own arithmetic, which no account is asked for"
PART = "a part of a figure of the case that is compared"
PERCENT = "a percentage of figures that are compared"
OTHER = "the same position in another contract, which other cases compare"
# Figures of checked cases that are not read off the account, and why.
NOT_READ = {
    "kucoin-order-margin-01": {"saving_pct": PERCENT},
    "kucoin-risk-02": {"effective_qty": STEP},
    "kucoin-liq-iso-01": {"im": PART, "mm": PART},
    "kucoin-tiers-01": {"imr": "the reciprocal of the maximum leverage, which is compared"},
    "kucoin-hedge-01": {"chargeable_qty": STEP},
    "okx-im-01": {"im_inverse_btc": OTHER},
    "lean-im-01": {"im_coin_btc": OTHER},
    "bybit-mm-01": {"position_value": PART, "im": PART, "mm_by_deduction": "the same margin by a second formula"},
    "dydx-acct-02": {"leverage": PERCENT, "margin_usage": PERCENT, "buying_power": STEP},
    "jesse-iso-02": {"bankruptcy_price": "that of the position at its leverage, before fees; other cases compare it"},
    "paradex-open-01": {"buy_open": STEP, "fee_imr": PART},
    "orderly-liq-01": {"btc_mm": PART},
    "kucoin-cross-inverse-01": {"upnl_pct": PERCENT, "roe": PERCENT},
    "bybit-cost-02": {"im": PART, "open_fee": PART, "close_fee": PART},
    "aax-cost-01": {"value": PART, "fees": PART},
    "bybit-im-01": {"im": PART, "close_fee_long": PART},
    "orderly-free-01": {"btc_open_qty": STEP, "eth_open_qty": STEP},
    "kraken-tb-01": {"ml": PERCENT},
    "orderly-ratio-01": {"roi": PERCENT},
    "orderly-maxqty-01": {"factor_branch_long": STEP, "factor_branch_short": STEP},
    "mexc-collateral-01": {"repay_btc_value": "automatic repayment at a discount, a rule of no shipped book"},
}

CHECKED = {
    name: check
    for part in (dated, linear, inverse, costs, rules, readings, sizes, portfolio, options, spot)
    for name, check in part.CHECKED.items()
}


@pytest.mark.parametrize("name", CHECKED)
def test_published_number(name: str) -> None:
    """What the exchange prints comes out: every figure, or it has its reason beside it."""
    case = CASES[name]
    tolerance = case["tolerance"]
    found = CHECKED[name](case)
    compared = [key for key in case["expected"] if key in found]
    assert compared, f"nothing of {list(case['expected'])} was read off the account"
    assert [key for key in case["expected"] if key not in found] == list(NOT_READ.get(name, ()))
    for key in compared:
        expected = case["expected"][key]
        within = tolerance.get("by_figure", {}).get(key, tolerance.get("abs", 0.0))
        assert found[key] == pytest.approx(expected, rel=tolerance.get("rel", 1e-9), abs=within), key


def test_no_case_is_in_both_files() -> None:
    """Every case has a name of its own."""
    assert len(READ) == len(CASES)


def test_every_case_is_checked_or_waits_for_a_reason() -> None:
    """No case is forgotten, none is on both lists."""
    assert not [name for name in CASES if name not in CHECKED and name not in WAITING]
    assert not [name for name in WAITING if name not in CASES or name in CHECKED]


def test_every_case_names_its_source() -> None:
    """A page, or a file of a repository, and no "same as above"; parameter sets that a case refers to are in the folder."""
    for name, case in CASES.items():
        assert len(case["source"]) > len("https://"), name
        assert not case["source"].startswith("same"), name
        file, _, key = case["inputs"].get("params_ref", "").partition("#")
        if file:
            assert key in json.loads((FOLDER / file).read_text(encoding="utf-8")), name
