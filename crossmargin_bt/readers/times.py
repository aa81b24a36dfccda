# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing the times of candles: dates, ISO 8601 text, text in a stated format, or numbers.

Nothing is guessed: the unit of a number follows from its magnitude row by row, because the times from 2009 to now have
disjoint ranges in seconds, milliseconds, microseconds and nanoseconds. A time before 2009 (before Bitcoin) or after tomorrow
is an error unless it is explicitly allowed: it is nearly always a wrong unit or a wrong format.
"""

import datetime as dt
from typing import Any, Literal

import numpy as np
import pandas as pd

from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.options import DEFAULT_TIMES, TimeOptions

# Upper limits of each unit: 1e11 is 1973 in milliseconds and 5138 in seconds.
UNIT_LIMITS: tuple[tuple[float, Literal["s", "ms", "us", "ns"]], ...] = (
    (1e11, "s"),
    (1e14, "ms"),
    (1e17, "us"),
    (np.inf, "ns"),
)
# Numbers that spell a date: 20240131, 202401311630, 20240131163000.
SPELLED = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
EARLIEST = pd.Timestamp("2009-01-01", tz="UTC")


def parse_times(column: Any, where: str, options: TimeOptions = DEFAULT_TIMES) -> pd.DatetimeIndex:
    """Return the times of a column, in UTC.

    Args:
        column: dates, text, or numbers since 1970-01-01 UTC (or spelled: 20240131). Text and dates without a time zone are
            taken as UTC.
        where: how errors name the column.
        options: see `TimeOptions`.

    Raises:
        FeedError: a value is missing, is not a time, its format is ambiguous, or its date is before 2009 or after tomorrow.
    """
    values = pd.Series(column).reset_index(drop=True)
    if values.isna().any():
        raise FeedError(f"{where}: the time of row {int(np.argmax(values.isna())) + 1} is missing")
    if pd.api.types.is_datetime64_any_dtype(values):
        times = _localized(values)
    else:
        numbers = _as_numbers(values)
        if numbers is not None and not (options.time_format and not pd.api.types.is_numeric_dtype(values)):
            times = _from_numbers(numbers, where)
        else:
            times = _from_text(values, where, options.time_format)
    _check_dates(times, values, where, options)
    return times


def _localized(values: pd.Series) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(values)
    return index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")


def _as_numbers(values: pd.Series) -> pd.Series | None:
    """Return a column of numbers, or of text that consists of numbers only; None for other columns."""
    if pd.api.types.is_bool_dtype(values):
        return None
    if pd.api.types.is_numeric_dtype(values):
        return values
    text = values.astype(str).str.strip()
    if not text.str.fullmatch(r"[0-9]{8,19}(\.[0-9]+)?").all():
        return None
    return text.astype("int64") if text.str.fullmatch(r"[0-9]{1,18}").all() else text.astype("float64")


def _from_numbers(numbers: pd.Series, where: str) -> pd.DatetimeIndex:
    values = numbers.to_numpy()
    if not np.isfinite(values.astype(np.float64)).all():
        raise FeedError(f"{where}: a time is not a finite number")
    found = np.zeros(len(values), dtype="datetime64[us]")
    left = np.ones(len(values), dtype=bool)
    for digits, spelling in SPELLED.items():
        rows = left & (values >= 1900 * 10 ** (digits - 4)) & (values < 2200 * 10 ** (digits - 4))
        if not rows.any():
            continue
        spelled = pd.to_datetime(pd.Series(values[rows]).astype("int64").astype(str), format=spelling, errors="coerce")
        whole = values[rows] == np.floor(values[rows])
        valid = (spelled.notna() & whole).to_numpy()
        found[np.flatnonzero(rows)[valid]] = spelled.to_numpy()[valid]
        left[np.flatnonzero(rows)[valid]] = False
    below = -np.inf
    for limit, unit in UNIT_LIMITS:
        rows = left & (values >= below) & (values < limit)
        below = limit
        if rows.any():
            try:
                found[rows] = pd.to_datetime(pd.Series(values[rows]), unit=unit).to_numpy()
            except (ValueError, OverflowError) as error:
                raise FeedError(f"{where}: {values[rows][0]!r} is not a time ({error})") from error
    return pd.DatetimeIndex(found).tz_localize("UTC")


def _from_text(values: pd.Series, where: str, time_format: str | None) -> pd.DatetimeIndex:
    """Return the times of ISO 8601 text, or of text in the format given."""
    text = values
    if not any(isinstance(value, dt.date) for value in values.head(1)):
        text = values.astype(str).str.strip().str.replace(r"\s*(UTC|GMT)$", "+00:00", regex=True)
    try:
        return pd.DatetimeIndex(pd.to_datetime(text, utc=True, format=time_format or "ISO8601"))
    except (ValueError, OverflowError) as error:
        told = (
            f"does not match the format {time_format!r}"
            if time_format
            else "is not a date in ISO 8601 (2024-01-31 16:30); state its format: --time-format (time_format=) "
            "'%d/%m/%Y %H:%M'"
        )
        raise FeedError(f"{where}: {_first_bad(text, time_format)!r} {told}") from error


def _first_bad(text: pd.Series, time_format: str | None) -> str:
    parsed = pd.to_datetime(text, utc=True, format=time_format or "ISO8601", errors="coerce")
    return str(text[parsed.isna()].iloc[0]) if parsed.isna().any() else str(text.iloc[0])


def _check_dates(times: pd.DatetimeIndex, values: pd.Series, where: str, options: TimeOptions) -> None:
    if options.allow_unusual_times or not len(times):
        return
    # The clock only refuses; a time accepted today is accepted ever after, so a run does not depend on it.
    latest = pd.Timestamp.now("UTC") + pd.Timedelta(days=1)
    odd = np.flatnonzero((times < EARLIEST) | (times > latest))
    if len(odd):
        row = int(odd[0])
        raise FeedError(
            f"{where}: {values.iloc[row]} in row {row + 1} is {times[row]:%Y-%m-%d %H:%M}, before 2009 or after tomorrow; "
            "correct its unit or format, or pass --allow-unusual-times (allow_unusual_times=True) if it is meant"
        )
