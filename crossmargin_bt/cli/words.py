# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands share: lists in options, and errors as one line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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


def listed(text: str, what: str, known: Sequence[str]) -> list[str]:
    """Return the words of a list, all of them known.

    Raises:
        ConfigurationError: there are none, or one is not.
    """
    given = words(text)
    for word in given:
        if word not in known:
            raise ConfigurationError(f"unknown {what} {word!r}{suggestion(word, known)}")
    if not given:
        raise ConfigurationError(f"no {what} given; choose from {', '.join(known)}")
    return given
