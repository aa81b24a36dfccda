# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a sweep without running the strategy: it says where it wants to be, and a batch account goes there.

A strategy offers `signals(candles, **params)`, a static method. `candles` is a dict of frames by symbol, `params` are all of the
strategy's; what it returns are the sizes in contracts wanted at each bar's end (see `crossmargin_bt.batch.simulate`): shape (bars,)
for one market, (bars, markets), or a frame with a column a symbol.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossmargin_bt import figures
from crossmargin_bt.batch import Account, simulation
from crossmargin_bt.batch.market import Market
from crossmargin_bt.broker.api.settings import MARGIN_MODES
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare import Settings, StrategySpec
from crossmargin_bt.compare.strategies import where
from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.errors import ConfigurationError, StrategyFileError
from crossmargin_bt.sweep.rows import FIGURES, OBJECTIVES
from crossmargin_bt.venues import Venue

UNKNOWN = ("margin_used_peak", "margin_used_mean", "capital_efficiency", "lowest_margin_level")
"""Figures that only a run of the broker has."""
# So many times signals are worked out on the candles up to a bar, spread evenly, and as often up to bars where they change.
CUTS = 15


def check(
    spec: StrategySpec, modes: Sequence[str], aims: Sequence[str], settings: Settings, varied: Sequence[str]
) -> None:
    """Refuse what cannot be swept by signals.

    Raises:
        ConfigurationError: the text says what, and what to do.
    """
    simulation.compiled_loop()
    if not callable(getattr(spec.strategy, "signals", None)):
        raise ConfigurationError(
            f"--fast needs {spec.name}.signals(candles, **params), a static method that returns the sizes wanted; see docs/sweeps.md"
        )
    if not isinstance(inspect.getattr_static(spec.strategy, "signals"), staticmethod):
        raise ConfigurationError(
            f"{spec.name}.signals must be a static method: write @staticmethod above it, without self"
        )
    if spec.position_mode != "one_way":
        raise ConfigurationError(f"{spec.name} has position_mode {spec.position_mode!r}; --fast knows 'one_way'")
    for mode in modes:
        if mode not in MARGIN_MODES:
            raise ConfigurationError(f"--fast knows the modes {', '.join(MARGIN_MODES)}; leave {mode!r} or --fast out")
    if settings.slippage or "slippage" in varied:
        raise ConfigurationError("--fast knows no slippage; leave it or --fast out")
    for name in aims:
        if OBJECTIVES[name].figure in UNKNOWN:
            raise ConfigurationError(f"--fast does not tell {name}; choose another --objective, or leave --fast out")


def check_venues(venues: Sequence[Venue], candles: Sequence[Candles], modes: Sequence[str], settings: Settings) -> None:
    """Refuse what a batch does not know of these venues.

    Raises:
        ConfigurationError, FeedError: see `batch.simulate`.
    """
    for venue in venues:
        market = Market(candles, venue, settings.path)
        for mode in modes:
            market.check(Account(0, 1.0, mode, settings.cash))


