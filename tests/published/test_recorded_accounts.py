# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts as Binance and Hyperliquid answered for them: the same positions give the same figures, to the digit printed.

tests/published/recorded_accounts.json holds the answers. Figures that an answer does not determine are not
compared: a wallet valued by index prices that were not recorded, margin that resting orders held, and
positions left out of an excerpt.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

import published
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import LeverageTier, ShareTable, tier_table
from published.stage import account, shared, trade

RECORDED = json.loads((Path(published.__file__).parent / "recorded_accounts.json").read_text(encoding="utf-8"))


def last_digit(text: str) -> float:
    """Return one unit of the last digit printed."""
    return 10.0 ** int(Decimal(text).as_tuple().exponent)


def printed(text: str):
    """Return what a number has to be to print as `text`, rounded or, as Binance does, cut off."""
    return pytest.approx(float(text), rel=1e-12, abs=1.0001 * last_digit(text))


def brackets(symbol: str):
    """Return the tier table recorded for a contract."""
    rows = RECORDED["binance"]["options.leverageBrackets"][symbol]
    return tier_table([(float(low), float(rate), None) for low, rate in rows], marginal=True)


POSITIONS = (
    "fetchPositions/linear without symbols (positionRisk v3, cross, multi-assets mode)",
    "fetchPositions/linear with symbols",
)


@pytest.mark.parametrize("answer", POSITIONS)
def test_binance_linear_position(answer: str) -> None:
    """Notional, floating profit, initial and maintenance margin at the mark that was printed."""
    (given,) = RECORDED["binance"][answer]
    facts = {"leverage": 80.0, "rule": brackets("BTC/USDT:USDT")}
    made = account(cash=25.7261006, rules={"venue": "binance"}, BTCUSDT=facts)
    trade(made, "BTCUSDT", float(given["positionAmt"]), float(given["entryPrice"]))
    made.set_mark("BTCUSDT", float(given["markPrice"]))
    book = made.books["BTCUSDT"]
    assert book.unrealised() == printed(given["unRealizedProfit"])
    assert metrics.exposure_value(made, "USDT") == printed(given["notional"])
    assert metrics.pool_balance(made, "USDT").in_use == printed(given["initialMargin"])
    assert shared(made).requirement == printed(given["maintMargin"])
    # The wallet of that second, in multi-assets mode, was not recorded; seconds apart it was 25.7261006.
    assert liquidation_prices.liquidation_price(made, "BTCUSDT").price == pytest.approx(
        float(given["liquidationPrice"]), abs=0.2
    )


def test_binance_account() -> None:
    """PoolBalance of the account endpoint in its settle currency."""
    given = RECORDED["binance"]["fetchPositions/account endpoint (same account, seconds apart)"]
    (position,) = given["positions"]
    asset = next(one for one in given["assets"] if one["asset"] == "USDT")
    facts = {"leverage": 80.0, "rule": brackets("BTC/USDT:USDT")}
    made = account(cash=float(asset["crossWalletBalance"]), rules={"venue": "binance"}, BTCUSDT=facts)
    size = float(position["positionAmt"])
    mark = float(position["notional"]) / size
    trade(made, "BTCUSDT", size, mark - float(position["unrealizedProfit"]) / size)
    made.set_mark("BTCUSDT", mark)
    total = metrics.pool_balance(made, "USDT")
    assert total.balance == printed(asset["walletBalance"])
    assert total.cross_profit == printed(asset["unrealizedProfit"])
    assert total.equity == printed(asset["marginBalance"])
    assert total.in_use == printed(asset["initialMargin"])
    assert shared(made).requirement == printed(asset["maintMargin"])


