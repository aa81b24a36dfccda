# SPDX-License-Identifier: GPL-3.0-or-later
"""Where recorded market data is, when it is there."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time; `--hypothesis-profile=soak` draws four times as many, `explore` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("soak", derandomize=True, max_examples=400, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("fixed")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded candles; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("recorded market data is not beside this project")
    return folder
