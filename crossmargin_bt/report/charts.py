# SPDX-License-Identifier: GPL-3.0-or-later
"""The charts of a report."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report import curves, downsample
from crossmargin_bt.report.event_table import EventTable
from crossmargin_bt.report.traces import Chart, describe_curve, encode_floats, encode_times, escape_label, line_trace
from crossmargin_bt.results import MarketCandles, RunResult

EXPOSURE_COLUMNS = 250
FILL_MARKERS_MAX = 600
MARKET_CHARTS_MAX = 12
MARKER_SYMBOLS = {"liquidation": "x", "warning": "diamond", "refusal": "triangle-down"}


def strategy_charts(
    key: str,
    results: Sequence[RunResult],
    run_names: Sequence[str],
    event_tables: Sequence[EventTable],
    markets: Sequence[MarketCandles],
) -> list[Chart]:
    """Return the charts of one strategy's runs; `key` is the prefix of the charts' HTML ids."""
    runs = list(zip(run_names, results, strict=True))
    detailed = [(name, result) for name, result in runs if result.margin_level]
    charts = [
        _equity_chart(key, runs, event_tables),
        _curve_chart(key, "drawdown", "Drawdown", runs, curve=curves.drawdown, form=".1%"),
        _margin_chart(key, runs),
        _curve_chart(
            key, "return-on-margin", "Return on margin: cumulative profit over mean margin used to date", runs,
            curve=curves.return_on_margin, form=".0%",
        ),
        _cost_chart(key, runs),
    ]  # fmt: skip
    if any(result.mode != "cash" for _, result in detailed):
        charts.insert(
            1, _margin_level_chart(key, [(n, name, one) for n, (name, one) in enumerate(runs) if one.margin_level])
        )
    traded = [curves.fills_by_symbol(result) for _, result in runs]
    counts = {market.symbol: sum(len(one.get(market.symbol, ())) for one in traded) for market in markets}
    ranked = sorted((symbol for symbol, count in counts.items() if count), key=lambda symbol: -counts[symbol])
    chosen = ranked[:MARKET_CHARTS_MAX]
    drawn = [
        _price_chart(f"{key}-market-{n}", one, runs, traded) for n, one in enumerate(markets) if one.symbol in chosen
    ]
    if len(chosen) < len(ranked):
        of = f" (one of the {len(chosen)} of {len(ranked)} traded markets with the most fills)"
        drawn = [chart._replace(title=f"{chart.title}{of}") for chart in drawn]
    charts += drawn
    charts += [_exposure_chart(key, n, name, one) for n, (name, one) in enumerate(runs) if one.exposure]
    return charts


Runs = Sequence[tuple[str, RunResult]]


def _equity_chart(key: str, runs: Runs, event_tables: Sequence[EventTable]) -> Chart:
    data = [line_trace(name, one.times_ms, one.equity, n) for n, (name, one) in enumerate(runs)]
    descriptions = [describe_curve(name, one.times_ms, one.equity, ",.2f") for name, one in runs]
    for n, ((name, one), table) in enumerate(zip(runs, event_tables, strict=True)):
        for kind, symbol in MARKER_SYMBOLS.items():
            shown = [event for event in table.rows if event.kind == kind]
            if not shown:
                continue
            at = np.clip(np.searchsorted(one.times_ms, [event.time_ms for event in shown]), 0, len(one.times_ms) - 1)
            total = f" of {len(shown) + table.omitted[kind]}" if kind in table.omitted else ""
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": escape_label(f"{name}: {len(shown)}{total} {kind}{'s' if len(shown) > 1 else ''}"),
                    "x": encode_times([event.time_ms for event in shown]), "y": encode_floats(np.asarray(one.equity)[at]),
                    "text": [escape_label(event.text) for event in shown], "hoverinfo": "x+text",
                    "customdata": [f"{key}-{n}-{event.number}" for event in shown],
                    "marker": {"symbol": symbol, "size": 9, "line": {"width": 1}}, "meta": {"series": n},
                    "visible": True if kind == "liquidation" else "legendonly",
                }
            )  # fmt: skip
            descriptions.append(f"{name} has {len(shown)}{total} {kind}{'s' if len(shown) > 1 else ''}.")
    return Chart(f"{key}-equity", f"Equity, {runs[0][1].currency}", " ".join(descriptions), data, {})


def _curve_chart(key: str, suffix: str, title: str, runs: Runs, *, curve: Any, form: str) -> Chart:
    computed = [(name, one, curve(one)) for name, one in runs]
    data = [line_trace(name, one.times_ms, values, n) for n, (name, one, values) in enumerate(computed)]
    descriptions = " ".join(describe_curve(name, one.times_ms, values, form) for name, one, values in computed)
    return Chart(f"{key}-{suffix}", title, descriptions, data, {"yaxis": {"tickformat": form}})


def _margin_level_chart(key: str, runs: Sequence[tuple[int, str, RunResult]]) -> Chart:
    data, descriptions, lines = [], [], {1.0: "liquidation"}
    for n, name, one in runs:
        if one.mode == "cash":
            continue
        values = curves.margin_levels(one)
        data.append(line_trace(name, one.times_ms, values, n, connectgaps=False))
        descriptions.append(describe_curve(name, one.times_ms, values, ",.0%"))
        for level in one.rules.get("warning_levels", ()):
            lines.setdefault(level, f"{one.venue} warning")
        if one.rules.get("order_cancel_level"):
            lines.setdefault(one.rules["order_cancel_level"], f"{one.venue} order cancellation")
    layout = {
        "yaxis": {"type": "log", "tickformat": ",.0%", "dtick": "D2"},
        "shapes": [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": {"width": 1, "dash": "dot"}}
            for level in lines
        ],
        "annotations": [
            {"xref": "paper", "x": n / len(lines), "xanchor": "left", "y": math.log10(level), "yanchor": "bottom", "showarrow": False,
             "text": escape_label(f"{text} at {level:.0%}"), "font": {"size": 11}}
            for n, (level, text) in enumerate(lines.items())
        ],
    }  # fmt: skip
    thresholds = ", ".join(f"{text} at {level:.0%}" for level, text in lines.items())
    return Chart(
        f"{key}-level",
        "Margin level at the end of the bar",
        " ".join([*descriptions, f"Thresholds: {thresholds}."]),
        data,
        layout,
    )


def _margin_chart(key: str, runs: Runs) -> Chart:
    data, descriptions = [], []
    for n, (name, one) in enumerate(runs):
        data.append(line_trace(f"{name}: used", one.times_ms, one.margin_used, n))
        descriptions.append(describe_curve(f"{name}, used", one.times_ms, one.margin_used, ",.2f"))
        if one.free_margin:
            free = line_trace(f"{name}: free", one.times_ms, one.free_margin, n, line={"width": 1.5, "dash": "dot"})
            data.append(free)
            descriptions.append(describe_curve(f"{name}, free", one.times_ms, one.free_margin, ",.2f"))
    return Chart(f"{key}-margin", f"Margin used and free, {runs[0][1].currency}", " ".join(descriptions), data, {})


def _cost_chart(key: str, runs: Runs) -> Chart:
    data, descriptions = [], []
    for n, (name, one) in enumerate(runs):
        for what, event, amount, sign in (("fees", "Filled", "fee", -1), ("funding", "FundingPaid", "amount", 1)):
            at, sums = curves.cumulative_costs(one, event, amount)
            if at:
                values = sign * np.asarray(sums)
                style = {"dash": "solid" if what == "fees" else "dot", "shape": "hv"}
                data.append(line_trace(f"{name}: {what}", at, values, n, line=style))
                descriptions.append(f"{name}, {what}: {values[-1]:+,.2f} in total.")
    return Chart(
        f"{key}-costs", "Cumulative fees and funding (payments are negative)", " ".join(descriptions), data, {}
    )


def _price_chart(
    key: str, market: MarketCandles, runs: Runs, traded: Sequence[dict[str, list[curves.ChartFill]]]
) -> Chart:
    at, lows, highs = downsample.bin_low_high(market.low, market.high)
    stamps = encode_times(np.asarray(market.times_ms)[at])
    band = {
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "meta": {"series": -1},
        "x": stamps,
    }
    data: list[dict[str, Any]] = [
        {**band, "y": encode_floats(lows), "showlegend": False, "name": "low"},
        {**band, "y": encode_floats(highs), "fill": "tonexty", "name": "low to high"},
        {**line_trace("close", market.times_ms, market.close, -1), "line": {"width": 1}},
    ]
    descriptions = [describe_curve(f"{market.symbol} closes", market.times_ms, market.close, ",.6g")]
    for n, ((name, one), fills) in enumerate(zip(runs, traded, strict=True)):
        mine = fills.get(market.symbol, [])
        shown = "legendonly" if one.mode == "cash" else True
        data += _fill_markers(name, n, mine, shown)
        forced = sum(fill.forced for fill in mine)
        descriptions.append(f"{name}: {len(mine)} fills{f', {forced} of them forced' if forced else ''}.")
        data += [{**trace, "visible": shown} for trace in _liquidation_price_traces(name, n, one, market)]
    return Chart(key, f"{market.symbol}: price, fills, liquidation price", " ".join(descriptions), data, {})


def _liquidation_price_traces(name: str, series: int, one: RunResult, market: MarketCandles) -> list[dict[str, Any]]:
    """Return the estimated liquidation prices of a run's positions in one market, a trace per leg."""
    traces = []
    at = one.liquidation_prices.times_ms
    closes = np.interp(at, market.times_ms, market.close)
    sides = {market.symbol: "", f"{market.symbol}:long": " of the long", f"{market.symbol}:short": " of the short"}
    for leg, prices in one.liquidation_prices.prices.items():
        if leg in sides and any(price is not None for price in prices):
            values = np.array([np.nan if price is None else price for price in prices])
            # Prices far outside the chart's range are left out: they carry no information.
            values[(values > 2 * max(market.high)) | (values < min(market.low) / 2)] = np.nan
            # Break the line where it crosses the close: one position ends there and another begins.
            values[1:][np.diff(values > closes)] = np.nan
            label = f"{name}: liquidation price{sides[leg]}"
            traces.append(
                line_trace(label, at, values, series, connectgaps=False, line={"shape": "hv", "dash": "dash"})
            )
    return traces


