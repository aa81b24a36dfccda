# SPDX-License-Identifier: GPL-3.0-or-later
"""The search space: `fast=5:50:5` (start, inclusive end, step), `leverage=2,5,10` (a list), `size=0.1..2` (a continuous range)."""

import csv
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from crossmargin_bt.errors import ConfigurationError, suggestion

Params = dict[str, Any]

VALUES_MAX = 100_000
COMBINATIONS_MAX = 1_000_000
DIGITS_MAX = 15
DRAWS_MAX = 100
"""Draws per combination after which a random search stops looking for new ones."""


class Axis(NamedTuple):
    """One varied param or setting: a list of values, or the bounds of a continuous range."""

    name: str
    values: tuple[Any, ...] = ()
    between: tuple[float, float] | None = None

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


def parse_axis(text: str, value: Any) -> Axis:
    """Parse an axis from NAME=VALUES; `value` parses a single value.

    Raises:
        ConfigurationError: the text has no valid values.

    >>> parse_axis("fast=5:20:5", float).values
    (5, 10, 15, 20)
    >>> parse_axis("size=0.1:0.3:0.1", float).values
    (0.1, 0.2, 0.3)
    >>> parse_axis("size=0.5..2", float).between
    (0.5, 2.0)
    >>> parse_axis("at='9:30','a,b'", float).values
    ('9:30', 'a,b')
    """
    name, separator, written = (part.strip() for part in text.partition("="))
    if not (name and separator and written):
        raise ConfigurationError(
            f"--param {text} has no values; write --param fast=5:50:5, fast=5,10,20 or size=0.1..2"
        )
    if written[0] in "\"'":
        texts = next(csv.reader([written], quotechar=written[0], skipinitialspace=True))
        return Axis(name, tuple(texts))
    if ".." in written:
        low, _, high = written.partition("..")
        bounds = _number(low, text), _number(high, text)
        if bounds[0] >= bounds[1]:
            raise ConfigurationError(f"--param {text}: {low} is not below {high}")
        return Axis(name, between=(float(bounds[0]), float(bounds[1])))
    if ":" in written:
        return Axis(name, tuple(_steps(written, text)))
    values = tuple(value(one) for one in written.split(",") if one.strip())
    if not values:
        raise ConfigurationError(f"--param {text} has no values")
    if len(set(map(repr, values))) < len(values):
        raise ConfigurationError(f"--param {text} has a duplicate value")
    return Axis(name, values)


def _steps(written: str, text: str) -> Iterator[int | float]:
    parts = [_number(part, text) for part in written.split(":")]
    if len(parts) not in (2, 3):
        raise ConfigurationError(f"--param {text}: write FROM:TO:STEP")
    start, stop, step = parts if len(parts) == 3 else (*parts, Decimal(1))
    if step <= 0 or stop < start:
        raise ConfigurationError(f"--param {text}: the step must be above 0 and the end not below the start")
    if (stop - start) / step >= VALUES_MAX:
        raise ConfigurationError(f"--param {text} has more than {VALUES_MAX:,} values; use a larger step")
    count = int((stop - start) / step) + 1
    for n in range(count):
        value = start + n * step
        yield int(value) if all(part == part.to_integral_value() for part in parts) else float(value)


def _number(written: str, text: str) -> Decimal:
    try:
        number = Decimal(written.strip())
    except InvalidOperation as error:
        raise ConfigurationError(f"--param {text}: {written.strip()!r} is not a number") from error
    if not number.is_finite() or number.adjusted() > DIGITS_MAX:
        raise ConfigurationError(f"--param {text}: {written.strip()!r} is not a number")
    return number


def check_names(axes: Sequence[Axis], known: Sequence[str], settings: Sequence[str]) -> None:
    """Check the names of the axes.

    Raises:
        ConfigurationError: a name is a duplicate, or neither a param of the strategy nor a setting.
    """
    names = [one.name for one in axes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"--param {name} is given twice")
        if name not in (*known, *settings):
            raise ConfigurationError(f"the strategy has no param {name!r}{suggestion(name, [*known, *settings])}")


def grid(axes: Sequence[Axis]) -> list[Params]:
    """Return every combination, the last axis varying fastest.

    Raises:
        ConfigurationError: an axis has no list of values.
    """
    for one in axes:
        if one.between is not None:
            raise ConfigurationError(
                f"--param {one.name}: a grid needs values (from:to:step, or a list); a..b requires --search random or optuna"
            )
    size = _size(axes)
    if size is not None and size > COMBINATIONS_MAX:
        raise ConfigurationError(
            f"a grid of {size:,} combinations is more than {COMBINATIONS_MAX:,}; use larger steps or --search random"
        )
    return [
        dict(zip((one.name for one in axes), values, strict=True))
        for values in itertools.product(*(one.values for one in axes))
    ]


def random_sample(axes: Sequence[Axis], count: int, seed: int) -> list[Params]:
    """Return `count` distinct random combinations, or all if there are no more."""
    generator = random.Random(seed)  # noqa: S311 - a seeded search, not a secret
    size = _size(axes)
    if size is not None and size <= count:
        return grid(axes)
    drawn: dict[str, Params] = {}
    for _ in range(DRAWS_MAX * count):
        if len(drawn) == count:
            break
        params = {
            one.name: generator.choice(one.values) if one.between is None else generator.uniform(*one.between)
            for one in axes
        }
        drawn.setdefault(repr(params), params)
    return list(drawn.values())


def _size(axes: Sequence[Axis]) -> int | None:
    """Return the number of combinations; None if infinite."""
    size = 1
    for one in axes:
        if one.between is not None:
            return None
        size *= len(one.values)
    return size


def split_params(params: Mapping[str, Any], known: Sequence[str]) -> tuple[Params, Params]:
    """Split params into those of the strategy and account settings; the strategy has priority."""
    own = {name: value for name, value in params.items() if name in known}
    return own, {name: value for name, value in params.items() if name not in known}
