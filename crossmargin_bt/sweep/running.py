# SPDX-License-Identifier: GPL-3.0-or-later
"""A sweep from its definition to its rows: rounds of tasks, each run but for what is already kept."""

from collections.abc import Callable, Generator, Sequence
from itertools import product

import pandas as pd

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.sweep import space
from crossmargin_bt.sweep.engines import Engine
from crossmargin_bt.sweep.plan import Arm, Definition, Task, Window, windows
from crossmargin_bt.sweep.rows import OBJECTIVES, Row
from crossmargin_bt.sweep.store import Store
from crossmargin_bt.sweep.worker import execute

Rounds = Generator[list[Task], dict[str, Row], None]
"""Yields tasks, is sent their rows by key, and yields the next."""

SEARCHES = ("grid", "random", "optuna")


def run(
    definition: Definition,
    candles: Sequence[Candles],
    store: Store,
    engine: Engine,
    *,
    on_round: Callable[[int, Sequence[Row]], None] = lambda _total, _kept: None,
    on_row: Callable[[Row], None] = lambda _: None,
) -> list[Row]:
    """Run what the store does not hold yet, and return all rows of the sweep in its order.

    `on_round` is told how many runs there are so far, and which of a round were kept from before; `on_row` of every row as it comes.

    Raises:
        ConfigurationError, FeedError: the definition cannot be run; workers die.
    """
    store.describe(definition.told())
    rounds = _rounds(definition, candles)
    order: dict[str, Task] = {}
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


def in_full(definition: Definition, row: Row) -> Row:
    """Return what a combination comes to that was swept by its signals, run by the strategy's own `next`.

    Of a walk forward the rows in sample.
    """
    span = None if row.from_ms is None or row.to_ms is None else Window(row.from_ms, row.to_ms)
    arm = Arm(row.venue, row.mode, row.window, row.sample, span)
    shared = definition.shared._replace(fast=False)
    return execute(definition._replace(shared=shared).task(arm, row.params), shared)


def _rounds(definition: Definition, candles: Sequence[Candles]) -> Rounds:
    pairs = list(product(definition.shared.venues, definition.modes))
    if definition.walk is None:
        yield from _searched(definition, [Arm(venue, mode) for venue, mode in pairs])
        return
    times = {one.symbol: pd.DatetimeIndex(one.frame.index).as_unit("ms").asi8.tolist() for one in candles}
    spans = windows(times, definition.walk)
    inside = {
        Arm(venue, mode, n, "in", span): Arm(venue, mode, n, "out", after)
        for n, (span, after) in enumerate(spans, start=1)
        for venue, mode in pairs
    }
    best = yield from _collected(_searched(definition, [*inside]), definition)
    yield [definition.task(inside[arm], row.params) for arm, row in best.items()]


def _collected(rounds: Rounds, definition: Definition) -> Generator[list[Task], dict[str, Row], dict[Arm, Row]]:
    """Pass rounds through and return the best row of every arm by the first objective."""
    aim = OBJECTIVES[definition.objective[0]]
    best: dict[Arm, Row] = {}
    tasks = next(rounds, None)
    while tasks is not None:
        rows = yield tasks
        for task in tasks:
            row = rows[task.key]
            if aim.value(row) is not None and (task.arm not in best or aim.rank(row) < aim.rank(best[task.arm])):
                best[task.arm] = row
        try:
            tasks = rounds.send(rows)
        except StopIteration:
            tasks = None
    return best


def _searched(definition: Definition, arms: Sequence[Arm]) -> Rounds:
    if definition.search == "optuna":
        from crossmargin_bt.sweep import learning  # noqa: PLC0415 - an extra

        yield from learning.rounds(definition, arms)
    elif definition.search == "random":
        drawn = space.sample(definition.axes, definition.trials, definition.seed)
        yield [definition.task(arm, params) for arm in arms for params in drawn]
    elif definition.search == "grid":
        yield [definition.task(arm, params) for arm in arms for params in space.grid(definition.axes)]
    else:
        raise ConfigurationError(f"unknown search {definition.search!r}; choose from {', '.join(SEARCHES)}")
