# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the documentation say what they print."""

import doctest

import pytest
from places import PROJECT

PAGES = ("whole-account.md",)


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_they_say(page: str) -> None:
    """Every line behind a prompt runs, and its answer stands below it."""
    file = PROJECT / "docs" / page
    failed, tried = doctest.testfile(str(file), module_relative=False)
    assert tried > 10
    assert failed == 0
