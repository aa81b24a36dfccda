# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables in memory: pandas, every other data frame library through narwhals, and ccxt's lists of rows."""

from typing import Any

import narwhals as nw
import pandas as pd

from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.columns import SYMBOL, canonical_table
from crossmargin_bt.readers.file_formats import rows_table
from crossmargin_bt.readers.options import DEFAULT_TIMES, TimeOptions
from crossmargin_bt.readers.validation import sorted_rows, validate


def read_frame(table: Any, where: str, times: TimeOptions = DEFAULT_TIMES) -> pd.DataFrame:
    """Return the candles of a table in memory under canonical names, sorted by time in UTC, validated.

    Args:
        table: a data frame of pandas, Polars, pyarrow or another library that narwhals knows, a list of rows
            `[time, open, high, low, close, volume]` as ccxt returns it (numbers or text), or a list of records.
        where: how errors name the table.
        times: what is stated about its times.

    Raises:
        FeedError: the type is not a table, a column is missing or occurs twice, or a row is invalid.
    """
    frame = canonical_table(as_pandas(table, where), where, times)
    if SYMBOL in frame:
        symbols = sorted(frame[SYMBOL].unique())
        if len(symbols) > 1:
            raise FeedError(f"{where}: the frame has rows of {', '.join(symbols[:3])}; pass the rows of one symbol")
        frame = frame.drop(columns=SYMBOL)
    rows = sorted_rows(frame, where)
    validate(rows, where)
    return rows


def as_pandas(table: Any, where: str) -> pd.DataFrame:
    """Return a table in memory as a pandas frame.

    Raises:
        FeedError: it is not a table, or a lazy one.
    """
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, list | tuple):
        if not table:
            raise FeedError(f"{where} holds no rows")
        if all(isinstance(row, list | tuple) for row in table):
            return rows_table(table, where)
        if all(isinstance(row, dict) for row in table):
            return pd.DataFrame(list(table))
    try:
        frame: pd.DataFrame = nw.from_native(table, eager_only=True).to_pandas()
    except TypeError as error:
        raise FeedError(
            f"{where}: candles are a data frame (pandas, Polars, pyarrow) or a list of rows [time, open, high, low, close, volume], "
            f"not {type(table).__name__}; collect a lazy frame first"
        ) from error
    return frame


def read_funding(funding: Any, where: str) -> pd.Series:
    """Return funding rates by settlement time in UTC, in order; NaN means that nothing is due, and is left out.

    Raises:
        FeedError: it is not a series by time, or a rate is not a fraction between -1 and 1.
    """
    if not isinstance(funding, pd.Series) or not isinstance(funding.index, pd.DatetimeIndex):
        raise FeedError(f"{where}: funding is a pandas Series of rates with a DatetimeIndex of settlement times")
    frame = canonical_table(funding.rename("funding_rate").to_frame(), f"{where}: funding")
    rows = sorted_rows(frame.dropna(), f"{where}: funding")
    validate(rows, f"{where}: funding")
    return rows["funding_rate"]
