# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversion of candle frames to the arrays of doubles that feeds and batches load."""

import warnings
from array import array
from typing import Any

import numpy as np
import pandas as pd

from crossmargin_bt.broker.session.bars import EPOCH_DAY
from crossmargin_bt.candles.marks import fill_holes
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.options import DEFAULT_TIMES, TimeOptions
from crossmargin_bt.readers.tables import read_frame, read_funding
from crossmargin_bt.rolling import row_fsum


def feed_arrays(
    frame: Any, name: str, funding: pd.Series | None, *, is_option: bool, times: TimeOptions = DEFAULT_TIMES
) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the validated columns of a frame with times in backtrader's number format as `datetime`, and the times in UTC."""
    columns, stamps = candle_arrays(frame, name, funding, is_option=is_option, times=times)
    return {"datetime": _doubles(_backtrader_dates(stamps)), **columns}, stamps


def candle_arrays(
    frame: Any,
    name: str,
    funding: pd.Series | None = None,
    *,
    is_option: bool = False,
    times: TimeOptions = DEFAULT_TIMES,
) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the validated columns of a frame as arrays of doubles by name, and the times in UTC; see `from_frame`.

    Raises:
        FeedError: see `from_frame`.
    """
    where = f"feed {name}"
    candles = read_frame(frame, where, times)
    missing = [price for price in PRICES if price not in candles]
    if missing:
        raise FeedError(f"{where}: column {missing[0]!r} is missing; it has {', '.join(map(str, candles.columns))}")
    candles, holes = fill_holes(candles)
    if holes:
        text = f"{where}: {holes:,} of {len(candles):,} bars have no mark price; the last price is taken for it"
        warnings.warn(text, stacklevel=2)
    stamps = pd.DatetimeIndex(candles.index).tz_localize(None)
    columns = _columns(candles, is_option=is_option)
    if funding is not None:
        columns["funding_rate"] = _doubles(_due(funding, stamps, where))
    return columns, stamps


def _columns(candles: pd.DataFrame, *, is_option: bool) -> dict[str, Any]:
    """Return the columns that a feed loads."""
    names = [*PRICES, *(mark for mark in MARKS if mark in candles)]
    columns = {name: _doubles(candles[name]) for name in names}
    for name in ("volume", "openinterest"):
        columns[name] = _doubles(candles[name].fillna(0.0)) if name in candles else array("d", [0.0]) * len(candles)
    optional = ("funding_rate", *(("volatility", "index_price", "interest_rate") if is_option else ()))
    return columns | {name: _doubles(candles[name]) for name in optional if name in candles}


def _doubles(values: Any) -> Any:
    """Return a NumPy array as an `array` of doubles, copied in one block."""
    doubles = array("d")
    doubles.frombytes(np.ascontiguousarray(values, dtype=np.float64).view(np.uint8))  # type: ignore[arg-type]  # arrays support the buffer protocol
    return doubles


def _due(funding: pd.Series, opens: pd.DatetimeIndex, where: str) -> Any:
    """Return the sum of the rates due at each bar's open. Settlement times are truncated to seconds, because exchanges stamp them late."""
    rates = read_funding(funding, where)
    stamps = pd.DatetimeIndex(rates.index).tz_localize(None).floor("s")
    due = np.full(len(opens), np.nan)
    rows = np.searchsorted(opens.to_numpy(), stamps.to_numpy(), side="left")
    for row, stamp, rate in zip(rows, stamps, rates.to_numpy(), strict=True):
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
