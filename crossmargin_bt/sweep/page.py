# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML report of a sweep: heat maps over two parameters, who survives, where cross pays, what follows a choice."""

import shlex
from collections.abc import Sequence
from typing import Any

from crossmargin_bt.report.chart import Chart, safe
from crossmargin_bt.report.page import page
from crossmargin_bt.report.summary import listing
from crossmargin_bt.sweep import insight, words
from crossmargin_bt.sweep.plan import Definition
from crossmargin_bt.sweep.rows import OBJECTIVES, Objective, Row
from crossmargin_bt.sweep.rows import front as front_of
from crossmargin_bt.sweep.table import COLUMNS, figure, walk_cells

SHOWN = 25
"""Rows of the tables of the best and of what failed."""


def render(definition: Definition, rows: Sequence[Row]) -> bytes:
    """Return the report of a sweep as an HTML page."""
    aims = [OBJECTIVES[name] for name in definition.objective]
    chosen = [row for row in rows if row.sample != "out"]
    x, y = insight.laid_out(definition.axes)
    assumptions = [f"{name}: {text}" for name, book in definition.shared.venues.items() for text in book.assumed]
    spec = definition.shared.source.load()
    own = list(spec.strategy.params._getkeys())
    settings = [one.name for one in definition.axes if one.name not in own]
    others = [one.name for one in definition.axes if one not in (x, y)]
    others += ["the windows"] if definition.walk is not None else []
    maps = _maps(chosen, x, y, aims[0])
    front = _front(chosen, aims) if len(aims) > 1 and definition.walk is None else None
    ranked = insight.best(chosen, aims[0])
    return page(
        "sweep.html",
        title=f"{spec.name}: {len(rows):,} runs over {', '.join(one.name for one in definition.axes)}",
        drawn=[*maps, *([front] if front else [])],
        doubts=words.doubts(rows, aims, settings=settings, assumptions=len(assumptions)),
        answers=words.answers(rows, aims, definition.axes),
        aims=aims,
        maps=maps,
        over=listing(others) if others else "",
        front=front,
        columns=[label for label, _, _ in COLUMNS],
        best=[_told(row, rows) for row in ranked[:SHOWN]],
        steps=[walk_cells(step, aims[0]) for step in insight.walked(rows)],
        command=_command(ranked[0], definition, own) if ranked else "",
        written=insight.written,
        failed=[row for row in rows if row.error],
        shown=SHOWN,
        definition=definition.told(),
        assumptions=assumptions,
    )


def _command(row: Row, definition: Definition, own: Sequence[str]) -> str:
    """Return the command that runs a row alone, its numbers to the last digit."""
    shared = definition.shared
    given = {"cash": shared.settings.cash, "leverage": shared.settings.leverage, "path": shared.settings.path}
    given |= {"slippage": shared.settings.slippage} if shared.settings.slippage else {}
    given |= {name: value for name, value in row.params.items() if name not in own}
    words_ = [
        "crossmargin",
        "run",
        f"{shared.source.file}:{shared.source.name}",
        "--data",
        shared.data.folder,
        "--venue",
        row.venue,
    ]
    words_ += ["--mode", row.mode]
    for name, value in given.items():
        words_ += [f"--{name}", str(value)]
    for name in own:
        words_ += ["--param", f"{name}={row.params[name]}"] if name in row.params else []
    for name in ("symbols", "timeframe", "start", "end"):
        value = getattr(shared.data, name)
        if value is not None:
            words_ += [f"--{name}", ",".join(value) if name == "symbols" else str(value)]
    return shlex.join(words_)


def _told(row: Row, rows: Sequence[Row]) -> tuple[str, str, list[str]]:
    name = insight.called((row.venue, row.mode), rows)
    window = f", window {row.window}" if row.sample else ""
    return f"{name}{window}", insight.written(row.params), [figure(row, key, form) for _, key, form in COLUMNS]


