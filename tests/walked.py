# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as it is, and with every bar walked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crossmargin_bt.broker.bar import intrabar
from crossmargin_bt.broker.skip.safe_range import BarEvent


def as_is_and_walked(monkeypatch: pytest.MonkeyPatch, told: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what a run tells as it is, and with every bar walked."""
    as_is = told()
    monkeypatch.setattr(intrabar, "danger", lambda run, bars, at_open=False: BarEvent.THRESHOLD)
    return as_is, told()
