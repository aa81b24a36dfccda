# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison again with one thing made worse at a time, and which of its conclusions no longer hold.

The sizes of the shocks are ours, and each is told with what it changes.
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
    Tier,
    TierTable,
)
from crossmargin_bt.errors import CrossMarginError
from crossmargin_bt.results import Outcome, RunResult, Shock
from crossmargin_bt.venues import Venue
from crossmargin_bt.venues.tiers import load_with

FUNDING = 3.0
SLIPPAGE = 0.001
MAINTENANCE = 1.5
WICK = 0.5
"""By how much of a bar's range its extremes reach further out."""


class Stress(NamedTuple):
    """One thing made worse."""

    name: str
    what: str
    settings: Callable[[Settings], Settings] = lambda settings: settings
    candles: Callable[[Candles], Candles] = lambda candles: candles
    venue: Callable[[Venue], Venue] = lambda venue: venue


def shocks(candles: Sequence[Candles]) -> list[Stress]:
    """Return the shocks that can be dealt to these candles: funding only where there is any."""
    found = [
        Stress("fees", "all fees doubled, rebates gone", candles=_with_fees, venue=_venue_with_fees),
        Stress("funding", f"every funding rate x {FUNDING:g}, paid and received", candles=_with_funding),
        Stress(
            "slippage",
            f"market orders and stops give away {SLIPPAGE:.1%} of the price, forced closes too",
            settings=lambda settings: settings._replace(slippage=SLIPPAGE),
        ),
        Stress(
            "tiers",
            f"maintenance rates x {MAINTENANCE:g}, at most the initial rate, of options and debts too (not the scenarios of portfolio margin)",
            candles=_with_tiers,
            venue=_venue_with_tiers,
        ),
        Stress(
            "worse path",
            "within a bar every position meets its worse extreme first (--path adverse)",
            settings=lambda settings: settings._replace(path="adverse"),
        ),
        Stress(
            "longer wicks", f"every high and low reaches {WICK:.0%} of the bar's range further out", candles=_with_wicks
        ),
    ]
    paid = any(one.funding is not None or "funding_rate" in one.frame for one in candles)
    return [one for one in found if one.name != "funding" or paid]


