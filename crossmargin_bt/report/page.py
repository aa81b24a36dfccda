# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML report: one self-contained file with Plotly's script and the data of the charts."""

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib import resources
from typing import Any, NamedTuple

import jinja2
import plotly.offline

from crossmargin_bt import __version__
from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report import charts, event_table, rule_text, summary
from crossmargin_bt.report.event_table import EventTable
from crossmargin_bt.report.metric_rows import by_strategy, equity_and_liquidations, run_names, visible_rows
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.traces import Chart, escape_label
from crossmargin_bt.results import MarketCandles, ResultFile, RunResult, Summary


class MetricCell(NamedTuple):
    """A formatted figure with its number."""

    text: str
    value: float | None
    is_best: bool


class StrategySection(NamedTuple):
    """The section of one strategy."""

    key: str
    strategy: str
    about: str
    findings: list[str]
    names: list[str]
    rows: list[tuple[str, list[MetricCell]]]
    charts: list[Chart]
    runs: list[tuple[str, str, EventTable]]
    """Key, name and event table of every run."""


def render(file: ResultFile) -> bytes:
    """Return the report of a comparison as a UTF-8 HTML page."""
    sections = [
        _section(f"s{n}", strategy, results, file.markets)
        for n, (strategy, results) in enumerate(by_strategy(file.results).items())
    ]
    correlation = charts.correlation_chart(file.markets)
    drawn = [chart for section in sections for chart in section.charts]
    assumptions = dict.fromkeys(f"{one.venue}: {text}" for one in file.results for text in one.assumptions)
    return page(
        "report.html",
        title=f"{', '.join(section.strategy for section in sections)} under {summary.join_words(list(dict.fromkeys(one.mode for one in file.results)))}",
        drawn=[*drawn, *([correlation] if correlation else [])],
        caveats=summary.caveats(file),
        sections=sections,
        correlation=correlation,
        stress_tables=_stress_tables(file),
        shocks=file.shocks,
        differences=file.differences,
        rule_titles=rule_text.TITLES,
        markets=file.markets,
        assumptions=list(assumptions),
    )


def page(template: str, *, title: str, drawn: Sequence[Chart], **content: Any) -> bytes:
    """Render a template; `drawn` are all of its charts. Text content is HTML-escaped."""
    figures = json.dumps({
        chart.key: {"data": chart.data, "layout": chart.layout, "title": escape_label(chart.title), "linked": chart.linked}
        for chart in drawn
    }, allow_nan=False)  # fmt: skip
    # These characters could end the script element or open a comment in it.
    figures = figures.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    scripts = [plotly.offline.get_plotlyjs(), _template("page.js")]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["format_time"] = format_time
    text = environment.get_template(template).render(
        title=title,
        version=__version__,
        style=_template("page.css"),
        scripts=scripts,
        # Content security policy: only these two scripts may run, and nothing may be fetched.
        allowed=" ".join(f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in scripts),
        figures=figures,
        **content,
    )
    return text.encode()


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _section(
    key: str, strategy: str, results: Sequence[RunResult], markets: Sequence[MarketCandles]
) -> StrategySection:
    named = run_names(results)
    event_tables = [event_table.build_event_table(result) for result in results]
    venues = dict.fromkeys(result.venue for result in results)
    first = results[0]
    given = "".join(f", {name} = {value}" for name, value in first.params.items())
    leverage = "" if first.leverage is None else f", {first.leverage:g}x unless the strategy sets its own leverage"
    return StrategySection(
        key=key,
        strategy=strategy,
        about=f"{first.starting_cash:,.2f} {first.currency} at {', '.join(venues)}{leverage}{given}",
        findings=summary.findings(results),
        names=named,
        rows=_rows([summarise(result) for result in results]),
        charts=charts.strategy_charts(key, results, named, event_tables, markets),
        runs=[(f"{key}-{n}", name, table) for n, (name, table) in enumerate(zip(named, event_tables, strict=True))],
    )


def _rows(summaries: Sequence[Summary]) -> list[tuple[str, list[MetricCell]]]:
    rows = []
    for row in visible_rows(summaries):
        best = row.best(summaries)
        cells = [MetricCell(row.text(one), row.value(one), n in best) for n, one in enumerate(summaries)]
        rows.append((row.label, cells))
    return rows


def _stress_tables(file: ResultFile) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """Return for every strategy its name, the names of its runs, and a row per stress scenario."""
    tables = []
    for strategy, results in by_strategy(file.results).items() if file.shocks else ():
        before = [
            (result.equity[-1] if result.equity else result.starting_cash, result.liquidations) for result in results
        ]
        rows = [("base case", [equity_and_liquidations(*one) for one in before])]
        for shock in file.shocks:
            mine = [one for one in shock.outcomes if one.strategy == strategy]
            texts = [
                "failed" if one.failed else equity_and_liquidations(one.final_equity, one.liquidations) for one in mine
            ]
            rows.append((shock.name, texts))
        tables.append((strategy, run_names(results), rows))
    return tables
