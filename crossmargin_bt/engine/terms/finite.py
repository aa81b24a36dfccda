# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of rules are finite: NaN passes every comparison of a range check unnoticed, and infinity most of them."""

import math
from typing import Any

import msgspec

from crossmargin_bt.errors import RuleError


def check_finite(terms: msgspec.Struct, *, without: tuple[str, ...] = ()) -> None:
    """Check that every number in a set of rules is finite, in nested rules too.

    Raises:
        RuleError: one is not; the text names its key.
    """
    for name in terms.__struct_fields__:
        if name not in without:
            _check(name, getattr(terms, name))


def _check(name: str, value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RuleError(f"{name} must be a finite number, got {value!r}")
    elif isinstance(value, msgspec.Struct):
        check_finite(value)
    elif isinstance(value, dict):
        for key, one in value.items():
            _check(f"{name} of {key}", one)
    elif isinstance(value, tuple | list):
        for one in value:
            _check(name, one)
