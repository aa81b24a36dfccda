# SPDX-License-Identifier: GPL-3.0-or-later
"""The charts of a report."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report import curves, downsample
from crossmargin_bt.report.chart import Chart, extent, line, packed, safe, times
from crossmargin_bt.report.event_table import Happenings
from crossmargin_bt.results import Market, RunResult

EXPOSURE_COLUMNS = 250
MARKERS_MAX = 600
MARKET_CHARTS_MAX = 12
SYMBOLS = {"liquidation": "x", "warning": "diamond", "refusal": "triangle-down"}


def of_strategy(
    key: str,
    results: Sequence[RunResult],
    called: Sequence[str],
    happened: Sequence[Happenings],
    markets: Sequence[Market],
) -> list[Chart]:
    """Return the charts of one strategy's runs; `called` are their names, `key` begins the names of the charts."""
    runs = list(zip(called, results, strict=True))
    detailed = [(name, result) for name, result in runs if result.margin_level]
    charts = [
        _equity(key, runs, happened),
        _over_time(key, "drawdown", "Drawdown", runs, curve=curves.drawdown, form=".1%"),
        _margin(key, runs),
        _over_time(
            key, "return-on-margin", "Return on margin: profit so far over the mean margin used so far", runs,
            curve=curves.return_on_margin, form=".0%",
        ),
        _costs(key, runs),
    ]  # fmt: skip
    if any(result.mode != "cash" for _, result in detailed):
        charts.insert(1, _levels(key, [(n, name, one) for n, (name, one) in enumerate(runs) if one.margin_level]))
    traded = [curves.fills(result) for _, result in runs]
    counts = {market.symbol: sum(len(one.get(market.symbol, ())) for one in traded) for market in markets}
    ranked = sorted((symbol for symbol, count in counts.items() if count), key=lambda symbol: -counts[symbol])
    chosen = ranked[:MARKET_CHARTS_MAX]
    drawn = [_market(f"{key}-market-{n}", one, runs, traded) for n, one in enumerate(markets) if one.symbol in chosen]
    if len(chosen) < len(ranked):
        of = f" (one of the {len(chosen)} of {len(ranked)} traded markets with the most fills)"
        drawn = [chart._replace(title=f"{chart.title}{of}") for chart in drawn]
    charts += drawn
    charts += [_exposure(key, n, name, one) for n, (name, one) in enumerate(runs) if one.exposure]
    return charts


Runs = Sequence[tuple[str, RunResult]]


def _equity(key: str, runs: Runs, happened: Sequence[Happenings]) -> Chart:
    data = [line(name, one.times_ms, one.equity, n) for n, (name, one) in enumerate(runs)]
    words = [extent(name, one.times_ms, one.equity, ",.2f") for name, one in runs]
    for n, ((name, one), found) in enumerate(zip(runs, happened, strict=True)):
        for kind, symbol in SYMBOLS.items():
            mine = [event for event in found.told if event.kind == kind]
            if not mine:
                continue
            at = np.clip(np.searchsorted(one.times_ms, [event.time_ms for event in mine]), 0, len(one.times_ms) - 1)
            left = f" of {len(mine) + found.left_out[kind]}" if kind in found.left_out else ""
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": safe(f"{name}: {len(mine)}{left} {kind}{'s' if len(mine) > 1 else ''}"),
                    "x": times([event.time_ms for event in mine]), "y": packed(np.asarray(one.equity)[at]),
                    "text": [safe(event.text) for event in mine], "hoverinfo": "x+text",
                    "customdata": [f"{key}-{n}-{event.number}" for event in mine],
                    "marker": {"symbol": symbol, "size": 9, "line": {"width": 1}}, "meta": {"series": n},
                    "visible": True if kind == "liquidation" else "legendonly",
                }
            )  # fmt: skip
            words.append(f"{name} has {len(mine)}{left} {kind}{'s' if len(mine) > 1 else ''}.")
    return Chart(f"{key}-equity", f"Equity, {runs[0][1].currency}", " ".join(words), data, {})


def _over_time(key: str, what: str, title: str, runs: Runs, *, curve: Any, form: str) -> Chart:
    found = [(name, one, curve(one)) for name, one in runs]
    data = [line(name, one.times_ms, values, n) for n, (name, one, values) in enumerate(found)]
    words = " ".join(extent(name, one.times_ms, values, form) for name, one, values in found)
    return Chart(f"{key}-{what}", title, words, data, {"yaxis": {"tickformat": form}})


