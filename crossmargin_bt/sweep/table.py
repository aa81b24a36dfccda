# SPDX-License-Identifier: GPL-3.0-or-later
"""A sweep on the terminal: the best so far while it runs, what it found when it has ended."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report.rows import NOTHING
from crossmargin_bt.sweep import insight, words
from crossmargin_bt.sweep.rows import Objective, Row
from crossmargin_bt.sweep.space import Axis

COLUMNS = (
    ("return", "total_return", "+.1%"), ("drawdown", "drawdown_max", ".1%"), ("level", "lowest_margin_level", ",.0%"),
    ("liquidated", "liquidations", ".0f"), ("refused", "refused", ",.0f"), ("sharpe", "sharpe", ".2f"),
)  # fmt: skip
"""Of a table of rows: head, figure, form. `level` is the lowest margin level, `liquidated` and `refused` how often."""


def figure(row: Row, name: str, form: str) -> str:
    """Return a figure of a row as it is written."""
    value = row.figures.get(name)
    return NOTHING if value is None else format(value, form)


WIDEST = 10_000
"""Wider than any table, to ask how wide one would like to be."""


class Listed:
    """A table of runs with their params: beside the figures where the terminal is wide enough, numbered below them where not."""

    def __init__(self, title: str, heads: Sequence[str], texts: Sequence[str]) -> None:
        """Begin without rows; `texts` are the heads of columns that are no figures."""
        self._title, self._heads, self._texts = title, heads, texts
        self._rows: list[tuple[tuple[str, ...], str]] = []

    def add(self, cells: tuple[str, ...], params: str) -> None:
        """Add a run."""
        self._rows.append((cells, params))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what fits the width there is."""
        beside = self._table((*self._heads, "params"), [(*cells, params) for cells, params in self._rows])
        asked = Measurement.get(console, options.update(max_width=WIDEST), beside).maximum
        if asked <= options.max_width:
            yield beside
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


def beside(signals: Row, full: Row) -> str:
    """Return in a line what the best by its signals comes to when it is run bar by bar."""
    if full.error:
        return f"the best does not run bar by bar: {full.error}"
    shown = ("final_equity", "fills", "liquidations", "refused")
    differ = [name for name in shown if signals.figures[name] != full.figures[name]]
    told = f"return {figure(full, 'total_return', '+.2%')}, lowest margin level {figure(full, 'lowest_margin_level', ',.0%')}"
    if not differ:
        return f"the best, run bar by bar, is the same: {told}"
    beside = ", ".join(
        f"{name.replace('_', ' ')} {figure(full, name, ',.10g')} against {figure(signals, name, ',.10g')}"
        for name in differ
    )
    return f"the best, run bar by bar: {told}. next() and signals() do not trade alike: {beside}"


class Board:
    """The best so far by the first objective, with what stands below; made anew when the terminal asks for it."""

    def __init__(self, aims: Sequence[Objective], most: int, below: RenderableType = "") -> None:
        self._aim, self._most, self._below = aims[0], most, below
        self._best: list[Row] = []
        self._failed = 0
        self._several = False
        self._venue = ""

    def add(self, row: Row) -> None:
        """Take a row in."""
        self._failed += bool(row.error)
        self._several = self._several or self._venue not in ("", row.venue)
        self._venue = row.venue
        if self._aim.value(row) is not None:
            self._best = sorted([*self._best, row], key=self._aim.rank)[: self._most]

    def __rich__(self) -> Group:
        """Return the table."""
        table = Listed(f"best by {self._aim.name}", ("mode", *(label for label, _, _ in COLUMNS)), ("mode",))
        for row in self._best:
            name = f"{row.mode} {row.venue}" if self._several else row.mode
            window = f" {row.sample} {row.window}" if row.sample else ""
            figures = (figure(row, key, form) for _, key, form in COLUMNS)
            table.add((f"{name}{window}", *figures), insight.written(row.params))
        failed = Text(f"{self._failed} failed", style="red") if self._failed else Text()
        return Group(table, failed, self._below)


def summary(rows: Sequence[Row], aims: Sequence[Objective], axes: Sequence[Axis], most: int) -> Group:
    """Return what a sweep found."""
    parts: list[RenderableType] = []
    steps = insight.walked(rows)
    chosen = [row for row in rows if row.sample != "out"]
    board = Board(aims, most)
    for row in chosen:
        board.add(row)
    parts.append(board)
    if steps:
        parts.append(_walk(steps, aims[0]))
    parts += [Text(line) for line in words.answers(rows, aims, axes)]
    failed = [row for row in rows if row.error]
    for row in failed[:most]:
        parts.append(Text(f"failed: {row.mode} {row.venue} {insight.written(row.params)}: {row.error}"))
    if len(failed) > most:
        parts.append(Text(f"and {len(failed) - most} more failed"))
    return Group(*parts)


def _walk(steps: Sequence[insight.Step], aim: Objective) -> Listed:
    heads = ("window", "traded", "mode", "in", "out", "return", "liquidated")
    table = Listed(f"chosen by {aim.name} in sample, then traded out of sample", heads, ("traded", "mode"))
    for step in steps:
        *cells, params = walk_cells(step, aim)
        table.add(tuple(cells), params)
    return table


def walk_cells(step: insight.Step, aim: Objective) -> tuple[str, ...]:
    """Return a window of a walk forward as cells: number, first day traded, mode, in, out, return out, liquidations out, params."""
    after = "failed" if step.after.error else figure(step.after, aim.figure, aim.form)
    begins = "" if step.after.from_ms is None else format_time(step.after.from_ms)[:10]
    return (
        str(step.window), begins, step.name, figure(step.chosen, aim.figure, aim.form), after,
        figure(step.after, "total_return", "+.1%"), figure(step.after, "liquidations", ".0f"),
        insight.written(step.chosen.params),
    )  # fmt: skip
