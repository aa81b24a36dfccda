# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that changed with the date: the shipped book on the day that the example is of, and both sides of each printed pair."""

from __future__ import annotations

from datetime import date

from crossmargin_bt import venues
from crossmargin_bt.engine.admission import settings_changes
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from published.stage import account, shared, trade


def bybit_at_entry(case: dict) -> dict:
    """Until 2025-09-02 the maintenance margin of an isolated position was computed at its entry."""
    found = []
    for size, entry, leverage in case["inputs"]["cases"]:
        rules = {"venue": "bybit", "at": date(2025, 9, 1)}
        facts = {"leverage": leverage, "rule": flat_rate(case["inputs"]["mmr"]), "lot": 1.0}
        made = account(cash=1e9, mode="isolated", rules=rules, X=facts)
        trade(made, "X", size, entry)
        found.append(liquidation_prices.liquidation_price(made, "X").price)
    return {"liq_price": found}


def gate_marginal(case: dict) -> dict:
    """The contract's own tiers in the book, a day before the change and on its day."""
    found = {}
    for name, day in (("mm_old", date(2025, 7, 28)), ("mm_new", date(2025, 7, 29))):
        made = account(cash=1e9, rules={"venue": "gate", "at": day}, BTCUSDT={"leverage": 1.0})
        trade(made, "BTCUSDT", 1.0, case["inputs"]["notional"])
        found[name] = shared(made).requirement
    return found


def okx_lists(case: dict) -> dict:
    """The two lists of coins: of extreme moves and calendar charges on one side, of the worst move on the other."""
    terms = venues.load("okx").at().rules.portfolio
    units = [terms.unit_terms(coin) for coin in case["inputs"]["coins"]]
    return {
        "mr1": [unit.grids[0].moves[-1] for unit in units],
        "mr6": [unit.grids[1].moves[-1] for unit in units],
        "mr4": [unit.curve for unit in units],
    }


def okx_minimum_factors(case: dict) -> dict:
    """What a dollar more of the raw charge adds."""
    minimum = venues.load("okx").at(date(2025, 1, 15)).rules.portfolio.unit_terms("BTC").minimum
    return {
        "factor": [round(minimum.scaled(loss) - minimum.scaled(loss - 1)) for loss in case["inputs"]["unit_max_loss"]]
    }


def kraken_levels(case: dict) -> dict:
    """The book's levels of class A, for positions of every size."""
    rates, margins = [], []
    for notional in case["inputs"]["notional"]:
        made = account(cash=1e12, rules={"venue": "kraken"}, X={"leverage": 50.0})
        trade(made, "X", 1.0, notional)
        rates.append(metrics.pool_balance(made, "USDT").in_use / notional)
        margins.append(shared(made).requirement)
    halves = {
        round(margin / (rate * notional), 9)
        for margin, rate, notional in zip(margins, rates, case["inputs"]["notional"], strict=True)
    }
    return {"imr": rates, "mm_usd": margins, "mm_is_half": int(halves == {0.5})}


def hyperliquid_transfer(case: dict) -> dict:
    """What may leave the account, and what has to stay."""
    given = case["inputs"]
    facts = {"leverage": given["leverage"], "rule": flat_rate(0.01)}
    made = account(cash=given["account_value"], rules={"venue": "hyperliquid"}, X=facts)
    trade(made, "X", 1.0, given["notional"])
    free = settings_changes.withdrawable(made, "USDT")
    return {"withdrawable": free, "transfer_margin_required": given["account_value"] - free}


CHECKED = {
    "bybit-iso-old-01": bybit_at_entry,
    "gate-mm-marginal-01": gate_marginal,
    "okx-pm-mr1-2025": okx_lists,
    "okx-mr7-2025-01": okx_minimum_factors,
    "kraken-schedule-01": kraken_levels,
    "hyperliquid-transfer-01": hyperliquid_transfer,
}
