# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests make of mutants of the engine's decisions: `make mutants` runs mutmut, then this.

PYTHONPATH=tests:. python -m mutation            # the share that is killed, and survivors that `survivors.toml` does not list
PYTHONPATH=tests:. python -m mutation --list     # all survivors with the line before and after, as TOML to add a reason to
PYTHONPATH=tests:. python -m mutation --named    # the mutants of `named_mutants.toml`, each of which has to fail a test

A survivor is listed by its function and its changed lines, so that the list outlives other changes of the file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from places import PROJECT, TESTS

KILLED_MIN = 0.9
SURVIVED = (0, 33)
"""Exit codes of mutants that every test passed, and that no test reached."""
LIST = TESTS / "survivors.toml"


class Survivor(NamedTuple):
    """A mutant that no test kills: its function, and what was changed."""

    function: str
    before: str
    after: str


def results(folder: Path) -> dict[str, int | None]:
    """Return the exit code of every mutant by its name, None where it was not run."""
    found: dict[str, int | None] = {}
    for file in sorted(folder.rglob("*.py.meta")):
        found |= json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def survivor(name: str) -> Survivor:
    """Return what the mutant of a name changes."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415 - an extra

    lines = [line for line in get_diff_for_mutant(name).splitlines() if not line.startswith(("+++", "---", "@@"))]
    before = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    after = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    function = name.partition("__mutmut_")[0].replace("crossmargin_bt.engine.", "").replace("x_", "", 1)
    return Survivor(function.replace("xǁ", "").replace("ǁ", "."), before, after)


def listed() -> dict[Survivor, str]:
    """Return the reason of every listed survivor."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["survivors"] if LIST.is_file() else []
    return {Survivor(one["function"], one["before"], after): one["reason"] for one in entries for after in one["after"]}


def report(codes: dict[str, int | None], reasons: dict[Survivor, str]) -> Iterator[str]:
    """Yield the lines of the report."""
    done = {name: code for name, code in codes.items() if code is not None}
    alive = [survivor(name) for name, code in done.items() if code in SURVIVED]
    killed = len(done) - len(alive)
    yield f"{killed} of {len(done)} mutants are killed: {killed / max(1, len(done)):.1%} (at least {KILLED_MIN:.0%})"
    if len(done) < len(codes):
        yield f"{len(codes) - len(done)} were not run"
    unexplained = [one for one in alive if one not in reasons]
    yield f"{len(alive)} survive, {len(unexplained)} of them without a reason in {LIST.name}"
    for one in unexplained:
        yield from ("", one.function, f"  - {one.before}", f"  + {one.after}")
    gone = set(reasons) - set(alive)
    if gone and len(done) == len(codes):
        yield f"\n{len(gone)} listed survivors are killed now or gone: take them off the list"
        yield from (f"  {one.function}: {one.after}" for one in sorted(gone))


def passes(mutant: dict[str, Any]) -> bool:
    """Return whether the tests of a named mutant pass on a copy of the package with it.

    Raises:
        ValueError: the text to replace is not in the file once.
    """
    with TemporaryDirectory() as folder:
        copy = shutil.copytree(PROJECT / "crossmargin_bt", Path(folder) / "crossmargin_bt")
        file = copy / mutant["file"]
        source = file.read_text(encoding="utf-8")
        if source.count(mutant["before"]) != 1:
            raise ValueError(f"{mutant['name']}: {mutant['before']!r} is not once in {mutant['file']}")
        file.write_text(source.replace(mutant["before"], mutant["after"]), encoding="utf-8")
        run = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant["tests"]]
        paths = os.pathsep.join([folder, str(TESTS)])
        done = subprocess.run(
            run, cwd=PROJECT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False
        )
    return done.returncode == 0


def named() -> int:
    """Run the named mutants; return how many of them pass."""
    alive = 0
    for mutant in tomllib.loads((TESTS / "named_mutants.toml").read_text(encoding="utf-8"))["mutants"]:
        survives = passes(mutant)
        alive += survives
        sys.stdout.write(f"{'survives' if survives else 'killed'}: {mutant['name']}\n")
        sys.stdout.flush()
    return alive


def main() -> int:
    if "--named" in sys.argv:
        return min(1, named())
    codes = results(Path("mutants"))
    if not codes:
        sys.stdout.write("no results: run mutmut first (make mutants)\n")
        return 2
    alive = [name for name, code in codes.items() if code in SURVIVED]
    if "--list" in sys.argv:
        known = listed()
        for one in map(survivor, alive):
            told = {**one._asdict(), "after": [one.after], "reason": known.get(one, "")}
            texts = (f"{key} = {json.dumps(value)}" for key, value in told.items())
            sys.stdout.write("\n".join(["[[survivors]]", *texts, "", ""]))
        return 0
    sys.stdout.write("\n".join(report(codes, listed())) + "\n")
    complete = all(code is not None for code in codes.values())
    known = listed()
    unexplained = any(survivor(name) not in known for name in alive)
    return 0 if complete and not unexplained and 1 - len(alive) / len(codes) >= KILLED_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
