# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the tests' own folders, which CONTRIBUTING.md names."""

import re
from collections import Counter

from places import PROJECT, TESTS

FILES = sorted(TESTS.rglob("test_*.py"))


def test_no_test_file_imports_another() -> None:
    """Code that several files share is in a helper module."""
    found = [
        str(file)
        for file in FILES
        if re.search(r"^\s*(from|import) test_", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not found


def test_names_of_test_files_are_unique() -> None:
    """Pytest imports a file by its name alone."""
    assert [name for name, count in Counter(file.name for file in FILES).items() if count > 1] == []


def test_quick_runs_folders_that_exist() -> None:
    """`make quick` names them."""
    (line,) = re.findall(r"worksteal (tests/.*)", (PROJECT / "Makefile").read_text(encoding="utf-8"))
    assert all((PROJECT / folder).is_dir() for folder in line.split())
