# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of candle frames and their conversion to the arrays of doubles that feeds and batches load."""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossmargin_bt.broker.session.bars import EPOCH_DAY
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.errors import FeedError
from crossmargin_bt.rolling import row_fsum
from crossmargin_bt.timestamps import TIME_COLUMNS, parse_times


def feed_arrays(
    frame: pd.DataFrame, name: str, funding: pd.Series | None, *, is_option: bool
) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the validated columns of a frame with times in backtrader's number format as `datetime`, and the times in UTC."""
    columns, times = candle_arrays(frame, name, funding, is_option=is_option)
    return {"datetime": _doubles(_backtrader_dates(times)), **columns}, times


def candle_arrays(
    frame: pd.DataFrame, name: str, funding: pd.Series | None = None, *, is_option: bool = False
) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the validated columns of a frame as arrays of doubles by name, and the times in UTC; see `from_frame`.

    Raises:
        FeedError: see `from_frame`.
    """
    if not isinstance(frame, pd.DataFrame):
        raise FeedError(f"feed {name}: from_frame takes a pandas DataFrame, got {type(frame).__name__}")
    candles = _with_times(frame.rename(columns=lambda column: str(column).lower()), name)
    missing = [price for price in PRICES if price not in candles]
    if missing:
        raise FeedError(f"feed {name}: column {missing[0]!r} is missing; it has {', '.join(map(str, candles.columns))}")
    marks = [mark for mark in MARKS if mark in candles]
    if marks and len(marks) < len(MARKS):
        raise FeedError(f"feed {name}: mark prices need {', '.join(MARKS)}; the frame has only {', '.join(marks)}")
    crossed = (candles["high"] < candles["low"]).to_numpy()
    if crossed.any():
        at = candles.index[crossed][0]
        raise FeedError(f"feed {name}: the high is below the low at {at}; fix or drop that row")
    columns = _columns(candles, marks, name, is_option=is_option)
    times = pd.DatetimeIndex(candles.index)
    if funding is not None:
        columns["funding_rate"] = _doubles(_due(funding, times, name))
    return columns, times


def _columns(candles: pd.DataFrame, marks: Sequence[str], name: str, *, is_option: bool) -> dict[str, Any]:
    """Return the columns that a feed loads, validated."""
    columns = {price: _doubles(_prices(candles, price, name)) for price in (*PRICES, *marks)}
    for number in ("volume", "openinterest"):
        columns[number] = _numbers(candles[number]) if number in candles else array("d", [0.0]) * len(candles)
    if "funding_rate" in candles:
        columns["funding_rate"] = _doubles(_rates(candles["funding_rate"], name))
    for number in ("volatility", "index_price", "interest_rate"):
        if is_option and number in candles:
            columns[number] = _numbers(candles[number])
    return columns


def _numbers(values: pd.Series) -> Any:
    return _doubles(pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64))


def _doubles(values: Any) -> Any:
    """Return a NumPy array as an `array` of doubles, copied in one block."""
    doubles = array("d")
    doubles.frombytes(np.ascontiguousarray(values, dtype=np.float64).view(np.uint8))  # type: ignore[arg-type]  # arrays support the buffer protocol
    return doubles


def _utc(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return times if times.tz is None else times.tz_convert("UTC").tz_localize(None)


def _with_times(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    candles = frame
    if not isinstance(candles.index, pd.DatetimeIndex):
        column = next((column for column in TIME_COLUMNS if column in candles), None)
        if column is None:
            raise FeedError(f"feed {name}: no times; give a DatetimeIndex or a column named {TIME_COLUMNS[0]!r}")
        try:
            times = parse_times(candles[column])
        except (ValueError, TypeError) as error:
            raise FeedError(f"feed {name}: column {column!r} holds no times ({error})") from error
        candles = candles.drop(columns=column).set_axis(times, axis=0)
    if not len(candles):
        raise FeedError(f"feed {name}: the frame has no rows")
    index = _utc(pd.DatetimeIndex(candles.index))
    if index.hasnans or not (index.is_monotonic_increasing and index.is_unique):
        unordered = np.flatnonzero(index[1:] <= index[:-1])
        where = "a time is missing" if index.hasnans else f"the bar after {index[unordered[0]]} is not later"
        raise FeedError(f"feed {name}: {where}; sort by time and drop duplicates")
    return candles.set_axis(index, axis=0)


def _prices(candles: pd.DataFrame, column: str, name: str) -> Any:
    values = pd.to_numeric(candles[column], errors="coerce").to_numpy(dtype=np.float64)
    if not 0 < values.min() <= values.max() < np.inf:  # false for NaN too
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        raise FeedError(
            f"feed {name}: {column} is {values[bad[0]]:g} at {candles.index[bad[0]]}"
            f"{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}; prices must be above 0, fix or drop these rows"
        )
    return values


def _rates(funding: pd.Series, name: str) -> Any:
    """Return funding rates as float64; NaN means that nothing is due."""
    try:
        rates = funding.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FeedError(f"feed {name}: funding rates are numbers (0.0001 is 0.01 %): {error}") from error
    if np.isinf(rates).any():
        raise FeedError(f"feed {name}: funding rates are finite; the one at {funding.index[np.isinf(rates)][0]} is not")
    return rates


def _due(funding: pd.Series, opens: pd.DatetimeIndex, name: str) -> Any:
    """Return the sum of the rates due at each bar's open. Settlement times are truncated to seconds, because exchanges stamp them late."""
    if not isinstance(funding.index, pd.DatetimeIndex):
        raise FeedError(f"feed {name}: funding needs a DatetimeIndex of settlement times")
    stamps = _utc(funding.index).floor("s")
    due = np.full(len(opens), np.nan)
    rows = np.searchsorted(opens.to_numpy(), stamps.to_numpy(), side="left")
    for row, stamp, rate in zip(rows, stamps, _rates(funding, name), strict=True):
        if row < len(opens) and stamp >= opens[0]:
            due[row] = rate if np.isnan(due[row]) else due[row] + rate
    return due


def _backtrader_dates(times: pd.DatetimeIndex) -> Any:
    """Return `bt.date2num` of every time, shape (bars,), float64."""
    stamps = times.as_unit("us").asi8
    days, remainder = np.divmod(stamps, 86_400_000_000)
    hours, remainder = np.divmod(remainder, 3_600_000_000)
    minutes, remainder = np.divmod(remainder, 60_000_000)
    seconds, microseconds = np.divmod(remainder, 1_000_000)
    parts = ((days + EPOCH_DAY, 1.0), (hours, 24.0), (minutes, 1440.0), (seconds, 86_400.0), (microseconds, 86_400e6))
    return row_fsum([part / whole for part, whole in parts])
