# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of hypothesis, recorded market data when it is there, and children that can be interrupted."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from places import SHARED

# The same examples every time; `--hypothesis-profile=soak` draws four times as many, `explore` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("soak", derandomize=True, max_examples=400, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded candles; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("recorded market data is not beside this project")
    return folder


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children started in the test end on SIGINT: a child inherits that its parent ignores it, as under nohup or `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
