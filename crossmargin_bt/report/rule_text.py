# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions of rules and their values; in formulas V is a notional value, q a size, f the taker fee, L the leverage."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from crossmargin_bt.engine.terms.borrowing import Borrowing
from crossmargin_bt.engine.terms.collateral import CollateralTerms
from crossmargin_bt.engine.terms.liquidation_steps import (
    Above,
    Fraction,
    Hedges,
    LiquidationStep,
    Pairs,
    Portion,
    Reduce,
    Tiers,
)
from crossmargin_bt.engine.terms.option_terms import OptionTerms
from crossmargin_bt.engine.terms.portfolio_terms import PortfolioTerms
from crossmargin_bt.engine.terms.rates import (
    LinearRate,
    MaintenanceRule,
    PowerRate,
    ShareTable,
    SizeRate,
    Tier,
    TierTable,
)
from crossmargin_bt.engine.terms.rules import ContractTerms, Rules
from crossmargin_bt.engine.terms.volatility import VolatilityScaling
from crossmargin_bt.venues import Venue

_FEE_PRICES = {
    "none": "not counted",
    "mark": "V at mark x f",
    "entry": "V at entry x f",
    "bankruptcy": "V at entry x (1 - d/L) x f, the fee at the bankruptcy price (d is 1 for a long, -1 for a short)",
}
_PRICES = {"mark": "mark price", "entry": "average entry price", "last": "last price"}

# Descriptions of rules whose value is None.
_IF_NONE = {
    "sell_order_markup": "order price",
    "withdrawal_notional_share": "none",
    "delisting_fee": "taker fee",
    "order_cancel_level": "only at liquidation",
    "volatility_scaling": "none",
    "borrowing": "not available",
    "portfolio": "none",
}
# Descriptions of rules whose list is empty.
_IF_EMPTY = {
    "liquidation": "entire position at once",
    "collateral": "no multi-currency pool",
    "options": "default terms",
}

TITLES = {
    "maker": "maker fee",
    "taker": "taker fee",
    "liquidation_fee": "liquidation fee, in addition to the taker fee",
    "maintenance": "maintenance rate",
    "tier_leverage_breach": "leverage above the limit of the tier",
    "initial_price": "price for initial margin (cross)",
    "order_offset": "offset of position and open orders (cross)",
    "order_fees_reserved": "opening fees of open orders reserved",
    "order_loss_reserved": "loss of open orders against the mark price reserved",
    "sell_order_markup": "valuation price of sell orders",
    "closing_fee_reserved": "closing fee in initial margin",
    "hedge_margin": "initial margin of long and short leg",
    "hedge_maintenance": "maintenance margin of long and short leg",
    "tier_exposure": "exposure that determines the tier",
    "orders_in_tier": "open orders count towards the tier",
    "orders_in_maintenance": "open orders in maintenance margin",
    "maintenance_price": "price for maintenance margin (cross)",
    "closing_fee_in_maintenance": "closing fee in maintenance margin (cross)",
    "order_fees_in_ratio": "opening fees of open orders reduce collateral",
    "order_loss_in_ratio": "loss of open orders against the mark price reduces collateral",
    "isolated_orders_in_ratio": "isolated orders reduce the shared collateral",
    "isolated_maintenance_price": "price for maintenance margin (isolated)",
    "isolated_closing_fee": "closing fee in maintenance margin (isolated)",
    "isolated_fee_in_margin": "closing fee added to isolated margin",
    "profit_pays_for": "permitted uses of unrealised profit of cross positions",
    "withdrawal_notional_share": "share of the notional value that a withdrawal leaves",
    "delisting_fee": "fee of the settlement of a delisted contract",
    "isolated_leverage": "leverage of an open isolated position",
    "order_size_share": "maximum order as a share of the largest order that fits",
    "order_size_fees": "taker fees reserved by a maximum order",
    "displayed_liquidation_price": "liquidation price shown in cross mode",
    "ratio": "risk ratio",
    "warning_levels": "margin levels of warnings",
    "order_cancel_level": "margin level of order cancellation",
    "orders_cancelled_overdrawn": "orders cancelled when margin in use exceeds equity",
    "safe_level": "margin level at which liquidation stops",
    "liquidation": "liquidation steps",
    "volatility_scaling": "volatility scaling of rates",
    "collateral": "collateral rates of currencies in a multi-currency pool",
    "options": "option margin and fees outside portfolio margin",
    "portfolio": "portfolio margin",
    "borrowing": "borrowing in a multi-currency pool and on margin pairs",
}

