# SPDX-License-Identifier: GPL-3.0-or-later
"""A chart as a Plotly figure in plain dicts, with its words for those who do not see it.

Colours are left to the page, which knows light from dark: `meta.series` says which of them a trace takes.
"""

import html
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossmargin_bt.engine.explain.describe import format_time
from crossmargin_bt.report import downsample


class Chart(NamedTuple):
    """One figure. `words` say what is to be seen in it; `linked` is whether its time axis follows that of the others."""

    key: str
    title: str
    words: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    linked: bool = True


def safe(text: str) -> str:
    """Return a text that Plotly, which reads some HTML in labels, shows as it is.

    >>> safe("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def packed(values: ArrayLike) -> dict[str, str]:
    """Return numbers as Plotly reads them out of JSON without parsing."""
    return {"dtype": "f8", "bdata": b64encode(np.asarray(values, dtype="<f8").tobytes()).decode()}


def times(values: ArrayLike) -> dict[str, Any]:
    """Return times, which the page unpacks, as whole steps from the first; `wide` says that these are doubles."""
    given = np.asarray(values, dtype=np.int64)
    if not len(given):
        return {"start": 0, "unit": 1, "steps": "", "wide": False}
    offsets = given - given[0]
    unit = int(np.gcd.reduce(offsets)) or 1
    steps = offsets // unit
    wide = bool(steps.max() > np.iinfo(np.uint32).max)
    packed_steps = steps.astype("<f8" if wide else "<u4").tobytes()
    return {"start": int(given[0]), "unit": unit, "steps": b64encode(packed_steps).decode(), "wide": wide}


def line(name: str, at: Sequence[int], values: ArrayLike, series: int, **more: Any) -> dict[str, Any]:
    """Return a curve as a trace, thinned; `at` are times in milliseconds, `more` goes into the trace."""
    points = np.asarray(values, dtype=np.float64)
    where = downsample.kept(points)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": safe(name),
        "x": times(np.asarray(at, dtype=np.int64)[where]),
        "y": packed(points[where]),
        "line": {"width": 1.5, **more.pop("line", {})},
        "meta": {"series": series},
        **more,
    }


def extent(name: str, at: Sequence[int], values: ArrayLike, form: str) -> str:
    """Return where a curve begins, ends and turns, in words."""
    points = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(points))
    if not len(known):
        return f"{name}: nothing to show."
    low, high = known[points[known].argmin()], known[points[known].argmax()]
    return (
        f"{name}: from {format(points[known[0]], form)} to {format(points[known[-1]], form)}, lowest {format(points[low], form)} "
        f"on {format_time(at[low])}, highest {format(points[high], form)} on {format_time(at[high])}."
    )
