# SPDX-License-Identifier: GPL-3.0-or-later
"""Stress tests: the comparison repeated with one input worsened at a time, and the conclusions that change.

Assumption: the sizes of the shocks are our choice; the report states each one.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import MARKS
from crossmargin_bt.compare.runs import Settings, run
from crossmargin_bt.compare.strategies import StrategySpec
from crossmargin_bt.engine.terms.rates import (
    LinearRate,
    MaintenanceRule,
    PowerRate,
    ShareTable,
    SizeRate,
    TierTable,
)
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.errors import CrossMarginError
from crossmargin_bt.results import RunOutcome, RunResult, Shock
from crossmargin_bt.venues import Venue, load_with

FUNDING_FACTOR = 3.0
STRESS_SLIPPAGE = 0.001
MAINTENANCE_FACTOR = 1.5
WICK_EXTENSION = 0.5
"""Distance by which highs and lows are moved outwards, as a fraction of the bar's range."""


class StressScenario(NamedTuple):
    """One worsened input, as functions that change settings, candles or the rules of every period."""

    name: str
    what: str
    settings: Callable[[Settings], Settings] = lambda settings: settings
    candles: Callable[[Candles], Candles] = lambda candles: candles
    rules: Callable[[Rules], Rules] = lambda rules: rules


def stress_scenarios(candles: Sequence[Candles]) -> list[StressScenario]:
    """Return the scenarios that apply to these candles; funding only if the data contain it."""
    scenarios = [
        StressScenario("fees", "all fees doubled, rebates removed", candles=_with_fees, rules=_rules_with_fees),
        StressScenario("funding", f"all funding rates x {FUNDING_FACTOR:g}, paid and received", candles=_with_funding),
        StressScenario(
            "slippage",
            f"slippage of {STRESS_SLIPPAGE:.1%} of the price on market orders, stops and forced closes",
            settings=lambda settings: settings._replace(slippage=STRESS_SLIPPAGE),
        ),
        StressScenario(
            "tiers",
            f"maintenance rates x {MAINTENANCE_FACTOR:g}, capped at the initial rate, including options and debts (portfolio margin scenarios unchanged)",
            candles=_with_tiers,
            rules=_rules_with_tiers,
        ),
        StressScenario(
            "worse path",
            "every position meets its adverse extreme first within a bar (--path adverse)",
            settings=lambda settings: settings._replace(path="adverse"),
        ),
        StressScenario(
            "longer wicks",
            f"highs and lows moved outwards by {WICK_EXTENSION:.0%} of the bar's range",
            candles=_with_wicks,
        ),
    ]
    has_funding = any(one.funding is not None or "funding_rate" in one.frame for one in candles)
    return [one for one in scenarios if one.name != "funding" or has_funding]


def run_stress(
    scenario: StressScenario,
    base: Sequence[RunResult],
    specs: Sequence[StrategySpec],
    candles: Sequence[Candles],
    *,
    modes: Sequence[str],
    tiers_of: Mapping[str, Path | None],
    settings: Settings,
    on_run: Callable[[str], None] = lambda _: None,
    on_bar: Callable[[], None] | None = None,
) -> Shock:
    """Repeat a comparison under a stress scenario; a failed run is an outcome with the reason.

    `base` are the results of the unchanged comparison.
    """
    outcomes = []
    stressed = [scenario.candles(one) for one in candles]
    changed = scenario.settings(settings)
    for spec in specs:
        for venue, file in tiers_of.items():
            book = load_with(venue, file).with_rules(scenario.rules)
            for mode in modes:
                on_run(f"{spec.name} {mode} {book.name}, {scenario.name}")
                outcomes.append(_stressed_outcome(spec, stressed, book, mode, settings=changed, on_bar=on_bar))
    return Shock(
        name=scenario.name,
        what=scenario.what,
        outcomes=outcomes,
        changes=changed_conclusions([*map(run_outcome, base)], outcomes),
    )


