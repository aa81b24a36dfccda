# SPDX-License-Identifier: GPL-3.0-or-later
"""A run under the engine with every shortcut, and under the one without any."""

from collections.abc import Callable
from typing import Any


def both_engines(run: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return the results of a run under the engine with every shortcut, and under the one without any."""
    return run("skipping"), run("reference")
