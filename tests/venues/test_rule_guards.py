# SPDX-License-Identifier: GPL-3.0-or-later
"""No rule of a shipped book that names a source can be turned unnoticed, and the cases that notice hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import rule_guards
import worked
import worked_accounts

from crossmargin_bt import venues


@pytest.mark.parametrize("case", list(worked.cases()), ids=lambda case: case.name)
def test_a_figure_worked_by_hand(case: worked.Worked) -> None:
    """The account has every figure of the case."""
    case.check()


@pytest.mark.parametrize(("name", "check"), list(worked_accounts.cases()))
def test_a_whole_account_worked_by_hand(name: str, check: Callable[[], None]) -> None:
    """The account has every figure of the case."""
    assert name
    check()


@pytest.mark.parametrize("name", venues.shipped())
def test_no_rule_with_a_source_can_be_turned_unnoticed(name: str) -> None:
    """With any other answer, in the base or in a dated change, a published, recorded or worked case fails."""
    assert rule_guards.unguarded(name)[1] == []


# Numbers that no page prints, that no case can reach, or that a bar of an hour is too long for.
UNGUARDED_NUMBERS = {
    "binance": ["borrowing.otherwise"],
    "bybit": ["borrowing.otherwise"],
    "kraken": ["borrowing.otherwise"],
    "okx": ["borrowing.otherwise"],
    "paradex": ["options.0.put_cap"],
    "hyperliquid": ["liquidation.0.cooldown_s"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", venues.shipped())
def test_no_number_of_a_table_can_be_turned_unnoticed(name: str) -> None:
    """Each single number of a table with a source, a tenth higher or lower: an assumed rate of interest apart, a case fails."""
    assert rule_guards.unguarded_numbers(name)[1] == UNGUARDED_NUMBERS.get(name, [])


# Practice that every book shares, which one case shows for all.
SHARED_TOPICS = ("pools", "funding", "collateral", "interest", "takeover", "order_cancellation")


@pytest.mark.parametrize("name", venues.shipped())
def test_a_simulated_practice_names_the_case_that_shows_it(name: str) -> None:
    """Of the book itself where books differ; `validity` says when a book was read, which no run can show."""
    known = {case.name: case for case in rule_guards.cases()}
    for topic, said in venues.load(name).statements.items():
        if said.simulated and topic != "validity":
            assert said.scenario in known, f"{name}, {topic}: {said.scenario!r} is no case"
            assert name in known[said.scenario].venues or topic in SHARED_TOPICS, (name, topic)
        elif not said.simulated:
            assert not said.scenario, f"{name}, {topic} is not simulated"


def test_an_unguarded_rule_is_found() -> None:
    """The generic book names no source, and no case of its own has orders near a level of cancellation: nothing notices a turn."""
    assert not rule_guards.is_noticed(rule_guards.Turn("generic", "order_cancel_level", None, 1.5))


def test_the_page_of_guards_is_current() -> None:
    """docs/guards.md is what `python -m rule_guards --write` writes where no rule is unguarded, as the test above demands."""
    assert rule_guards.PAGE.read_text(encoding="utf-8") == rule_guards.page(lambda _: 0)
