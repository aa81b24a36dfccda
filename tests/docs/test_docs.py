# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the documentation say what they print."""

import doctest
import re

import pytest
from places import PROJECT

PAGES = ("whole-account.md",)


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_they_say(page: str) -> None:
    """Every line behind a prompt runs, and prints the lines below it."""
    file = PROJECT / "docs" / page
    failed, tried = doctest.testfile(str(file), module_relative=False)
    assert tried > 10
    assert failed == 0


def test_the_glossary_names_what_is_in_the_code() -> None:
    """At least 35 words, and every name of the last column is a word of the package's source."""
    page = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    terms = [row for row in rows if row[0] != "our word"]
    assert len(terms) >= 35
    assert {len(row) for row in terms} == {6}
    source = "\n".join(file.read_text(encoding="utf-8") for file in (PROJECT / "crossmargin_bt").rglob("*.py"))
    known = set(re.findall(r"\w+", source))
    named = {word for row in terms for code in re.findall(r"`([^`]+)`", row[-1]) for word in re.findall(r"\w+", code)}
    assert named <= known, sorted(named - known)
