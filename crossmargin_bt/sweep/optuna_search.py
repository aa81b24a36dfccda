# SPDX-License-Identifier: GPL-3.0-or-later
"""Adaptive search with Optuna: one study per run group, asked for a batch of combinations at a time.

A batch is asked for completely before its results are reported, in the order of asking. A search is therefore deterministic for
any number of processes, and an interrupted search is reproduced from its stored rows.
"""

from collections.abc import Sequence
from typing import Any

from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.sweep.plan import RunGroup, RunTask, SweepDefinition
from crossmargin_bt.sweep.rows import OBJECTIVES, SweepRow
from crossmargin_bt.sweep.search_space import Axis, Params

BATCH_SIZE = 8
"""Combinations asked for at a time. Larger batches use more processes but learn less per run."""


def rounds(definition: SweepDefinition, groups: Sequence[RunGroup]) -> Any:
    """Yield the tasks of each batch of all groups, and learn from the rows that are sent back.

    Raises:
        ConfigurationError: Optuna is not installed.
    """
    studies = [_Study(definition, group) for group in groups]
    left = definition.trials
    while left > 0:
        count = min(BATCH_SIZE, left)
        asked = [study.ask(count) for study in studies]
        rows = yield [task for tasks in asked for task in tasks]
        for study, tasks in zip(studies, asked, strict=True):
            study.tell([rows[task.key] for task in tasks])
        left -= count


class _Study:
    """The Optuna study of one run group."""

    def __init__(self, definition: SweepDefinition, group: RunGroup) -> None:
        try:
            import optuna  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError(
                "--search optuna requires Optuna; install it with: pip install 'crossmargin-bt[optimise]'"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._definition, self._group = definition, group
        self._objectives = [OBJECTIVES[name] for name in definition.objectives]
        sampler = (
            optuna.samplers.TPESampler(seed=definition.seed)
            if len(self._objectives) == 1
            else optuna.samplers.NSGAIISampler(seed=definition.seed, population_size=max(2 * BATCH_SIZE, 16))
        )
        direction = optuna.study.StudyDirection
        directions = [
            direction.MAXIMIZE if objective.better > 0 else direction.MINIMIZE for objective in self._objectives
        ]
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._trials: list[Any] = []

    def ask(self, count: int) -> list[RunTask]:
        """Return the tasks of the next combinations."""
        self._trials = [self._study.ask() for _ in range(count)]
        return [self._definition.task(self._group, self._params(trial)) for trial in self._trials]

    def tell(self, rows: Sequence[SweepRow]) -> None:
        """Tell the study the results of the last batch; runs without the objective count as failed trials."""
        for trial, row in zip(self._trials, rows, strict=True):
            values = [objective.value(row) for objective in self._objectives]
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
        # Sorted numbers are suggested by index, so that the sampler can use their order.
        return one.values[trial.suggest_int(one.name, 0, len(one.values) - 1)]
    return trial.suggest_categorical(one.name, one.values)