def _stressed_outcome(
    spec: StrategySpec,
    candles: Sequence[Candles],
    venue: Venue,
    mode: str,
    *,
    settings: Settings,
    on_bar: Callable[[], None] | None,
) -> RunOutcome:
    try:
        result = run(spec.reimported(), candles, venue=venue, mode=mode, settings=settings, on_bar=on_bar, detail=False)
    except CrossMarginError as error:
        return _failed(spec.name, venue.name, mode, str(error))
    return run_outcome(result)


def run_outcome(result: RunResult) -> RunOutcome:
    """Return the figures of a run that conclusions are based on."""
    final = result.equity[-1] if result.equity else result.starting_cash
    return RunOutcome(
        strategy=result.strategy, venue=result.venue, mode=result.mode, final_equity=final,
        profit=final - result.starting_cash, liquidations=result.liquidations, refused=result.refused,
        lowest_margin_level=result.lowest_margin_level,
    )  # fmt: skip


def _failed(strategy: str, venue: str, mode: str, reason: str) -> RunOutcome:
    return RunOutcome(
        strategy=strategy, venue=venue, mode=mode, final_equity=0.0, profit=0.0, liquidations=0, refused=0,
        lowest_margin_level=None, failed=reason,
    )  # fmt: skip


def changed_conclusions(base: Sequence[RunOutcome], shocked: Sequence[RunOutcome]) -> list[str]:
    """Return the conclusions of `base` that do not hold in `shocked`, the same runs in the same order.

    Conclusions are: the mode with the highest final equity, among all modes and among margin modes; whether a run is
    profitable; whether it is liquidated.
    """
    changes = []
    for strategy in dict.fromkeys(one.strategy for one in base):
        pairs = [(a, b) for a, b in zip(base, shocked, strict=True) if a.strategy == strategy]
        completed = [(a, b) for a, b in pairs if not b.failed]
        changes += [f"{_name(b, pairs)} fails: {b.failed}" for _, b in pairs if b.failed]
        changes += _changed_winner(strategy, completed, pairs, "")
        margin = [(a, b) for a, b in completed if b.mode != "cash"]
        if 1 < len(margin) < len(completed):
            changes += _changed_winner(strategy, margin, pairs, "among margin modes, ")
        for a, b in completed:
            if (round(a.profit, 2) > 0) != (round(b.profit, 2) > 0):
                changes.append(
                    f"{_name(b, pairs)} {'makes a profit' if b.profit > 0 else 'makes a loss'} ({b.profit:+,.2f})"
                )
            if bool(a.liquidations) != bool(b.liquidations):
                what = f"is liquidated ({b.liquidations} times)" if b.liquidations else "is no longer liquidated"
                changes.append(f"{_name(b, pairs)} {what}")
    return changes


def _changed_winner(
    strategy: str,
    completed: Sequence[tuple[RunOutcome, RunOutcome]],
    pairs: Sequence[tuple[RunOutcome, RunOutcome]],
    scope: str,
) -> list[str]:
    """Return a sentence if another mode has the highest final equity."""
    before, after = _highest([a for a, _ in completed]), _highest([b for _, b in completed])
    if not completed or {(one.mode, one.venue) for one in before} & {(one.mode, one.venue) for one in after}:
        return []
    new, old = (" and ".join(_short(one, pairs) for one in group) for group in (after, before))
    ends = "end" if len(after) > 1 else "ends"
    return [f"{strategy}: {scope}{new} {ends} highest ({after[0].final_equity:,.2f}), previously {old}"]


def _highest(outcomes: Sequence[RunOutcome]) -> list[RunOutcome]:
    """Return the outcomes with the highest final equity, rounded to the cent."""
    top = max((round(one.final_equity, 2) for one in outcomes), default=0.0)
    return [one for one in outcomes if round(one.final_equity, 2) == top]


def _short(one: RunOutcome, pairs: Sequence[tuple[RunOutcome, RunOutcome]]) -> str:
    several = len({b.venue for _, b in pairs}) > 1
    return f"{one.mode} {one.venue}" if several else one.mode


