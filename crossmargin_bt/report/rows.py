# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a comparison's table: the figure, how it is written, and which end of it is the better."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from crossmargin_bt.results import Summary

NOTHING = "-"
"""What stands where a figure is undefined."""


class Row(NamedTuple):
    """One figure: `better` is 1 where more is better, -1 where less is, 0 where neither is."""

    label: str
    key: str
    write: Callable[[Any], str]
    better: int
    of_margin: bool = False
    """Whether cash mode has no such thing, so that its 0 is not the better value."""
    always: bool = True
    """Whether it is told where it is nothing in every run."""

    def value(self, summary: Summary) -> float | None:
        """Return the figure; None where it is undefined."""
        found: float | None = getattr(summary, self.key)
        return found

    def text(self, summary: Summary) -> str:
        """Return it as it is written."""
        value = self.value(summary)
        return NOTHING if value is None or not (value or self.always) else self.write(value)

    def best(self, summaries: Sequence[Summary]) -> set[int]:
        """Return which of several that traded have the better figure, as it is written; none where all are alike."""
        known = {
            n: value
            for n, (one, value) in enumerate(zip(summaries, map(self.value, summaries), strict=True))
            if value is not None and one.fills and not (self.of_margin and one.mode == "cash")
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


ROWS = (
    Row("final equity", "final_equity", _amount, 1),
    Row("return", "total_return", _signed_rate, 1),
    Row("maximum drawdown", "drawdown_max", _rate, -1),
    Row("margin used, peak", "margin_used_peak", _amount, -1),
    Row("margin used, mean", "margin_used_mean", _amount, -1),
    Row("capital efficiency", "capital_efficiency", _signed_rate, 1),
    Row("fills", "fills", _count, 0),
    Row("refused orders", "refused", _count, -1),
    Row("liquidations", "liquidations", _count, -1, of_margin=True),
    Row("bad debt", "bad_debt", _amount, -1, of_margin=True),
    Row("lowest margin level", "lowest_margin_level", _level, 1),
    Row("fees", "fees", _amount, -1),
    Row("funding", "funding", _signed, 1, of_margin=True),
    Row("interest", "interest", _cost, -1, of_margin=True, always=False),
)


def told(summaries: Sequence[Summary]) -> list[Row]:
    """Return the rows that say something of these runs."""
    return [row for row in ROWS if row.always or any(row.value(summary) for summary in summaries)]


def by_strategy(results: Sequence[Any]) -> dict[str, list[Any]]:
    """Return runs, or anything with a strategy, by strategy in their order."""
    found: dict[str, list[Any]] = {}
    for result in results:
        found.setdefault(result.strategy, []).append(result)
    return found


def names(results: Sequence[Any]) -> list[str]:
    """Return what every run of a strategy is called: by its mode, and its venue where there are several."""
    several = len({result.venue for result in results}) > 1
    return [f"{result.mode} {result.venue}" if several else result.mode for result in results]


def came_to(equity: float, liquidations: int) -> str:
    """Return what a stressed run came to, as it is written.

    >>> came_to(1234.5, 0), came_to(0.0, 2)
    ('1,234.50', '0.00 (2)')
    """
    return f"{_amount(equity)} ({liquidations})" if liquidations else _amount(equity)
