# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that showed faults in the field, each in a process of its own; they print what came and end with code 0 where it is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from places import SHARED

FIELD = SHARED / "field"
# Names that have moved since the scripts were written.
MOVED = {".p.rows[": ".p.columns["}
SCRIPTS = sorted(path.name for path in FIELD.glob("f*.py"))


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPTS, reason="the scripts are not beside this clone")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_fault_of_the_field_is_gone(tmp_path: Path, name: str) -> None:
    """A copy with the moved names mended, and its common part."""
    for file in (name, "common.py"):
        text = (FIELD / file).read_text(encoding="utf-8")
        for before, after in MOVED.items():
            text = text.replace(before, after)
        (tmp_path / file).write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "right"), done.stdout + done.stderr
