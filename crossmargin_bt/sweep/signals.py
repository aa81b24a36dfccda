# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectorised sweeps (`--fast`): a strategy's target sizes are simulated by a batch account instead of running it.

The strategy defines a static method `signals(candles, **params)`. `candles` is a dict of frames by symbol, `params` are all
params of the strategy. It returns target sizes in contracts at the end of each bar (see `crossmargin_bt.batch.simulate`) as
an array of shape (bars,) for one market or (bars, markets), or as a frame with a column per symbol.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossmargin_bt import performance
from crossmargin_bt.batch import BatchAccount, simulation
from crossmargin_bt.batch.market import Market
from crossmargin_bt.broker.api.settings import MARGIN_MODES
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare import Settings, StrategySpec
from crossmargin_bt.compare.strategies import describe_exception
from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.errors import ConfigurationError, StrategyFileError
from crossmargin_bt.sweep.rows import FIGURES, OBJECTIVES
from crossmargin_bt.venues import Venue

UNAVAILABLE_FIGURES = ("margin_used_peak", "margin_used_mean", "capital_efficiency", "lowest_margin_level")
"""Figures that only a run with the broker provides."""
# Truncation points of the look-ahead check: this many evenly spaced, and as many at bars where the signals change.
LOOKAHEAD_CUTS = 15


def check_supported(
    spec: StrategySpec, modes: Sequence[str], objectives: Sequence[str], settings: Settings, varied: Sequence[str]
) -> None:
    """Check that a sweep can run from signals.

    Raises:
        ConfigurationError: the strategy, a mode, a setting or an objective is not supported.
    """
    simulation.compiled_loop()
    if not callable(getattr(spec.strategy, "signals", None)):
        raise ConfigurationError(
            f"--fast needs {spec.name}.signals(candles, **params), a static method that returns target sizes; see docs/sweeps.md"
        )
    if not isinstance(inspect.getattr_static(spec.strategy, "signals"), staticmethod):
        raise ConfigurationError(
            f"{spec.name}.signals must be a static method: write @staticmethod above it, without self"
        )
    if spec.position_mode != "one_way":
        raise ConfigurationError(f"{spec.name} has position_mode {spec.position_mode!r}; --fast supports 'one_way'")
    for mode in modes:
        if mode not in MARGIN_MODES:
            raise ConfigurationError(f"--fast supports the modes {', '.join(MARGIN_MODES)}; omit {mode!r} or --fast")
    if settings.slippage or "slippage" in varied:
        raise ConfigurationError("--fast does not support slippage; omit it or --fast")
    for name in objectives:
        if OBJECTIVES[name].figure in UNAVAILABLE_FIGURES:
            raise ConfigurationError(f"--fast does not provide {name}; choose another --objective or omit --fast")


def check_venues(venues: Sequence[Venue], candles: Sequence[Candles], modes: Sequence[str], settings: Settings) -> None:
    """Check that batch accounts support these venues.

    Raises:
        ConfigurationError, FeedError: see `batch.simulate`.
    """
    for venue in venues:
        market = Market(candles, venue, settings.path)
        for mode in modes:
            market.check(BatchAccount(0, 1.0, mode, settings.cash))


