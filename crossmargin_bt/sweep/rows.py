# SPDX-License-Identifier: GPL-3.0-or-later
"""The row that a sweep stores per run: its figures, or the error of a failed run."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from crossmargin_bt import performance
from crossmargin_bt.errors import ConfigurationError, suggestion
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.results import RunResult

_OF_SUMMARY = (
    "final_equity", "total_return", "drawdown_max", "margin_used_peak", "margin_used_mean", "capital_efficiency", "fills",
    "refused", "liquidations", "bad_debt", "lowest_margin_level", "fees", "funding", "interest",
)  # fmt: skip
_OF_CURVE = ("annual_return", "volatility", "sharpe", "sortino", "calmar")
FIGURES = (*_OF_SUMMARY, *_OF_CURVE)
"""The figures of a row; the ones derived from the equity curve are annualised over 365 days."""

Sample = Literal["", "in", "out"]
"""In or out of sample in a walk forward; empty without one."""


class SweepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `figures` has every name of `FIGURES`, None if undefined; it is empty if the run failed with `error`."""

    key: str
    venue: str
    mode: str
    params: dict[str, Any]
    window: int
    """Window of a walk forward, counted from 1; 0 without one."""
    sample: Sample
    from_ms: int | None = None
    """Start and end (exclusive) of trading in the window; None without a walk forward."""
    to_ms: int | None = None
    figures: dict[str, float | None]
    error: str = ""


def figures_of(result: RunResult) -> dict[str, float | None]:
    """Return the figures of a run."""
    summary = summarise(result)
    curve = performance.performance_metrics(result.times_ms, result.equity, result.starting_cash)
    values = {name: getattr(summary, name) for name in _OF_SUMMARY} | {name: getattr(curve, name) for name in _OF_CURVE}
    return {name: None if value is None else float(value) for name, value in values.items()}


class Objective(NamedTuple):
    """An objective of a search: a figure, its direction (1 maximise, -1 minimise) and its number format."""

    name: str
    figure: str
    better: Literal[-1, 1]
    number_format: str

    def value(self, row: SweepRow) -> float | None:
        """Return the figure of a row; None if undefined."""
        return row.figures.get(self.figure)

    def rank(self, row: SweepRow) -> tuple[bool, float]:
        """Return a sort key, best first: failed and undefined rows last, values equal up to rounding tied."""
        value = self.value(row)
        return (value is None, 0.0 if value is None else float(f"{-self.better * value:.{RANK_DIGITS}g}"))


RANK_DIGITS = 10
"""Significant digits by which figures are ranked."""

OBJECTIVES = {
    one.name: one
    for one in (
        Objective("return", "total_return", 1, "+.1%"), Objective("final_equity", "final_equity", 1, ",.0f"),
        Objective("drawdown", "drawdown_max", -1, ".1%"), Objective("margin_level", "lowest_margin_level", 1, ",.0%"),
        Objective("capital_efficiency", "capital_efficiency", 1, "+.0%"), Objective("sharpe", "sharpe", 1, ".2f"),
        Objective("sortino", "sortino", 1, ".2f"), Objective("calmar", "calmar", 1, ".2f"),
        Objective("liquidations", "liquidations", -1, ".0f"), Objective("refused", "refused", -1, ",.0f"),
        Objective("margin_used", "margin_used_mean", -1, ",.0f"),
    )
}  # fmt: skip


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """Parse the names of one or two objectives, separated by commas.

    Raises:
        ConfigurationError: a name is unknown, or there are none, duplicates or more than two.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OBJECTIVES:
            raise ConfigurationError(f"unknown objective {name!r}{suggestion(name, OBJECTIVES)}")
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise ConfigurationError(f"--objective takes one or two of {', '.join(OBJECTIVES)}, got {text!r}")
    return tuple(OBJECTIVES[name] for name in names)


def pareto_front(rows: Sequence[SweepRow], objectives: Sequence[Objective]) -> list[SweepRow]:
    """Return the rows that no other row dominates, sorted by the first objective, best first."""
    known = sorted(
        (row for row in rows if all(objective.value(row) is not None for objective in objectives)),
        key=lambda row: tuple(a.rank(row) for a in objectives),
    )
    front: list[SweepRow] = []
    for row in known:
        scores = [objective.rank(row) for objective in objectives]
        if not any(_dominates([objective.rank(other) for objective in objectives], scores) for other in front):
            front.append(row)
    return front


def _dominates(one: Sequence[tuple[bool, float]], other: Sequence[tuple[bool, float]]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
