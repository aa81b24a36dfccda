# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings of a comparison in sentences, and the caveats a reader needs before the figures."""

from collections.abc import Sequence
from typing import Any

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report.curves import is_forced
from crossmargin_bt.report.metric_rows import by_strategy, run_names
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.results import MarketCandles, ResultFile, RunResult

# An account with less than this share of its starting cash left is reported as lost.
LOST_SHARE = 0.01
# Gross exposure over equity above which cash mode gets a caveat: it does not limit short positions.
CASH_EXPOSURE_MAX = 1.5
# Symbols listed by name in a sentence.
SYMBOLS_LISTED = 3
WARNING_STATES = ("warning", "orders_cancelled", "margin_call")


def findings(results: Sequence[RunResult]) -> list[str]:
    """Return the outcome of one strategy: a sentence that ranks the modes by final equity, then one per run."""
    named = list(zip(run_names(results), results, strict=True))
    lines = []
    if len(results) > 1:
        traded = {symbol for result in results for symbol in _own_symbols(result)}
        ends = sorted(
            ((_final_equity(result), f"{name}{_not_as_asked(result, traded)}") for name, result in named),
            key=lambda pair: -pair[0],
        )
        top = f"{ends[0][0]:,.2f}"
        first = [name for value, name in ends if f"{value:,.2f}" == top]
        rest = ", ".join(f"{value:,.2f} with {name}" for value, name in ends[len(first) :])
        against = f", against {rest}" if rest else ""
        how = "ended highest" if rest else "ended equal"
        lines.append(f"{join_words(first)} {how}: {top} {results[0].currency}{against}.")
    lines += [_run_outcome(name, result) for name, result in named]
    return [f"{line[:1].upper()}{line[1:]}" for line in lines]


def _own_symbols(result: RunResult) -> set[str]:
    """Return the symbols that orders of the strategy traded."""
    return {entry["symbol"] for entry in result.journal if entry["event"] == "Filled" and not entry.get("forced")}


def _not_as_asked(result: RunResult, traded: set[str]) -> str:
    """Return, in brackets, how a run's book differs from what the strategy asked for; empty if it does not."""
    parts = []
    if result.refused:
        orders = result.refused + summarise(result).fills
        parts.append(f"{result.refused:,} of {orders:,} orders refused")
    missing = sorted(traded - _own_symbols(result))
    if missing:
        more = f" and {len(missing) - SYMBOLS_LISTED} more" if len(missing) > SYMBOLS_LISTED else ""
        parts.append(f"never traded {', '.join(missing[:SYMBOLS_LISTED])}{more}")
    return f" ({'; '.join(parts)})" if parts else ""


