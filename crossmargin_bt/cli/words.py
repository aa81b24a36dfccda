# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands share: lists in options, and errors as one line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from crossmargin_bt.errors import ConfigurationError, CrossMarginError, suggestion


@contextmanager
def errors_as_lines(*, debug: bool = False) -> Iterator[None]:
    """Say what a user can put right in one line and end with code 2; with `debug` show where it came from."""
    try:
        yield
    except CrossMarginError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def words(text: str) -> list[str]:
    """Return the words of a list separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def value(text: str) -> Any:
    """Return what a value on the command line is: a whole number, a number, true or false, none, else the text.

    >>> [value(text) for text in ("5", "0.5", "true", "none", "SIMBTC")]
    [5, 0.5, True, None, 'SIMBTC']
    """
    words_of = {"true": True, "false": False, "none": None}
    if text.strip().lower() in words_of:
        return words_of[text.strip().lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()


def listed(text: str, what: str, known: Sequence[str], most: int | None = None) -> list[str]:
    """Return the words of a list, all of them known, none twice, and no more than `most`.

    Raises:
        ConfigurationError: there are none or too many, one is given twice, or one is not known.
    """
    given = words(text)
    for word in given:
        if word not in known:
            raise ConfigurationError(f"unknown {what} {word!r}{suggestion(word, known)}")
        if given.count(word) > 1:
            raise ConfigurationError(f"{what} {word} is given twice")
    if not given:
        raise ConfigurationError(f"no {what} given; choose from {', '.join(known)}")
    if most is not None and len(given) > most:
        raise ConfigurationError(
            f"{len(given)} {what}s given; name {most}, or use `crossmargin compare --{what}s {text}`"
        )
    return given
