# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer of a comparison in sentences, and first what should make a reader doubt it."""

from collections.abc import Sequence
from typing import Any

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report.curves import is_forced
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.rows import by_strategy, names
from crossmargin_bt.results import Market, ResultFile, RunResult

# An account that keeps less than this part of its start is told as lost.
LOST = 0.01
# What cash mode may hold of its equity before it is told: shorts may be as large as they like there.
HELD_BY_CASH = 1.5
WARNINGS = ("warning", "orders_cancelled", "margin_call")


def answers(results: Sequence[RunResult]) -> list[str]:
    """Return what became of one strategy under every mode: a sentence on which ended highest, then one a run."""
    called = list(zip(names(results), results, strict=True))
    lines = []
    if len(results) > 1:
        ends = sorted(((_final(result), name) for name, result in called), key=lambda pair: -pair[0])
        top = f"{ends[0][0]:,.2f}"
        first = [name for value, name in ends if f"{value:,.2f}" == top]
        rest = ", ".join(f"{value:,.2f} with {name}" for value, name in ends[len(first) :])
        against = f", against {rest}" if rest else ""
        how = "ended highest" if rest else "ended alike"
        lines.append(f"{listing(first)} {how}: {top} {results[0].currency}{against}.")
    lines += [_became(name, result) for name, result in called]
    return [f"{line[:1].upper()}{line[1:]}" for line in lines]


def listing(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    >>> listing(["cash"]), listing(["cash", "isolated", "cross"])
    ('cash', 'cash, isolated and cross')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _became(name: str, result: RunResult) -> str:
    """Return what became of one run."""
    figures = summarise(result)
    text = f"{name} ended at {figures.final_equity:,.2f} {result.currency} ({figures.total_return:+.1%})"
    fate = []
    taken = [entry for entry in result.journal if entry["event"] == "Liquidated"]
    if taken:
        times = "once" if len(taken) == 1 else f"{len(taken)} times"
        first = "" if len(taken) == 1 else "first "
        fate.append(f"was liquidated {times}, {first}{_liquidation(taken[0])}")
    elif result.mode != "cash":
        fate.append("was never liquidated")
    if result.bad_debt:
        fate.append(f"left {result.bad_debt:,.2f} of bad debt to others")
    warned = sum(entry["event"] == "RiskState" and entry["state"] in WARNINGS for entry in result.journal)
    if warned:
        fate.append(f"was warned {warned:,} times" if warned > 1 else "was warned once")
    forced = sum(entry["event"] == "Filled" and is_forced(entry) for entry in result.journal)
    if forced:
        fate.append(f"had {forced:,} of its {result.fills:,} fills forced")
    if result.refused:
        fate.append(f"had {result.refused:,} orders refused" if result.refused > 1 else "had one order refused")
    text += "".join(
        f"{' and ' if n == len(fate) - 1 and n else ', ' if n else '; it '}{one}" for n, one in enumerate(fate)
    )
    if result.lowest_margin_level is not None and not taken:
        when = "" if result.lowest_margin_level_ms is None else f" on {format_time(result.lowest_margin_level_ms)}"
        text += f"; its margin level was lowest{when} with {result.lowest_margin_level:,.0%}"
    return f"{text}."


def _liquidation(entry: dict[str, Any]) -> str:
    legs = " and ".join(f"{leg.removesuffix(':net')} at a mark of {mark:,.6g}" for leg, mark in entry["marks"].items())
    return f"{legs or entry['pool']} on {format_time(entry['time_ms'])}"


def _final(result: RunResult) -> float:
    return result.equity[-1] if result.equity else result.starting_cash


def doubts(file: ResultFile) -> list[str]:
    """Return what a reader must know before the figures: losses, holes in the data, what was assumed, what changes under stress."""
    found = []
    for strategy, results in by_strategy(file.results).items():
        for name, result in zip(names(results), results, strict=True):
            found += [f"{strategy}, {name}: {text}" for text in _harm(result)]
    found += _data(file.markets)
    changed = [f"{shock.name}: {text}" for shock in file.shocks for text in shock.changes]
    if changed:
        found.append(f"Under stress {len(changed)} conclusions change; the first: {changed[0]}.")
    assumed = {text for result in file.results for text in result.assumptions}
    if assumed:
        what = "assumption is" if len(assumed) == 1 else "assumptions are"
        found.append(f"{len(assumed)} {what} in force; they are listed at the end.")
    return found


def _harm(result: RunResult) -> list[str]:
    """Return what went wrong in a run."""
    found = []
    first = next((entry for entry in result.journal if entry["event"] == "Liquidated"), None)
    if first is not None:
        bar = sum(time <= first["time_ms"] for time in result.times_ms)
        found.append(f"liquidated on bar {bar:,} of {len(result.times_ms):,} ({_liquidation(first)})")
    below = next((n for n, value in enumerate(result.equity) if value < 0), None)
    if below is not None:
        found.append(
            f"traded on below zero from {format_time(result.times_ms[below])}, down to {min(result.equity):,.2f}: no exchange allows it"
        )
    elif result.starting_cash and _final(result) < LOST * result.starting_cash:
        found.append(f"lost the account: {_final(result):,.2f} of {result.starting_cash:,.2f} are left")
    if result.bad_debt:
        found.append(f"lost {result.bad_debt:,.2f} {result.currency} more than its collateral")
    if not result.fills:
        found.append("never traded")
    if result.refused > result.fills:
        found.append(
            f"{result.refused:,} orders refused against {result.fills:,} fills: it is not what the strategy asked for"
        )
    if result.mode == "cash":
        gross = _gross(result)
        if gross > HELD_BY_CASH:
            found.append(
                f"held up to {gross:,.1f} times its equity, which cash mode does not ask anything for, nor for funding"
            )
    return found


def _gross(result: RunResult) -> float:
    """Return the largest value of all positions, unsigned, as a multiple of equity where that is above zero."""
    held = [sum(map(abs, values)) for values in zip(*result.exposure.values(), strict=True)]
    return max((value / equity for value, equity in zip(held, result.equity, strict=False) if equity > 0), default=0.0)


def _data(markets: Sequence[Market]) -> list[str]:
    """Return what the data lack."""
    found = []
    for market in markets:
        missing = sum(count for _, _, count in market.holes)
        if missing:
            first, last, _ = market.holes[0]
            where = f"from {format_time(first)} to {format_time(last)}" if first != last else f"at {format_time(first)}"
            more = f" and {len(market.holes) - 1} more holes" if len(market.holes) > 1 else ""
            what = "bar is" if missing == 1 else "bars are"
            found.append(f"{market.symbol}: {missing:,} {what} missing, {where}{more}")
    if markets and not any(market.has_mark for market in markets):
        found.append("There are no mark prices: liquidations were judged by last prices, which reach further.")
    return found
