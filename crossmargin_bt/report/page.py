# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML report: one file that asks for nothing else, with Plotly's script and the figures in it."""

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
from crossmargin_bt.report import charts, event_table, summary, wording
from crossmargin_bt.report.chart import Chart, safe
from crossmargin_bt.report.event_table import Happenings
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.report.rows import by_strategy, came_to, names, told
from crossmargin_bt.results import Market, ResultFile, RunResult, Summary


class Cell(NamedTuple):
    """A figure as it is written, with the number itself."""

    text: str
    value: float | None
    is_best: bool


class Section(NamedTuple):
    """What the page shows of one strategy."""

    key: str
    strategy: str
    about: str
    answers: list[str]
    names: list[str]
    rows: list[tuple[str, list[Cell]]]
    charts: list[Chart]
    runs: list[tuple[str, str, Happenings]]
    """Of every run its key, its name and what happened in it."""


def render(file: ResultFile) -> bytes:
    """Return the report of a comparison as an HTML page."""
    sections = [
        _section(f"s{n}", strategy, results, file.markets)
        for n, (strategy, results) in enumerate(by_strategy(file.results).items())
    ]
    correlation = charts.correlation(file.markets)
    drawn = [chart for section in sections for chart in section.charts]
    assumptions = dict.fromkeys(f"{one.venue}: {text}" for one in file.results for text in one.assumptions)
    return page(
        "report.html",
        title=f"{', '.join(section.strategy for section in sections)} under {summary.listing(list(dict.fromkeys(one.mode for one in file.results)))}",
        drawn=[*drawn, *([correlation] if correlation else [])],
        doubts=summary.doubts(file),
        sections=sections,
        correlation=correlation,
        shocks=_shocks(file),
        shock_list=file.shocks,
        differences=file.differences,
        wording=wording,
        markets=file.markets,
        assumptions=list(assumptions),
    )


def page(template: str, *, title: str, drawn: Sequence[Chart], **content: Any) -> bytes:
    """Return a page from a template; `drawn` are all charts in it. Text from elsewhere is escaped."""
    figures = json.dumps({
        chart.key: {"data": chart.data, "layout": chart.layout, "title": safe(chart.title), "linked": chart.linked}
        for chart in drawn
    }, allow_nan=False)  # fmt: skip
    # In a script element only these can end it or begin a comment.
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
        # Only these two may run, and nothing may be fetched.
        allowed=" ".join(f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in scripts),
        figures=figures,
        **content,
    )
    return text.encode()


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _section(key: str, strategy: str, results: Sequence[RunResult], markets: Sequence[Market]) -> Section:
    called = names(results)
    happened = [event_table.happenings(result) for result in results]
    venues = dict.fromkeys(result.venue for result in results)
    first = results[0]
    given = "".join(f", {name} = {value}" for name, value in first.params.items())
    leverage = "" if first.leverage is None else f", {first.leverage:g}x where the strategy sets none"
    return Section(
        key=key,
        strategy=strategy,
        about=f"{first.starting_cash:,.2f} {first.currency} at {', '.join(venues)}{leverage}{given}",
        answers=summary.answers(results),
        names=called,
        rows=_rows([summarise(result) for result in results]),
        charts=charts.of_strategy(key, results, called, happened, markets),
        runs=[(f"{key}-{n}", name, found) for n, (name, found) in enumerate(zip(called, happened, strict=True))],
    )


def _rows(summaries: Sequence[Summary]) -> list[tuple[str, list[Cell]]]:
    found = []
    for row in told(summaries):
        best = row.best(summaries)
        cells = [Cell(row.text(one), row.value(one), n in best) for n, one in enumerate(summaries)]
        found.append((row.label, cells))
    return found


def _shocks(file: ResultFile) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """Return for every strategy its runs' names, and a row for every shock."""
    found = []
    for strategy, results in by_strategy(file.results).items() if file.shocks else ():
        before = [
            (result.equity[-1] if result.equity else result.starting_cash, result.liquidations) for result in results
        ]
        rows = [("as it was", [came_to(*one) for one in before])]
        for shock in file.shocks:
            mine = [one for one in shock.outcomes if one.strategy == strategy]
            texts = ["failed" if one.failed else came_to(one.final_equity, one.liquidations) for one in mine]
            rows.append((shock.name, texts))
        found.append((strategy, names(results), rows))
    return found
