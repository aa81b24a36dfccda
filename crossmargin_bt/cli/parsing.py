# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of option values, and one-line error messages."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from crossmargin_bt.errors import ConfigurationError, CrossMarginError, suggestion

Choice = TypeVar("Choice", bound=str)


@contextmanager
def report_errors(*, debug: bool = False) -> Iterator[None]:
    """Print a `CrossMarginError` as one line and exit with code 2; with `debug` raise it with its traceback."""
    try:
        yield
    except CrossMarginError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def split_list(text: str) -> list[str]:
    """Split a comma-separated list; empty items are dropped."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_value(text: str) -> Any:
    """Convert a command-line value to int, float, bool or None; any other text stays a string.

    >>> [parse_value(text) for text in ("5", "0.5", "true", "none", "SIMBTC")]
    [5, 0.5, True, None, 'SIMBTC']
    """
    literals = {"true": True, "false": False, "none": None}
    if text.strip().lower() in literals:
        return literals[text.strip().lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()


def parse_choices(text: str, what: str, known: Sequence[Choice], count_max: int | None = None) -> list[Choice]:
    """Split a comma-separated list of choices from `known`, without duplicates and with at most `count_max` items.

    Raises:
        ConfigurationError: the list is empty or too long, or has an unknown or duplicate item.
    """
    given = split_list(text)
    for word in given:
        if word not in known:
            raise ConfigurationError(f"unknown {what} {word!r}{suggestion(word, known)}")
        if given.count(word) > 1:
            raise ConfigurationError(f"{what} {word} is given twice")
    if not given:
        raise ConfigurationError(f"no {what} given; choose from {', '.join(known)}")
    if count_max is not None and len(given) > count_max:
        raise ConfigurationError(
            f"{len(given)} {what}s given; give {count_max}, or use `crossmargin compare --{what}s {text}`"
        )
    return [known[known.index(word)] for word in given]
