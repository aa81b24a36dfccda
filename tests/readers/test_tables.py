# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables in memory are read by the rules of files: frames of any library, ccxt's rows, numbers as text, times in any unit."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from market_files import candles, stamps

from crossmargin_bt import feeds
from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.options import TimeOptions
from crossmargin_bt.readers.tables import read_frame
from crossmargin_bt.readers.times import parse_times

FRAME = candles()
ROWS = [[t, *values] for t, values in zip(stamps(FRAME), FRAME.to_numpy().tolist(), strict=True)]


def polars():
    """Return the frame as a Polars frame."""
    module = pytest.importorskip("polars")
    return module.from_pandas(FRAME.reset_index())


TABLES = {
    "pandas": lambda: FRAME,
    "pyarrow": lambda: pa.Table.from_pandas(FRAME.reset_index(), preserve_index=False),
    "polars": polars,
    "ccxt": lambda: ROWS,
    "ccxt as text": lambda: [[row[0], *map(str, row[1:])] for row in ROWS],
    "records": lambda: [
        dict(zip(["t", "o", "h", "l", "c", "v"], row, strict=True)) | {"timestamp": row[0]} for row in ROWS
    ],
    "prices as text": lambda: FRAME.astype(str),
    "another zone": lambda: FRAME.tz_convert("Asia/Tokyo"),
    "newest first": lambda: FRAME[::-1],
    "rows twice": lambda: pd.concat([FRAME, FRAME.iloc[3:9]]),
    "seconds": lambda: FRAME.reset_index(drop=True).assign(time=stamps(FRAME, "s")),
    "an index of numbers": lambda: FRAME.set_axis(pd.Index(stamps(FRAME), name="timestamp"), axis=0),
    "extended types": FRAME.convert_dtypes,
    "decimals": lambda: FRAME.astype("string[pyarrow]"),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_the_same_frame(name: str) -> None:
    """To the last bit."""
    found = read_frame(TABLES[name](), "feed X")
    pd.testing.assert_frame_equal(
        found[list(FRAME.columns)], FRAME, check_exact=True, check_freq=False, check_names=False, check_index_type=False
    )
    assert list(feeds.from_frame(TABLES[name](), name="X").p.columns["close"]) == FRAME["close"].tolist()


def test_polars_is_tried_where_it_is_installed() -> None:
    """Narwhals itself comes with the package."""
    assert importlib.util.find_spec("narwhals") is not None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (FRAME.assign(Close=1.0), "column 'close' occurs twice"),
        (FRAME.assign(symbol=["A", "B"] * 24), "rows of A, B; pass the rows of one symbol"),
        (
            FRAME.assign(close=FRAME["close"].where(FRAME.index.hour != 3, 1e9)),
            "outside of high and low at 2024-01-01 03:00",
        ),
        (
            FRAME.assign(mark_open=1.0, mark_high=1.0, mark_low=2.0, mark_close=1.0),
            "the mark price's high is below the low",
        ),
        (FRAME.assign(open=[10**400] * 48), "not a number"),
        (FRAME.assign(funding_rate=np.inf), "funding_rate is inf"),
        ([*ROWS[:3], ROWS[3][:-1]], "5 to 6 values"),
        ([], "no rows"),
        (3, "not int; collect a lazy frame first"),
        (FRAME.set_axis(pd.to_datetime(range(48)), axis=0), "before 2009"),
        (FRAME.set_axis(pd.Index(["soon"] * 48, name="date"), axis=0), "'soon' is not a date in ISO 8601"),
    ],
)
def test_a_doubt_is_an_error_that_names_the_feed(table: object, said: str) -> None:
    """With the place and the remedy."""
    with pytest.raises(FeedError, match=said) as raised:
        feeds.from_frame(table, name="X")
    assert "feed X" in str(raised.value)


def test_holes_of_mark_prices_are_filled_and_said() -> None:
    """The last price is used, as in files; a Python warning says so, because a script has no report."""
    marks = FRAME[["open", "high", "low", "close"]].add_prefix("mark_") - 1.0
    marks.iloc[7] = np.nan
    with pytest.warns(UserWarning, match="feed X: 1 of 48 bars have no mark price"):
        feed = feeds.from_frame(FRAME.join(marks), name="X")
    assert list(feed.p.columns["mark_low"])[6:9] == [
        marks["mark_low"].iloc[6],
        FRAME["low"].iloc[7],
        marks["mark_low"].iloc[8],
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([20240131, 20240201], ["2024-01-31", "2024-02-01"]),
        (["20240131", "20240201"], ["2024-01-31", "2024-02-01"]),
        ([202401311630, 20240131163000], ["2024-01-31 16:30", "2024-01-31 16:30"]),
        ([1704067200, 1704067200_000, 1704067200_000_000, 1704067200_000_000_000], ["2024-01-01"] * 4),
        ([1704067200.5, 1704067201.0], ["2024-01-01 00:00:00.5", "2024-01-01 00:00:01"]),
        (["1704067200", "1704067200000"], ["2024-01-01"] * 2),
        (["2024-01-01T00:00:00+09:00", "2024-01-01 00:00:00 UTC"], ["2023-12-31 15:00", "2024-01-01"]),
        (["2024-01-01", "2024-01-01 05:00"], ["2024-01-01", "2024-01-01 05:00"]),
    ],
)
def test_times_that_are_certain(values: list, expected: list[str]) -> None:
    """Each row in its own unit; days as numbers; ISO text."""
    assert parse_times(values, "x").tolist() == [pd.Timestamp(text, tz="UTC") for text in expected]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([20241340], "before 2009"),
        ([45292.0], "before 2009"),
        ([1e12], "before 2009"),
        ([5e12], "after tomorrow"),
        ([None], "row 1 is missing"),
        ([np.inf], "not a finite number"),
        (["01/02/2024"], "'01/02/2024' is not a date in ISO 8601"),
        (["2024-01-01", "31.01.2024"], "'31.01.2024' is not a date"),
        ([True], "is not a date"),
    ],
)
def test_times_that_are_a_question(values: list, said: str) -> None:
    """Never a guess."""
    with pytest.raises(FeedError, match=said):
        parse_times(values, "x")


def test_stated_times() -> None:
    """A format, and dates that are meant."""
    stated = parse_times(["01/02/2024 05"], "x", TimeOptions("%d/%m/%Y %H"))
    assert stated[0] == pd.Timestamp("2024-02-01 05:00", tz="UTC")
    assert parse_times([-86_400], "x", TimeOptions(allow_unusual_times=True))[0] == pd.Timestamp("1969-12-31", tz="UTC")
    with pytest.raises(FeedError, match=r"does not match the format '%d.%m.%Y'"):
        parse_times(["01/02/2024"], "x", TimeOptions("%d.%m.%Y"))
