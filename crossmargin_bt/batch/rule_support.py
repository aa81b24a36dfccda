# SPDX-License-Identifier: GPL-3.0-or-later
"""Which answers of a venue's rule book the compiled loop supports, and why its bounds hold for them: one entry per key of `Rules`.

A key that is missing here, or an answer that is not listed, is refused: a new rule reaches the compiled loop only with an entry of
its own.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from crossmargin_bt.engine.terms.rules import Rules

ANY = "any"
"""Every value: the compiled loop takes it as a number."""
NOT_APPLICABLE = "not applicable"
"""Every value: the rule applies to no account of a batch."""
BROKER_FALLBACK = "broker fallback"
"""Every value: the rule acts only in bars that the broker processes, and the compiled loop never reads it."""
PER_CONTRACT = "per contract"
"""Checked for each contract that is traded, by `crossmargin_bt.batch.market`."""


class RuleSupport(NamedTuple):
    """The supported answers of one rule."""

    answers: Any
    """A tuple of the supported answers, or ANY, NOT_APPLICABLE, BROKER_FALLBACK or PER_CONTRACT. Of a rule that is a tuple itself, the supported
    elements."""
    reason: str
    """Why the bounds of the compiled loop hold for these answers."""
    refusal: str = ""
    """The rule in words, for the text of a refusal; by default its key and answer."""
    mode: Literal["cross", "isolated"] | None = None
    """The margin mode in which other answers are refused; None for both."""

    def supports(self, answer: Any) -> bool:
        """Return whether the compiled loop supports an answer."""
        if isinstance(self.answers, str):
            return True
        given = answer if isinstance(answer, tuple) else (answer,)
        return all(one in self.answers for one in given)


BOOLEAN = (False, True)
FEE_PRICES = ("none", "mark", "entry", "bankruptcy")

SUPPORT: dict[str, RuleSupport] = {
    "maker": RuleSupport(
        ANY, "The maker rate of each contract is an input; bounds take the larger rate, rebates as costs."
    ),
    "taker": RuleSupport(
        ANY, "The taker rate of each contract is an input; bounds take the larger rate, rebates as costs."
    ),
    "liquidation_fee": RuleSupport(BROKER_FALLBACK, "Charged on forced closes, all of which the broker processes."),
    "maintenance": RuleSupport(PER_CONTRACT, "The loop looks up tier tables; no other maintenance rule is compiled."),
    "tier_leverage_breach": RuleSupport(
        ("raise", "refuse"),
        "`orders_fit` takes the initial rate of the tier of all positions and orders, or fails where that tier refuses the leverage.",
    ),
    "initial_price": RuleSupport(
        ("mark", "entry", "last"), "`orders_fit` values positions at the maximum over the marks, last prices and entry."
    ),
    "order_offset": RuleSupport(
        ("sum", "net", "net_value", "larger_side"),
        '`orders_fit` adds all orders to the position; only a market order without resting ones is netted, and not under "sum" '
        "beside other instruments.",
    ),
    "order_fees_reserved": RuleSupport(BOOLEAN, "`orders_fit` always deducts the opening fees of all orders."),
    "order_loss_reserved": RuleSupport(
        BOOLEAN, "`orders_fit` always deducts the loss of all orders across the price range."
    ),
    "sell_order_markup": RuleSupport(
        ANY, "`orders_fit` raises the notional of all positions and orders by the markup."
    ),
    "closing_fee_reserved": RuleSupport(
        FEE_PRICES,
        "`orders_fit` deducts four fees of the maximum notional, closing at up to twice the value among them.",
    ),
    "hedge_margin": RuleSupport(NOT_APPLICABLE, "Positions of a batch are one-way: no contract has two legs."),
    "hedge_maintenance": RuleSupport(NOT_APPLICABLE, "Positions of a batch are one-way: no contract has two legs."),
    "tier_exposure": RuleSupport(
        ("each", "added", "larger", "net"),
        "The only leg of a one-way position picks its own tier, and resting orders are bounded by the tier of the sum of both.",
    ),
    "orders_in_tier": RuleSupport(
        BOOLEAN, "`orders_fit` takes maintenance at the tier of all positions and orders together."
    ),
    "orders_in_maintenance": RuleSupport(
        ("none", "sum", "opening", "net", "gross"), "`orders_fit` counts all orders in the maintenance requirement."
    ),
    "maintenance_price": RuleSupport(
        ("mark", "entry"), "Requirements are bounded over the marks of the bar and the entry."
    ),
    "closing_fee_in_maintenance": RuleSupport(
        FEE_PRICES,
        "Requirements include twice the taker fee, an upper bound at a bankruptcy price of up to twice the value.",
    ),
    "order_fees_in_ratio": RuleSupport(
        BOOLEAN, "`orders_fit` deducts the fees of all orders from the collateral of the pool."
    ),
    "order_loss_in_ratio": RuleSupport(
        BOOLEAN, "`orders_fit` deducts the loss of all orders from the collateral of the pool."
    ),
    "isolated_orders_in_ratio": RuleSupport(
        BOOLEAN, "All contracts of an account have one mode: a shared pool with positions has no isolated orders."
    ),
    "isolated_maintenance_price": RuleSupport(
        ("mark", "entry"), "Requirements are bounded over the marks of the bar and the entry."
    ),
    "isolated_closing_fee": RuleSupport(
        FEE_PRICES,
        "Requirements include twice the taker fee, an upper bound at a bankruptcy price of up to twice the value.",
    ),
    "isolated_fee_in_margin": RuleSupport(
        ("none",),
        "A compiled fill moves the initial margin alone; only isolated positions carry the fee.",
        refusal="closing fees kept with isolated margins",
        mode="isolated",
    ),
    "profit_pays_for": RuleSupport(
        ("cross_orders", "isolated_orders", "withdrawals"),
        "`orders_fit` counts unrealised profit only if it pays for cross orders; an isolated account has no cross profit, and "
        "nothing is withdrawn.",
    ),
    "withdrawal_notional_share": RuleSupport(NOT_APPLICABLE, "Nothing is withdrawn from an account of a batch."),
    "order_size_share": RuleSupport(
        NOT_APPLICABLE, "Limits the answer of a maximum-order query, not what an order may be."
    ),
    "order_size_fees": RuleSupport(
        NOT_APPLICABLE, "Limits the answer of a maximum-order query, not what an order may be."
    ),
    "displayed_liquidation_price": RuleSupport(NOT_APPLICABLE, "Display only: no fill or liquidation depends on it."),
    "ratio": RuleSupport(NOT_APPLICABLE, "Display only: thresholds are margin levels either way."),
    "warning_levels": RuleSupport(ANY, "Thresholds of the loop: the broker processes the bar that may cross one."),
    "order_cancel_level": RuleSupport(ANY, "A threshold of the loop: the broker processes the bar that may cross it."),
    "orders_cancelled_overdrawn": RuleSupport(
        BOOLEAN, "`orders_fit` proves that margin in use stays within what is available while orders rest."
    ),
    "liquidation": RuleSupport(BROKER_FALLBACK, "Steps of a liquidation, which the broker processes."),
    "safe_level": RuleSupport(BROKER_FALLBACK, "Ends a liquidation, which the broker processes."),
    "delisting_fee": RuleSupport(NOT_APPLICABLE, "The markets of a batch end together."),
    "isolated_leverage": RuleSupport(NOT_APPLICABLE, "The leverage of an account of a batch does not change."),
    "volatility_scaling": RuleSupport(
        (None,),
        "The initial and maintenance rates of the loop do not change with time.",
        refusal="rates that follow volatility",
    ),
    "collateral": RuleSupport(
        NOT_APPLICABLE, "A batch has one settle currency per account and no pool of many currencies."
    ),
    "borrowing": RuleSupport(
        NOT_APPLICABLE, "A batch has neither a pool of many currencies nor margin pairs, so nothing is borrowed."
    ),
    "options": RuleSupport(NOT_APPLICABLE, "Options are refused as contracts."),
    "portfolio": RuleSupport(NOT_APPLICABLE, "A batch has the modes cross and isolated, not portfolio margin."),
    "contracts": RuleSupport(
        PER_CONTRACT, "The terms of a contract are its tier table; only terms that change by date are refused."
    ),
}


def unsupported_rules(rules: Rules, mode: str | None = None) -> list[str]:
    """Return the rules that the compiled loop does not support, in words.

    Without `mode` those refused in every mode, with it those refused in that mode alone.
    """
    found = []
    for key in Rules.__struct_fields__:
        support, answer = SUPPORT.get(key), getattr(rules, key)
        if support is None:
            found.append(f"the rule {key}")
        elif support.mode == mode and not support.supports(answer):
            found.append(support.refusal or f"{key} = {answer!r}")
    return found


def any_applies(keys: Iterable[str]) -> bool:
    """Return whether any of these rules applies to accounts of a batch."""
    return any(key not in SUPPORT or SUPPORT[key].answers != NOT_APPLICABLE for key in keys)
