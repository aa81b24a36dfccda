# SPDX-License-Identifier: GPL-3.0-or-later
"""Execution of a sweep: rounds of tasks, skipping tasks whose rows are already stored."""

from collections.abc import Callable, Generator, Sequence
from itertools import product
from typing import get_args

import pandas as pd

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.sweep import search_space
from crossmargin_bt.sweep.executors import Executor
from crossmargin_bt.sweep.plan import RunGroup, RunTask, Search, SweepDefinition, Window, walk_forward_windows
from crossmargin_bt.sweep.rows import OBJECTIVES, SweepRow
from crossmargin_bt.sweep.store import SweepStore
from crossmargin_bt.sweep.worker import run_task

Rounds = Generator[list[RunTask], dict[str, SweepRow], None]
"""Generator that yields the tasks of a round and is sent their rows by key."""

SEARCHES: tuple[Search, ...] = get_args(Search)


def run(
    definition: SweepDefinition,
    candles: Sequence[Candles],
    store: SweepStore,
    engine: Executor,
    *,
    on_round: Callable[[int, Sequence[SweepRow]], None] = lambda _total, _stored: None,
    on_row: Callable[[SweepRow], None] = lambda _: None,
) -> list[SweepRow]:
    """Run the tasks that are not stored yet, and return all rows of the sweep in task order.

    `on_round` is called with the number of tasks so far and the stored rows of the round; `on_row` with every new row.

    Raises:
        ConfigurationError, FeedError: the definition cannot be run.
    """
    store.write_definition(definition.as_plain_data())
    rounds = _rounds(definition, candles)
    order: dict[str, RunTask] = {}
    tasks = next(rounds, None)
    while tasks is not None:
        order.update((task.key, task) for task in tasks)
        missing = {task.key: task for task in tasks if task.key not in store.rows}
        on_round(len(order), [store.rows[task.key] for task in tasks if task.key not in missing])
        for row in engine.run([*missing.values()], definition.shared):
            store.add(row)
            on_row(row)
        try:
            tasks = rounds.send({task.key: store.rows[task.key] for task in tasks})
        except StopIteration:
            tasks = None
    return store.finish([*order])


def run_bar_by_bar(definition: SweepDefinition, row: SweepRow) -> SweepRow:
    """Repeat a row of a signal sweep with the strategy's own `next`, bar by bar.

    In a walk forward this applies to in-sample rows.
    """
    span = None if row.from_ms is None or row.to_ms is None else Window(row.from_ms, row.to_ms)
    group = RunGroup(row.venue, row.mode, row.window, row.sample, span)
    shared = definition.shared._replace(fast=False)
    return run_task(definition._replace(shared=shared).task(group, row.params), shared)


def _rounds(definition: SweepDefinition, candles: Sequence[Candles]) -> Rounds:
    pairs = list(product(definition.shared.venues, definition.modes))
    if definition.walk is None:
        yield from _search_rounds(definition, [RunGroup(venue, mode) for venue, mode in pairs])
        return
    times = {one.symbol: pd.DatetimeIndex(one.frame.index).as_unit("ms").asi8.tolist() for one in candles}
    spans = walk_forward_windows(times, definition.walk)
    inside = {
        RunGroup(venue, mode, n, "in", span): RunGroup(venue, mode, n, "out", after)
        for n, (span, after) in enumerate(spans, start=1)
        for venue, mode in pairs
    }
    best = yield from _best_by_group(_search_rounds(definition, [*inside]), definition)
    yield [definition.task(inside[group], row.params) for group, row in best.items()]


def _best_by_group(
    rounds: Rounds, definition: SweepDefinition
) -> Generator[list[RunTask], dict[str, SweepRow], dict[RunGroup, SweepRow]]:
    """Pass rounds through and return the best row of every group by the first objective."""
    objective = OBJECTIVES[definition.objectives[0]]
    best: dict[RunGroup, SweepRow] = {}
    tasks = next(rounds, None)
    while tasks is not None:
        rows = yield tasks
        for task in tasks:
            row = rows[task.key]
            if objective.value(row) is not None and (
                task.group not in best or objective.rank(row) < objective.rank(best[task.group])
            ):
                best[task.group] = row
        try:
            tasks = rounds.send(rows)
        except StopIteration:
            tasks = None
    return best


def _search_rounds(definition: SweepDefinition, groups: Sequence[RunGroup]) -> Rounds:
    if definition.search == "optuna":
        from crossmargin_bt.sweep import optuna_search  # noqa: PLC0415 - an extra

        yield from optuna_search.rounds(definition, groups)
    elif definition.search == "random":
        drawn = search_space.random_sample(definition.axes, definition.trials, definition.seed)
        yield [definition.task(group, params) for group in groups for params in drawn]
    elif definition.search == "grid":
        yield [definition.task(group, params) for group in groups for params in search_space.grid(definition.axes)]
    else:
        raise ConfigurationError(f"unknown search {definition.search!r}; choose from {', '.join(SEARCHES)}")
