# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals, curves and results of a fixed matrix of runs are the recorded ones, to the last bit.

The digests were recorded before the package was rearranged and renamed, and again when rule books got dates (CHANGELOG.md);
`renames.py` maps today's names to those of then. A run of candles that are not in the repository is skipped where they are absent.
"""

from __future__ import annotations

import json

import pytest
from places import SHARED

from unchanged import matrix

KNOWN = json.loads(matrix.DIGESTS.read_text(encoding="utf-8"))
RUNS = matrix.runs()
# Scenarios have tests of their own in every run; of the others every so many belong to it.
EVERY = 25


def is_soak(place: int, name: str) -> bool:
    """Return whether a run of the matrix is left to `make soak`."""
    return name.startswith("scenario") or place % EVERY != 0


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if is_soak(place, name) else ()) for place, name in enumerate(KNOWN)],
)
def test_a_run_leaves_what_it_left_when_recorded(name: str) -> None:
    """The digests of its journal, its notifications, its curve and its result are equal."""
    if name not in RUNS and not SHARED.exists():
        pytest.skip("needs candles of ../shared")
    assert RUNS[name]() == KNOWN[name]
