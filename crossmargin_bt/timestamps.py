# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing the times of candles: dates, text, or numbers since 1970-01-01 UTC in seconds to nanoseconds."""

import warnings
from typing import Any

import pandas as pd

TIME_COLUMNS = ("date", "datetime", "timestamp", "time")
"""Names of time columns; the first one present is used."""

# Upper limits of each unit: 1e11 is 1973 in milliseconds and 5138 in seconds, so that realistic dates are unambiguous.
UNIT_LIMITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))


def parse_times(column: pd.Series) -> pd.DatetimeIndex:
    """Return the times of a column, in UTC.

    Numbers count from 1970-01-01 UTC; their magnitude determines the unit: seconds if all are below 1e11, milliseconds below
    1e14, microseconds below 1e17 (Binance's archives since 2025), otherwise nanoseconds. Text without a time zone is taken as UTC.

    Raises:
        ValueError: the column holds values that are not times, or text in an ambiguous format.
    """
    if pd.api.types.is_numeric_dtype(column):
        largest = float(column.max())
        unit: Any = next((unit for limit, unit in UNIT_LIMITS if largest < limit), "ns")
        return pd.DatetimeIndex(pd.to_datetime(column, unit=unit, utc=True))
    try:
        return pd.DatetimeIndex(pd.to_datetime(column, utc=True, format="ISO8601"))
    except ValueError:
        with warnings.catch_warnings(category=UserWarning, action="error"):
            try:
                return pd.DatetimeIndex(pd.to_datetime(column, utc=True))
            except UserWarning as warning:  # pandas would guess the format
                raise ValueError(f"{column.iloc[0]!r} is not a time, or its format is ambiguous") from warning
