# SPDX-License-Identifier: GPL-3.0-or-later
"""Result files of earlier schemas, brought to the names of this one."""

from typing import Any

# Journal entries, pool states and keys of rule books that schema 4 renamed, by their names before.
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


def upgraded(file: Any) -> Any:
    """Return the plain data of a result file under today's names; anything else unchanged."""
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