MEANINGS = {
    "isolated_leverage": {
        "kept": "cannot be changed",
        "raised": "may only rise; the margin stays",
        "checked": "may change as far as the position's margin covers the new initial margin; the margin stays",
        "topped_up": "may change; margin that is missing is added from the balance, a rise frees none",
        "moves_margin": "may change; the difference of the initial margins moves to or from the balance",
    },
    "tier_leverage_breach": {
        "raise": "initial rate = max(1/L, initial rate of the tier)",
        "refuse": "the order is refused; initial rate = 1/L",
    },
    "initial_price": _PRICES,
    "order_offset": {
        "sum": "position + same-side orders + opening part of opposite orders",
        "net": "max(|position + buys|, |position - sells|) in size, at the mark price",
        "net_value": "max(|position + buys|, |position - sells|) in value, orders at their limit prices",
        "larger_side": "max(position + same-side orders, opening part of opposite orders)",
    },
    "hedge_margin": {"sum": "sum of both legs", "larger": "larger leg only"},
    "hedge_maintenance": {"sum": "sum of both legs", "larger": "larger leg only"},
    "tier_exposure": {
        "each": "each leg separately",
        "added": "long + short",
        "larger": "larger of long and short",
        "net": "|long - short|",
    },
    "orders_in_maintenance": {
        "none": "not counted",
        "sum": "all orders",
        "opening": "all orders except their closing part",
        "net": "worst net quantity: max(|position + same side|, |position - opposite|)",
        "gross": "worst gross quantity: max(|position + same side|, |opposite|)",
    },
    "maintenance_price": _PRICES,
    "isolated_maintenance_price": _PRICES,
    "closing_fee_reserved": _FEE_PRICES,
    "closing_fee_in_maintenance": _FEE_PRICES,
    "isolated_closing_fee": _FEE_PRICES,
    "isolated_fee_in_margin": _FEE_PRICES,
    "displayed_liquidation_price": {
        "account": "price at which the account is liquidated, other mark prices unchanged",
        "by_value": "price at which the leg's share of the collateral, in proportion to |value|, is used up",
        "one_underlying": "price at which the account is liquidated; none while other contracts are held",
    },
    "ratio": {
        "requirement_over_collateral": "requirement / collateral, liquidation when it rises to 100 %",
        "collateral_over_requirement": "collateral / requirement, liquidation when it falls to 100 %",
    },
}


def describe_value(rules: Rules, key: str) -> str:
    """Return the value of a rule in a few words, close to its form in the rule file."""
    value = getattr(rules, key)
    if key == "maintenance":
        return maintenance_kind(value)
    if value is None:
        return _IF_NONE[key]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(_item(key, item) for item in value) or _IF_EMPTY.get(key, "none")
    if type(value) in _VALUE_TEXTS:
        return _VALUE_TEXTS[type(value)](value)
    text = f"{value:.3%}" if isinstance(value, float) else str(value).replace("_", " ")
    return f"max(price, mark, last + {text})" if key == "sell_order_markup" else text


def _borrowing(value: Borrowing) -> str:
    rates = ", ".join(f"{currency} {rate:.3%}" for currency, rate in value.yearly.items())
    clock = value.clock
    how = "on the clock" if clock.count == "clock" else "per period begun"
    return (
        f"initial margin {value.initial:.0%} of the debt, maintenance {maintenance_formula(value.maintenance)}; annual interest "
        f"{rates + ', other currencies ' if rates else ''}{value.otherwise:.3%}, charged every {clock.hours} h {how}"
    )


def _collateral(terms: CollateralTerms) -> str:
    names = ", ".join(terms.currencies) or "other currencies"
    rates = ", ".join(
        f"{tier.rate:.4g}" if not tier.amount_min else f"{tier.rate:.4g} from {tier.amount_min:,.0f}"
        for tier in terms.tiers
    )
    return f"{names}: {rates}"


def _option(terms: OptionTerms) -> str:
    names = ", ".join(terms.underlyings) or "all"
    factor = "" if terms.factor == 1 else f" x {terms.factor:g}"
    mark = " + mark" if terms.mark_counts else ""
    return (
        f"{names}: short initial margin max({terms.initial:.3g} S - OTM, {terms.initial_min:.3g} S){factor}{mark}, "
        f"maintenance {terms.maintenance:.3g} S{factor}{mark}; fee {terms.fee:.3%} of S, at most {terms.fee_cap:.3g} of the premium"
    )


def _scaling(value: VolatilityScaling) -> str:
    return (
        f"x volatility / {value.reference:.0%}, from {value.floor:g} to {value.cap:g} in increments of {value.step:g} "
        f"({value.window_days:g}-day window, half-life {value.half_life_days:g} days)"
    )


