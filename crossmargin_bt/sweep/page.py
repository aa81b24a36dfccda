# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML report of a sweep: heat maps over two parameters, survival, cross against isolated, walk forward."""

import shlex
from collections.abc import Sequence
from typing import Any, Literal

from crossmargin_bt.report.page import page
from crossmargin_bt.report.summary import join_words
from crossmargin_bt.report.traces import Chart, escape_label
from crossmargin_bt.sweep import analysis, summary
from crossmargin_bt.sweep.plan import SweepDefinition
from crossmargin_bt.sweep.rows import OBJECTIVES, Objective, SweepRow, pareto_front
from crossmargin_bt.sweep.table import COLUMNS, figure, walk_forward_cells

ROWS_SHOWN = 25
"""Rows in the tables of the best and the failed runs."""


def render(definition: SweepDefinition, rows: Sequence[SweepRow]) -> bytes:
    """Return the report of a sweep as an HTML page."""
    objectives = [OBJECTIVES[name] for name in definition.objectives]
    chosen = [row for row in rows if row.sample != "out"]
    x, y = analysis.heatmap_axes(definition.axes)
    assumptions = [f"{name}: {text}" for name, book in definition.shared.venues.items() for text in book.assumed]
    spec = definition.shared.source.load()
    own = list(spec.strategy.params._getkeys())
    settings = [one.name for one in definition.axes if one.name not in own]
    others = [one.name for one in definition.axes if one not in (x, y)]
    others += ["the windows"] if definition.walk is not None else []
    heatmaps = _heatmaps(chosen, x, y, objectives[0])
    front_chart = _pareto_chart(chosen, objectives) if len(objectives) > 1 and definition.walk is None else None
    ranked = analysis.rank_rows(chosen, objectives[0])
    return page(
        "sweep.html",
        title=f"{spec.name}: {len(rows):,} runs over {', '.join(one.name for one in definition.axes)}",
        drawn=[*heatmaps, *([front_chart] if front_chart else [])],
        caveats=summary.caveats(rows, objectives, settings=settings, assumptions=len(assumptions)),
        findings=summary.findings(rows, objectives, definition.axes),
        objectives=objectives,
        heatmaps=heatmaps,
        aggregated=join_words(others) if others else "",
        pareto_front=front_chart,
        columns=[label for label, _, _ in COLUMNS],
        best=[_best_row(row, rows) for row in ranked[:ROWS_SHOWN]],
        steps=[walk_forward_cells(step, objectives[0]) for step in analysis.walk_forward_steps(rows)],
        command=_command(ranked[0], definition, own) if ranked else "",
        format_params=analysis.format_params,
        failed=[row for row in rows if row.error],
        rows_shown=ROWS_SHOWN,
        definition=definition.as_plain_data(),
        assumptions=assumptions,
    )


def _command(row: SweepRow, definition: SweepDefinition, own: Sequence[str]) -> str:
    """Return the `crossmargin run` command that repeats one row, with numbers in full precision."""
    shared = definition.shared
    given = {"cash": shared.settings.cash, "leverage": shared.settings.leverage, "path": shared.settings.path}
    given |= {"slippage": shared.settings.slippage} if shared.settings.slippage else {}
    given |= {name: value for name, value in row.params.items() if name not in own}
    command = [
        "crossmargin",
        "run",
        f"{shared.source.file}:{shared.source.name}",
        "--data",
        shared.data.folder,
        "--venue",
        row.venue,
    ]
    command += ["--mode", row.mode]
    for name, value in given.items():
        command += [f"--{name}", str(value)]
    for name in own:
        command += ["--param", f"{name}={row.params[name]}"] if name in row.params else []
    for name in ("symbols", "timeframe", "start", "end"):
        value = getattr(shared.data, name)
        if value is not None:
            command += [f"--{name}", ",".join(value) if name == "symbols" else str(value)]
    return shlex.join(command)


def _best_row(row: SweepRow, rows: Sequence[SweepRow]) -> tuple[str, str, list[str]]:
    name = analysis.group_name((row.venue, row.mode), rows)
    window = f", window {row.window}" if row.sample else ""
    return f"{name}{window}", analysis.format_params(row.params), [figure(row, key, form) for _, key, form in COLUMNS]


