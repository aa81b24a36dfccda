# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that tests read, wherever the test file lies."""

from pathlib import Path

TESTS = Path(__file__).parent
PROJECT = TESTS.parent
# Recorded candles, where they are beside the project.
SHARED = PROJECT.parent / "shared"
