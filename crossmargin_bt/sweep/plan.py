# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a sweep and its tasks, each with a hash key of all inputs that determine its result."""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from crossmargin_bt import __version__
from crossmargin_bt.candles import folder
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import MARKS, OPTIONAL_COLUMNS, PRICES
from crossmargin_bt.compare import Settings, StrategySource
from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.errors import ConfigurationError, FeedError
from crossmargin_bt.sweep.rows import Sample
from crossmargin_bt.sweep.search_space import Axis, Params
from crossmargin_bt.venues import Venue

Search = Literal["grid", "random", "optuna"]

VARIED_SETTINGS = ("leverage", "cash", "slippage")
"""Account settings that can be varied in addition to strategy params."""


class DataSource(NamedTuple):
    """The folder and selection of candles with their hash, which every worker process verifies."""

    folder: str
    symbols: tuple[str, ...] | None
    timeframe: str | None
    start: str | None
    end: str | None
    downloads: bool
    digest: str = ""

    def read(self) -> list[Candles]:
        """Read the candles.

        Raises:
            FeedError: see `folder.read`.
        """
        return folder.read(
            Path(self.folder), symbols=self.symbols, timeframe=self.timeframe, start=self.start, end=self.end,
            downloads=self.downloads,
        )  # fmt: skip


def digest(candles: Sequence[Candles]) -> str:
    """Return the SHA-256 of candles, contracts and funding; unused columns are ignored."""
    sha256 = hashlib.sha256()
    for one in candles:
        columns = [name for name in (*PRICES, *MARKS, *OPTIONAL_COLUMNS) if name in one.frame]
        sha256.update(msgspec.json.encode([one.symbol, one.instrument, columns]))
        sha256.update(pd.DatetimeIndex(one.frame.index).as_unit("ms").asi8.tobytes())
        for name in columns:
            numbers = pd.to_numeric(one.frame[name], errors="coerce")
            sha256.update(np.ascontiguousarray(numbers.to_numpy(dtype=np.float64)).tobytes())
        if one.funding is not None:
            sha256.update(pd.DatetimeIndex(one.funding.index).as_unit("ms").asi8.tobytes())
            sha256.update(one.funding.to_numpy(dtype=np.float64).tobytes())
    return sha256.hexdigest()


class Window(NamedTuple):
    """A period of candles [start_ms, end_ms) and the start of trading in it, in milliseconds."""

    start_ms: int
    end_ms: int
    trade_from_ms: int | None = None


class RunGroup(NamedTuple):
    """Venue name, mode, and in a walk forward window number and sample; every combination is run in each group."""

    venue: str
    mode: str
    window: int = 0
    sample: Sample = ""
    span: Window | None = None


class SharedInputs(NamedTuple):
    """The inputs common to all tasks. It is sent to the workers, with the strategy as source code."""

    source: StrategySource
    venues: dict[str, Venue]
    settings: Settings
    data: DataSource
    imports: str = ""
    """Hash of the user's own modules that the strategy imports."""
    fast: bool = False
    """Whether the strategy's signals are simulated instead of running it, see `crossmargin_bt.sweep.signals`."""


class RunTask(NamedTuple):
    """One run: a combination of params in one group."""

    key: str
    group: RunGroup
    params: Params


class SweepDefinition(NamedTuple):
    """A sweep: inputs, axes, modes, objectives and search."""

    shared: SharedInputs
    axes: tuple[Axis, ...]
    modes: tuple[str, ...]
    objectives: tuple[str, ...]
    search: Search = "grid"
    trials: int = 100
    seed: int = 1
    walk: tuple[int, int] | None = None
    """Length of the in-sample and the out-of-sample windows, in milliseconds."""

    def task(self, group: RunGroup, params: Params) -> RunTask:
        """Return the task of a combination in a group."""
        shared = self.shared
        content = {
            "version": __version__,
            "strategy": hashlib.sha256(shared.source.content).hexdigest(),
            "class": shared.source.name,
            "imports": shared.imports,
            **({"fast": True} if shared.fast else {}),
            "venue": shared.venues[group.venue],
            "mode": group.mode,
            "settings": repr(shared.settings),
            "data": shared.data.digest,
            "window": (group.window, group.sample, group.span),
            # As repr, because JSON encodes None, infinity and NaN alike.
            "params": sorted((name, repr(value)) for name, value in params.items()),
        }
        return RunTask(hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:32], group, params)

    def as_plain_data(self) -> dict[str, Any]:
        """Return the definition as plain data for sweep.json."""
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
            "objective": list(self.objectives),
            "walk_forward_ms": self.walk,
            "fast": self.shared.fast,
            "version": __version__,
        }


_DURATION = re.compile(r"^(\d+)([hdw])$")
_UNITS_MS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def parse_walk_forward(text: str) -> tuple[int, int]:
    """Parse the lengths of in- and out-of-sample windows, in milliseconds.

    Raises:
        ConfigurationError: the text is not two durations.

    >>> parse_walk_forward("180d/30d")
    (15552000000, 2592000000)
    """
    parts = [_DURATION.match(part.strip()) for part in text.split("/")]
    if len(parts) != 2 or any(part is None or not int(part[1]) for part in parts):
        raise ConfigurationError(
            f"--walk-forward {text!r}: write in-sample/out-of-sample, for example 180d/30d (h, d, w)"
        )
    first, second = (int(part[1]) * _UNITS_MS[part[2]] for part in parts if part is not None)
    return first, second


def hash_files(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the names and contents of files; empty without files."""
    sha256 = hashlib.sha256()
    for file in files:
        sha256.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return sha256.hexdigest() if files else ""


def walk_forward_windows(times_ms: Mapping[str, Sequence[int]], walk: tuple[int, int]) -> list[tuple[Window, Window]]:
    """Return pairs of in-sample and out-of-sample windows with contiguous out-of-sample periods.

    They cover the period common to all symbols. An out-of-sample window includes the in-sample candles before it, for the
    warm-up of indicators. A remainder shorter than a window at the end is not used.

    Raises:
        FeedError: the common period is shorter than one pair, or a symbol has no candles in a window.
    """
    start = max(times[0] for times in times_ms.values())
    steps = [b - a for times in times_ms.values() for a, b in pairwise(times)]
    last = min(times[-1] for times in times_ms.values()) + (min(steps) if steps else 0)
    inside, outside = walk
    pairs = []
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
                    f"{empty[0]} has no candles from {format_time(bounds[0])} to {format_time(bounds[1])}, a window of the walk forward; exclude "
                    f"it with --symbols, or narrow the period with --start and --end"
                )
        pairs.append((Window(start, split), Window(start, split + outside, split)))
        start += outside
    if not pairs:
        raise FeedError(
            "the period common to all symbols is shorter than one in-sample and one out-of-sample window; use shorter windows"
        )
    return pairs
