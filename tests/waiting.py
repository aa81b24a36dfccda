# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a condition instead of for a time, so that a busy machine changes nothing."""

import subprocess
import time
from collections.abc import Callable

GENEROUS_S = 300.0
"""An upper bound that only a hang exceeds; no test is expected to take a hundredth of it on an idle machine."""


def wait_until(condition: Callable[[], object], process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Return once the condition holds.

    Raises:
        AssertionError: the process ended before, or the condition does not hold within GENEROUS_S.
    """
    deadline = time.monotonic() + GENEROUS_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)
