# SPDX-License-Identifier: GPL-3.0-or-later
"""What each answer of a rule book means, in a sentence or a formula; V is a value, q a size, f the taker fee, L the leverage."""

from collections.abc import Callable
from typing import Any

import msgspec

from crossmargin_bt.engine.terms.borrowing import Borrowing
from crossmargin_bt.engine.terms.collateral import CollateralTerms
from crossmargin_bt.engine.terms.liquidation_steps import Above, Fraction, Hedges, LiquidationStep, Pairs, Reduce, Tiers
from crossmargin_bt.engine.terms.option_terms import OptionTerms
from crossmargin_bt.engine.terms.portfolio_terms import PortfolioTerms
from crossmargin_bt.engine.terms.rates import LinearRate, MaintenanceRule, PowerRate, ShareTable, SizeRate, TierTable
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.engine.terms.volatility import VolatilityScaling

_FEE_PRICES = {
    "none": "not counted",
    "mark": "V at mark x f",
    "entry": "V at entry x f",
    "bankruptcy": "V at entry x (1 - d/L) x f, which is at the bankruptcy price (d is 1 for a long, -1 for a short)",
}
_PRICES = {"mark": "at the mark", "entry": "at the average entry", "last": "at the last price"}

# What a rule without an answer comes to.
_WITHOUT = {
    "sell_order_markup": "at its price",
    "order_cancel_level": "only at a liquidation",
    "volatility_scaling": "none",
    "borrowing": "not possible",
    "portfolio": "none",
}
# What a rule comes to that lists nothing.
_NONE = {"liquidation": "all at once", "collateral": "no pool of many currencies", "options": "as is usual"}

TITLES = {
    "maker": "maker fee",
    "taker": "taker fee",
    "liquidation_fee": "liquidation fee, on top of the taker fee",
    "maintenance": "maintenance rate",
    "tier_leverage_breach": "leverage above what the tier allows",
    "initial_price": "price of the initial margin (cross)",
    "order_offset": "position and resting orders (cross)",
    "order_fees_reserved": "opening fees of resting orders in use",
    "order_loss_reserved": "loss of an order against the mark in use",
    "sell_order_markup": "value of a sell order",
    "closing_fee_reserved": "closing fee in the initial margin",
    "hedge_margin": "long and short leg, initial margin",
    "hedge_maintenance": "long and short leg, maintenance",
    "tier_exposure": "exposure that picks the tier",
    "orders_in_tier": "resting orders count for the tier",
    "orders_in_maintenance": "resting orders in maintenance",
    "maintenance_price": "price of the maintenance margin (cross)",
    "closing_fee_in_maintenance": "closing fee in the requirement (cross)",
    "order_fees_in_ratio": "opening fees of resting orders lower the collateral",
    "order_loss_in_ratio": "loss of orders against the mark lowers the collateral",
    "isolated_orders_in_ratio": "isolated orders lower the shared collateral",
    "isolated_maintenance_price": "price of the maintenance margin (isolated)",
    "isolated_closing_fee": "closing fee in the requirement (isolated)",
    "isolated_fee_in_margin": "closing fee kept with an isolated margin",
    "profit_pays_for": "what floating profit of cross positions may pay for",
    "order_size_share": "share of what fits in a maximum order",
    "order_size_fees": "taker fees left free by a maximum order",
    "displayed_liquidation_price": "liquidation price shown in cross mode",
    "ratio": "risk ratio",
    "warning_levels": "margin levels that are warned at",
    "order_cancel_level": "margin level at which orders are cancelled",
    "orders_cancelled_overdrawn": "orders cancelled when more is in use than there is",
    "safe_level": "margin level at which a reduction ends",
    "liquidation": "steps of a liquidation",
    "volatility_scaling": "rates that follow volatility",
    "collateral": "what currencies count for in a pool of many",
    "options": "margin and fees of options outside portfolio margin",
    "portfolio": "portfolio margin",
    "borrowing": "debts of a pool of many currencies, and of margin pairs",
}

