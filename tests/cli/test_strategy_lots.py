# SPDX-License-Identifier: GPL-3.0-or-later
"""Every strategy that is shipped trades with coarse and with unequal lots: no order is refused for its size, none is sent again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from places import PROJECT

from crossmargin_bt import compare
from crossmargin_bt.candles import folder
from crossmargin_bt.candles.market import Candles

LOTS = {
    "fine": {},
    "coarse": {"SIMBTC": 0.05, "SIMETH": 1.0, "SIMALT": 500.0, "SIMBTC-SPOT": 0.05},
    "unequal": {"SIMBTC": 0.03, "SIMETH": 0.7, "SIMALT": 330.0, "SIMBTC-SPOT": 0.004},
}


def markets(strategy: str, lots: dict[str, float]) -> Sequence[Candles]:
    """Return four months of the sample that a strategy needs, with other lots."""
    home = (
        PROJECT / "data" / ("whole" if strategy in ("funding_carry", "options_overlay", "hedging:SpotHedging") else "")
    )
    found = []
    for one in folder.read(home, downloads=False):
        lot = lots.get(one.symbol, one.instrument.lot)
        instrument = msgspec.structs.replace(one.instrument, lot=lot)
        if strategy not in ("funding_carry", "hedging:SpotHedging") or instrument.kind in ("perpetual", "spot"):
            found.append(one._replace(frame=one.frame.loc["2025-03-01":"2025-07-01"], instrument=instrument))
    return [one for one in found if len(one.frame)]


@pytest.mark.parametrize("lots", LOTS)
@pytest.mark.parametrize(
    "strategy", ["funding_carry", "hedging", "hedging:SpotHedging", "long_short", "options_overlay", "scalping"]
)
def test_lots_are_respected(strategy: str, lots: str) -> None:
    """It trades, and what is refused is refused for margin; the carry, whose legs depend on both lots, has nothing refused."""
    name, _, kind = strategy.partition(":")
    spec = compare.load(f"{PROJECT}/strategies/{name}.py:{kind or name.title().replace('_', '')}")
    settings = compare.Settings(cash=50_000.0, leverage=3.0)
    result = compare.run(spec, markets(strategy, LOTS[lots]), venue="okx", mode="multi_currency", settings=settings)
    refused = Counter(entry["code"] for entry in result.journal if entry["event"] == "OrderRefused")
    assert result.fills > 1
    assert set(refused) <= {"insufficient_margin", "insufficient_balance"}
    assert strategy != "funding_carry" or not refused
