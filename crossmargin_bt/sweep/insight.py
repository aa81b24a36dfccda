# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rows of a sweep say: the best, who survives, where one mode pays and where another."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from crossmargin_bt.sweep.rows import Objective, Row
from crossmargin_bt.sweep.space import Axis

ALIKE = 1e-9
"""Final equities that differ by no more than this part are alike."""
DIGITS_MAX = 17
BINS = 10
"""Into so many stretches an axis without a list of values is divided."""

Arm = tuple[str, str]
"""Venue and mode."""


def arms(rows: Sequence[Row]) -> dict[Arm, list[Row]]:
    """Return the rows of every venue and mode."""
    found: dict[Arm, list[Row]] = {}
    for row in rows:
        found.setdefault((row.venue, row.mode), []).append(row)
    return found


def called(arm: Arm, rows: Sequence[Row]) -> str:
    """Return the name of an arm: its mode, and its venue where there are several."""
    return f"{arm[1]} {arm[0]}" if len({row.venue for row in rows}) > 1 else arm[1]


def written(params: dict[str, Any]) -> str:
    """Return params as a person writes them.

    >>> written({"fast": 5, "size": 0.123456})
    'fast=5 size=0.12346'
    """
    return " ".join(
        f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def is_liquidated(row: Row) -> bool:
    """Return whether a pool of the run was liquidated."""
    return bool(row.figures.get("liquidations"))


class Fate(NamedTuple):
    """What became of the runs of an arm, as shares of those that did not fail."""

    name: str
    runs: int
    failed: int
    liquidated: float
    earned: float
    median_return: float


def fates(rows: Sequence[Row]) -> list[Fate]:
    """Return what became of every arm's runs."""
    found = []
    for arm, mine in arms(rows).items():
        ran = [row for row in mine if not row.error]
        returns = [row.figures["total_return"] or 0.0 for row in ran] or [0.0]
        found.append(
            Fate(
                called(arm, rows), len(mine), len(mine) - len(ran),
                fmean(is_liquidated(row) for row in ran) if ran else 0.0,
                fmean(one > 0 for one in returns) if ran else 0.0, median(returns),
            )
        )  # fmt: skip
    return found


def best(rows: Sequence[Row], aim: Objective) -> list[Row]:
    """Return the rows from the best by an objective; failed and undefined ones are left out."""
    return sorted((row for row in rows if aim.value(row) is not None), key=aim.rank)


class Map(NamedTuple):
    """Values over two axes: `cells[y][x]`, None where nothing ran."""

    x: Axis
    y: Axis | None
    x_labels: list[str]
    y_labels: list[str]
    cells: list[list[float | None]]


def laid_out(axes: Sequence[Axis]) -> tuple[Axis, Axis | None]:
    """Return the two axes with the most values; the second is None where only one varies."""
    ranked = sorted(axes, key=lambda one: -(BINS if one.between is not None else len(one.values)))
    varied = [one for one in ranked if one.between is not None or len(one.values) > 1] or ranked
    return varied[0], varied[1] if len(varied) > 1 else None


def over(rows: Sequence[Row], x: Axis, y: Axis | None, value: Callable[[Sequence[Row]], float | None]) -> Map:
    """Return what `value` makes of the rows at every place of two axes."""
    x_labels, y_labels = labels(x), [""] if y is None else labels(y)
    at: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        at.setdefault((place(y, row), place(x, row)), []).append(row)
    cells = [[value(at[j, i]) if (j, i) in at else None for i in range(len(x_labels))] for j in range(len(y_labels))]
    return Map(x, y, x_labels, y_labels, cells)


def labels(one: Axis) -> list[str]:
    """Return what stands along an axis: its values, or the middles of its stretches, with as many digits as tell them apart.

    >>> labels(Axis("cash", between=(60_000, 60_100)))[:2]
    ['60005', '60015']
    """
    if one.between is None:
        return [str(value) for value in one.values]
    low, high = one.between
    middles = [low + (n + 0.5) * (high - low) / BINS for n in range(BINS)]
    found = [f"{middle:.4g}" for middle in middles]
    digits = 5
    while len(set(found)) < len(found) and digits < DIGITS_MAX:
        found = [f"{middle:.{digits}g}" for middle in middles]
        digits += 1
    return found


def place(one: Axis | None, row: Row) -> int:
    """Return where a row stands along an axis."""
    if one is None:
        return 0
    value = row.params[one.name]
    if one.between is None:
        return [repr(other) for other in one.values].index(
            repr(value)
        )  # 1 is not true, and what is no number is itself
    low, high = one.between
    return min(BINS - 1, int((value - low) / (high - low) * BINS))


def middle(figure: str) -> Callable[[Sequence[Row]], float | None]:
    """Return a function that takes the median of a figure over rows."""

    def of(rows: Sequence[Row]) -> float | None:
        known = [value for row in rows if (value := row.figures.get(figure)) is not None]
        return median(known) if known else None

    return of


def liquidated_share(rows: Sequence[Row]) -> float | None:
    """Return the share of rows that were liquidated."""
    ran = [row for row in rows if not row.error]
    return fmean(is_liquidated(row) for row in ran) if ran else None


class Duel(NamedTuple):
    """Two modes on the same combinations: every pair, and the difference of their final equities (first less second)."""

    first: str
    second: str
    venue: str
    pairs: list[tuple[Row, Row]]

    @property
    def share(self) -> float:
        """How often the first ends higher."""
        return fmean(difference > 0 for difference in self._differences(self.pairs))

    @property
    def share_below(self) -> float:
        """How often it ends lower."""
        return fmean(difference < 0 for difference in self._differences(self.pairs))

    @property
    def mean(self) -> float:
        """By how much it ends higher, on average."""
        return fmean(self._differences(self.pairs))

    @staticmethod
    def _differences(pairs: Sequence[tuple[Row, Row]]) -> list[float]:
        """Return by how much the first ends higher; what only rounding tells apart is alike."""
        ends = [(row.figures["final_equity"] or 0.0, other.figures["final_equity"] or 0.0) for row, other in pairs]
        return [0.0 if math.isclose(a, b, rel_tol=ALIKE, abs_tol=ALIKE) else a - b for a, b in ends]

    def difference(self, rows: Sequence[Row]) -> float | None:
        """Return the median difference over the pairs whose first row is among these."""
        keys = {row.key for row in rows}
        found = self._differences([pair for pair in self.pairs if pair[0].key in keys])
        return median(found) if found else None

    def by_value(self, axes: Sequence[Axis]) -> tuple[str, tuple[str, float], tuple[str, float]] | None:
        """Return the axis along which the answer changes most, with where the first ends higher most and least often."""
        widest = None
        for one in axes:
            shares = []
            for n, label in enumerate(labels(one)):
                mine = self._differences([pair for pair in self.pairs if place(one, pair[0]) == n])
                if mine:
                    shares.append((label, fmean(difference > 0 for difference in mine)))
            high, low = max(shares, key=lambda pair: pair[1]), min(shares, key=lambda pair: pair[1])
            if high[1] > low[1] and (widest is None or high[1] - low[1] > widest[1][1] - widest[2][1]):
                widest = (one.name, high, low)
        return widest


def duels(rows: Sequence[Row]) -> list[Duel]:
    """Return cross against isolated at every venue where both ran."""
    found = []
    for venue in dict.fromkeys(row.venue for row in rows):
        own = {
            mode: {
                (row.window, row.sample, repr(row.params)): row
                for row in rows
                if (row.venue, row.mode) == (venue, mode) and not row.error
            }
            for mode in ("cross", "isolated")
        }
        pairs = [(row, own["isolated"][at]) for at, row in own["cross"].items() if at in own["isolated"]]
        if pairs:
            found.append(Duel("cross", "isolated", venue, pairs))
    return found


class Step(NamedTuple):
    """One window of a walk forward under one arm: what was chosen in sample, and what it came to out of it."""

    window: int
    name: str
    chosen: Row
    after: Row


def walked(rows: Sequence[Row]) -> list[Step]:
    """Return the windows of a walk forward, side by side with what followed."""
    inside = {(row.window, row.venue, row.mode, repr(row.params)): row for row in rows if row.sample == "in"}
    return [
        Step(
            row.window,
            called((row.venue, row.mode), rows),
            inside[row.window, row.venue, row.mode, repr(row.params)],
            row,
        )
        for row in rows
        if row.sample == "out"
    ]