def _maps(rows: Sequence[Row], x: Any, y: Any, aim: Objective) -> list[Chart]:
    found = []
    middles = {arm: insight.over(mine, x, y, insight.middle(aim.figure)) for arm, mine in insight.arms(rows).items()}
    known = [cell for one in middles.values() for row in one.cells for cell in row if cell is not None]
    # One scale for all, so that maps can be compared by eye.
    bounds = (min(known), max(known)) if known else None
    for n, (arm, mine) in enumerate(insight.arms(rows).items()):
        name = insight.called(arm, rows)
        found.append(
            _heat(f"map-{n}", f"{name}: median {aim.name}", middles[arm], "rising", form=aim.form, bounds=bounds)
        )
        if arm[1] != "cash":
            lost = insight.over(mine, x, y, insight.liquidated_share)
            found.append(
                _heat(f"survival-{n}", f"{name}: share of runs liquidated", lost, "rising", form=".0%", bounds=(0, 1))
            )
    for n, duel in enumerate(insight.duels(rows)):
        crossed = [a for a, _ in duel.pairs]
        difference = insight.over(crossed, x, y, duel.difference)
        title = f"Where cross pays: its final equity less that of isolated, {duel.venue}"
        found.append(_heat(f"duel-{n}", title, difference, "diverging", form="+,.0f"))
    return found


def _heat(
    key: str,
    title: str,
    values: insight.Map,
    scale: str,
    *,
    form: str = ".3g",
    bounds: tuple[float, float] | None = None,
) -> Chart:
    """Return a heat map, or a line where only one axis varies."""
    known = [
        (
            cell,
            f"{values.x.name} {values.x_labels[i]}" + (f", {values.y.name} {values.y_labels[j]}" if values.y else ""),
        )
        for j, row in enumerate(values.cells)
        for i, cell in enumerate(row)
        if cell is not None
    ]
    words = "Nothing ran."
    if known:
        low, high = min(known), max(known)
        words = f"Lowest {low[0]:{form}} at {low[1]}, highest {high[0]:{form}} at {high[1]}."
    names = {"xaxis": {"type": "category", "title": {"text": safe(values.x.name)}}}
    labels = [safe(label) for label in values.x_labels]
    if values.y is None:
        data: list[dict[str, Any]] = [{
            "type": "scatter", "mode": "lines+markers", "x": labels, "y": values.cells[0], "line": {"width": 1.5},
            "marker": {"size": 6}, "meta": {"series": 2}, "name": safe(title),
        }]  # fmt: skip
        return Chart(
            key,
            title,
            words,
            data,
            {**names, "yaxis": {"tickformat": form, **({"range": list(bounds)} if bounds == (0, 1) else {})}},
            linked=False,
        )
    data = [{
        "type": "heatmap", "x": labels, "y": [safe(label) for label in values.y_labels], "z": values.cells,
        "meta": {"scale": scale}, "colorbar": {"thickness": 12, "tickformat": form}, "hoverongaps": False,
        "hovertemplate": f"%{{x}}, %{{y}}: %{{z:{form}}}<extra></extra>",
        **({"zmid": 0} if scale == "diverging" else {}),
        **({"zmin": bounds[0], "zmax": bounds[1]} if bounds else {}),
    }]  # fmt: skip
    layout = {**names, "yaxis": {"type": "category", "title": {"text": safe(values.y.name)}}}
    return Chart(key, title, words, data, layout, linked=False)


def _front(rows: Sequence[Row], aims: Sequence[Objective]) -> Chart:
    """Return every run by both objectives, and those than which none is better in both."""
    first, second = aims
    data: list[dict[str, Any]] = []
    for n, (arm, mine) in enumerate(insight.arms(rows).items()):
        known = [row for row in mine if first.value(row) is not None and second.value(row) is not None]
        data.append({
            "type": "scatter", "mode": "markers", "name": safe(insight.called(arm, rows)),
            "x": [first.value(row) for row in known], "y": [second.value(row) for row in known],
            "text": [safe(insight.written(row.params)) for row in known], "hoverinfo": "x+y+text+name",
            "marker": {"size": 5, "opacity": 0.6}, "meta": {"series": n},
        })  # fmt: skip
    front = front_of(rows, aims)
    data.append({
        "type": "scatter", "mode": "lines+markers", "name": "none is better in both", "x": [first.value(row) for row in front],
        "y": [second.value(row) for row in front], "text": [safe(insight.written(row.params)) for row in front],
        "hoverinfo": "x+y+text", "line": {"width": 1, "dash": "dot"}, "marker": {"size": 9, "symbol": "diamond"},
        "meta": {"series": -1},
    })  # fmt: skip
    layout = {"xaxis": {"title": {"text": first.name}}, "yaxis": {"title": {"text": second.name}}}
    words = f"{len(front)} of {len(rows)} runs are such that none is better in both {first.name} and {second.name}."
    return Chart("front", f"{first.name} against {second.name}", words, data, layout, linked=False)
