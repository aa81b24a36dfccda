# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sweep keeps of a run: a row of figures, or why there are none."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
"""The figures of a row; those of the curve are annualised over 365 days."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `figures` has every name of `FIGURES`, None where undefined; empty where the run failed with `error`."""

    key: str
    venue: str
    mode: str
    params: dict[str, Any]
    window: int
    """Which window of a walk forward, from 1; 0 without one."""
    sample: str
    """"in" or "out" of sample in a walk forward, else empty."""
    from_ms: int | None = None
    """When the window is traded from, and to; None without a walk forward."""
    to_ms: int | None = None
    figures: dict[str, float | None]
    error: str = ""


def figures_of(result: RunResult) -> dict[str, float | None]:
    """Return the figures of a run."""
    summary = summarise(result)
    curve = performance.performance_metrics(result.times_ms, result.equity, result.starting_cash)
    found = {name: getattr(summary, name) for name in _OF_SUMMARY} | {name: getattr(curve, name) for name in _OF_CURVE}
    return {name: None if value is None else float(value) for name, value in found.items()}


class Objective(NamedTuple):
    """What a search looks for: a figure, whether more of it is better (1) or less (-1), and how it is written."""

    name: str
    figure: str
    better: int
    form: str

    def value(self, row: Row) -> float | None:
        """Return the figure of a row; None where it has none."""
        return row.figures.get(self.figure)

    def rank(self, row: Row) -> tuple[bool, float]:
        """Return what sorts rows from the best: failed and undefined ones last, and alike what only rounding tells apart."""
        value = self.value(row)
        return (value is None, 0.0 if value is None else float(f"{-self.better * value:.{DIGITS}g}"))


DIGITS = 10
"""To which figures are told apart."""

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


def objectives(text: str) -> tuple[Objective, ...]:
    """Return one or two objectives by their names, separated by commas.

    Raises:
        ConfigurationError: an unknown name, or none, or more than two.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OBJECTIVES:
            raise ConfigurationError(f"unknown objective {name!r}{suggestion(name, OBJECTIVES)}")
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise ConfigurationError(f"--objective takes one or two of {', '.join(OBJECTIVES)}, got {text!r}")
    return tuple(OBJECTIVES[name] for name in names)


def front(rows: Sequence[Row], aims: Sequence[Objective]) -> list[Row]:
    """Return the rows than which no other is better in one objective and no worse in the rest, best first by the first."""
    known = sorted(
        (row for row in rows if all(aim.value(row) is not None for aim in aims)),
        key=lambda row: tuple(a.rank(row) for a in aims),
    )
    found: list[Row] = []
    for row in known:
        scores = [aim.rank(row) for aim in aims]
        if not any(_beats([aim.rank(other) for aim in aims], scores) for other in found):
            found.append(row)
    return found


def _beats(one: Sequence[tuple[bool, float]], other: Sequence[tuple[bool, float]]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