MEANINGS = {
    "tier_leverage_breach": {
        "raise": "initial rate = max(1/L, what the tier asks)",
        "refuse": "the order is refused; initial rate = 1/L",
    },
    "initial_price": _PRICES,
    "order_offset": {
        "sum": "position + same side + the part of opposite orders that opens",
        "net": "max(|position + buys|, |position - sells|) in size, at the mark",
        "net_value": "max(|position + buys|, |position - sells|) in value, orders at their own prices",
        "larger_side": "max(position + same side, opposite orders that open)",
    },
    "hedge_margin": {"sum": "added", "larger": "the larger leg alone"},
    "hedge_maintenance": {"sum": "added", "larger": "the larger leg alone"},
    "tier_exposure": {
        "each": "each leg its own",
        "added": "long + short",
        "larger": "the larger of long and short",
        "net": "|long - short|",
    },
    "orders_in_maintenance": {
        "none": "not counted",
        "sum": "all of them",
        "opening": "all but what closes",
        "net": "the worst net: max(|position + same side|, |position - opposite|)",
        "gross": "the worst gross: max(|position + same side|, |opposite|)",
    },
    "maintenance_price": _PRICES,
    "isolated_maintenance_price": _PRICES,
    "closing_fee_reserved": _FEE_PRICES,
    "closing_fee_in_maintenance": _FEE_PRICES,
    "isolated_closing_fee": _FEE_PRICES,
    "isolated_fee_in_margin": _FEE_PRICES,
    "displayed_liquidation_price": {
        "account": "where the account gives out, the other marks standing",
        "by_value": "where the leg's share of the collateral, in proportion to |value|, gives out",
        "one_underlying": "where the account gives out; none while other contracts are held",
    },
    "ratio": {
        "requirement_over_collateral": "requirement / collateral, rises to 100 %",
        "collateral_over_requirement": "collateral / requirement, falls to 100 %",
    },
}


def answer(rules: Rules, key: str) -> str:
    """Return a rule's answer in a few words, as the field's files write it."""
    value = getattr(rules, key)
    if key == "maintenance":
        return _kind(value)
    if value is None:
        return _WITHOUT[key]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(_item(key, item) for item in value) or _NONE.get(key, "none")
    if type(value) in _WORDS:
        return _WORDS[type(value)](value)
    text = f"{value:.3%}" if isinstance(value, float) else str(value).replace("_", " ")
    return f"max(price, mark, last + {text})" if key == "sell_order_markup" else text


def _borrowing(value: Borrowing) -> str:
    rates = ", ".join(f"{currency} {rate:.3%}" for currency, rate in value.yearly.items())
    clock = value.clock
    how = "at each full period of the clock" if clock.count == "clock" else "for each period begun"
    return (
        f"initially {value.initial:.0%} of the debt, kept: {formula(value.maintenance)}; interest a year "
        f"{rates + ', others ' if rates else ''}{value.otherwise:.3%}, every {clock.hours} h {how}"
    )


def _collateral(terms: CollateralTerms) -> str:
    names = ", ".join(terms.currencies) or "others"
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
        f"{names}: short initially max({terms.initial:.3g} S - OTM, {terms.initial_min:.3g} S){factor}{mark}, "
        f"kept {terms.maintenance:.3g} S{factor}{mark}; fee {terms.fee:.3%} of S, at most {terms.fee_cap:.3g} of the premium"
    )


def _scaling(value: VolatilityScaling) -> str:
    return (
        f"x volatility / {value.reference:.0%}, from {value.floor:g} to {value.cap:g} in steps of {value.step:g} "
        f"({value.window_days:g} days, half-life {value.half_life_days:g})"
    )


def _portfolio(terms: PortfolioTerms) -> str:
    parts = []
    for unit in terms.units:
        moves = sorted({abs(one.move) for one in unit.all_scenarios})
        names = ", ".join(unit.underlyings) or "others"
        parts.append(
            f"{names}: {len(unit.all_scenarios)} scenarios up to {moves[-1]:.0%}, initially x {unit.initial_multiple:g}"
        )
    return "; ".join(parts)


_ITEMS: dict[type, Callable[[Any], str]] = {CollateralTerms: _collateral, OptionTerms: _option}
_WORDS: dict[type, Callable[[Any], str]] = {
    VolatilityScaling: _scaling,
    Borrowing: _borrowing,
    PortfolioTerms: _portfolio,
}


def _item(key: str, item: Any) -> str:
    if key == "warning_levels":
        return f"{item:.0%}"
    if type(item) in _ITEMS:
        return _ITEMS[type(item)](item)
    return step(item) if key == "liquidation" else str(item).replace("_", " ")


