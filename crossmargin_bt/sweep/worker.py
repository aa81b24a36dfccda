# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a sweep, in whatever process it happens."""

import functools
from collections.abc import Sequence

import pandas as pd

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare import Settings, StrategySpec, run
from crossmargin_bt.compare.strategies import where
from crossmargin_bt.errors import ConfigurationError, CrossMarginError, FeedError
from crossmargin_bt.sweep import fast
from crossmargin_bt.sweep.plan import Data, Shared, Task, Window, digest
from crossmargin_bt.sweep.rows import Row, figures_of
from crossmargin_bt.sweep.space import divided


@functools.lru_cache(maxsize=2)
def candles_of(data: Data) -> tuple[Candles, ...]:
    """Return the candles, read once a process.

    Raises:
        FeedError: they cannot be read, or are not those the sweep was planned on.
    """
    candles = tuple(data.read())
    if digest(candles) != data.digest:
        raise FeedError(
            f"{data.folder} holds other candles here than where the sweep was planned; share one folder, or copy it"
        )
    return candles


def execute(task: Task, shared: Shared) -> Row:
    """Run a task and return its row; a run that fails is a row with its error.

    Raises:
        FeedError, StrategyFileError: not the run fails but what all of them need: candles, or the strategy's file.
    """
    spec, candles = shared.source.load(), candles_of(shared.data)
    try:
        found = (_followed if shared.fast else _run)(task, shared, spec, candles)
    except CrossMarginError as error:
        return failed(task, str(error).partition("; --debug")[0])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one run must not end ten thousand
        return failed(task, where(error))
    return _row(task, found)


def failed(task: Task, error: str) -> Row:
    """Return the row of a run that came to nothing."""
    return _row(task, {}, error)


def _row(task: Task, figures: dict[str, float | None], error: str = "") -> Row:
    arm, span = task.arm, task.arm.span
    return Row(
        key=task.key, venue=arm.venue, mode=arm.mode, params=task.params, window=arm.window, sample=arm.sample,
        figures=figures, error=error, from_ms=None if span is None else span.trade_from_ms or span.start_ms,
        to_ms=None if span is None else span.end_ms,
    )  # fmt: skip


def _given(task: Task, shared: Shared, spec: StrategySpec) -> tuple[StrategySpec, Settings]:
    """Return the strategy with the params of a task, and its settings."""
    own, settings = divided(task.params, list(spec.strategy.params._getkeys()))
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationError(f"{name} cannot be {value!r}")
    return spec.given(own), shared.settings._replace(**settings)


def _run(task: Task, shared: Shared, spec: StrategySpec, candles: Sequence[Candles]) -> dict[str, float | None]:
    spec, settings = _given(task, shared, spec)
    span = task.arm.span
    result = run(
        spec,
        cut(candles, span),
        venue=shared.venues[task.arm.venue],
        mode=task.arm.mode,
        settings=settings,
        trade_from_ms=None if span is None else span.trade_from_ms,
        detail=False,
    )
    return figures_of(result)


def _followed(task: Task, shared: Shared, spec: StrategySpec, candles: Sequence[Candles]) -> dict[str, float | None]:
    spec, settings = _given(task, shared, spec)
    span = task.arm.span
    bars = cut(candles, span)
    market = fast.market_of((shared.data, span), bars, shared.venues[task.arm.venue], settings.path)
    return fast.figures_of(
        fast.signals(spec, bars, spec.params), market, mode=task.arm.mode, settings=settings,
        trade_from_ms=None if span is None else span.trade_from_ms,
    )  # fmt: skip


def cut(candles: Sequence[Candles], span: Window | None) -> list[Candles]:
    """Return the candles of a window."""
    if span is None:
        return list(candles)
    start, end = (pd.Timestamp(bound, unit="ms", tz="UTC") for bound in (span.start_ms, span.end_ms))
    return [one._replace(frame=one.frame.loc[(one.frame.index >= start) & (one.frame.index < end)]) for one in candles]
