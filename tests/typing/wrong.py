# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes a type checker finds; each line names mypy's codes. Checked by tests/test_typing.py, never run."""

import crossmargin_bt
from crossmargin_bt import Instrument, Refusal


def wrong_terms() -> Instrument:
    """The symbol is no text, and an instrument has no such term."""
    return Instrument(symbol=3, nonsense=True)  # error: arg-type, call-arg


def wrong_code(refusal: Refusal) -> bool:
    """A code that does not exist."""
    return refusal.code == "insufficient_margins"  # error: comparison-overlap


def wrong_name() -> object:
    """A name the package does not have."""
    return crossmargin_bt.CrossMarginBrokre  # error: attr-defined


def wrong_import() -> None:
    """The same, imported."""
    from crossmargin_bt import nonsense  # noqa: F401, PLC0415  # error: attr-defined


def wrong_module() -> object:
    """A name one of its modules does not have."""
    return crossmargin_bt.errors.MarginError  # error: attr-defined
