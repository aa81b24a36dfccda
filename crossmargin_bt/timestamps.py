# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as candles come with them: dates, texts, or numbers counted from 1970."""

import warnings
from typing import Any

import pandas as pd

TIME_COLUMNS = ("date", "datetime", "timestamp", "time")
"""Names under which a table of candles may hold its times; the first one present is used."""

# Numbers below each are in its unit: as milliseconds the first would be of 1973, as microseconds the second of 5138.
UNITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))


def parse_times(stamps: pd.Series) -> pd.DatetimeIndex:
    """Return the times of a column, in UTC.

    A column of numbers counts from 1970-01-01 UTC: in seconds where all are below 1e11, in milliseconds below 1e14, in
    microseconds below 1e17 (Binance's archives since 2025), else in nanoseconds. Texts without a zone are UTC.

    Raises:
        ValueError: it holds no times, or texts whose format can be guessed only.
    """
    if pd.api.types.is_numeric_dtype(stamps):
        largest = float(stamps.max())
        unit: Any = next((unit for limit, unit in UNITS if largest < limit), "ns")
        return pd.DatetimeIndex(pd.to_datetime(stamps, unit=unit, utc=True))
    try:
        return pd.DatetimeIndex(pd.to_datetime(stamps, utc=True, format="ISO8601"))
    except ValueError:
        with warnings.catch_warnings(category=UserWarning, action="error"):
            try:
                return pd.DatetimeIndex(pd.to_datetime(stamps, utc=True))
            except UserWarning as warning:  # that it is read by guessing
                raise ValueError(f"{stamps.iloc[0]!r} is no time, or one in no format that is sure") from warning
