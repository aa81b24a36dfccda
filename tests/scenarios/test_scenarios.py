# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file in tests/scenarios, by its name."""

from pathlib import Path

import pytest
import scenario
from budget import in_rotation

FILES = scenario.files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    """The scenario's expectations hold."""
    scenario.run_file(path)


WITH_BARS = [path for path in FILES if "\nbar " in path.read_text(encoding="utf-8")]
RUN_MODES = ({"runonce": False}, {"exactbars": 1}, {"preload": False})


@pytest.mark.parametrize(
    ("path", "settings"),
    in_rotation(WITH_BARS, RUN_MODES),
    ids=lambda one: one.stem if isinstance(one, Path) else str(one),
)
def test_scenario_in_every_run_mode(path: Path, settings: dict) -> None:
    """A scenario with bars reads the same however backtrader is run, to the journal's last digit.

    One run mode per file, in rotation; all of them in a soak.
    """
    if "\ndelisted " in path.read_text(encoding="utf-8") and "exactbars" in settings:
        settings = {"preload": False}  # with exactbars=1 backtrader's own loop does not survive the end of a feed
    stock = scenario.run_file(path)
    other = scenario.run_file(path, **settings)
    assert other.broker.journal == stock.broker.journal


def test_there_are_scenarios() -> None:
    """At least thirty of contracts and forty of whole accounts, so a wrong folder is noticed."""
    whole = [path for path in FILES if path.parent.name == "whole_account"]
    assert len(whole) >= 40
    assert len(FILES) - len(whole) >= 30