def test_binance_inverse_position() -> None:
    """Coin-margined: value and profit in coin. Its wallet was not recorded, so its liquidation price is not compared."""
    (given,) = RECORDED["binance"]["fetchPositions/inverse (coin-margined, cross; contract size 100 USD)"]
    facts = {
        "leverage": float(given["leverage"]), "contract_size": 100.0, "lot": 1.0, "inverse": True,
        "rule": brackets("BTC/USD:BTC"),
    }  # fmt: skip
    made = account(cash=0.001, rules={"venue": "binance_coinm"}, BTCUSD_PERP=facts)
    trade(made, "BTCUSD_PERP", float(given["positionAmt"]), float(given["entryPrice"]))
    made.set_mark("BTCUSD_PERP", float(given["markPrice"]))
    book = made.books["BTCUSD_PERP"]
    assert book.unrealised() == printed(given["unRealizedProfit"])
    assert -metrics.exposure_value(made, "USDT") == printed(given["notionalValue"])


def test_binance_trade_fee() -> None:
    """The commission of a recorded taker fill, at that account's rate."""
    (given,) = RECORDED["binance"]["fetchMyTrades/swap"]
    made = account(cash=1000.0, rules={"venue": "binance", "taker": 0.0004}, BTCUSDT={"leverage": 20.0})
    trade(made, "BTCUSDT", float(given["qty"]), float(given["price"]))
    assert made.fees == printed(given["commission"])
    assert metrics.exposure_value(made, "USDT") == printed(given["quoteQty"])


def hyperliquid(answer: str, *, mode: str = "cross"):
    """Return an account with the positions of an answer, and those positions."""
    given = RECORDED["hyperliquid"][answer]
    positions = [one["position"] for one in given["assetPositions"]]
    facts = {
        one["coin"]: {"leverage": float(one["leverage"]["value"]), "rule": half(float(one["maxLeverage"]))}
        for one in positions
    }
    made = account(cash=1e9, mode=mode, rules={"venue": "hyperliquid"}, **facts)
    for one in positions:
        size = float(one["szi"])
        trade(made, one["coin"], size, float(one["entryPx"]))
        made.set_mark(one["coin"], float(one["positionValue"]) / abs(size))
    return given, positions, made


def half(leverage_max: float):
    """Return the venue's rule for a contract of that highest leverage."""
    return ShareTable((LeverageTier(0.0, leverage_max),), share=0.5)


@pytest.mark.parametrize("answer", ["fetchPositions/cross long x2", "fetchPositions/cross short + long"])
def test_hyperliquid_cross_account(answer: str) -> None:
    """Margin used, maintenance, profit and liquidation prices, an account of that value standing behind them."""
    given, positions, made = hyperliquid(answer)
    summary = given.get("marginSummary", given.get("crossMarginSummary"))
    # What the account was worth is given; the balance is that less the floating profit.
    made.balances["USDT"] = float(summary["accountValue"]) - metrics.cross_profit(made, "USDT")
    total = metrics.pool_balance(made, "USDT")
    assert total.equity == printed(summary["accountValue"])
    assert total.in_use == printed(summary["totalMarginUsed"])
    assert metrics.exposure_value(made, "USDT") == printed(summary["totalNtlPos"])
    assert shared(made).requirement == printed(given["crossMaintenanceMarginUsed"])
    for one in positions:
        book = made.books[one["coin"]]
        # The entry is printed to few digits; profit cannot be more exact than it.
        entry_error = abs(float(one["szi"])) * last_digit(one["entryPx"])
        assert book.unrealised() == pytest.approx(float(one["unrealizedPnl"]), abs=entry_error + 1e-6)
        estimate = liquidation_prices.liquidation_price(made, one["coin"])
        if one["liquidationPx"] is None:
            assert estimate.price is None
        else:
            assert estimate.price == printed(one["liquidationPx"])


@pytest.mark.parametrize("answer", ["fetchPositions/isolated short", "fetchPositions/isolated long (HIP-3)"])
def test_hyperliquid_isolated_position(answer: str) -> None:
    """Margin used is the isolated margin with its profit; the liquidation price follows from it."""
    _, (one,), made = hyperliquid(answer, mode="isolated")
    leg = made.books[one["coin"]].legs["net"]
    profit = made.books[one["coin"]].unrealised()
    held = float(one["marginUsed"]) - profit
    made.apply(events.IsolatedMarginAdjusted(time_ms=0, symbol=one["coin"], side="net", amount=held - leg.margin))
    assert liquidation_prices.liquidation_price(made, one["coin"]).price == printed(one["liquidationPx"])