def step(one: LiquidationStep) -> str:
    """Return a step of a liquidation in a few words."""
    if isinstance(one, Tiers):
        return (
            f"{one.down} tiers down (whole below the {one.whole_below}rd)"
            if one.whole_below == 3
            else f"{one.down} tiers down"
        )
    if isinstance(one, Fraction):
        return f"{one.share:.0%} of what is above {one.above:,.0f}, then {one.cooldown_s:g} s of rest"
    if isinstance(one, Above):
        return f"what is above {one.value:,.0f}"
    return {Pairs: "opposite legs", Hedges: "hedged sets", Reduce: "the rest, safest first"}[type(one)]


def meaning(rules: Rules, key: str) -> str:
    """Return what the answer means, or the answer where it speaks for itself."""
    if key == "maintenance":
        return formula(rules.maintenance)
    value = getattr(rules, key)
    said = MEANINGS.get(key, {}).get(value) if isinstance(value, str) else None
    return said or answer(rules, key)


def formula(rule: MaintenanceRule) -> str:
    """Return the maintenance margin of a value V and a size q, as a formula with its constants."""
    if isinstance(rule, TierTable):
        if len(rule.tiers) == 1:
            return f"V x {rule.tiers[0].maintenance_rate:.3%}"
        return "V x MMR - deduction, of the tier that V is in" if rule.marginal else "V x MMR of the tier that V is in"
    if isinstance(rule, ShareTable):
        form = "V x MMR - deduction" if rule.marginal and len(rule.tiers) > 1 else "V x MMR"
        return f"{form}, MMR = {rule.share:g} / highest leverage of the tier"
    if isinstance(rule, LinearRate):
        growing = f" + {rule.slope:.6%} x q" if rule.slope else ""
        return f"V x ({rule.maintenance:.3%}{growing}); initially V x ({rule.initial:.3%}{growing})"
    if isinstance(rule, SizeRate):
        text = f"V x min({rule.cap:g}, (1 + q/{rule.doubling:g}) / (2 x {rule.leverage_constant:g}))"
        floor = f"; initially at least {rule.initial_factor:g} times that rate"
        limit = f"; largest q = {rule.open_constant:g} x ln(capital x L / (price x {rule.open_constant:g}) + 1)"
        return text + floor + (limit if rule.open_constant else "")
    measured = "V" if rule.measure == "value" else "q"
    text = f"V x max({rule.base:.3%}, {rule.factor:g} x {measured}^{rule.exponent:g})"
    return f"{text}; initially at least {rule.initial_factor:.4g} times that rate"


def _kind(rule: MaintenanceRule) -> str:
    if isinstance(rule, SizeRate | LinearRate):
        return "grows with size"
    if isinstance(rule, PowerRate):
        return f"grows with {rule.measure}"
    if len(rule.tiers) == 1:
        return (
            formula(rule).partition(" x ")[2].partition(",")[0] if isinstance(rule, TierTable) else "share of initial"
        )
    kind = "marginal" if rule.marginal else "whole position"
    return f"{len(rule.tiers)} tiers, {kind}"


def constants(rule: MaintenanceRule) -> dict[str, str]:
    """Return the constants of a rule that is no table of tiers."""
    return {
        key: value if isinstance(value, str) else f"{value:g}"
        for key, value in msgspec.structs.asdict(rule).items()
        if value is not None and key not in ("tiers", "marginal")
    }


# Amounts from here on are printed to the hundredth.
MANY = 1e4


def tiers(rule: MaintenanceRule) -> list[tuple[str, str, str, str]]:
    """Return the rows (value from, rate, deduction, leverage up to) of a table of tiers; empty for other rules."""
    table = rule.tier_table if isinstance(rule, ShareTable) else rule
    if not isinstance(table, TierTable):
        return []
    return [
        (
            f"{tier.notional_min:,.0f}",
            f"{tier.maintenance_rate:.3%}",
            f"{deduction:,.2f}" if deduction >= MANY else f"{deduction:,.8g}",
            "-" if tier.leverage_max is None else f"{tier.leverage_max:g}",
        )
        for tier, deduction in zip(table.tiers, table.deductions, strict=True)
    ]
