# SPDX-License-Identifier: GPL-3.0-or-later
"""Analysis of the rows of a sweep: ranking, survival, heat maps, cross against isolated, walk forward."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from crossmargin_bt.sweep.rows import Objective, SweepRow
from crossmargin_bt.sweep.search_space import Axis

EQUAL_REL_TOL = 1e-9
"""Relative tolerance within which final equities are equal."""
DIGITS_MAX = 17
BINS = 10
"""Number of bins of an axis without a list of values."""

GroupKey = tuple[str, str]
"""Venue and mode."""


def group_rows(rows: Sequence[SweepRow]) -> dict[GroupKey, list[SweepRow]]:
    """Group rows by venue and mode."""
    groups: dict[GroupKey, list[SweepRow]] = {}
    for row in rows:
        groups.setdefault((row.venue, row.mode), []).append(row)
    return groups


def group_name(group: GroupKey, rows: Sequence[SweepRow]) -> str:
    """Return the display name of a group: its mode, with the venue if there are several."""
    return f"{group[1]} {group[0]}" if len({row.venue for row in rows}) > 1 else group[1]


def format_params(params: dict[str, Any]) -> str:
    """Format params as text, floats with five significant digits.

    >>> format_params({"fast": 5, "size": 0.123456})
    'fast=5 size=0.12346'
    """
    return " ".join(
        f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def is_liquidated(row: SweepRow) -> bool:
    """Return whether any pool of the run was liquidated."""
    return bool(row.figures.get("liquidations"))


class Survival(NamedTuple):
    """Survival of the runs of one group; shares are of the runs that did not fail."""

    name: str
    runs: int
    failed: int
    liquidated: float
    profitable: float
    median_return: float


def survival(rows: Sequence[SweepRow]) -> list[Survival]:
    """Return the survival of every group."""
    groups = []
    for group, mine in group_rows(rows).items():
        ran = [row for row in mine if not row.error]
        returns = [row.figures["total_return"] or 0.0 for row in ran] or [0.0]
        groups.append(
            Survival(
                group_name(group, rows), len(mine), len(mine) - len(ran),
                fmean(is_liquidated(row) for row in ran) if ran else 0.0,
                fmean(one > 0 for one in returns) if ran else 0.0, median(returns),
            )
        )  # fmt: skip
    return groups


def rank_rows(rows: Sequence[SweepRow], objective: Objective) -> list[SweepRow]:
    """Return the rows sorted from best to worst by an objective, without failed and undefined ones."""
    return sorted((row for row in rows if objective.value(row) is not None), key=objective.rank)


class Heatmap(NamedTuple):
    """Values over one or two axes: `cells[y][x]`, None if nothing ran."""

    x: Axis
    y: Axis | None
    x_labels: list[str]
    y_labels: list[str]
    cells: list[list[float | None]]


def heatmap_axes(axes: Sequence[Axis]) -> tuple[Axis, Axis | None]:
    """Return the two axes with the most values; the second is None if only one varies."""
    ranked = sorted(axes, key=lambda one: -(BINS if one.between is not None else len(one.values)))
    varied = [one for one in ranked if one.between is not None or len(one.values) > 1] or ranked
    return varied[0], varied[1] if len(varied) > 1 else None


def heatmap(
    rows: Sequence[SweepRow], x: Axis, y: Axis | None, value: Callable[[Sequence[SweepRow]], float | None]
) -> Heatmap:
    """Return `value` of the rows in each cell of two axes."""
    x_labels, y_labels = axis_labels(x), [""] if y is None else axis_labels(y)
    at: dict[tuple[int, int], list[SweepRow]] = {}
    for row in rows:
        at.setdefault((axis_index(y, row), axis_index(x, row)), []).append(row)
    cells = [[value(at[j, i]) if (j, i) in at else None for i in range(len(x_labels))] for j in range(len(y_labels))]
    return Heatmap(x, y, x_labels, y_labels, cells)


def axis_labels(one: Axis) -> list[str]:
    """Return the labels of an axis: its values, or the midpoints of its bins with enough digits to be unique.

    >>> axis_labels(Axis("cash", between=(60_000, 60_100)))[:2]
    ['60005', '60015']
    """
    if one.between is None:
        return [str(value) for value in one.values]
    low, high = one.between
    middles = [low + (n + 0.5) * (high - low) / BINS for n in range(BINS)]
    labels = [f"{middle:.4g}" for middle in middles]
    digits = 5
    while len(set(labels)) < len(labels) and digits < DIGITS_MAX:
        labels = [f"{middle:.{digits}g}" for middle in middles]
        digits += 1
    return labels


def axis_index(one: Axis | None, row: SweepRow) -> int:
    """Return the index of the axis value or bin of a row."""
    if one is None:
        return 0
    value = row.params[one.name]
    if one.between is None:
        # Compared by repr, which distinguishes 1 from True and finds NaN.
        return [repr(other) for other in one.values].index(repr(value))
    low, high = one.between
    return min(BINS - 1, int((value - low) / (high - low) * BINS))


def median_of(figure: str) -> Callable[[Sequence[SweepRow]], float | None]:
    """Return a function that computes the median of a figure over rows."""

    def median_figure(rows: Sequence[SweepRow]) -> float | None:
        known = [value for row in rows if (value := row.figures.get(figure)) is not None]
        return median(known) if known else None

    return median_figure


def liquidated_share(rows: Sequence[SweepRow]) -> float | None:
    """Return the share of rows that were liquidated."""
    ran = [row for row in rows if not row.error]
    return fmean(is_liquidated(row) for row in ran) if ran else None


class PairedComparison(NamedTuple):
    """Two modes on the same combinations, compared by the difference of final equity (first minus second)."""

    first: str
    second: str
    venue: str
    pairs: list[tuple[SweepRow, SweepRow]]

    @property
    def higher_share(self) -> float:
        """Share of pairs in which the first mode has the higher final equity."""
        return fmean(difference > 0 for difference in self._differences(self.pairs))

    @property
    def lower_share(self) -> float:
        """Share of pairs in which the first mode has the lower final equity."""
        return fmean(difference < 0 for difference in self._differences(self.pairs))

    @property
    def mean_difference(self) -> float:
        """Mean difference of final equity."""
        return fmean(self._differences(self.pairs))

    @staticmethod
    def _differences(pairs: Sequence[tuple[SweepRow, SweepRow]]) -> list[float]:
        """Return the differences of final equity; equal up to rounding is 0."""
        ends = [(row.figures["final_equity"] or 0.0, other.figures["final_equity"] or 0.0) for row, other in pairs]
        return [0.0 if math.isclose(a, b, rel_tol=EQUAL_REL_TOL, abs_tol=EQUAL_REL_TOL) else a - b for a, b in ends]

    def median_difference(self, rows: Sequence[SweepRow]) -> float | None:
        """Return the median difference over the pairs whose first row is in `rows`."""
        keys = {row.key for row in rows}
        differences = self._differences([pair for pair in self.pairs if pair[0].key in keys])
        return median(differences) if differences else None

    def most_sensitive_axis(self, axes: Sequence[Axis]) -> tuple[str, tuple[str, float], tuple[str, float]] | None:
        """Return the axis along which `higher_share` varies most, with its maximum and minimum as (label, share)."""
        widest = None
        for one in axes:
            shares = []
            for n, label in enumerate(axis_labels(one)):
                mine = self._differences([pair for pair in self.pairs if axis_index(one, pair[0]) == n])
                if mine:
                    shares.append((label, fmean(difference > 0 for difference in mine)))
            high, low = max(shares, key=lambda pair: pair[1]), min(shares, key=lambda pair: pair[1])
            if high[1] > low[1] and (widest is None or high[1] - low[1] > widest[1][1] - widest[2][1]):
                widest = (one.name, high, low)
        return widest


def paired_comparisons(rows: Sequence[SweepRow]) -> list[PairedComparison]:
    """Return the comparison of cross with isolated for every venue that ran both."""
    comparisons = []
    for venue in dict.fromkeys(row.venue for row in rows):
        by_mode = {
            mode: {
                (row.window, row.sample, repr(row.params)): row
                for row in rows
                if (row.venue, row.mode) == (venue, mode) and not row.error
            }
            for mode in ("cross", "isolated")
        }
        pairs = [
            (row, by_mode["isolated"][combination])
            for combination, row in by_mode["cross"].items()
            if combination in by_mode["isolated"]
        ]
        if pairs:
            comparisons.append(PairedComparison("cross", "isolated", venue, pairs))
    return comparisons


class WalkForwardStep(NamedTuple):
    """One window of a walk forward of one group: the row selected in sample and its out-of-sample row."""

    window: int
    name: str
    in_sample: SweepRow
    out_of_sample: SweepRow


def walk_forward_steps(rows: Sequence[SweepRow]) -> list[WalkForwardStep]:
    """Return the selected in-sample row of every window and group with its out-of-sample row."""
    inside = {(row.window, row.venue, row.mode, repr(row.params)): row for row in rows if row.sample == "in"}
    return [
        WalkForwardStep(
            row.window,
            group_name((row.venue, row.mode), rows),
            inside[row.window, row.venue, row.mode, repr(row.params)],
            row,
        )
        for row in rows
        if row.sample == "out"
    ]
