# SPDX-License-Identifier: GPL-3.0-or-later
"""The setup of a scenario: rule book, settings, instruments, balances and prices before the first event."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, get_type_hints

import msgspec

from crossmargin_bt import venues
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.liquidation_steps import Above, Fraction, Hedges, Pairs, Portion, Reduce, Tiers
from crossmargin_bt.engine.terms.rates import (
    LeverageTier,
    LinearRate,
    PowerRate,
    ShareTable,
    SizeRate,
    flat_rate,
    tier_table,
)
from crossmargin_bt.engine.terms.rules import Rules

RATES = {"size": SizeRate, "linear": LinearRate, "power": PowerRate}


INSTRUMENT_TEXTS = ("kind", "settle", "underlying", "quote", "option")
SETTINGS = ("mode", "position", "path", "pooling", "currency")
START = datetime(2025, 1, 1, tzinfo=UTC)
"""The first bar of a scenario, and the present of one without bars until time passes."""


class Stage:
    """Everything set before the first bar or fill."""

    def __init__(self) -> None:
        self.venue, self.day = "generic", None
        self.mode, self.position, self.path = "cross", "one_way", "path"
        self.pooling, self.currency = "single_currency", "USDT"
        self.rules: dict[str, Any] = {}
        self.cash = 1e4
        self.instruments: dict[str, Instrument] = {}
        self.leverage: dict[str, float] = {}
        self.modes: dict[str, str] = {}
        self.deposits: dict[str, float] = {}
        self.prices: dict[str, float] = {}
        self.interest: dict[str, float] = {}
        self.slippage = 0.0
        self.insurance: float | None = None
        self.warnings: tuple[float, ...] = ()
        self.forced = (0.0, 0.0)

    day: date | None

    def take(self, word: str, rest: list[str]) -> bool:
        """Take a line that sets the stage; return False when it is an action."""
        if word in SETTINGS:
            setattr(self, word, rest[0])
        elif word == "venue":
            self.venue, self.day = rest[0], date.fromisoformat(rest[1]) if len(rest) > 1 else None
        elif word in ("cash", "slippage", "insurance"):
            setattr(self, word, float(rest[0]))
        elif word == "warnings":
            self.warnings = tuple(float(level) for level in rest)
        elif word == "forced":
            self.forced = (float(rest[0]), float(rest[1]))
        elif word == "rule":
            self.rules[rest[0]] = rule_value(rest[0], rest[1])
        elif word == "fees":
            self.rules["maker"], self.rules["taker"] = float(rest[0]), float(rest[1])
            self.rules["liquidation_fee"] = float(rest[2]) if len(rest) > 2 else 0.0
        elif word == "instrument":
            self._instrument(rest[0], dict(pair.split("=") for pair in rest[1:]))
        else:
            return self._take_currency(word, rest)
        return True

    def _take_currency(self, word: str, rest: list[str]) -> bool:
        """Take a line about one currency: what is deposited of it, its price, its interest rate."""
        by_currency = {"deposit": self.deposits, "price": self.prices, "interest": self.interest}.get(word)
        if by_currency is None:
            return False
        by_currency[rest[0]] = float(rest[1])
        return True

    def _instrument(self, symbol: str, facts: dict[str, str]) -> None:
        self.leverage[symbol] = float(facts.pop("leverage", "1"))
        self.modes[symbol] = facts.pop("mode", "isolated" if self.mode == "isolated" else "cross")
        fully_funded = facts.get("kind") in ("spot", "option")
        settings: dict[str, Any] = {"lot": 1.0}
        if not fully_funded:
            settings.update(leverage_max=1000.0, maintenance=flat_rate(0.005))
        for key, value in facts.items():
            if key == "maintenance":
                settings[key] = None if value == "venue" else flat_rate(float(value))
            elif key == "tiers":
                kind, _, rows = value.partition("/")
                rows = [tuple(float(x) for x in row.split(":")) for row in rows.split(",")]
                table = tier_table(rows, marginal=kind.startswith("marginal"))
                measure = "quantity" if kind.endswith("_by_quantity") else "value"
                settings["maintenance"] = msgspec.structs.replace(table, measure=measure)
            elif key in RATES:
                settings["maintenance"] = RATES[key](*(float(x) for x in value.split(":")))
            elif key == "share":
                share, _, rows = value.partition("/")
                tiers = tuple(LeverageTier(*(float(x) for x in row.split(":"))) for row in rows.split(","))
                settings["maintenance"] = ShareTable(tiers, float(share))
            elif key == "inverse":
                settings[key] = value == "true"
            elif key == "expiry":
                settings[key] = datetime.fromisoformat(value)
            else:
                settings[key] = value if key in INSTRUMENT_TEXTS else float(value)
        self.instruments[symbol] = Instrument(symbol=symbol, **settings)

    def book_rules(self):
        rules = venues.load(self.venue).at(self.day).rules
        return msgspec.structs.replace(rules, **self.rules)


STEPS = {
    "pairs": Pairs,
    "hedges": Hedges,
    "reduce": Reduce,
    "portion": Portion,
    "tiers": Tiers,
    "fraction": Fraction,
    "above": Above,
}


def rule_value(key: str, text: str):
    """Return a rule's answer from the text of a scenario: `true`, `none`, `3,1.5`, `pairs,tiers:2`."""
    if key == "liquidation":
        steps = (step.split(":") for step in text.split(",") if step != "all")
        return tuple(
            STEPS[name](*(int(n) if name == "tiers" else float(n) for n in numbers)) for name, *numbers in steps
        )
    if key in ("profit_pays_for", "warning_levels"):
        return tuple(text.split(",")) if key == "profit_pays_for" else tuple(float(level) for level in text.split(","))
    value = {"true": True, "false": False}.get(
        text, None if text == "none" and key.endswith(("level", "markup")) else text
    )
    return msgspec.convert(value, type=get_type_hints(Rules)[key], strict=False)
