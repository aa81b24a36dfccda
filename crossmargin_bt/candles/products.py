# SPDX-License-Identifier: GPL-3.0-or-later
"""Which product a market of ccxt's is: a coin, a perpetual, a future or an option."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def product(market: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an `Instrument` has besides for the kind of a market: kind, quote, expiry, strike, call or put.

    >>> product({"type": "spot", "quote": "USDT"})
    {'kind': 'spot', 'quote': 'USDT'}
    >>> product({"type": "option", "quote": "USD", "expiry": 1750982400000, "strike": 5e4, "optionType": "call"})["expiry"].date()
    datetime.date(2025, 6, 27)
    """
    facts: dict[str, Any] = {"quote": market.get("quote") or ""}
    kind = next((kind for kind in ("spot", "option", "future") if market.get(kind) or market.get("type") == kind), None)
    if kind == "spot":
        return {"kind": "spot", **facts}
    if kind is None or market.get("expiry") is None:
        return facts
    facts |= {"kind": kind, "expiry": datetime.fromtimestamp(float(market["expiry"]) / 1000, tz=UTC)}
    if kind == "option":
        facts |= {"strike": float(market["strike"]), "option": market["optionType"]}
    return facts