def check_lookahead(spec: StrategySpec, candles: Sequence[Candles], params: Mapping[str, Any]) -> None:
    """Check for look-ahead bias: signals must not change when later candles are removed.

    Tested at evenly spaced bars and at bars where the signals change.

    Raises:
        ConfigurationError: the signals look ahead; the message has the first such bar.
        StrategyFileError: the signals are invalid.
    """
    full = target_sizes(spec, candles, params)
    changes = np.flatnonzero((full[1:] != full[:-1]).any(axis=1)) + 2
    lengths = [len(full) * cut // (LOOKAHEAD_CUTS + 1) for cut in range(1, LOOKAHEAD_CUTS + 1)]
    lengths += changes[np.linspace(0, len(changes) - 1, min(LOOKAHEAD_CUTS, len(changes)), dtype=int)].tolist()
    for bars in sorted({bars for bars in lengths if bars}):
        early = target_sizes(spec, [one._replace(frame=one.frame.iloc[:bars]) for one in candles], params)
        known = full[:bars]
        differ = np.flatnonzero(~((known == early) | (np.isnan(known) & np.isnan(early))).all(axis=1))
        if len(differ):
            at = format_time(candles[0].frame.index[differ[0]].value // 1_000_000)
            raise ConfigurationError(
                f"{spec.name}.signals looks ahead: at {at} it returns {_format_sizes(known[differ[0]])} with later candles, "
                f"{_format_sizes(early[differ[0]])} without; use only data known at the end of the bar"
            )


def _format_sizes(sizes: Any) -> str:
    return ", ".join(f"{size:g}" for size in sizes)


def target_sizes(spec: StrategySpec, candles: Sequence[Candles], params: Mapping[str, Any]) -> Any:
    """Return the target sizes of a strategy, shape (bars, markets), float64; NaN keeps the position.

    Raises:
        StrategyFileError: `signals` raised an exception or returned invalid data.
    """
    given = {**dict(spec.strategy.params._getitems()), **params}
    frames = {one.symbol: one.frame.copy(deep=False) for one in candles}
    try:
        inspect.signature(spec.strategy.signals).bind(frames, **given)
    except TypeError as error:
        names = ", ".join(given)
        raise StrategyFileError(
            f"{spec.name}.signals does not take the candles and the params {names}: {error}; accept all of them, or **params"
        ) from error
    try:
        returned = spec.strategy.signals(frames, **given)
    except (Exception, SystemExit) as error:
        raise StrategyFileError(f"{spec.name}.signals failed: {describe_exception(error, spec.file)}") from error
    if isinstance(returned, pd.DataFrame):
        missing = [symbol for symbol in frames if symbol not in returned]
        if missing:
            raise StrategyFileError(f"{spec.name}.signals returned a frame without a column {missing[0]!r}")
        returned = returned[list(frames)]
    try:
        sizes = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StrategyFileError(
            f"{spec.name}.signals returned {type(returned).__name__}, which is not numeric"
        ) from error
    if not sizes.ndim:
        raise StrategyFileError(
            f"{spec.name}.signals returned {type(returned).__name__}, which is not an array of sizes"
        )
    bars, markets = len(candles[0].frame), len(candles)
    shaped = sizes[:, None] if sizes.ndim == 1 else sizes
    if shaped.shape != (bars, markets):
        raise StrategyFileError(
            f"{spec.name}.signals returned the shape {sizes.shape} for {bars} bars of {markets} markets; return a size for every bar, "
            "NaN to keep the position"
        )
    return shaped


def simulate_figures(
    sizes: Any, market: Market, *, mode: str, settings: Settings, trade_from_ms: int | None
) -> dict[str, float | None]:
    """Return the figures of a row, equal to a broker run with the same targets except for UNAVAILABLE_FIGURES.

    Targets before `trade_from_ms` are ignored.

    Raises:
        ConfigurationError: see `batch.simulate`.
    """
    times = market.times_ms
    first = 0 if trade_from_ms is None else int(np.searchsorted(times, trade_from_ms))
    sizes = sizes.copy()
    sizes[:first] = np.nan
    account = BatchAccount(0, settings.leverage, mode, settings.cash)
    (outcome,) = simulation.run_accounts(market, [sizes], [account], curves=True)
    curve = performance.performance_metrics(times[first:], outcome.curve[first:], settings.cash)
    known = {
        **curve._asdict(), "final_equity": outcome.equity, "fills": outcome.fills, "refused": outcome.refused,
        "liquidations": outcome.liquidations, "bad_debt": outcome.bad_debt, "fees": outcome.fees, "funding": outcome.funding,
        "interest": 0.0, "total_return": (outcome.equity - settings.cash) / settings.cash,
    }  # fmt: skip
    return {name: None if known.get(name) is None else float(known[name]) for name in FIGURES}


_prepared_markets: list[tuple[Any, Venue, Market]] = []


def prepared_market(key: Any, candles: Sequence[Candles], venue: Venue, path: str) -> Market:
    """Return the prepared market of these candles; the last one is cached per process for consecutive runs.

    Raises:
        ConfigurationError, FeedError: see `batch.simulate`.
    """
    for known, its_venue, prepared in _prepared_markets:
        if known == (key, path) and its_venue == venue:
            return prepared
    prepared = Market(candles, venue, path)
    _prepared_markets[:] = [((key, path), venue, prepared)]
    return prepared
