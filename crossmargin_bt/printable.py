# SPDX-License-Identifier: GPL-3.0-or-later
"""Control characters in names and texts that reach a terminal: escape sequences would act there."""

import unicodedata
from typing import Any


def control_text(value: Any) -> str | None:
    r"""Return the first text with a control character in a value, escaped, keys included; None if there is none.

    >>> control_text({"name": ["plain\n", "\x1b[31mred"]})
    "'\\x1b[31mred'"
    """
    if isinstance(value, str):
        has_control = any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in value)
        return repr(value) if has_control else None
    if isinstance(value, dict):
        return next((found for pair in value.items() for found in map(control_text, pair) if found), None)
    if isinstance(value, list | tuple):
        return next((found for one in value if (found := control_text(one))), None)
    return None
