# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that exchanges publish, out of accounts, instruments and rules: nothing is computed here.

tests/published/published.json holds the cases. A case that no test names must be on the list below with
its reason, so the list shrinks as the engine grows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import published
from published import costs, inverse, linear, options, portfolio, readings, rules, sizes, spot

FOLDER = Path(published.__file__).parent
CASES = {case["id"]: case for case in json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))}

# Why a case is not checked yet.
WAITING = {
    "bingx-rate-01": "a ratio that ends at 0: net over initial margin less an adjustment",
    "bybit-inv-cross-01": "closing fee at the account's own bankruptcy price, a rule of before the unified account",
    "bybit-hedge-01": "loss locked by a hedge: which profit offsets it is not printed",
    "binance-mark-01": "marks come from the data",
    "bitmex-net-01": "bids net of offers and all offers: a rule no longer in force",
    "lighter-usage-01": "a quotient of two figures that another account is asked for",
    "nautilus-inv-02": "a counter-example: maintenance divided by the leverage, which exchanges do not do",
    "orderly-unsettled-01": "funding by a cumulated index",
    "orderly-estliq-02": "the page's approximation keeps a new order at its own price and leaves its profit out",
}

CHECKED = {
    name: check
    for part in (linear, inverse, costs, rules, readings, sizes, portfolio, options, spot)
    for name, check in part.CHECKED.items()
}


@pytest.mark.parametrize("name", CHECKED)
def test_published_number(name: str) -> None:
    """What the exchange prints comes out, every figure that the account can be asked for."""
    case = CASES[name]
    tolerance = case["tolerance"]
    found = CHECKED[name](case)
    compared = [key for key in case["expected"] if key in found]
    assert compared, f"nothing of {list(case['expected'])} was read off the account"
    for key in compared:
        expected = case["expected"][key]
        assert found[key] == pytest.approx(expected, rel=tolerance.get("rel", 1e-9), abs=tolerance.get("abs", 0.0)), key


def test_every_case_is_checked_or_waits_for_a_reason() -> None:
    """No case is forgotten, none is on both lists."""
    assert not [name for name in CASES if name not in CHECKED and name not in WAITING]
    assert not [name for name in WAITING if name not in CASES or name in CHECKED]


def test_every_case_names_its_source() -> None:
    """A page, or a file of a repository, and no "same as above"; parameter sets that a case refers to are in the folder."""
    for name, case in CASES.items():
        assert len(case["source"]) > len("https://"), name
        assert not case["source"].startswith("same"), name
        file, _, key = case["inputs"].get("params_ref", "").partition("#")
        if file:
            assert key in json.loads((FOLDER / file).read_text(encoding="utf-8")), name
