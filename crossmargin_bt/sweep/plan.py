# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sweep runs: a definition, and the tasks it comes to, each with a key of everything that decides its figures."""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from crossmargin_bt import __version__
from crossmargin_bt.candles import folder
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import MARKS, OTHERS, PRICES
from crossmargin_bt.compare import Settings, StrategySource
from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.errors import ConfigurationError, FeedError
from crossmargin_bt.sweep.space import Axis, Params
from crossmargin_bt.venues import Venue

VARIED_SETTINGS = ("leverage", "cash", "slippage")
"""Settings of an account that may be varied beside the params of a strategy."""


class Data(NamedTuple):
    """Where candles are read from, and what they hash to: every process that runs looks that it has the same."""

    folder: str
    symbols: tuple[str, ...] | None
    timeframe: str | None
    start: str | None
    end: str | None
    downloads: bool
    digest: str = ""

    def read(self) -> list[Candles]:
        """Return the candles.

        Raises:
            FeedError: see `folder.read`.
        """
        return folder.read(
            Path(self.folder), symbols=self.symbols, timeframe=self.timeframe, start=self.start, end=self.end,
            downloads=self.downloads,
        )  # fmt: skip


def digest(candles: Sequence[Candles]) -> str:
    """Return what identifies candles, contracts and funding; columns that are not traded on do not count."""
    found = hashlib.sha256()
    for one in candles:
        columns = [name for name in (*PRICES, *MARKS, *OTHERS) if name in one.frame]
        found.update(msgspec.json.encode([one.symbol, one.instrument, columns]))
        found.update(pd.DatetimeIndex(one.frame.index).as_unit("ms").asi8.tobytes())
        for name in columns:
            numbers = pd.to_numeric(one.frame[name], errors="coerce")
            found.update(np.ascontiguousarray(numbers.to_numpy(dtype=np.float64)).tobytes())
        if one.funding is not None:
            found.update(pd.DatetimeIndex(one.funding.index).as_unit("ms").asi8.tobytes())
            found.update(one.funding.to_numpy(dtype=np.float64).tobytes())
    return found.hexdigest()


class Window(NamedTuple):
    """A stretch of candles, and from when it is traded on; bounds are milliseconds, the last one is not in it."""

    start_ms: int
    end_ms: int
    trade_from_ms: int | None = None


class Arm(NamedTuple):
    """What every combination is run under: a venue by its name, a mode, and in a walk forward a window and its sample."""

    venue: str
    mode: str
    window: int = 0
    sample: str = ""
    span: Window | None = None


class Shared(NamedTuple):
    """What all tasks have alike; it travels to the workers, the strategy by its content."""

    source: StrategySource
    venues: dict[str, Venue]
    settings: Settings
    data: Data
    imports: str = ""
    """What the user's own modules beside the strategy hash to."""
    fast: bool = False
    """Whether batch accounts follow the strategy's signals in place of runs, see `crossmargin_bt.sweep.fast`."""


class Task(NamedTuple):
    """One run."""

    key: str
    arm: Arm
    params: Params


class Definition(NamedTuple):
    """A sweep: what is run, what is varied, how it is searched."""

    shared: Shared
    axes: tuple[Axis, ...]
    modes: tuple[str, ...]
    objective: tuple[str, ...]
    search: str = "grid"
    trials: int = 100
    seed: int = 1
    walk: tuple[int, int] | None = None
    """Length of the in-sample and the out-of-sample windows, in milliseconds."""

    def task(self, arm: Arm, params: Params) -> Task:
        """Return the task of a combination under an arm."""
        shared = self.shared
        content = {
            "version": __version__,
            "strategy": hashlib.sha256(shared.source.content).hexdigest(),
            "class": shared.source.name,
            "imports": shared.imports,
            **({"fast": True} if shared.fast else {}),
            "venue": shared.venues[arm.venue],
            "mode": arm.mode,
            "settings": repr(shared.settings),
            "data": shared.data.digest,
            "window": (arm.window, arm.sample, arm.span),
            # In words, because JSON has one for none, infinity and what is no number.
            "params": sorted((name, repr(value)) for name, value in params.items()),
        }
        return Task(hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:32], arm, params)

    def told(self) -> dict[str, Any]:
        """Return it as a person reads it, for the file beside the results."""
        return {
            "strategy": f"{self.shared.source.file}{f':{self.shared.source.name}' if self.shared.source.name else ''}",
            "data": self.shared.data._asdict(),
            "settings": self.shared.settings._asdict(),
            "venues": list(self.shared.venues),
            "modes": list(self.modes),
            "params": {one.name: list(one.values) if one.between is None else list(one.between) for one in self.axes},
            "search": self.search,
            "trials": self.trials if self.search != "grid" else None,
            "seed": self.seed if self.search != "grid" else None,
            "objective": list(self.objective),
            "walk_forward_ms": self.walk,
            "fast": self.shared.fast,
            "version": __version__,
        }


_DURATION = re.compile(r"^(\d+)([hdw])$")
_UNITS_MS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def walk_of(text: str) -> tuple[int, int]:
    """Return the lengths of in- and out-of-sample windows in milliseconds.

    Raises:
        ConfigurationError: the text does not say two lengths.

    >>> walk_of("180d/30d")
    (15552000000, 2592000000)
    """
    parts = [_DURATION.match(part.strip()) for part in text.split("/")]
    if len(parts) != 2 or any(part is None or not int(part[1]) for part in parts):
        raise ConfigurationError(
            f"--walk-forward {text!r}: write in-sample/out-of-sample, for example 180d/30d (h, d, w)"
        )
    first, second = (int(part[1]) * _UNITS_MS[part[2]] for part in parts if part is not None)
    return first, second


def hashed(files: Sequence[Path]) -> str:
    """Return what files hash to."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest() if files else ""


def windows(times_ms: Mapping[str, Sequence[int]], walk: tuple[int, int]) -> list[tuple[Window, Window]]:
    """Return the in- and out-of-sample windows, each out-of-sample one beginning where the one before ends.

    They lie where all symbols have candles. Out of sample the candles of the in-sample window come first, so that indicators stand
    when trading begins. Only whole windows count; what is left at the end is not used.

    Raises:
        FeedError: the candles are shorter than one of each, or a symbol has none in a window.
    """
    start = max(times[0] for times in times_ms.values())
    steps = [b - a for times in times_ms.values() for a, b in pairwise(times)]
    last = min(times[-1] for times in times_ms.values()) + (min(steps) if steps else 0)
    inside, outside = walk
    found = []
    while start + inside + outside <= last:
        split = start + inside
        for bounds in ((start, split), (split, split + outside)):
            empty = [
                symbol
                for symbol, times in times_ms.items()
                if bisect_left(times, bounds[0]) == bisect_left(times, bounds[1])
            ]
            if empty:
                raise FeedError(
                    f"{empty[0]} has no candles from {format_time(bounds[0])} to {format_time(bounds[1])}, a window of the walk forward; leave it "
                    f"out with --symbols, or narrow the time with --start and --end"
                )
        found.append((Window(start, split), Window(start, split + outside, split)))
        start += outside
    if not found:
        raise FeedError(
            "the candles that all symbols have are shorter than one in-sample and one out-of-sample window; take shorter ones"
        )
    return found
