# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the comparison table: metric, number format, and whether higher or lower is better."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from crossmargin_bt.results import Summary

LOST_RETURN = -0.9
"""A run with this return or less has lost its account, and is best at nothing."""
UNDEFINED = "-"
"""Shown in place of an undefined figure."""


class MetricRow(NamedTuple):
    """One metric. `better` is 1 if higher is better, -1 if lower is better, 0 if neither."""

    label: str
    key: str
    write: Callable[[Any], str]
    better: Literal[-1, 0, 1]
    margin_only: bool = False
    """Whether the metric does not apply to cash mode, whose 0 is then not ranked."""
    shown_if_zero: bool = True
    """Whether the row appears if the figure is zero in every run."""

    def value(self, summary: Summary) -> float | None:
        """Return the figure; None if undefined."""
        value: float | None = getattr(summary, self.key)
        return value

    def text(self, summary: Summary) -> str:
        """Return the formatted figure."""
        value = self.value(summary)
        return UNDEFINED if value is None or not (value or self.shown_if_zero) else self.write(value)

    def best(self, summaries: Sequence[Summary]) -> set[int]:
        """Return the indices of the best runs that traded and lived, ties as formatted; empty if all are equal.

        An account that lost nearly everything used little margin and was liquidated once: that is not better.
        """
        known = {
            n: value
            for n, (one, value) in enumerate(zip(summaries, map(self.value, summaries), strict=True))
            if value is not None
            and one.fills
            and one.total_return > LOST_RETURN
            and not (self.margin_only and one.mode == "cash")
        }
        if not self.better or len({self.text(summaries[n]) for n in known}) < 2:
            return set()
        top = max(known, key=lambda n: self.better * known[n])
        return {n for n in known if self.text(summaries[n]) == self.text(summaries[top])}


def _amount(value: float) -> str:
    return f"{value:,.2f}"


def _signed(value: float) -> str:
    return f"{value:+,.2f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _rate(value: float) -> str:
    return f"{value:.2%}"


def _signed_rate(value: float) -> str:
    return f"{value:+.2%}"


def _level(value: float) -> str:
    return f"{value:.1%}"


def _cost(value: float) -> str:
    return f"{-value:+,.2f}"


METRIC_ROWS = (
    MetricRow("final equity", "final_equity", _amount, 1),
    MetricRow("return", "total_return", _signed_rate, 1),
    MetricRow("maximum drawdown", "drawdown_max", _rate, -1),
    MetricRow("margin used, peak", "margin_used_peak", _amount, -1),
    MetricRow("margin used, mean", "margin_used_mean", _amount, -1),
    MetricRow("capital efficiency", "capital_efficiency", _signed_rate, 1),
    MetricRow("fills", "fills", _count, 0),
    MetricRow("refused orders", "refused", _count, -1),
    MetricRow("liquidations", "liquidations", _count, -1, margin_only=True),
    MetricRow("forced fills", "forced_fills", _count, 0, margin_only=True, shown_if_zero=False),
    MetricRow("bad debt", "bad_debt", _amount, -1, margin_only=True),
    MetricRow("lowest margin level", "lowest_margin_level", _level, 1),
    MetricRow("fees", "fees", _amount, -1),
    MetricRow("funding", "funding", _signed, 1, margin_only=True),
    MetricRow("interest", "interest", _cost, -1, margin_only=True, shown_if_zero=False),
)


def visible_rows(summaries: Sequence[Summary]) -> list[MetricRow]:
    """Return the rows to show for these runs."""
    return [row for row in METRIC_ROWS if row.shown_if_zero or any(row.value(summary) for summary in summaries)]


def by_strategy(results: Sequence[Any]) -> dict[str, list[Any]]:
    """Group runs, or any objects with a `strategy`, by strategy, in order of first appearance."""
    groups: dict[str, list[Any]] = {}
    for result in results:
        groups.setdefault(result.strategy, []).append(result)
    return groups


def run_names(results: Sequence[Any]) -> list[str]:
    """Return the display name of every run of a strategy: its mode, with the venue if there are several."""
    several = len({result.venue for result in results}) > 1
    return [f"{result.mode} {result.venue}" if several else result.mode for result in results]


def equity_and_liquidations(equity: float, liquidations: int) -> str:
    """Return a cell of the stress table: final equity, with the number of liquidations in brackets.

    >>> equity_and_liquidations(1234.5, 0), equity_and_liquidations(0.0, 2)
    ('1,234.50', '0.00 (2)')
    """
    return f"{_amount(equity)} ({liquidations})" if liquidations else _amount(equity)
