# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a strategy on candles under one venue and margin mode."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import backtrader as bt
import msgspec

from crossmargin_bt import feeds
from crossmargin_bt.broker import CrossMarginBroker
from crossmargin_bt.broker.analyzers import Recorder
from crossmargin_bt.broker.api.commission import CashCommission
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.cerebro import Cerebro
from crossmargin_bt.compare.data_warnings import data_warnings
from crossmargin_bt.compare.strategies import StrategySpec, describe_exception
from crossmargin_bt.compare.warmup import with_warmup
from crossmargin_bt.engine.terms.rules import ContractTerms, start_ms
from crossmargin_bt.errors import CrossMarginError, FeedError, StrategyFileError
from crossmargin_bt.results import LiquidationPrices, RunResult
from crossmargin_bt.venues import Venue

MODE_ALIASES = {"multi_currency": ("cross", "multi_currency")}
"""Mode names of comparisons beyond the broker's own: (mode of the broker, pooling)."""


class Settings(NamedTuple):
    """The settings common to all runs of a comparison.

    `cash` is in `currency`, `interest_rates` are annual rates by currency, `slippage` is a fraction of the price.
    """

    cash: float = 10_000.0
    leverage: float = 5.0
    path: str = "path"
    currency: str = "USDT"
    check: bool = False
    interest_rates: dict[str, float] | None = None
    slippage: float = 0.0


def run(
    spec: StrategySpec,
    candles: Sequence[Candles],
    *,
    venue: str | Venue,
    mode: str,
    settings: Settings,
    tiers: Path | None = None,
    on_bar: Callable[[], None] | None = None,
    trade_from_ms: int | None = None,
    detail: bool = True,
) -> RunResult:
    """Run the strategy and return its result.

    `tiers` is a file of tier tables by date. The strategy class may define `position_mode = "hedge"`. Cash mode uses the
    stock broker, which pays for positions in full, at the venue's taker fee. Before `trade_from_ms` only indicators are
    computed: the strategy is not called and nothing is recorded. Without `detail` margin level, exposure and liquidation
    prices are not recorded.

    Raises:
        ConfigurationError: an unknown venue or mode, or a setting out of range.
        FeedError: invalid candles, or fewer feeds than the strategy uses.
        StrategyFileError: the strategy raised an exception.
    """
    cerebro = build_cerebro(
        spec, candles, venue=venue, mode=mode, settings=settings, tiers=tiers, trade_from_ms=trade_from_ms
    )
    cerebro.addanalyzer(Recorder, _name="record", on_bar=on_bar, since_ms=trade_from_ms, detail=detail)
    record = run_cerebro(cerebro, spec, len(candles)).analyzers.record.get_analysis()
    return build_result(record, cerebro.broker, spec, candles, mode=mode, settings=settings, tiers=tiers)


def run_all(
    specs: Sequence[StrategySpec],
    candles: Sequence[Candles],
    *,
    modes: Sequence[str],
    tiers_of: Mapping[str, Path | None],
    settings: Settings,
    detail: bool = True,
    on_run: Callable[[str], None] = lambda _: None,
    on_bar: Callable[[], None] | None = None,
) -> list[RunResult]:
    """Run every strategy under every venue and mode.

    `tiers_of` maps each venue to its file of tier tables or None. `on_run` is called with the name of each run before it.

    Raises:
        ConfigurationError, FeedError, StrategyFileError: see `run`.
    """
    results = []
    for spec in specs:
        for venue, tiers in tiers_of.items():
            for mode in modes:
                on_run(f"{spec.name} {mode} {venue}")
                results.append(
                    run(
                        spec.reimported(),
                        candles,
                        venue=venue,
                        mode=mode,
                        settings=settings,
                        tiers=tiers,
                        on_bar=on_bar,
                        detail=detail,
                    )
                )
    return results


def build_cerebro(
    spec: StrategySpec,
    candles: Sequence[Candles],
    *,
    venue: str | Venue,
    mode: str,
    settings: Settings,
    tiers: Path | None = None,
    trade_from_ms: int | None = None,
) -> bt.Cerebro:
    """Return a `Cerebro` with broker, feeds and strategy, ready to run.

    Raises:
        ConfigurationError, FeedError: see `run`.
    """
    broker = _broker(spec, venue=venue, mode=mode, settings=settings, tiers=tiers)
    cerebro: bt.Cerebro = Cerebro(stdstats=False)
    cerebro.setbroker(broker)
    info: Any = CashCommission
    for one in candles:
        cerebro.adddata(feeds.from_frame(one.frame, name=one.symbol, instrument=one.instrument, funding=one.funding))
        if mode == "cash":
            # The stock broker has one fee a run: that of the first bar.
            rules = broker.venue.at(one.frame.index[0].to_pydatetime()).rules
            taker = rules.taker if one.instrument.taker is None else one.instrument.taker
            broker.addcommissioninfo(info(instrument=one.instrument, commission=taker), name=one.symbol)
    cerebro.addstrategy(
        spec.strategy if trade_from_ms is None else with_warmup(spec.strategy, trade_from_ms), **spec.params
    )
    return cerebro


