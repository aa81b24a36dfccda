# SPDX-License-Identifier: GPL-3.0-or-later
"""Terminal output of a sweep: a live leaderboard while it runs, and a summary at the end."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report.metric_rows import UNDEFINED
from crossmargin_bt.sweep import analysis, summary
from crossmargin_bt.sweep.rows import Objective, SweepRow
from crossmargin_bt.sweep.search_space import Axis

COLUMNS = (
    ("return", "total_return", "+.1%"), ("drawdown", "drawdown_max", ".1%"), ("level", "lowest_margin_level", ",.0%"),
    ("liquidated", "liquidations", ".0f"), ("refused", "refused", ",.0f"), ("sharpe", "sharpe", ".2f"),
)  # fmt: skip
"""Columns of the tables: (head, figure, number format). `level` is the lowest margin level; `liquidated` and `refused` are counts."""


def figure(row: SweepRow, name: str, form: str) -> str:
    """Return a formatted figure of a row."""
    value = row.figures.get(name)
    return UNDEFINED if value is None else format(value, form)


UNBOUNDED_WIDTH = 10_000
"""A width larger than any table, to measure the natural width of one."""


class RunTable:
    """A table of runs with their params: in a column if the terminal is wide enough, else numbered below the table."""

    def __init__(self, title: str, heads: Sequence[str], texts: Sequence[str]) -> None:
        """Create an empty table; `texts` are the heads of left-aligned columns."""
        self._title, self._heads, self._texts = title, heads, texts
        self._rows: list[tuple[tuple[str, ...], str]] = []

    def add(self, cells: tuple[str, ...], params: str) -> None:
        """Add a run."""
        self._rows.append((cells, params))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the form that fits the width."""
        with_params = self._table((*self._heads, "params"), [(*cells, params) for cells, params in self._rows])
        natural_width = Measurement.get(console, options.update(max_width=UNBOUNDED_WIDTH), with_params).maximum
        if natural_width <= options.max_width:
            yield with_params
            return
        yield self._table(("run", *self._heads), [(str(n), *cells) for n, (cells, _) in enumerate(self._rows, 1)])
        for n, (_, params) in enumerate(self._rows, 1):
            yield Text(f"{n:>4}  {params}")

    def _table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        table = Table(title=self._title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for head in heads:
            is_text = head in self._texts or head == "params"
            table.add_column(head, justify="left" if is_text else "right", no_wrap=True, overflow="fold")
        for cells in rows:
            table.add_row(*map(escape, cells))
        return table


def compare_with_bar_by_bar(signals: SweepRow, full: SweepRow) -> str:
    """Return a line that compares the best row of a signal sweep with its bar-by-bar run."""
    if full.error:
        return f"the best combination fails bar by bar: {full.error}"
    shown = ("final_equity", "fills", "liquidations", "refused")
    differ = [name for name in shown if signals.figures[name] != full.figures[name]]
    outcome = f"return {figure(full, 'total_return', '+.2%')}, lowest margin level {figure(full, 'lowest_margin_level', ',.0%')}"
    if not differ:
        return f"the best combination run bar by bar is identical: {outcome}"
    differences = ", ".join(
        f"{name.replace('_', ' ')} {figure(full, name, ',.10g')} against {figure(signals, name, ',.10g')}"
        for name in differ
    )
    return f"the best combination run bar by bar: {outcome}. next() and signals() trade differently: {differences}"


class Leaderboard:
    """The best rows so far by the first objective, rendered on demand, with `below` under the table."""

    def __init__(self, objectives: Sequence[Objective], count: int, below: RenderableType = "") -> None:
        self._objective, self._count, self._below = objectives[0], count, below
        self._best: list[SweepRow] = []
        self._failed = 0
        self._several = False
        self._venue = ""

    def add(self, row: SweepRow) -> None:
        """Add a row."""
        self._failed += bool(row.error)
        self._several = self._several or self._venue not in ("", row.venue)
        self._venue = row.venue
        if self._objective.value(row) is not None:
            self._best = sorted([*self._best, row], key=self._objective.rank)[: self._count]

    def __rich__(self) -> Group:
        """Return the table."""
        table = RunTable(f"best by {self._objective.name}", ("mode", *(label for label, _, _ in COLUMNS)), ("mode",))
        for row in self._best:
            name = f"{row.mode} {row.venue}" if self._several else row.mode
            window = f" {row.sample} {row.window}" if row.sample else ""
            figures = (figure(row, key, form) for _, key, form in COLUMNS)
            table.add((f"{name}{window}", *figures), analysis.format_params(row.params))
        failed = Text(f"{self._failed} failed", style="red") if self._failed else Text()
        return Group(table, failed, self._below)


def build_summary(rows: Sequence[SweepRow], objectives: Sequence[Objective], axes: Sequence[Axis], count: int) -> Group:
    """Return the summary of a sweep: leaderboard, walk forward, findings and failures."""
    parts: list[RenderableType] = []
    steps = analysis.walk_forward_steps(rows)
    chosen = [row for row in rows if row.sample != "out"]
    board = Leaderboard(objectives, count)
    for row in chosen:
        board.add(row)
    parts.append(board)
    if steps:
        parts.append(_walk_forward_table(steps, objectives[0]))
    parts += [Text(line) for line in summary.findings(rows, objectives, axes)]
    failed = [row for row in rows if row.error]
    for row in failed[:count]:
        parts.append(Text(f"failed: {row.mode} {row.venue} {analysis.format_params(row.params)}: {row.error}"))
    if len(failed) > count:
        parts.append(Text(f"and {len(failed) - count} more failed"))
    return Group(*parts)


def _walk_forward_table(steps: Sequence[analysis.WalkForwardStep], objective: Objective) -> RunTable:
    heads = ("window", "traded", "mode", "in", "out", "return", "liquidated")
    table = RunTable(f"selected by {objective.name} in sample, traded out of sample", heads, ("traded", "mode"))
    for step in steps:
        *cells, params = walk_forward_cells(step, objective)
        table.add(tuple(cells), params)
    return table


def walk_forward_cells(step: analysis.WalkForwardStep, objective: Objective) -> tuple[str, ...]:
    """Return the cells of a walk-forward row.

    Window, first day traded, mode, objective in and out of sample, return and liquidations out of sample, params.
    """
    objective_out = (
        "failed" if step.out_of_sample.error else figure(step.out_of_sample, objective.figure, objective.number_format)
    )
    first_day = "" if step.out_of_sample.from_ms is None else format_time(step.out_of_sample.from_ms)[:10]
    return (
        str(step.window), first_day, step.name, figure(step.in_sample, objective.figure, objective.number_format), objective_out,
        figure(step.out_of_sample, "total_return", "+.1%"), figure(step.out_of_sample, "liquidations", ".0f"),
        analysis.format_params(step.in_sample.params),
    )  # fmt: skip
