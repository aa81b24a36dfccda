# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectorised indicators that equal backtrader's own values to the last bit.

backtrader composes its indicators of a few primitives: averages, smoothing, extremes, differences, operations on lines. Each
primitive is computed here over its whole range at once, so that an indicator composed of these alone (SMA, EMA, RSI, ATR, Highest,
CrossOver) has the same values. Only exact types are vectorised: a subclass runs its own code. A kernel returns None where its
result may differ on the given data, and backtrader computes it.
"""

import operator
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import accumulate, chain
from typing import Any

import backtrader as bt
import numpy as np
from backtrader import functions
from backtrader.linebuffer import LineBuffer, LineOwnOperation, LinesOperation, _LineDelay

from crossmargin_bt.rolling import rolling_extreme, rolling_fsum

# Below this number of bars backtrader computes the indicator.
BARS_MIN = 16
# Above this window length backtrader computes extremes.
WINDOW_MAX = 256

EXACT: dict[Any, Any] = {
    operator.__add__: np.add, operator.__sub__: np.subtract, operator.__mul__: np.multiply,
    operator.__lt__: np.less, operator.__le__: np.less_equal, operator.__gt__: np.greater, operator.__ge__: np.greater_equal,
    operator.__eq__: np.equal, operator.__ne__: np.not_equal,
}  # fmt: skip

Kernel = Callable[[Any, int, int], Any]


def _array(values: Any) -> Any:
    return np.frombuffer(values, dtype=np.float64)


def _average(one: Any, start: int, end: int) -> Any:
    period = one.p.period
    return rolling_fsum(_array(one.data.array)[start - period + 1 : end], period) / period


def _sum(one: Any, start: int, end: int) -> Any:
    period = one.p.period
    return rolling_fsum(_array(one.data.array)[start - period + 1 : end], period)


def _extreme(one: Any, start: int, end: int, *, highest: bool) -> Any:
    period = one.p.period
    if period > WINDOW_MAX:
        return None
    return rolling_extreme(_array(one.data.array)[start - period + 1 : end], period, highest=highest)


def _smoothing(one: Any, start: int, end: int) -> Any:
    decay = one.alpha1
    added = (_array(one.data.array)[start:end] * one.alpha).tolist()
    smoothed = accumulate(added, lambda before, new: before * decay + new, initial=one.lines[0].array[start - 1])
    return np.fromiter(smoothed, np.float64, len(added) + 1)[1:]


def _nonzero_difference(one: Any, start: int, end: int) -> Any:
    difference = _array(one.data0.array)[start - 1 : end] - _array(one.data1.array)[start - 1 : end]
    difference[0] = one.lines[0].array[start - 1]
    places = np.where(difference != 0, np.arange(len(difference)), 0)
    return difference[np.maximum.accumulate(places)][1:]


def _operation(one: Any, start: int, end: int, *, turbo: bool) -> Any:
    if one.btime:
        return None
    a = one.a if one.r and not one.bline else _array(one.a.array)[start:end]
    b = _array(one.b.array)[start:end] if one.bline or one.r else one.b
    if not isinstance(a, np.ndarray | float | int) or not isinstance(b, np.ndarray | float | int):
        return None
    if one.operation is operator.__truediv__:
        return None if not np.all(b) else np.divide(a, b)
    if one.operation is operator.__pow__ and turbo:
        return np.power(a, b)
    made = EXACT.get(one.operation)
    return None if made is None else made(a, b).astype(np.float64, copy=False)


def _own_operation(one: Any, start: int, end: int) -> Any:
    made = {operator.__abs__: np.abs, operator.__neg__: np.negative}.get(one.operation)
    return None if made is None else made(_array(one.a.array)[start:end])


def _delay(one: Any, start: int, end: int) -> Any:
    if not isinstance(one.a, LineBuffer) or start + one.ago < 0:
        return None
    return _array(one.a.array)[start + one.ago : end + one.ago].copy()


def _logic(one: Any, start: int, end: int, *, is_and: bool) -> Any:
    if len(one.args) < 2 or not all(isinstance(arg, LineBuffer) for arg in one.args):
        return None
    truths = [_array(arg.array)[start:end] != 0 for arg in one.args]
    return (np.logical_and if is_and else np.logical_or).reduce(truths).astype(np.float64)


def _extreme_of_lines(one: Any, start: int, end: int, *, highest: bool) -> Any:
    if not all(isinstance(arg, LineBuffer) for arg in one.args):
        return None
    best, *others = (_array(arg.array)[start:end] for arg in one.args)
    for other in others:
        best = np.where(other > best if highest else other < best, other, best)
    return best


def _division(one: Any, start: int, end: int) -> Any:
    if not isinstance(one.a, LineBuffer) or not isinstance(one.b, LineBuffer):
        return None
    a, b = _array(one.a.array)[start:end], _array(one.b.array)[start:end]
    divides = b != 0
    return np.where(divides, np.divide(a, np.where(divides, b, 1.0)), one.zero)


KERNELS: dict[type, Kernel] = {
    bt.indicators.Average: _average,
    bt.indicators.SumN: _sum,
    bt.indicators.ExponentialSmoothing: _smoothing,
    bt.indicators.Highest: partial(_extreme, highest=True),
    bt.indicators.Lowest: partial(_extreme, highest=False),
    bt.indicators.NonZeroDifference: _nonzero_difference,
    LineOwnOperation: _own_operation,
    _LineDelay: _delay,
    functions.And: partial(_logic, is_and=True),
    functions.Or: partial(_logic, is_and=False),
    functions.Max: partial(_extreme_of_lines, highest=True),
    functions.Min: partial(_extreme_of_lines, highest=False),
    functions.DivByZero: _division,
}


@contextmanager
def fast_once(strategy: Any, *, turbo: bool) -> Iterator[None]:
    """Vectorise the indicators of a strategy for the duration of the context.

    With `turbo` also powers, for which NumPy's last digit may differ from Python's (StdDev, BollingerBands).
    """
    kernels: dict[type, Kernel] = {**KERNELS, LinesOperation: partial(_operation, turbo=turbo)}
    changed: list[tuple[Any, str]] = []
    for one in chain([strategy], _all_indicators(strategy)):
        lines = one.lines if isinstance(one, LineBuffer) else one.lines.lines
        for line in lines:
            line.forward = partial(_forward, line)
            changed.append((line, "forward"))
        kernel = kernels.get(type(one))
        if kernel is not None:
            one.once = partial(_once, one, kernel)
            changed.append((one, "once"))
    try:
        yield
    finally:
        for one, name in changed:
            one.__dict__.pop(name, None)


def _all_indicators(iterator: Any) -> Iterator[Any]:
    """Yield all indicators of a line iterator, nested ones included."""
    for one in iterator._lineiterators[bt.LineIterator.IndType]:
        yield one
        if not isinstance(one, LineBuffer):
            yield from _all_indicators(one)


def _forward(line: Any, value: float = float("nan"), size: int = 1) -> None:
    """Replace `LineBuffer.forward`: extend the array in one call."""
    line.idx += size
    line.lencount += size
    line.array.extend(array("d", [value]) * size)


def _once(one: Any, kernel: Kernel, start: int, end: int) -> None:
    values = None
    if end - start >= BARS_MIN:
        with np.errstate(all="ignore"), suppress(ValueError):  # lines of unequal lengths: backtrader raises the error
            values = kernel(one, start, end)
    if values is None or len(values) != end - start:
        type(one).once(one, start, end)
        return
    line = one if isinstance(one, LineBuffer) else one.lines[0]
    line.array[start:end] = array("d", np.ascontiguousarray(values).tobytes())
