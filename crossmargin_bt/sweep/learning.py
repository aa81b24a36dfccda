# SPDX-License-Identifier: GPL-3.0-or-later
"""A search that learns, with Optuna: one study for every arm, asked for a batch of combinations at a time.

A batch is asked for before any of it is told, and told in the order it was asked for, so a search is the same on any number of
processes, and is gone through again from the rows it left when it is taken up after a stop.
"""

from collections.abc import Sequence
from typing import Any

from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.sweep.plan import Arm, Definition, Task
from crossmargin_bt.sweep.rows import OBJECTIVES, Row
from crossmargin_bt.sweep.space import Axis, Params

BATCH = 8
"""Combinations asked for at a time; more would keep more processes at work, and learn less from each."""


def rounds(definition: Definition, arms: Sequence[Arm]) -> Any:
    """Yield the tasks of every batch of all arms, and learn from the rows that are sent.

    Raises:
        ConfigurationError: Optuna is not installed.
    """
    studies = [_Study(definition, arm) for arm in arms]
    left = definition.trials
    while left > 0:
        count = min(BATCH, left)
        asked = [study.ask(count) for study in studies]
        rows = yield [task for tasks in asked for task in tasks]
        for study, tasks in zip(studies, asked, strict=True):
            study.tell([rows[task.key] for task in tasks])
        left -= count


class _Study:
    """Optuna's study of one arm."""

    def __init__(self, definition: Definition, arm: Arm) -> None:
        try:
            import optuna  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError(
                "--search optuna needs Optuna; install it with: pip install 'crossmargin-bt[optimise]'"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._definition, self._arm = definition, arm
        self._aims = [OBJECTIVES[name] for name in definition.objective]
        sampler = (
            optuna.samplers.TPESampler(seed=definition.seed)
            if len(self._aims) == 1
            else optuna.samplers.NSGAIISampler(seed=definition.seed, population_size=max(2 * BATCH, 16))
        )
        direction = optuna.study.StudyDirection
        directions = [direction.MAXIMIZE if aim.better > 0 else direction.MINIMIZE for aim in self._aims]
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._trials: list[Any] = []

    def ask(self, count: int) -> list[Task]:
        """Return the tasks of the next combinations."""
        self._trials = [self._study.ask() for _ in range(count)]
        return [self._definition.task(self._arm, self._params(trial)) for trial in self._trials]

    def tell(self, rows: Sequence[Row]) -> None:
        """Learn from the rows of what was asked for last; a failed run, or one without the figure, teaches nothing."""
        for trial, row in zip(self._trials, rows, strict=True):
            values = [aim.value(row) for aim in self._aims]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                self._study.tell(trial, state=self._failed)
            else:
                self._study.tell(trial, known)

    def _params(self, trial: Any) -> Params:
        return {one.name: _suggested(trial, one) for one in self._definition.axes}


def _suggested(trial: Any, one: Axis) -> Any:
    if one.between is not None:
        return trial.suggest_float(one.name, *one.between)
    if one.is_number and list(one.values) == sorted(one.values):
        # Numbers have an order to learn from.
        return one.values[trial.suggest_int(one.name, 0, len(one.values) - 1)]
    return trial.suggest_categorical(one.name, one.values)