def stressed(
    shock: Stress,
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
    """Run a comparison again under a shock; a run that fails is an outcome with its reason.

    `base` are the runs without it.
    """
    outcomes = []
    harmed = [shock.candles(one) for one in candles]
    changed = shock.settings(settings)
    for spec in specs:
        for venue, file in tiers_of.items():
            book = shock.venue(load_with(venue, file))
            for mode in modes:
                on_run(f"{spec.name} {mode} {book.name}, {shock.name}")
                try:
                    result = run(
                        spec.fresh(), harmed, venue=book, mode=mode, settings=changed, on_bar=on_bar, detail=False
                    )
                except CrossMarginError as error:
                    outcomes.append(_failed(spec.name, book.name, mode, str(error)))
                else:
                    outcomes.append(outcome(result))
    return Shock(name=shock.name, what=shock.what, outcomes=outcomes, changes=changes([*map(outcome, base)], outcomes))


def outcome(result: RunResult) -> Outcome:
    """Return what a run came to."""
    final = result.equity[-1] if result.equity else result.starting_cash
    return Outcome(
        strategy=result.strategy, venue=result.venue, mode=result.mode, final_equity=final,
        profit=final - result.starting_cash, liquidations=result.liquidations, refused=result.refused,
        lowest_margin_level=result.lowest_margin_level,
    )  # fmt: skip


def _failed(strategy: str, venue: str, mode: str, reason: str) -> Outcome:
    return Outcome(
        strategy=strategy, venue=venue, mode=mode, final_equity=0.0, profit=0.0, liquidations=0, refused=0,
        lowest_margin_level=None, failed=reason,
    )  # fmt: skip


def changes(base: Sequence[Outcome], shocked: Sequence[Outcome]) -> list[str]:
    """Return the conclusions of `base` that the other outcomes, of the same runs in the same order, do not bear out.

    A conclusion is: which mode ends highest, and which of the margin modes, whether a run earns, and whether it is liquidated.
    """
    found = []
    for strategy in dict.fromkeys(one.strategy for one in base):
        pairs = [(a, b) for a, b in zip(base, shocked, strict=True) if a.strategy == strategy]
        stood = [(a, b) for a, b in pairs if not b.failed]
        found += [f"{_name(b, pairs)} no longer runs: {b.failed}" for _, b in pairs if b.failed]
        found += _turned(strategy, stood, pairs, "")
        margin = [(a, b) for a, b in stood if b.mode != "cash"]
        if 1 < len(margin) < len(stood):
            found += _turned(strategy, margin, pairs, "of the margin modes ")
        for a, b in stood:
            if (round(a.profit, 2) > 0) != (round(b.profit, 2) > 0):
                found.append(f"{_name(b, pairs)} {'earns' if b.profit > 0 else 'loses'} ({b.profit:+,.2f})")
            if bool(a.liquidations) != bool(b.liquidations):
                what = f"is liquidated ({b.liquidations} times)" if b.liquidations else "is no longer liquidated"
                found.append(f"{_name(b, pairs)} {what}")
    return found


def _turned(
    strategy: str, stood: Sequence[tuple[Outcome, Outcome]], pairs: Sequence[tuple[Outcome, Outcome]], of: str
) -> list[str]:
    """Return that another ends highest, where one does."""
    before, after = _highest([a for a, _ in stood]), _highest([b for _, b in stood])
    if not stood or {(one.mode, one.venue) for one in before} & {(one.mode, one.venue) for one in after}:
        return []
    new, old = (" and ".join(_short(one, pairs) for one in group) for group in (after, before))
    ends = "end" if len(after) > 1 else "ends"
    return [f"{strategy}: {of}{new} {ends} highest ({after[0].final_equity:,.2f}), no longer {old}"]


def _highest(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return those that end highest, to the cent."""
    top = max((round(one.final_equity, 2) for one in outcomes), default=0.0)
    return [one for one in outcomes if round(one.final_equity, 2) == top]


def _short(one: Outcome, pairs: Sequence[tuple[Outcome, Outcome]]) -> str:
    several = len({b.venue for _, b in pairs}) > 1
    return f"{one.mode} {one.venue}" if several else one.mode


def _name(one: Outcome, pairs: Sequence[tuple[Outcome, Outcome]]) -> str:
    return f"{one.strategy}: {_short(one, pairs)}"


def _dearer(fee: float) -> float:
    return fee + abs(fee)


def _with_fees(candles: Candles) -> Candles:
    own = candles.instrument
    given = {key: _dearer(getattr(own, key)) for key in ("maker", "taker") if getattr(own, key) is not None}
    return candles._replace(instrument=msgspec.structs.replace(own, **given))


def _venue_with_fees(venue: Venue) -> Venue:
    rules = venue.rules
    fees = {key: _dearer(getattr(rules, key)) for key in ("maker", "taker", "liquidation_fee")}
    options = tuple(
        msgspec.structs.replace(terms, fee=_dearer(terms.fee), fee_cap=_dearer(terms.fee_cap))
        for terms in rules.options
    )
    return msgspec.structs.replace(venue, rules=msgspec.structs.replace(rules, **fees, options=options))


def _with_funding(candles: Candles) -> Candles:
    frame = candles.frame
    if "funding_rate" in frame:
        frame = frame.assign(funding_rate=FUNDING * frame["funding_rate"])
    return candles._replace(frame=frame, funding=None if candles.funding is None else FUNDING * candles.funding)


def _with_tiers(candles: Candles) -> Candles:
    own = candles.instrument.maintenance
    if own is None:
        return candles
    return candles._replace(instrument=msgspec.structs.replace(candles.instrument, maintenance=stricter(own)))


def _venue_with_tiers(venue: Venue) -> Venue:
    rules = venue.rules
    contracts = tuple(
        msgspec.structs.replace(
            terms,
            maintenance=stricter(terms.maintenance),
            isolated=None if terms.isolated is None else stricter(terms.isolated),
        )
        for terms in rules.contracts
    )
    options = tuple(
        msgspec.structs.replace(
            terms, maintenance=min(max(terms.initial, terms.maintenance), MAINTENANCE * terms.maintenance)
        )
        for terms in rules.options
    )
    debts = rules.borrowing
    if debts is not None:
        debts = msgspec.structs.replace(debts, maintenance=stricter(debts.maintenance))
    changed = msgspec.structs.replace(
        rules, maintenance=stricter(rules.maintenance), contracts=contracts, options=options, borrowing=debts
    )
    return msgspec.structs.replace(venue, rules=changed)


def stricter(rule: MaintenanceRule) -> MaintenanceRule:
    """Return a rule that keeps `MAINTENANCE` times as much, at most what opening asks."""
    k = MAINTENANCE
    if isinstance(rule, TierTable):
        tiers = (
            Tier(one.notional_min, min(k * one.maintenance_rate, 1 / (one.leverage_max or 1.0)), one.leverage_max)
            for one in rule.tiers
        )
        return TierTable(tuple(tiers), rule.marginal)
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
            reach = WICK * (frame[high] - frame[low])
            # A price stays above zero however long the wick.
            frame[low] = (frame[low] - reach).clip(lower=frame[low] / 2)
            frame[high] = frame[high] + reach
    return candles._replace(frame=frame)
