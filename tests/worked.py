# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases worked by hand from the sentences of a book's sources: `worked.toml` has the situations and the arithmetic.

A figure is an expression of numbers only, so that the arithmetic is read beside its result; nothing of it is computed by the engine.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import scenario
from places import TESTS

OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.USub: operator.neg,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., float]] = {"max": max, "min": min, "abs": abs}


def value_of(text: str) -> float:
    """Return the value of an expression of numbers.

    >>> value_of("(1 + 2) * 10 / 4"), value_of("max(3, -2)")
    (7.5, 3.0)
    """
    return float(_value(ast.parse(text, mode="eval").body))


def _value(node: Any) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp):
        return OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return FUNCTIONS[node.func.id](*map(_value, node.args))
    raise ValueError(f"an expression has numbers only, got {ast.dump(node)}")


class Worked(NamedTuple):
    """One case: its name, the lines of its scenario up to the figures, and the figures with their arithmetic."""

    name: str
    text: str
    figures: dict[str, str]

    def check(self) -> None:
        """Compare every figure with the account's."""
        lines = [
            f"expect {key} {text if text == 'none' else f'{value_of(text):.9f}'}" for key, text in self.figures.items()
        ]
        scenario.run_text("\n".join([self.text, *lines]))


def cases() -> Iterator[Worked]:
    """Yield every case of `worked.toml`."""
    found = msgspec.toml.decode((TESTS / "venues" / "worked.toml").read_text(encoding="utf-8"))
    for venue, given in found["venues"].items():
        for case in given:
            day, situation = case.get("day", ""), case["situation"]
            text = f"venue {venue} {day}\n{found['situations'][situation]}"
            yield Worked(f"{venue} {day} {situation}".replace("  ", " "), text, case["figures"])