def _portfolio(terms: PortfolioTerms) -> str:
    parts = []
    for unit in terms.units:
        moves = sorted({abs(one.move) for one in unit.all_scenarios})
        names = ", ".join(unit.underlyings) or "other underlyings"
        parts.append(
            f"{names}: {len(unit.all_scenarios)} scenarios up to {moves[-1]:.0%}, initial margin x {unit.initial_multiple:g}"
        )
    return "; ".join(parts)


_ITEM_TEXTS: dict[type, Callable[[Any], str]] = {CollateralTerms: _collateral, OptionTerms: _option}
_VALUE_TEXTS: dict[type, Callable[[Any], str]] = {
    VolatilityScaling: _scaling,
    Borrowing: _borrowing,
    PortfolioTerms: _portfolio,
}


def _item(key: str, item: Any) -> str:
    if key == "warning_levels":
        return f"{item:.0%}"
    if type(item) in _ITEM_TEXTS:
        return _ITEM_TEXTS[type(item)](item)
    return describe_step(item) if key == "liquidation" else str(item).replace("_", " ")


def describe_step(one: LiquidationStep) -> str:
    """Return a liquidation step in a few words."""
    if isinstance(one, Tiers):
        return (
            f"{one.down} tiers down (entire position below the {one.whole_below}rd)"
            if one.whole_below == 3
            else f"{one.down} tiers down"
        )
    if isinstance(one, Fraction):
        return f"{one.share:.0%} of positions above {one.above:,.0f}, then a cooldown of {one.cooldown_s:g} s"
    if isinstance(one, Above):
        return f"the value above {one.value:,.0f}"
    if isinstance(one, Portion):
        return f"portions of {one.share:.0%}, at least {one.value_min:,.0f}"
    if isinstance(one, Reduce) and one.value_min:
        return f"the remainder, safest first, at least {one.value_min:,.0f} of a position"
    return {Pairs: "opposite legs", Hedges: "hedged sets", Reduce: "the remainder, safest first"}[type(one)]


CONTRACTS_MAX = 8
"""The most contracts whose terms are printed in full; of more, one line for each."""
CONTRACT_HEADS = (
    "contract",
    "tables in force since",
    "rates of the latest",
    "maximum leverages",
    "source of the latest",
)


def has_many_contracts(venue: Venue) -> bool:
    """Return whether a rule book has terms of more contracts than are printed in full."""
    return len({one.symbols[0] for one in venue.rules.contracts}) > CONTRACTS_MAX


def contract_rows(contracts: Sequence[ContractTerms]) -> list[tuple[str, str, str, str, str]]:
    """Return a row of `CONTRACT_HEADS` for each contract."""
    by_symbol: dict[str, list[ContractTerms]] = {}
    for one in contracts:
        by_symbol.setdefault(one.symbols[0], []).append(one)
    rows = []
    for symbol, terms in by_symbol.items():
        latest = max(terms, key=lambda one: one.since_ms)
        rows_of = [(row[1], row[3]) for row in tier_rows(latest.maintenance)]
        spans = (
            [f"{one} to {last}" for one, last in zip(rows_of[0], rows_of[-1], strict=True)] if rows_of else ["-"] * 2
        )
        days = ", ".join(str(one.since) for one in sorted(terms, key=lambda one: one.since_ms) if one.since) or "-"
        rows.append((symbol, days, spans[0], spans[1], latest.source or "-"))
    return rows


