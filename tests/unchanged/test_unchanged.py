# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals, curves and results of a fixed matrix of runs are the recorded ones, to the last bit.

The digests were recorded before the package was rearranged and renamed; `renames.py` maps today's names to those of then. A run
of candles that are not in the repository is skipped where they are absent.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from places import SHARED

from unchanged import matrix

# Runs whose digests differ since, by what was mended, and what they leave now.
MENDED: dict[str, tuple[str, dict[str, Any]]] = {
    "scenario one_cancels_other_in_path_order": (
        "`OrderPlaced.covered` of the second exit is 0: both exits close the same lots, and none opens any. The bound said 10.",
        {"entries": 8, "journal": "8cfb9cc7b8118ada055e", "result": "3734a3ba902f837e1ffd"},
    ),
}
KNOWN = json.loads(matrix.DIGESTS.read_text(encoding="utf-8"))
RUNS = matrix.runs()
# Scenarios have tests of their own in every run; of the others every so many belong to it.
EVERY = 25


def is_soak(place: int, name: str) -> bool:
    """Return whether a run of the matrix is left to `make soak`."""
    return name not in MENDED and (name.startswith("scenario") or place % EVERY != 0)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if is_soak(place, name) else ()) for place, name in enumerate(KNOWN)],
)
def test_a_run_leaves_what_it_left_when_recorded(name: str) -> None:
    """The digests of its journal, its notifications, its curve and its result are equal."""
    if name not in RUNS and not SHARED.exists():
        pytest.skip("needs candles of ../shared")
    assert RUNS[name]() == (MENDED[name][1] if name in MENDED else KNOWN[name])
