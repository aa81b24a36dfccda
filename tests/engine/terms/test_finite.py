# SPDX-License-Identifier: GPL-3.0-or-later
"""No number of any rule may be NaN or infinite, and no name may hold an escape sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from crossmargin_bt import CrossMarginBroker, Instrument, venues
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.errors import ConfigurationError, RuleError

WRONG = (math.nan, math.inf, -math.inf)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every number in plain data."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*place, key))
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from places(one, (*place, number))
    elif isinstance(value, float):
        yield place


def replaced(value: Any, place: tuple[Any, ...], number: float) -> Any:
    """Return plain data with another number at a place."""
    if not place:
        return number
    if isinstance(value, dict):
        return {**value, place[0]: replaced(value[place[0]], place[1:], number)}
    return [replaced(one, place[1:], number) if n == place[0] else one for n, one in enumerate(value)]


@pytest.mark.parametrize("name", venues.names())
def test_every_number_of_every_book_is_finite(name: str) -> None:
    """One of each key; those of single contracts are of the same kinds."""
    plain = msgspec.to_builtins(venues.load(name).rules)
    seen = set()
    for place in places(plain):
        keys = tuple(part for part in place if not isinstance(part, int))
        if keys in seen or place[0] == "contracts":
            continue
        seen.add(keys)
        for number in WRONG:
            with pytest.raises((RuleError, msgspec.ValidationError)):
                msgspec.convert(replaced(plain, place, number), type=Rules)
    assert len(seen) >= 5


@pytest.mark.parametrize("key", ["taker", "maker", "tick", "notional_min", "leverage_max", "lot", "contract_size"])
@pytest.mark.parametrize("number", [*WRONG, 10**400])
def test_every_number_of_an_instrument_is_finite(key: str, number: float) -> None:
    """Also whole numbers beyond the largest float."""
    with pytest.raises(RuleError, match=f"X: {key} must be a finite number"):
        Instrument(symbol="X", **{key: number})


@pytest.mark.parametrize(
    "key", ["cash", "leverage", "slip_perc", "slip_fixed", "liquidation_slippage", "liquidation_impact"]
)
@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0, 10**400])
def test_every_number_of_the_broker_is_finite(key: str, number: float) -> None:
    """And none of these is negative."""
    with pytest.raises(ConfigurationError):
        CrossMarginBroker(**{key: number})


def test_names_hold_no_escape_sequences() -> None:
    """They would act in a terminal."""
    with pytest.raises(RuleError, match="without control characters"):
        Instrument(symbol="BTC\x1b[31m")
    text = venues.text("generic").replace('title = "Generic', 'title = "\\u001b[2JGeneric')
    with pytest.raises(RuleError, match="has control characters"):
        venues.parse(text, "mine.toml")
    with pytest.raises(RuleError, match=r"mine\.toml"):
        venues.parse("a = " + "[" * 5_000, "mine.toml")