def change_rows(venue: Venue) -> list[tuple[str, str, str, str, str, str]]:
    """Return (since, key, value before, value after, sentence, source) of every dated change, those of a few contracts too.

    A book with terms of many contracts has them in `contract_rows`.
    """
    rows: list[tuple[int, tuple[str, str, str, str, str, str]]] = []
    before = venue.rules
    for change in venue.changes:
        after = before.changed(change.rules)
        since = f"{change.since}{' (positions opened since)' if change.positions == 'opened_since' else ''}"
        rows.extend(
            (
                change.since_ms,
                (since, key, describe_rule(before, key), describe_rule(after, key), change.says, change.source),
            )
            for key in change.rules
        )
        before = after
    for terms in () if has_many_contracts(venue) else venue.rules.contracts:
        if terms.since is not None:
            symbol = terms.symbols[0]
            older = [one for one in venue.rules.terms(symbol) if one.since_ms < terms.since_ms]
            was = maintenance_kind(older[-1].maintenance if older else venue.rules.maintenance)
            what = f"maintenance of {', '.join(terms.symbols)}"
            row = (str(terms.since), "contracts", was, maintenance_kind(terms.maintenance), what, terms.source)
            rows.append((terms.since_ms, row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def describe_rule(rules: Rules, key: str) -> str:
    """Return a sentence or formula for the value of a rule, or the value itself if it is self-explanatory."""
    if key == "maintenance":
        return maintenance_formula(rules.maintenance)
    value = getattr(rules, key)
    text = MEANINGS.get(key, {}).get(value) if isinstance(value, str) else None
    return text or describe_value(rules, key)


_TABLE_FORMULAS = {
    ("value", False): "V x MMR of the tier of V",
    ("value", True): "V x MMR - deduction of the tier of V",
    ("quantity", False): "V x MMR of the tier of q",
    ("quantity", True): "V / q x (q x MMR - deduction of the tier of q)",
}


def maintenance_formula(rule: MaintenanceRule) -> str:
    """Return the formula of the maintenance margin, with its constants, for a notional value V and a size q."""
    if isinstance(rule, TierTable):
        if len(rule.tiers) == 1:
            return f"V x {rule.tiers[0].maintenance_rate:.3%}"
        return _TABLE_FORMULAS[rule.measure, rule.marginal]
    if isinstance(rule, ShareTable):
        form = "V x MMR - deduction" if rule.marginal and len(rule.tiers) > 1 else "V x MMR"
        return f"{form}, MMR = {rule.share:g} / maximum leverage of the tier"
    if isinstance(rule, LinearRate):
        growing = f" + {rule.slope:.6%} x q" if rule.slope else ""
        return f"V x ({rule.maintenance:.3%}{growing}); initial margin V x ({rule.initial:.3%}{growing})"
    if isinstance(rule, SizeRate):
        text = f"V x min({rule.cap:g}, (1 + q/{rule.doubling:g}) / (2 x {rule.leverage_constant:g}))"
        floor = f"; initial rate at least {rule.initial_factor:g} times that rate"
        limit = f"; maximum q = {rule.open_constant:g} x ln(capital x L / (price x {rule.open_constant:g}) + 1)"
        return text + floor + (limit if rule.open_constant else "")
    measured = "V" if rule.measure == "value" else "q"
    text = f"V x max({rule.base:.3%}, {rule.factor:g} x {measured}^{rule.exponent:g})"
    return f"{text}; initial rate at least {rule.initial_factor:.4g} times that rate"


def maintenance_kind(rule: MaintenanceRule) -> str:
    """Return the form of a maintenance rule in a few words."""
    if isinstance(rule, SizeRate | LinearRate):
        return "grows with size"
    if isinstance(rule, PowerRate):
        return f"grows with {rule.measure}"
    if len(rule.tiers) == 1:
        return (
            maintenance_formula(rule).partition(" x ")[2].partition(",")[0]
            if isinstance(rule, TierTable)
            else "share of initial rate"
        )
    kind = "marginal" if rule.marginal else "whole position"
    return f"{len(rule.tiers)} tiers, {kind}"


def constants(rule: MaintenanceRule) -> dict[str, str]:
    """Return the constants of a maintenance rule other than a tier table."""
    return {
        key: value if isinstance(value, str) else f"{value:g}"
        for key, value in msgspec.structs.asdict(rule).items()
        if value is not None and key not in ("tiers", "marginal")
    }


# Deductions of at least this amount are printed with two decimals.
TWO_DECIMALS_FROM = 1e4


def _leverage(tier: Tier) -> str:
    """Return the maximum leverage of a tier, with the initial rate where that is not its reciprocal."""
    highest = "-" if tier.leverage_max is None else f"{tier.leverage_max:g}"
    return highest if tier.initial_rate is None else f"{highest} (initial {tier.initial_rate:.3%})"


def tier_rows(rule: MaintenanceRule) -> list[tuple[str, str, str, str]]:
    """Return the rows (value from, rate, deduction, maximum leverage) of a tier table; empty for other rules."""
    table = rule.tier_table if isinstance(rule, ShareTable) else rule
    if not isinstance(table, TierTable):
        return []
    return [
        (
            f"{tier.notional_min:,.0f}" if table.measure == "value" else f"{tier.notional_min:,.10g} coins",
            f"{tier.maintenance_rate:.3%}",
            f"{deduction:,.2f}" if deduction >= TWO_DECIMALS_FROM else f"{deduction:,.8g}",
            _leverage(tier),
        )
        for tier, deduction in zip(table.tiers, table.deductions, strict=True)
    ]
