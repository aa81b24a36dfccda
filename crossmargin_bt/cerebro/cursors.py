# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared cursor for all line buffers that advance together, instead of an index in each of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from backtrader.linebuffer import LineBuffer


class Cursor:
    """Index of the current bar of a group of lines, -1 before the first bar."""

    __slots__ = ("at",)

    def __init__(self, at: int = -1) -> None:
        self.at = at


class CursorLine(LineBuffer):
    """A line buffer that takes its index from a shared cursor. Lines have this class only during a run."""

    _cursor: Cursor

    @property
    def _idx(self) -> int:
        return self._cursor.at

    @property
    def lencount(self) -> int:
        """Number of bars delivered."""
        return self._cursor.at + 1

    @property
    def idx(self) -> int:
        """Index of the current bar."""
        return self._cursor.at

    def __getitem__(self, ago: int) -> Any:
        return self.array[self._cursor.at + ago]

    def __len__(self) -> int:
        return self._cursor.at + 1


@contextmanager
def sharing(groups: Iterable[tuple[Cursor, list[Any]]]) -> Iterator[None]:
    """Make the lines of each group share its cursor for the duration of the context."""
    shared = [(cursor, line) for cursor, lines in groups for line in lines]
    for cursor, line in shared:
        del line.__dict__["_idx"], line.__dict__["lencount"]
        line.__class__ = CursorLine
        line._cursor = cursor
    try:
        yield
    finally:
        for cursor, line in shared:
            line.__class__ = LineBuffer
            del line.__dict__["_cursor"]
            line._idx, line.lencount = cursor.at, cursor.at + 1