def _name(one: RunOutcome, pairs: Sequence[tuple[RunOutcome, RunOutcome]]) -> str:
    return f"{one.strategy}: {_short(one, pairs)}"


def _double_fee(fee: float) -> float:
    return fee + abs(fee)


def _with_fees(candles: Candles) -> Candles:
    own = candles.instrument
    given = {key: _double_fee(getattr(own, key)) for key in ("maker", "taker") if getattr(own, key) is not None}
    return candles._replace(instrument=msgspec.structs.replace(own, **given))


def _rules_with_fees(rules: Rules) -> Rules:
    fees = {key: _double_fee(getattr(rules, key)) for key in ("maker", "taker", "liquidation_fee")}
    options = tuple(
        msgspec.structs.replace(terms, fee=_double_fee(terms.fee), fee_cap=_double_fee(terms.fee_cap))
        for terms in rules.options
    )
    return msgspec.structs.replace(rules, **fees, options=options)


def _with_funding(candles: Candles) -> Candles:
    frame = candles.frame
    if "funding_rate" in frame:
        frame = frame.assign(funding_rate=FUNDING_FACTOR * frame["funding_rate"])
    return candles._replace(frame=frame, funding=None if candles.funding is None else FUNDING_FACTOR * candles.funding)


def _with_tiers(candles: Candles) -> Candles:
    own = candles.instrument.maintenance
    if own is None:
        return candles
    return candles._replace(
        instrument=msgspec.structs.replace(candles.instrument, maintenance=stricter_maintenance(own))
    )


def _rules_with_tiers(rules: Rules) -> Rules:
    contracts = tuple(
        msgspec.structs.replace(
            terms,
            maintenance=stricter_maintenance(terms.maintenance),
            isolated=None if terms.isolated is None else stricter_maintenance(terms.isolated),
        )
        for terms in rules.contracts
    )
    options = tuple(
        msgspec.structs.replace(
            terms, maintenance=min(max(terms.initial, terms.maintenance), MAINTENANCE_FACTOR * terms.maintenance)
        )
        for terms in rules.options
    )
    debts = rules.borrowing
    if debts is not None:
        debts = msgspec.structs.replace(debts, maintenance=stricter_maintenance(debts.maintenance))
    return msgspec.structs.replace(
        rules,
        maintenance=stricter_maintenance(rules.maintenance),
        contracts=contracts,
        options=options,
        borrowing=debts,
    )


def stricter_maintenance(rule: MaintenanceRule) -> MaintenanceRule:
    """Return the rule with `MAINTENANCE_FACTOR` times the maintenance rate, capped at the initial rate."""
    k = MAINTENANCE_FACTOR
    if isinstance(rule, TierTable):
        tiers = (
            msgspec.structs.replace(one, maintenance_rate=min(k * one.maintenance_rate, one.initial_floor or 1.0))
            for one in rule.tiers
        )
        return TierTable(tuple(tiers), rule.marginal, rule.measure)
    if isinstance(rule, ShareTable):
        return msgspec.structs.replace(rule, share=min(1.0, k * rule.share))
    if isinstance(rule, LinearRate):
        return msgspec.structs.replace(rule, maintenance=min(rule.initial, k * rule.maintenance))
    if isinstance(rule, SizeRate):
        k = min(k, rule.initial_factor)
        return SizeRate(
            rule.doubling, rule.leverage_constant / k, k * rule.cap, rule.initial_factor / k, rule.open_constant
        )
    k = min(k, rule.initial_factor)
    return PowerRate(k * rule.base, k * rule.factor, rule.exponent, rule.initial_factor / k, rule.measure)


def _with_wicks(candles: Candles) -> Candles:
    frame = candles.frame.copy()
    for high, low in (("high", "low"), (MARKS[1], MARKS[2])):
        if high in frame:
            distance = WICK_EXTENSION * (frame[high] - frame[low])
            # Lows are limited to half their value so that prices stay positive.
            frame[low] = (frame[low] - distance).clip(lower=frame[low] / 2)
            frame[high] = frame[high] + distance
    return candles._replace(frame=frame)