def _heatmaps(rows: Sequence[SweepRow], x: Any, y: Any, objective: Objective) -> list[Chart]:
    charts = []
    medians = {
        group: analysis.heatmap(mine, x, y, analysis.median_of(objective.figure))
        for group, mine in analysis.group_rows(rows).items()
    }
    known = [cell for one in medians.values() for row in one.cells for cell in row if cell is not None]
    # One colour scale for all maps, so that they can be compared.
    bounds = (min(known), max(known)) if known else None
    for n, (group, mine) in enumerate(analysis.group_rows(rows).items()):
        name = analysis.group_name(group, rows)
        charts.append(
            _heatmap_chart(
                f"map-{n}",
                f"{name}: median {objective.name}",
                medians[group],
                "rising",
                form=objective.number_format,
                bounds=bounds,
            )
        )
        if group[1] != "cash":
            liquidated = analysis.heatmap(mine, x, y, analysis.liquidated_share)
            charts.append(
                _heatmap_chart(
                    f"survival-{n}",
                    f"{name}: share of runs liquidated",
                    liquidated,
                    "rising",
                    form=".0%",
                    bounds=(0, 1),
                )
            )
    for n, pair in enumerate(analysis.paired_comparisons(rows)):
        cross_rows = [a for a, _ in pair.pairs]
        difference = analysis.heatmap(cross_rows, x, y, pair.median_difference)
        title = f"Final equity of cross minus isolated, {pair.venue}"
        charts.append(_heatmap_chart(f"duel-{n}", title, difference, "diverging", form="+,.0f"))
    return charts


def _describe_heatmap(values: analysis.Heatmap, form: str) -> str:
    """Return a sentence with the lowest and the highest cell."""
    known = [
        (
            cell,
            f"{values.x.name} {values.x_labels[i]}" + (f", {values.y.name} {values.y_labels[j]}" if values.y else ""),
        )
        for j, row in enumerate(values.cells)
        for i, cell in enumerate(row)
        if cell is not None
    ]
    if not known:
        return "No runs."
    low, high = min(known), max(known)
    return f"Lowest {low[0]:{form}} at {low[1]}, highest {high[0]:{form}} at {high[1]}."


def _heatmap_chart(
    key: str,
    title: str,
    values: analysis.Heatmap,
    scale: Literal["rising", "diverging"],
    *,
    form: str = ".3g",
    bounds: tuple[float, float] | None = None,
) -> Chart:
    """Return a heat map, or a line chart if only one axis varies."""
    description = _describe_heatmap(values, form)
    names = {"xaxis": {"type": "category", "title": {"text": escape_label(values.x.name)}}}
    labels = [escape_label(label) for label in values.x_labels]
    if values.y is None:
        data: list[dict[str, Any]] = [{
            "type": "scatter", "mode": "lines+markers", "x": labels, "y": values.cells[0], "line": {"width": 1.5},
            "marker": {"size": 6}, "meta": {"series": 2}, "name": escape_label(title),
        }]  # fmt: skip
        return Chart(
            key,
            title,
            description,
            data,
            {**names, "yaxis": {"tickformat": form, **({"range": list(bounds)} if bounds == (0, 1) else {})}},
            linked=False,
        )
    data = [{
        "type": "heatmap", "x": labels, "y": [escape_label(label) for label in values.y_labels], "z": values.cells,
        "meta": {"scale": scale}, "colorbar": {"thickness": 12, "tickformat": form}, "hoverongaps": False,
        "hovertemplate": f"%{{x}}, %{{y}}: %{{z:{form}}}<extra></extra>",
        **({"zmid": 0} if scale == "diverging" else {}),
        **({"zmin": bounds[0], "zmax": bounds[1]} if bounds else {}),
    }]  # fmt: skip
    layout = {**names, "yaxis": {"type": "category", "title": {"text": escape_label(values.y.name)}}}
    return Chart(key, title, description, data, layout, linked=False)


def _pareto_chart(rows: Sequence[SweepRow], objectives: Sequence[Objective]) -> Chart:
    """Return a scatter chart of both objectives with the Pareto front."""
    first, second = objectives
    data: list[dict[str, Any]] = []
    for n, (group, mine) in enumerate(analysis.group_rows(rows).items()):
        known = [row for row in mine if first.value(row) is not None and second.value(row) is not None]
        data.append({
            "type": "scatter", "mode": "markers", "name": escape_label(analysis.group_name(group, rows)),
            "x": [first.value(row) for row in known], "y": [second.value(row) for row in known],
            "text": [escape_label(analysis.format_params(row.params)) for row in known], "hoverinfo": "x+y+text+name",
            "marker": {"size": 5, "opacity": 0.6}, "meta": {"series": n},
        })  # fmt: skip
    front = pareto_front(rows, objectives)
    data.append({
        "type": "scatter", "mode": "lines+markers", "name": "Pareto front", "x": [first.value(row) for row in front],
        "y": [second.value(row) for row in front], "text": [escape_label(analysis.format_params(row.params)) for row in front],
        "hoverinfo": "x+y+text", "line": {"width": 1, "dash": "dot"}, "marker": {"size": 9, "symbol": "diamond"},
        "meta": {"series": -1},
    })  # fmt: skip
    layout = {"xaxis": {"title": {"text": first.name}}, "yaxis": {"title": {"text": second.name}}}
    description = f"{len(front)} of {len(rows)} runs are on the Pareto front of {first.name} and {second.name}."
    return Chart("front", f"{first.name} against {second.name}", description, data, layout, linked=False)
