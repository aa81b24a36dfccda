# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade of result files from earlier schemas to the current names."""

from typing import Any

# Old name -> new name of the journal entries, risk states and rule keys that schema 4 renamed.
EVENTS = {
    "Deposited": "CashTransferred",
    "MarginMoved": "IsolatedMarginAdjusted",
    "Replenished": "CollateralToppedUp",
    "TakenOver": "InsuranceFundTakeover",
    "Reduced": "LiquidationStepTaken",
}
STATES = {"checked": "liquidation_check", "safe": "recovered", "closed": "closed_out"}
RULES = {"cross_estimate": "displayed_liquidation_price", "above_tier_leverage": "tier_leverage_breach"}
ORDER_OFFSETS = {"opening": "larger_side"}
RENAMED_IN = 4


def upgrade(file: Any) -> Any:
    """Rename old keys and values in the decoded JSON of a result file, in place; other data is returned unchanged."""
    if (
        not isinstance(file, dict)
        or not isinstance(file.get("runs"), list)
        or file.get("schema", RENAMED_IN) >= RENAMED_IN
    ):
        return file
    for run in file["runs"]:
        result = run.get("result") if isinstance(run, dict) else None
        if isinstance(result, dict):
            _upgrade_journal(result.get("journal"))
            _upgrade_rules(result.get("rules"))
    return file


def _upgrade_journal(journal: Any) -> None:
    for entry in journal if isinstance(journal, list) else ():
        if isinstance(entry, dict):
            entry["event"] = EVENTS.get(entry.get("event", ""), entry.get("event"))
            if entry["event"] == "RiskState":
                entry["state"] = STATES.get(entry.get("state", ""), entry.get("state"))


def _upgrade_rules(rules: Any) -> None:
    if isinstance(rules, dict):
        for before, now in RULES.items():
            if before in rules:
                rules[now] = rules.pop(before)
        rules["order_offset"] = ORDER_OFFSETS.get(rules.get("order_offset", ""), rules.get("order_offset"))
