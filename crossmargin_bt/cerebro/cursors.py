# SPDX-License-Identifier: GPL-3.0-or-later
"""One cursor for all line buffers that move together, in place of an index in each of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from backtrader.linebuffer import LineBuffer


class Cursor:
    """Where lines stand: the index of the current bar, -1 before the first."""

    __slots__ = ("at",)

    def __init__(self, at: int = -1) -> None:
        self.at = at


class CursorLine(LineBuffer):
    """A line whose index is its cursor's. Lines become one for the length of a run, and are themselves again after it."""

    _cursor: Cursor

    @property
    def _idx(self) -> int:
        return self._cursor.at

    @property
    def lencount(self) -> int:
        """How many bars were delivered."""
        return self._cursor.at + 1

    @property
    def idx(self) -> int:
        """The index of the current bar."""
        return self._cursor.at

    def __getitem__(self, ago: int) -> Any:
        return self.array[self._cursor.at + ago]

    def __len__(self) -> int:
        return self._cursor.at + 1


@contextmanager
def sharing(groups: Iterable[tuple[Cursor, list[Any]]]) -> Iterator[None]:
    """Let the lines of each group share its cursor."""
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