def _levels(key: str, runs: Sequence[tuple[int, str, RunResult]]) -> Chart:
    data, words, lines = [], [], {1.0: "liquidation"}
    for n, name, one in runs:
        if one.mode == "cash":
            continue
        values = curves.levels(one)
        data.append(line(name, one.times_ms, values, n, connectgaps=False))
        words.append(extent(name, one.times_ms, values, ",.0%"))
        for level in one.rules.get("warning_levels", ()):
            lines.setdefault(level, f"{one.venue} warns")
        if one.rules.get("order_cancel_level"):
            lines.setdefault(one.rules["order_cancel_level"], f"{one.venue} cancels orders")
    layout = {
        "yaxis": {"type": "log", "tickformat": ",.0%", "dtick": "D2"},
        "shapes": [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": {"width": 1, "dash": "dot"}}
            for level in lines
        ],
        "annotations": [
            {"xref": "paper", "x": n / len(lines), "xanchor": "left", "y": math.log10(level), "yanchor": "bottom", "showarrow": False,
             "text": safe(f"{text} at {level:.0%}"), "font": {"size": 11}}
            for n, (level, text) in enumerate(lines.items())
        ],
    }  # fmt: skip
    told = ", ".join(f"{text} at {level:.0%}" for level, text in lines.items())
    return Chart(
        f"{key}-level", "Margin level at the end of the bar", " ".join([*words, f"Lines: {told}."]), data, layout
    )


def _margin(key: str, runs: Runs) -> Chart:
    data, words = [], []
    for n, (name, one) in enumerate(runs):
        data.append(line(f"{name}: used", one.times_ms, one.margin_used, n))
        words.append(extent(f"{name}, used", one.times_ms, one.margin_used, ",.2f"))
        if one.free_margin:
            free = line(f"{name}: free", one.times_ms, one.free_margin, n, line={"width": 1.5, "dash": "dot"})
            data.append(free)
            words.append(extent(f"{name}, free", one.times_ms, one.free_margin, ",.2f"))
    return Chart(f"{key}-margin", f"Margin used and free, {runs[0][1].currency}", " ".join(words), data, {})


def _costs(key: str, runs: Runs) -> Chart:
    data, words = [], []
    for n, (name, one) in enumerate(runs):
        for what, event, amount, sign in (("fees", "Filled", "fee", -1), ("funding", "FundingPaid", "amount", 1)):
            at, sums = curves.costs(one, event, amount)
            if at:
                values = sign * np.asarray(sums)
                style = {"dash": "solid" if what == "fees" else "dot", "shape": "hv"}
                data.append(line(f"{name}: {what}", at, values, n, line=style))
                words.append(f"{name}, {what}: {values[-1]:+,.2f} in all.")
    return Chart(f"{key}-costs", "Fees and funding so far (what is paid is below 0)", " ".join(words), data, {})


def _market(key: str, market: Market, runs: Runs, traded: Sequence[dict[str, list[curves.Fill]]]) -> Chart:
    at, lows, highs = downsample.ranges(market.low, market.high)
    stamps = times(np.asarray(market.times_ms)[at])
    band = {
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "meta": {"series": -1},
        "x": stamps,
    }
    data: list[dict[str, Any]] = [
        {**band, "y": packed(lows), "showlegend": False, "name": "low"},
        {**band, "y": packed(highs), "fill": "tonexty", "name": "low to high"},
        {**line("close", market.times_ms, market.close, -1), "line": {"width": 1}},
    ]
    words = [extent(f"{market.symbol} closes", market.times_ms, market.close, ",.6g")]
    for n, ((name, one), fills) in enumerate(zip(runs, traded, strict=True)):
        mine = fills.get(market.symbol, [])
        shown = "legendonly" if one.mode == "cash" else True
        data += _marks(name, n, mine, shown)
        forced = sum(fill.forced for fill in mine)
        words.append(f"{name}: {len(mine)} fills{f', {forced} of them forced' if forced else ''}.")
        data += [{**trace, "visible": shown} for trace in _liquidation_prices(name, n, one, market)]
    return Chart(key, f"{market.symbol}: price, fills, liquidation price", " ".join(words), data, {})


