# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings."""

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
from sphinx.util.inspect import stringify_signature

import crossmargin_bt
from crossmargin_bt import venues
from crossmargin_bt.report import rulebook_pages

project = "crossmargin_bt"
author = "the crossmargin_bt authors"
copyright = "the crossmargin_bt authors, GPL-3.0-or-later"
version = release = crossmargin_bt.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["growth.md", "_build", "candle-error.md"]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Params", "params_style")]
html_theme = "furo"
html_title = f"crossmargin_bt {version}"

# The rule books' pages are made from the profiles at every build.
rulebook_pages.write([venues.load(name) for name in venues.shipped()], Path(__file__).parent / "venues")


# The docstrings are Markdown: names between single backticks, asterisks and bars that mean themselves.
COLON = "\ue000"  # of the first line of an attribute's docstring: napoleon takes the words before it for a type
LITERAL = re.compile(r"(``.+?``|`[^`]+`)")


def _as_rest(text: str) -> str:
    """Return a line of a docstring as reStructuredText."""
    parts = LITERAL.split(text)
    parts[1::2] = [f"``{part.strip('`')}``" for part in parts[1::2]]
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def read_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001, PLR0917
    """Turn a docstring into reStructuredText before napoleon reads its sections; examples and literal blocks stay."""
    literal = example = False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        literal = literal and (not line.strip() or line.startswith(" "))
        if not example and not literal:
            lines[number] = _as_rest(line)
        literal = literal or line.endswith("::")
    for number, line in enumerate(lines):
        if line.startswith("Params ("):
            lines[number : number + 1] = [f"{line[8].upper()}{line[9:-2]}:", "", "Params:"]
    if what in ("attribute", "property"):
        lines[:1] = [line.replace(": ", COLON) for line in lines[:1]]


def put_colons_back(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001, PLR0917
    """Undo what `read_docstring` did to the first line of an attribute."""
    lines[:] = [line.replace(COLON, ": ") for line in lines]


def read_signature(app: Any, what: str, name: str, obj: Any, *_: Any) -> tuple[str, str] | None:  # noqa: ARG001
    """Return the signature of a class whose metaclass takes anything: a Struct's fields, or a broker's `__init__`."""
    if what != "class" or not issubclass(obj, msgspec.Struct | crossmargin_bt.CrossMarginBroker):
        return None
    signature = inspect.signature(obj if issubclass(obj, msgspec.Struct) else obj.__init__)
    shown = [parameter for name, parameter in signature.parameters.items() if name != "self" and name[0] != "_"]
    signature = signature.replace(parameters=shown, return_annotation=inspect.Signature.empty)
    return stringify_signature(signature, show_annotation=False), ""


def setup(app: Any) -> None:
    """Read docstrings before the extensions do, and signatures after them."""
    app.connect("autodoc-process-docstring", read_docstring, priority=100)
    app.connect("autodoc-process-docstring", put_colons_back, priority=900)
    app.connect("autodoc-process-signature", read_signature)
