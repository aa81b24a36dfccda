# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a run: the latest entries as they are, those before them packed to a fifteenth of their size."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import msgspec

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.math.numbers import to_python_number

BLOCK = 4096
"""So many entries are packed at once, and as many stay as they are."""
# More takes longer and saves little: entries repeat their names, not their figures.
LEVEL = 1

_ENCODER = msgspec.msgpack.Encoder(enc_hook=to_python_number)  # of NumPy's numbers
_DECODER = msgspec.msgpack.Decoder(list[events.JournalEntry])

Block = bytes | list[events.JournalEntry]


def _packed(entries: list[events.JournalEntry]) -> Block:
    """Return entries packed; as they are where a number in them is too large for that."""
    try:
        return zlib.compress(_ENCODER.encode(entries), LEVEL)
    except OverflowError:
        return entries


class Journal(Sequence[events.JournalEntry]):
    """What happened in a run, oldest first: read like a list, equal to any sequence of the same entries.

    An entry takes some 220 bytes while it is among the latest, some 15 to 20 once it is packed; unpacking gives equal entries,
    not the same objects. Slices are lists.
    """

    def __init__(self) -> None:
        self._packed: list[Block] = []
        self._latest: list[events.JournalEntry] = []
        self._unpacked: tuple[int, list[events.JournalEntry]] = (-1, [])
        """The block that was asked for last."""

    @property
    def append(self) -> Callable[[events.JournalEntry], None]:
        """What adds an entry, to be looked up once where many are added."""
        return self._latest.append

    def pack(self) -> None:
        """Pack what is no longer among the latest; to be asked for from time to time."""
        while len(self._latest) >= 2 * BLOCK:
            self._packed.append(_packed(self._latest[:BLOCK]))
            del self._latest[:BLOCK]

    def __len__(self) -> int:
        return len(self._packed) * BLOCK + len(self._latest)

    def __iter__(self) -> Iterator[events.JournalEntry]:
        at = 0
        while at < len(self):
            packed = len(self._packed) * BLOCK
            held = self._latest[at - packed :] if at >= packed else self._block(at // BLOCK)
            yield from held
            at += len(held)

    def _block(self, number: int) -> list[events.JournalEntry]:
        if self._unpacked[0] != number:
            packed = self._packed[number]
            held = packed if isinstance(packed, list) else _DECODER.decode(zlib.decompress(packed))
            self._unpacked = number, held
        return self._unpacked[1]

    @overload
    def __getitem__(self, at: int) -> events.JournalEntry: ...

    @overload
    def __getitem__(self, at: slice) -> list[events.JournalEntry]: ...

    def __getitem__(self, at: int | slice) -> Any:
        """Return an entry by its number, or a list of some."""
        if isinstance(at, slice):
            return [self[place] for place in range(len(self))[at]]
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(f"the journal has {len(self)} entries, number {at} is not among them")
        packed = len(self._packed) * BLOCK
        return self._latest[place - packed] if place >= packed else self._block(place // BLOCK)[place % BLOCK]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"<Journal of {len(self)} entries>"