def _liquidation_prices(name: str, series: int, one: RunResult, market: Market) -> list[dict[str, Any]]:
    """Return where a run's positions in a market would have been liquidated."""
    found = []
    at = one.liquidation_prices.times_ms
    closes = np.interp(at, market.times_ms, market.close)
    sides = {market.symbol: "", f"{market.symbol}:long": " of the long", f"{market.symbol}:short": " of the short"}
    for leg, prices in one.liquidation_prices.prices.items():
        if leg in sides and any(price is not None for price in prices):
            values = np.array([np.nan if price is None else price for price in prices])
            # A price far off the chart says nothing that its absence would not.
            values[(values > 2 * max(market.high)) | (values < min(market.low) / 2)] = np.nan
            # A line does not lead from below the price to above it: there one position ends and another begins.
            values[1:][np.diff(values > closes)] = np.nan
            label = f"{name}: liquidation price{sides[leg]}"
            found.append(line(label, at, values, series, connectgaps=False, line={"shape": "hv", "dash": "dash"}))
    return found


def _marks(name: str, series: int, fills: Sequence[curves.Fill], shown: bool | str) -> list[dict[str, Any]]:  # noqa: FBT001 - Plotly's own three-way switch
    found = []
    kinds = (
        ("bought", "triangle-up", [one for one in fills if not one.forced and one.size > 0]),
        ("sold", "triangle-down", [one for one in fills if not one.forced and one.size <= 0]),
        ("forced", "x", [one for one in fills if one.forced]),
    )
    for what, symbol, mine in kinds:
        if mine:
            where = downsample.kept([one.price for one in mine], MARKERS_MAX)
            drawn = [mine[n] for n in where]
            count = f"{len(mine)} {what}{f', {len(drawn)} drawn' if len(drawn) < len(mine) else ''}"
            found.append(
                {
                    "type": "scatter", "mode": "markers", "name": safe(f"{name}: {count}"),
                    "x": times([one.time_ms for one in drawn]), "y": packed([one.price for one in drawn]),
                    "text": [f"{one.size:+g}" for one in drawn], "hoverinfo": "x+y+text+name", "visible": shown,
                    "marker": {"symbol": symbol, "size": 10 if what == "forced" else 6}, "meta": {"series": series},
                }
            )  # fmt: skip
    return found


def _exposure(key: str, number: int, name: str, one: RunResult) -> Chart:
    equity = np.asarray(one.equity, dtype=np.float64)
    rows, words, at = [], [], np.arange(0)
    for symbol, values in one.exposure.items():
        share = np.divide(np.asarray(values), equity, out=np.full(len(equity), np.nan), where=equity > 0)
        at, found = downsample.largest(share, EXPOSURE_COLUMNS)
        rows.append([None if math.isnan(value) else value for value in found])
        known = share[~np.isnan(share)]
        if len(known):
            words.append(f"{symbol}: between {known.min():+.2f} and {known.max():+.2f} times equity.")
    if (equity <= 0).any():
        words.append("Where equity is not above zero there is no such multiple.")
    stamps = [format_time(time) for time in np.asarray(one.times_ms)[at].tolist()]
    data = [{
        "type": "heatmap", "x": stamps, "y": [safe(symbol) for symbol in one.exposure], "z": rows, "zmid": 0,
        "meta": {"scale": "diverging"}, "colorbar": {"tickformat": "+.1f", "thickness": 12},
        "hovertemplate": "%{y} %{x}: %{z:+.2f} x equity<extra></extra>",
    }]  # fmt: skip
    layout = {"yaxis": {"type": "category"}}
    return Chart(f"{key}-exposure-{number}", f"Exposure as a multiple of equity, {name}", " ".join(words), data, layout)


def correlation(markets: Sequence[Market]) -> Chart | None:
    """Return how the markets' returns go together; None with fewer than two that moved."""
    symbols, rows = curves.correlations(markets)
    if not symbols:
        return None
    pairs = [f"{a} and {b} {rows[i][j]:+.2f}" for i, a in enumerate(symbols) for j, b in enumerate(symbols) if i < j]
    labels = [safe(symbol) for symbol in symbols]
    data = [{
        "type": "heatmap", "x": labels, "y": labels, "z": rows, "zmin": -1, "zmax": 1, "zmid": 0,
        "meta": {"scale": "diverging"}, "texttemplate": "%{z:.2f}", "hovertemplate": "%{y} and %{x}: %{z:.3f}<extra></extra>",
        "colorbar": {"thickness": 12},
    }]  # fmt: skip
    layout = {"yaxis": {"type": "category"}, "xaxis": {"type": "category"}}
    return Chart(
        "correlation", "Correlation of returns from bar to bar", "; ".join(pairs) + ".", data, layout, linked=False
    )