def check_signals(spec: StrategySpec, candles: Sequence[Candles], params: Mapping[str, Any]) -> None:
    """Refuse signals that change when later candles come, looked for at bars spread evenly and at those where they change.

    Raises:
        ConfigurationError: they do; the text names the first bar.
        StrategyFileError: they cannot be used.
    """
    whole = signals(spec, candles, params)
    changes = np.flatnonzero((whole[1:] != whole[:-1]).any(axis=1)) + 2
    there = [len(whole) * cut // (CUTS + 1) for cut in range(1, CUTS + 1)]
    there += changes[np.linspace(0, len(changes) - 1, min(CUTS, len(changes)), dtype=int)].tolist()
    for bars in sorted({bars for bars in there if bars}):
        early = signals(spec, [one._replace(frame=one.frame.iloc[:bars]) for one in candles], params)
        known = whole[:bars]
        differ = np.flatnonzero(~((known == early) | (np.isnan(known) & np.isnan(early))).all(axis=1))
        if len(differ):
            at = format_time(candles[0].frame.index[differ[0]].value // 1_000_000)
            raise ConfigurationError(
                f"{spec.name}.signals looks ahead: at {at} it wants {_told(known[differ[0]])} with later candles, "
                f"{_told(early[differ[0]])} without; use what is known at a bar's end alone"
            )


def _told(sizes: Any) -> str:
    return ", ".join(f"{size:g}" for size in sizes)


def signals(spec: StrategySpec, candles: Sequence[Candles], params: Mapping[str, Any]) -> Any:
    """Return the sizes a strategy wants, shape (bars, markets), float64.

    Raises:
        StrategyFileError: its `signals` raised an exception, or returned something else.
    """
    given = {**dict(spec.strategy.params._getitems()), **params}
    frames = {one.symbol: one.frame.copy(deep=False) for one in candles}
    try:
        inspect.signature(spec.strategy.signals).bind(frames, **given)
    except TypeError as error:
        names = ", ".join(given)
        raise StrategyFileError(
            f"{spec.name}.signals does not take the candles and the params {names}: {error}; let it take all of them, or **params"
        ) from error
    try:
        found = spec.strategy.signals(frames, **given)
    except (Exception, SystemExit) as error:
        raise StrategyFileError(f"{spec.name}.signals failed: {where(error, spec.file)}") from error
    if isinstance(found, pd.DataFrame):
        missing = [symbol for symbol in frames if symbol not in found]
        if missing:
            raise StrategyFileError(f"{spec.name}.signals returned a frame without a column {missing[0]!r}")
        found = found[list(frames)]
    try:
        sizes = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StrategyFileError(f"{spec.name}.signals returned {type(found).__name__} that holds no numbers") from error
    if not sizes.ndim:
        raise StrategyFileError(f"{spec.name}.signals returned {type(found).__name__}, which is no array of sizes")
    bars, markets = len(candles[0].frame), len(candles)
    shaped = sizes[:, None] if sizes.ndim == 1 else sizes
    if shaped.shape != (bars, markets):
        raise StrategyFileError(
            f"{spec.name}.signals returned the shape {sizes.shape} for {bars} bars of {markets} markets; give a size for every bar, "
            "NaN where nothing is wanted"
        )
    return shaped


def figures_of(
    sizes: Any, market: Market, *, mode: str, settings: Settings, trade_from_ms: int | None
) -> dict[str, float | None]:
    """Return the figures of a row: those of a run of the broker towards the same sizes, but for UNKNOWN.

    Before `trade_from_ms` nothing is wanted.

    Raises:
        ConfigurationError: see `batch.simulate`.
    """
    times = market.times_ms
    first = 0 if trade_from_ms is None else int(np.searchsorted(times, trade_from_ms))
    sizes = sizes.copy()
    sizes[:first] = np.nan
    account = Account(0, settings.leverage, mode, settings.cash)
    (found,) = simulation.follow(market, [sizes], [account], curves=True)
    curve = figures.performance(times[first:], found.curve[first:], settings.cash)
    told = {
        **curve._asdict(), "final_equity": found.equity, "fills": found.fills, "refused": found.refused,
        "liquidations": found.liquidations, "bad_debt": found.bad_debt, "fees": found.fees, "funding": found.funding,
        "interest": 0.0, "total_return": (found.equity - settings.cash) / settings.cash,
    }  # fmt: skip
    return {name: None if told.get(name) is None else float(told[name]) for name in FIGURES}


_READY: list[tuple[Any, Venue, Market]] = []


def market_of(key: Any, candles: Sequence[Candles], venue: Venue, path: str) -> Market:
    """Return the market of these candles, made ready once a process for runs that follow one another.

    Raises:
        ConfigurationError, FeedError: see `batch.simulate`.
    """
    for known, its_venue, ready in _READY:
        if known == (key, path) and its_venue == venue:
            return ready
    ready = Market(candles, venue, path)
    _READY[:] = [((key, path), venue, ready)]
    return ready
