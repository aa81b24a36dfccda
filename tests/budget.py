# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a law runs in every run of the tests, and how much in a soak (`make soak`). See CONTRIBUTING.md, "Test budget"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import settings


def examples(few: int) -> settings:
    """Return hypothesis settings with `few` examples, scaled by the profile: the fixed one has 100 %, a soak more."""
    return settings(max_examples=max(1, few * settings.default.max_examples // 100), deadline=None)


def in_rotation(cases: Iterable[Any], variants: Sequence[Any], *, each: int = 1) -> list:
    """Return every pair of a case and a variant: in every run `each` of the variants per case, the others in a soak.

    The position of the case decides, so neighbouring cases take different variants and every variant is taken.
    A case that is a tuple is spread over several arguments.
    """
    pairs = []
    for place, case in enumerate(cases):
        chosen = {(place * each + step) % len(variants) for step in range(each)}
        for number, variant in enumerate(variants):
            values = (*case, variant) if isinstance(case, tuple) else (case, variant)
            pairs.append(pytest.param(*values, marks=() if number in chosen else pytest.mark.slow))
    return pairs