def _broker(
    spec: StrategySpec, *, venue: str | Venue, mode: str, settings: Settings, tiers: Path | None
) -> CrossMarginBroker:
    margin_mode, pooling = MODE_ALIASES.get(mode, (mode, "single_currency"))
    broker: Any = CrossMarginBroker  # it checks its settings itself and names an unknown value
    built: CrossMarginBroker = broker(
        cash=settings.cash,
        venue=venue,
        mode=margin_mode,
        pooling=pooling,
        interest_rates=settings.interest_rates,
        leverage=settings.leverage,
        position_mode=spec.position_mode,
        path=settings.path,
        currency=settings.currency,
        tiers=tiers,
        check=settings.check,
        slip_perc=settings.slippage,
        # By default backtrader applies no slippage to fills at the open and caps other fills at the bar's range.
        slip_open=settings.slippage > 0,
        slip_out=settings.slippage > 0,
    )
    return built


def build_result(
    record: dict[str, Any],
    broker: CrossMarginBroker,
    spec: StrategySpec,
    candles: Sequence[Candles],
    *,
    mode: str,
    settings: Settings,
    tiers: Path | None = None,
) -> RunResult:
    """Return the result of a run from the analysis of its `Recorder`."""
    rules = broker.venue
    # In portfolio mode the broker takes a missing `underlying` from the symbol.
    traded = {} if broker.account is None else {name: book.instrument for name, book in broker.account.books.items()}
    curves = {**record, "liquidation_prices": LiquidationPrices(**record["liquidation_prices"])}
    return RunResult(
        strategy=spec.name,
        venue=rules.name,
        mode=mode,
        position_mode=spec.position_mode,
        params=spec.params,
        leverage=settings.leverage,
        path=settings.path,
        currency=settings.currency,
        starting_cash=settings.cash,
        assumptions=[
            *rules.at(candles[0].frame.index[0].to_pydatetime()).assumed,
            *(text for one in candles for text in one.assumptions),
            *_early_rule_notes(rules, candles),
            *_dated_tier_notes(rules, candles, tiers),
        ],
        warnings=data_warnings(candles),
        rules=msgspec.to_builtins(rules.rules.of_contracts([one.instrument.symbol for one in candles])),
        instruments=[msgspec.to_builtins(traded.get(one.instrument.symbol, one.instrument)) for one in candles],
        **curves,
    )


def _early_rule_notes(venue: Venue, candles: Sequence[Candles]) -> list[str]:
    """Return the assumption of a run that begins before the first day on which the venue's rules are established."""
    first_ms = min(one.frame.index[0].timestamp() * 1000 for one in candles)
    if venue.known_since is None or first_ms >= start_ms(venue.known_since):
        return []
    return [
        f"the rules of {venue.name} are established from {venue.known_since} on; before that day the run uses those of that day"
    ]


def _dated_tier_notes(venue: Venue, candles: Sequence[Candles], file: Path | None) -> list[str]:
    """Return assumptions about dated tiers: which dates and sources apply, and use before the first date."""
    texts = []
    for one in candles:
        terms = [] if one.instrument.maintenance else venue.rules.terms(one.symbol)
        first_ms, last_ms = (one.frame.index[at].timestamp() * 1000 for at in (0, -1))
        dated = [term for term in _in_force(terms, first_ms, last_ms) if term.since]
        if file is not None and not dated and not one.instrument.maintenance:
            texts.append(f"{one.symbol}: {file} has no tiers for it; the venue's own tiers apply")
        if dated:
            dates = ", ".join(str(term.since) for term in dated)
            sources = ", ".join(dict.fromkeys(term.source for term in dated if term.source))
            early = dated[0].since_ms > first_ms and dated[0] is terms[0]
            before = f"; those of {dated[0].since} are also used before that date" if early else ""
            texts.append(f"{one.symbol}: tiers by date ({dates}) from {file or sources}{before}")
    return texts


def _in_force(terms: Sequence[ContractTerms], first_ms: float, last_ms: float) -> list[ContractTerms]:
    """Return the terms of a contract in force on some day of a run; the oldest also before their date."""
    later = [*(one.since_ms for one in terms[1:]), math.inf]
    return [
        one
        for number, (one, end) in enumerate(zip(terms, later, strict=False))
        if end > first_ms and (one.since_ms <= last_ms or not number)
    ]


def run_cerebro(cerebro: bt.Cerebro, spec: StrategySpec, count: int) -> bt.Strategy:
    """Run a `Cerebro` over `count` feeds and return its strategy.

    Raises:
        FeedError, StrategyFileError: see `run`.
    """
    try:
        strategies = cerebro.run()
    except CrossMarginError:
        raise
    except IndexError as error:
        bars = max((data.buflen() for data in cerebro.datas), default=0)
        text = f"{spec.name} failed: {describe_exception(error, spec.file)}; there are {count} feeds of {bars} bars"
        raise FeedError(f"{text}: does it use more feeds, or an indicator more bars?") from error
    except Exception as error:
        raise StrategyFileError(
            f"{spec.name} failed: {describe_exception(error, spec.file)}; --debug shows the traceback"
        ) from error
    if not strategies:
        raise StrategyFileError(f"{spec.name} asked to be skipped (StrategySkipError)")
    return strategies[0]
