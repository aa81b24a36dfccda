# SPDX-License-Identifier: GPL-3.0-or-later
"""Where recorded market data is, when it is there."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded candles; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("recorded market data is not beside this project")
    return folder
