# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists of mutants name what is in the package: a mutant whose line has gone is noticed without running any."""

from __future__ import annotations

import tomllib

import mutation
from places import PROJECT, TESTS

ENGINE = PROJECT / "crossmargin_bt" / "engine"


def test_every_named_mutant_changes_one_place() -> None:
    """Its text is in its file once, and its tests are there."""
    for mutant in tomllib.loads((TESTS / "named_mutants.toml").read_text(encoding="utf-8"))["mutants"]:
        source = (PROJECT / "crossmargin_bt" / mutant["file"]).read_text(encoding="utf-8")
        assert source.count(mutant["before"]) == 1, mutant["name"]
        assert all((PROJECT / path).exists() for path in mutant["tests"]), mutant["name"]


def test_every_listed_survivor_has_a_function_and_a_reason() -> None:
    """A survivor of a function that is gone is taken off the list."""
    for survivor, reason in mutation.listed().items():
        module, _, name = survivor.function.rpartition(".")
        if not (ENGINE / f"{module.replace('.', '/')}.py").is_file():
            module = module.rpartition(".")[0]
        source = (ENGINE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert f"def {name}(" in source, survivor
        assert reason.startswith(("equivalent: ", "open: ")), survivor


def test_a_report_counts_what_is_killed() -> None:
    """Two of three are killed, and one was not run."""
    lines = list(mutation.report({"a": 1, "b": -24, "c": None}, {}))
    assert lines[0] == "2 of 2 mutants are killed: 100.0% (at least 90%)"
    assert lines[1] == "1 were not run"
