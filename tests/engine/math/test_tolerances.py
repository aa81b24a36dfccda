# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's tolerances are in one table."""

from __future__ import annotations

import ast
from pathlib import Path

from crossmargin_bt.engine.math import tolerances

ENGINE = Path(tolerances.__file__).parents[1]
# Not tolerances: below it an option is worth its intrinsic value, and the lowest price at which a liquidation price is searched.
BOUNDS = {"STANDARD_DEVIATION_MIN", "PRICE_FACTOR_MIN"}


def small_numbers(path: Path) -> list[str]:
    """Return the lines of a module with a float literal that could be a tolerance, the bounds left out."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and type(node.value) is float)
    at = [lines[node.lineno - 1] for node in found if 0 < node.value <= 1e-5]
    return [f"{path.name}: {line.strip()}" for line in at if not any(name in line for name in BOUNDS)]


def test_no_other_module_has_a_tolerance() -> None:
    """A small number elsewhere is a tolerance without a question."""
    others = [path for path in sorted(ENGINE.rglob("*.py")) if path.name != "tolerances.py"]
    assert [line for path in others for line in small_numbers(path)] == []
    assert small_numbers(ENGINE / "math" / "tolerances.py")


def test_every_tolerance_states_its_question() -> None:
    """The docstring after each name, or after each line of names, has a question mark or continues the one before."""
    body = ast.parse(Path(tolerances.__file__).read_text(encoding="utf-8")).body
    for number, node in enumerate(body):
        if isinstance(node, ast.Assign):
            text = body[number + 1].value.value
            assert "?" in text or text.startswith("The same"), ast.unparse(node)