def _fill_markers(name: str, series: int, fills: Sequence[curves.ChartFill], shown: bool | str) -> list[dict[str, Any]]:  # noqa: FBT001 - Plotly's own three-way switch
    traces = []
    kinds = (
        ("bought", "triangle-up", [one for one in fills if not one.forced and one.size > 0]),
        ("sold", "triangle-down", [one for one in fills if not one.forced and one.size <= 0]),
        ("forced", "x", [one for one in fills if one.forced]),
    )
    for what, symbol, mine in kinds:
        if mine:
            where = downsample.select_points([one.price for one in mine], FILL_MARKERS_MAX)
            drawn = [mine[n] for n in where]
            count = f"{len(mine)} {what}{f', {len(drawn)} drawn' if len(drawn) < len(mine) else ''}"
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": escape_label(f"{name}: {count}"),
                    "x": encode_times([one.time_ms for one in drawn]), "y": encode_floats([one.price for one in drawn]),
                    "text": [f"{one.size:+g}" for one in drawn], "hoverinfo": "x+y+text+name", "visible": shown,
                    "marker": {"symbol": symbol, "size": 10 if what == "forced" else 6}, "meta": {"series": series},
                }
            )  # fmt: skip
    return traces


def _exposure_chart(key: str, number: int, name: str, one: RunResult) -> Chart:
    equity = np.asarray(one.equity, dtype=np.float64)
    rows, descriptions, at = [], [], np.arange(0)
    for symbol, values in one.exposure.items():
        share = np.divide(np.asarray(values), equity, out=np.full(len(equity), np.nan), where=equity > 0)
        at, largest = downsample.bin_max_abs(share, EXPOSURE_COLUMNS)
        rows.append([None if math.isnan(value) else value for value in largest])
        known = share[~np.isnan(share)]
        if len(known):
            descriptions.append(f"{symbol}: between {known.min():+.2f} and {known.max():+.2f} times equity.")
    if (equity <= 0).any():
        descriptions.append("The multiple is undefined where equity is zero or negative.")
    stamps = [format_time(time) for time in np.asarray(one.times_ms)[at].tolist()]
    data = [{
        "type": "heatmap", "x": stamps, "y": [escape_label(symbol) for symbol in one.exposure], "z": rows, "zmid": 0,
        "meta": {"scale": "diverging"}, "colorbar": {"tickformat": "+.1f", "thickness": 12},
        "hovertemplate": "%{y} %{x}: %{z:+.2f} x equity<extra></extra>",
    }]  # fmt: skip
    layout = {"yaxis": {"type": "category"}}
    return Chart(
        f"{key}-exposure-{number}", f"Exposure as a multiple of equity, {name}", " ".join(descriptions), data, layout
    )


def correlation_chart(markets: Sequence[MarketCandles]) -> Chart | None:
    """Return the correlation matrix of the markets' returns; None with fewer than two markets that moved."""
    symbols, rows = curves.return_correlations(markets)
    if not symbols:
        return None
    pairs = [f"{a} and {b} {rows[i][j]:+.2f}" for i, a in enumerate(symbols) for j, b in enumerate(symbols) if i < j]
    labels = [escape_label(symbol) for symbol in symbols]
    data = [{
        "type": "heatmap", "x": labels, "y": labels, "z": rows, "zmin": -1, "zmax": 1, "zmid": 0,
        "meta": {"scale": "diverging"}, "texttemplate": "%{z:.2f}", "hovertemplate": "%{y} and %{x}: %{z:.3f}<extra></extra>",
        "colorbar": {"thickness": 12},
    }]  # fmt: skip
    layout = {"yaxis": {"type": "category"}, "xaxis": {"type": "category"}}
    return Chart("correlation", "Correlation of returns per bar", "; ".join(pairs) + ".", data, layout, linked=False)
