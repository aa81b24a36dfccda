# SPDX-License-Identifier: GPL-3.0-or-later
"""The one validation of candles, mark prices, funding and option data, for frames, files, downloads and stored rows alike."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.columns import SYMBOL

EXAMPLES = 3


def sorted_rows(frame: pd.DataFrame, where: str, *, last_wins: bool = False) -> pd.DataFrame:
    """Return rows in order of time, without exact repetitions.

    Args:
        frame: rows by time; any order.
        where: how errors name the rows.
        last_wins: of rows of one time with different values keep the last.

    Raises:
        FeedError: rows of one time have different values, and `last_wins` is not set; three examples are named.
    """
    rows = frame.sort_index(kind="stable")
    if rows.index.is_unique:
        return rows
    if last_wins:
        return rows[~rows.index.duplicated(keep="last")]
    distinct = rows[~rows.reset_index().duplicated().to_numpy()]
    again = distinct.index[distinct.index.duplicated()].unique()
    if len(again):
        listed = [f"{time:%Y-%m-%d %H:%M} ({_difference(distinct.loc[[time]])})" for time in again[:EXAMPLES]]
        raise FeedError(
            f"{where}: {len(again)} {'times have' if len(again) > 1 else 'time has'} rows with different values: {', '.join(listed)}; "
            "drop the wrong rows"
        )
    return distinct


def _difference(rows: pd.DataFrame) -> str:
    """Return the first column in which rows of one time differ, with the values."""
    for column in rows.columns:
        values = rows[column].tolist()
        if any(value != values[0] for value in values):
            return f"{column} {' and '.join(f'{value:g}' if isinstance(value, float) else str(value) for value in dict.fromkeys(values))}"
    return "NaN and a number"


def validate(frame: pd.DataFrame, where: str) -> None:
    """Check the canonical columns of rows: prices, candles, volume, mark prices, funding rates and option data.

    Args:
        frame: canonical columns by time; prices or mark prices may be absent, but not single columns of them. Mark prices may
            be missing in a row as a whole (NaN), and so may a funding rate.
        where: how errors name the rows.

    Raises:
        FeedError: the first fault, with column and time.
    """
    for fault in faults(frame):
        raise FeedError(f"{where}: {fault}")


def faults(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the first fault of each kind, as text without the place; see `validate`."""
    for names in (PRICES, MARKS):
        present = [name for name in names if name in frame]
        if present:
            missing = next((name for name in names if name not in frame), None)
            if missing is not None and names is MARKS:
                yield f"mark prices need {', '.join(MARKS)}; there is only {', '.join(present)}"
            elif missing is not None:
                yield f"column {missing!r} is missing; there are {', '.join(map(str, frame.columns))}"
            else:
                yield from _price_faults(frame, names)
    if "volume" in frame:
        volume = frame["volume"].to_numpy()
        yield from _first(
            ~(np.isnan(volume) | ((volume >= 0) & np.isfinite(volume))), frame, "volume", "a volume is not negative"
        )
    if "funding_rate" in frame:
        rate = frame["funding_rate"].to_numpy()
        told = "a rate is a fraction between -1 and 1 (0.0001 is 0.01 %)"
        yield from _first(~(np.isnan(rate) | (np.abs(rate) < 1)), frame, "funding_rate", told)
    for name, told in (
        ("volatility", "a volatility is positive (0.6 is 60 %)"),
        ("index_price", "an index price is positive"),
    ):
        if name in frame:
            values = frame[name].to_numpy()
            yield from _first(~(np.isnan(values) | ((values > 0) & np.isfinite(values))), frame, name, told)
    if "interest_rate" in frame:
        values = frame["interest_rate"].to_numpy()
        yield from _first(np.isinf(values), frame, "interest_rate", "an interest rate is finite")


def _price_faults(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    prices = frame[list(names)].to_numpy(dtype=np.float64)
    absent = np.isnan(prices).all(axis=1) if names is MARKS else np.zeros(len(prices), dtype=bool)
    for column, name in enumerate(names):
        values = prices[:, column]
        bad = ~((values > 0) & np.isfinite(values)) & ~absent
        yield from _first(bad, frame, name, "prices must be above 0, fix or drop these rows")
    wrong = impossible_candles(prices) & ~absent
    if wrong.any():
        row = int(np.argmax(wrong))
        what = "the mark price's" if names is MARKS else "the"
        opens, high, low, close = prices[row]
        said = f"{what} high is below the low" if high < low else f"{what} open or close is outside of high and low"
        more = f" and in {int(wrong.sum()) - 1} more rows" if wrong.sum() > 1 else ""
        yield (
            f"{said} at {frame.index[row]:%Y-%m-%d %H:%M}{more} (open {opens:g}, high {high:g}, low {low:g}, close {close:g}); "
            "fix or drop that row"
        )


def impossible_candles(prices: np.ndarray) -> np.ndarray:
    """Return which candles contradict themselves: the open, the close or the low is above the high, or below the low.

    `prices`: shape (rows, 4), float64, columns open, high, low, close; the result has shape (rows,), bool.
    """
    opens, high, low, close = prices.T
    wrong: np.ndarray = (high < np.maximum(opens, close)) | (low > np.minimum(opens, close)) | (high < low)
    return wrong


def _first(bad: np.ndarray, frame: pd.DataFrame, name: str, told: str) -> Iterator[str]:
    if bad.any():
        row = int(np.argmax(bad))
        more = f" and {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
        yield f"{name} is {frame[name].iloc[row]:g} at {frame.index[row]:%Y-%m-%d %H:%M}{more}; {told}"


def by_symbol(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each symbol of a table with a symbol column."""
    return {str(symbol): rows.drop(columns=SYMBOL) for symbol, rows in frame.groupby(SYMBOL, sort=True)}
