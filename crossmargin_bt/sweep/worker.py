# SPDX-License-Identifier: GPL-3.0-or-later
"""Execution of one run of a sweep in a worker process."""

import functools
from collections.abc import Sequence

import pandas as pd

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare import Settings, StrategySpec, run
from crossmargin_bt.compare.strategies import describe_exception
from crossmargin_bt.errors import ConfigurationError, CrossMarginError, FeedError
from crossmargin_bt.sweep import signals
from crossmargin_bt.sweep.plan import DataSource, RunTask, SharedInputs, Window, digest
from crossmargin_bt.sweep.rows import SweepRow, figures_of
from crossmargin_bt.sweep.search_space import split_params


@functools.lru_cache(maxsize=2)
def load_candles(data: DataSource) -> tuple[Candles, ...]:
    """Read the candles, cached per process.

    Raises:
        FeedError: they cannot be read, or differ from the candles the sweep was planned on.
    """
    candles = tuple(data.read())
    if digest(candles) != data.digest:
        raise FeedError(
            f"the candles in {data.folder} differ from those the sweep was planned on; share one folder, or copy it"
        )
    return candles


def run_task(task: RunTask, shared: SharedInputs) -> SweepRow:
    """Run a task and return its row; a failed run is a row with its error.

    Raises:
        FeedError, StrategyFileError: the candles or the strategy file, which all runs need, cannot be loaded.
    """
    spec, candles = shared.source.load(), load_candles(shared.data)
    try:
        figures = (_run_signals if shared.fast else _run_broker)(task, shared, spec, candles)
    except CrossMarginError as error:
        return failed_row(task, str(error).partition("; --debug")[0])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one run must not end ten thousand
        return failed_row(task, describe_exception(error))
    return _row(task, figures)


def failed_row(task: RunTask, error: str) -> SweepRow:
    """Return the row of a failed run."""
    return _row(task, {}, error)


def _row(task: RunTask, figures: dict[str, float | None], error: str = "") -> SweepRow:
    group, span = task.group, task.group.span
    return SweepRow(
        key=task.key, venue=group.venue, mode=group.mode, params=task.params, window=group.window, sample=group.sample,
        figures=figures, error=error, from_ms=None if span is None else span.trade_from_ms or span.start_ms,
        to_ms=None if span is None else span.end_ms,
    )  # fmt: skip


def _apply_params(task: RunTask, shared: SharedInputs, spec: StrategySpec) -> tuple[StrategySpec, Settings]:
    """Return the strategy and settings with the params of a task."""
    own, settings = split_params(task.params, list(spec.strategy.params._getkeys()))
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationError(f"{name} must be a number, got {value!r}")
    return spec.with_params(own), shared.settings._replace(**settings)


def _run_broker(
    task: RunTask, shared: SharedInputs, spec: StrategySpec, candles: Sequence[Candles]
) -> dict[str, float | None]:
    spec, settings = _apply_params(task, shared, spec)
    span = task.group.span
    result = run(
        spec,
        slice_candles(candles, span),
        venue=shared.venues[task.group.venue],
        mode=task.group.mode,
        settings=settings,
        trade_from_ms=None if span is None else span.trade_from_ms,
        detail=False,
    )
    return figures_of(result)


def _run_signals(
    task: RunTask, shared: SharedInputs, spec: StrategySpec, candles: Sequence[Candles]
) -> dict[str, float | None]:
    spec, settings = _apply_params(task, shared, spec)
    span = task.group.span
    bars = slice_candles(candles, span)
    market = signals.prepared_market((shared.data, span), bars, shared.venues[task.group.venue], settings.path)
    return signals.simulate_figures(
        signals.target_sizes(spec, bars, spec.params), market, mode=task.group.mode, settings=settings,
        trade_from_ms=None if span is None else span.trade_from_ms,
    )  # fmt: skip


def slice_candles(candles: Sequence[Candles], span: Window | None) -> list[Candles]:
    """Return the candles of a window; all without one."""
    if span is None:
        return list(candles)
    start, end = (pd.Timestamp(bound, unit="ms", tz="UTC") for bound in (span.start_ms, span.end_ms))
    return [one._replace(frame=one.frame.loc[(one.frame.index >= start) & (one.frame.index < end)]) for one in candles]
