# SPDX-License-Identifier: GPL-3.0-or-later
"""Plotly charts as plain dicts, each with a text description for readers who cannot see it.

Colours are assigned by the page, which knows the light or dark theme: `meta.series` is the index of a trace's colour.
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
    """One figure. `description` is its text alternative; `linked` charts share the zoom of the time axis."""

    key: str
    title: str
    description: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    linked: bool = True


def escape_label(text: str) -> str:
    """Escape a text so that Plotly, which renders some HTML in labels, shows it literally.

    >>> escape_label("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def encode_floats(values: ArrayLike) -> dict[str, str]:
    """Return numbers as a base64 float64 array, the form Plotly decodes without parsing JSON numbers."""
    return {"dtype": "f8", "bdata": b64encode(np.asarray(values, dtype="<f8").tobytes()).decode()}


def encode_times(values: ArrayLike) -> dict[str, Any]:
    """Return times as integer multiples of their common step since the first, which the page decodes.

    The steps are uint32, or float64 where `wide` is true.
    """
    given = np.asarray(values, dtype=np.int64)
    if not len(given):
        return {"start": 0, "unit": 1, "steps": "", "wide": False}
    offsets = given - given[0]
    unit = int(np.gcd.reduce(offsets)) or 1
    steps = offsets // unit
    wide = bool(steps.max() > np.iinfo(np.uint32).max)
    packed_steps = steps.astype("<f8" if wide else "<u4").tobytes()
    return {"start": int(given[0]), "unit": unit, "steps": b64encode(packed_steps).decode(), "wide": wide}


def line_trace(name: str, times_ms: Sequence[int], values: ArrayLike, series: int, **more: Any) -> dict[str, Any]:
    """Return a curve as a downsampled line trace; `more` is merged into the trace."""
    points = np.asarray(values, dtype=np.float64)
    where = downsample.select_points(points)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape_label(name),
        "x": encode_times(np.asarray(times_ms, dtype=np.int64)[where]),
        "y": encode_floats(points[where]),
        "line": {"width": 1.5, **more.pop("line", {})},
        "meta": {"series": series},
        **more,
    }


def describe_curve(name: str, times_ms: Sequence[int], values: ArrayLike, number_format: str) -> str:
    """Return a sentence with the first, last, lowest and highest value of a curve."""
    points = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(points))
    if not len(known):
        return f"{name}: no data."
    low, high = known[points[known].argmin()], known[points[known].argmax()]
    first, last, lowest, highest = (format(points[n], number_format) for n in (known[0], known[-1], low, high))
    return (
        f"{name}: from {first} to {last}, lowest {lowest} on {format_time(times_ms[low])}, "
        f"highest {highest} on {format_time(times_ms[high])}."
    )