def join_words(words: Sequence[str]) -> str:
    """Join words with commas and "and".

    >>> join_words(["cash"]), join_words(["cash", "isolated", "cross"])
    ('cash', 'cash, isolated and cross')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _run_outcome(name: str, result: RunResult) -> str:
    """Return a sentence on how one run ended."""
    figures = summarise(result)
    text = f"{name} ended at {figures.final_equity:,.2f} {result.currency} ({figures.total_return:+.1%})"
    parts = []
    taken = [entry for entry in result.journal if entry["event"] == "Liquidated"]
    if taken:
        times = "once" if len(taken) == 1 else f"{len(taken)} times"
        first = "" if len(taken) == 1 else "first "
        parts.append(f"was liquidated {times} ({first}{_liquidation(taken[0])})")
    elif result.mode != "cash":
        parts.append("was never liquidated")
    if result.bad_debt:
        parts.append(f"left {result.bad_debt:,.2f} of bad debt")
    warned = sum(entry["event"] == "RiskState" and entry["state"] in WARNING_STATES for entry in result.journal)
    if warned:
        parts.append(f"received {warned:,} warnings" if warned > 1 else "received one warning")
    forced = sum(entry["event"] == "Filled" and is_forced(entry) for entry in result.journal)
    if forced:
        parts.append(f"had {forced:,} forced fills" if forced > 1 else "had one forced fill")
    if result.refused:
        parts.append(f"had {result.refused:,} orders refused" if result.refused > 1 else "had one order refused")
    text += "".join(
        f"{' and ' if n == len(parts) - 1 and n else ', ' if n else '; it '}{one}" for n, one in enumerate(parts)
    )
    if result.lowest_margin_level is not None and not taken:
        when = "" if result.lowest_margin_level_ms is None else f" on {format_time(result.lowest_margin_level_ms)}"
        text += f"; its lowest margin level was {result.lowest_margin_level:,.0%}{when}"
    return f"{text}."


def _liquidation(entry: dict[str, Any]) -> str:
    legs = " and ".join(f"{leg.removesuffix(':net')} at mark price {mark:,.6g}" for leg, mark in entry["marks"].items())
    return f"{legs or entry['pool']} on {format_time(entry['time_ms'])}"


def _final_equity(result: RunResult) -> float:
    return result.equity[-1] if result.equity else result.starting_cash


def caveats(file: ResultFile) -> list[str]:
    """Return the caveats of a comparison: what the data lack, losses, gaps in the data, assumptions, conclusions that change under stress."""
    texts = list(dict.fromkeys(text for result in file.results for text in result.warnings))
    for strategy, results in by_strategy(file.results).items():
        for name, result in zip(run_names(results), results, strict=True):
            texts += [f"{strategy}, {name}: {text}" for text in _run_caveats(result)]
    texts += _data_caveats(file.markets)
    texts += [f"the rules changed within the run: {text}" for text in rule_changes(file.results)]
    changed = [f"{shock.name}: {text}" for shock in file.shocks for text in shock.changes]
    if changed:
        texts.append(f"{len(changed)} conclusions change under stress; the first: {changed[0]}.")
    assumed = {text for result in file.results for text in result.assumptions}
    if assumed:
        what = "assumption applies" if len(assumed) == 1 else "assumptions apply"
        texts.append(f"{len(assumed)} {what}; see the list at the end.")
    return texts


def rule_changes(results: Sequence[RunResult]) -> list[str]:
    """Return the dated changes of rule books that fell into runs; those of portfolio margin only where a run has it."""
    dated = dict.fromkeys(
        f"{result.venue} on {format_time(entry['time_ms'])[:10]}, tiers of {entry['symbol']} ({entry['source']})"
        for result in results
        for entry in result.journal
        if entry["event"] == "MaintenanceChanged" and entry["time_ms"] > result.times_ms[0]
    )
    found = dict.fromkeys(
        f"{result.venue} since {entry['since']}, {entry['says']}"
        for result in results
        for entry in result.journal
        if entry["event"] == "RulesChanged"
        and entry["time_ms"] > result.times_ms[0]
        and (result.mode == "portfolio" or set(entry["changed"]) != {"portfolio"})
    )
    return [*found, *dated]


def _run_caveats(result: RunResult) -> list[str]:
    """Return the caveats of one run."""
    texts = []
    first = next((entry for entry in result.journal if entry["event"] == "Liquidated"), None)
    if first is not None:
        bar = sum(time <= first["time_ms"] for time in result.times_ms)
        texts.append(f"liquidated on bar {bar:,} of {len(result.times_ms):,} ({_liquidation(first)})")
    below = next((n for n, value in enumerate(result.equity) if value < 0), None)
    if below is not None:
        texts.append(
            f"equity was negative from {format_time(result.times_ms[below])}, down to {min(result.equity):,.2f}, which no exchange allows"
        )
    elif result.starting_cash and _final_equity(result) < LOST_SHARE * result.starting_cash:
        texts.append(f"lost the account: {_final_equity(result):,.2f} of {result.starting_cash:,.2f} left")
    if result.bad_debt:
        texts.append(f"lost {result.bad_debt:,.2f} {result.currency} more than its collateral")
    fills = summarise(result).fills
    if not fills:
        texts.append("never traded")
    if result.refused > fills:
        texts.append(
            f"{result.refused:,} orders refused against {fills:,} fills: the run does not show the strategy as written"
        )
    if result.mode == "cash":
        gross = _exposure_max(result)
        if gross > CASH_EXPOSURE_MAX:
            texts.append(
                f"gross exposure of up to {gross:,.1f} times equity, for which cash mode charges neither margin nor funding"
            )
    return texts


def _exposure_max(result: RunResult) -> float:
    """Return the highest gross exposure as a multiple of equity, over bars with positive equity."""
    held = [sum(map(abs, values)) for values in zip(*result.exposure.values(), strict=True)]
    return max((value / equity for value, equity in zip(held, result.equity, strict=False) if equity > 0), default=0.0)


def _data_caveats(markets: Sequence[MarketCandles]) -> list[str]:
    """Return the gaps in the candles and whether mark prices are missing."""
    texts = []
    for market in markets:
        missing = sum(count for _, _, count in market.holes)
        if missing:
            first, last, _ = market.holes[0]
            where = f"from {format_time(first)} to {format_time(last)}" if first != last else f"at {format_time(first)}"
            more = f" and {len(market.holes) - 1} more gaps" if len(market.holes) > 1 else ""
            what = "bar is" if missing == 1 else "bars are"
            texts.append(f"{market.symbol}: {missing:,} {what} missing, {where}{more}")
    return texts
