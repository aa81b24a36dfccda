# SPDX-License-Identifier: GPL-3.0-or-later
"""Indicators computed over whole arrays, where that gives backtrader's own numbers to the last bit.

backtrader builds its indicators out of a few kinds of step: averages, smoothing, rolling_extreme, differences, operations on lines.
Each kind is computed here over its whole range at once; an indicator made of nothing else (SMA, EMA, RSI, ATR, Highest,
CrossOver) comes out the same. Only exact types are known: a subclass computes itself. A kernel that cannot vouch for its
result on the data at hand lets backtrader compute it.
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

# Fewer bars than this are left to backtrader.
FEW = 16
# Extremes of longer windows are left to backtrader.
WINDOW_MAX = 256

EXACT: dict[Any, Any] = {
    operator.__add__: np.add, operator.__sub__: np.subtract, operator.__mul__: np.multiply,
    operator.__lt__: np.less, operator.__le__: np.less_equal, operator.__gt__: np.greater, operator.__ge__: np.greater_equal,
    operator.__eq__: np.equal, operator.__ne__: np.not_equal,
}  # fmt: skip

Kernel = Callable[[Any, int, int], Any]


def _seen(values: Any) -> Any:
    return np.frombuffer(values, dtype=np.float64)


def _average(one: Any, start: int, end: int) -> Any:
    period = one.p.period
    return rolling_fsum(_seen(one.data.array)[start - period + 1 : end], period) / period


def _sum(one: Any, start: int, end: int) -> Any:
    period = one.p.period
    return rolling_fsum(_seen(one.data.array)[start - period + 1 : end], period)


def _extreme(one: Any, start: int, end: int, *, highest: bool) -> Any:
    period = one.p.period
    if period > WINDOW_MAX:
        return None
    return rolling_extreme(_seen(one.data.array)[start - period + 1 : end], period, highest=highest)


def _smoothing(one: Any, start: int, end: int) -> Any:
    kept = one.alpha1
    added = (_seen(one.data.array)[start:end] * one.alpha).tolist()
    smoothed = accumulate(added, lambda before, new: before * kept + new, initial=one.lines[0].array[start - 1])
    return np.fromiter(smoothed, np.float64, len(added) + 1)[1:]


def _nonzero_difference(one: Any, start: int, end: int) -> Any:
    difference = _seen(one.data0.array)[start - 1 : end] - _seen(one.data1.array)[start - 1 : end]
    difference[0] = one.lines[0].array[start - 1]
    places = np.where(difference != 0, np.arange(len(difference)), 0)
    return difference[np.maximum.accumulate(places)][1:]


def _operation(one: Any, start: int, end: int, *, turbo: bool) -> Any:
    if one.btime:
        return None
    a = one.a if one.r and not one.bline else _seen(one.a.array)[start:end]
    b = _seen(one.b.array)[start:end] if one.bline or one.r else one.b
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
    return None if made is None else made(_seen(one.a.array)[start:end])


def _delay(one: Any, start: int, end: int) -> Any:
    if not isinstance(one.a, LineBuffer) or start + one.ago < 0:
        return None
    return _seen(one.a.array)[start + one.ago : end + one.ago].copy()


def _logic(one: Any, start: int, end: int, *, all_of_them: bool) -> Any:
    if len(one.args) < 2 or not all(isinstance(arg, LineBuffer) for arg in one.args):
        return None
    truths = [_seen(arg.array)[start:end] != 0 for arg in one.args]
    return (np.logical_and if all_of_them else np.logical_or).reduce(truths).astype(np.float64)


def _of_lines(one: Any, start: int, end: int, *, highest: bool) -> Any:
    if not all(isinstance(arg, LineBuffer) for arg in one.args):
        return None
    best, *others = (_seen(arg.array)[start:end] for arg in one.args)
    for other in others:
        best = np.where(other > best if highest else other < best, other, best)
    return best


def _division(one: Any, start: int, end: int) -> Any:
    if not isinstance(one.a, LineBuffer) or not isinstance(one.b, LineBuffer):
        return None
    a, b = _seen(one.a.array)[start:end], _seen(one.b.array)[start:end]
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
    functions.And: partial(_logic, all_of_them=True),
    functions.Or: partial(_logic, all_of_them=False),
    functions.Max: partial(_of_lines, highest=True),
    functions.Min: partial(_of_lines, highest=False),
    functions.DivByZero: _division,
}


@contextmanager
def fast_once(strategy: Any, *, turbo: bool) -> Iterator[None]:
    """Compute the indicators of a strategy over whole arrays while this lasts.

    With `turbo` powers are NumPy's too, whose last digit may differ from Python's (StdDev, BollingerBands).
    """
    kernels: dict[type, Kernel] = {**KERNELS, LinesOperation: partial(_operation, turbo=turbo)}
    changed: list[tuple[Any, str]] = []
    for one in chain([strategy], _all_of(strategy)):
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


def _all_of(iterator: Any) -> Iterator[Any]:
    """Yield everything that computes lines for an iterator."""
    for one in iterator._lineiterators[bt.LineIterator.IndType]:
        yield one
        if not isinstance(one, LineBuffer):
            yield from _all_of(one)


def _forward(line: Any, value: float = float("nan"), size: int = 1) -> None:
    """Do what `LineBuffer.forward` does, at once."""
    line.idx += size
    line.lencount += size
    line.array.extend(array("d", [value]) * size)


def _once(one: Any, kernel: Kernel, start: int, end: int) -> None:
    found = None
    if end - start >= FEW:
        with np.errstate(all="ignore"), suppress(ValueError):  # lines of unequal lengths: backtrader says what is wrong
            found = kernel(one, start, end)
    if found is None or len(found) != end - start:
        type(one).once(one, start, end)
        return
    line = one if isinstance(one, LineBuffer) else one.lines[0]
    line.array[start:end] = array("d", np.ascontiguousarray(found).tobytes())
