# SPDX-License-Identifier: GPL-3.0-or-later
"""From the bytes of a file to a raw table: CSV with and without names, gzip, zip, Parquet, feather and JSON.

A table without column names is read only if its layout is certain: as many columns as a known layout, candles that do not
contradict themselves in it, and opens that continue the closes before them.
"""

import csv
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from crossmargin_bt.columns import PRICES
from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.columns import ALIASES, CANONICAL, TIME_COLUMNS
from crossmargin_bt.readers.file_names import SUFFIXES, data_suffix
from crossmargin_bt.readers.options import TimeOptions
from crossmargin_bt.readers.times import parse_times
from crossmargin_bt.readers.validation import impossible_candles

READ_ERRORS = (
    OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, RecursionError, MemoryError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, pa.ArrowException, csv.Error,
)  # fmt: skip

CANDLE_ROW = ("open_time", "open", "high", "low", "close", "volume")
LAYOUTS: dict[int, tuple[tuple[str, ...], ...]] = {
    5: (CANDLE_ROW[:5],),
    6: (
        CANDLE_ROW,  # ccxt, Bybit
        ("open_time", "volume", "close", "high", "low", "open"),  # Gate
        ("open_time", "open", "close", "high", "low", "volume"),  # Bitfinex
        ("open_time", "low", "high", "open", "close", "volume"),  # Coinbase
    ),
    7: (
        (*CANDLE_ROW, "trades"),  # Kraken's files
        ("open_time", "open", "close", "high", "low", "volume", "turnover"),  # KuCoin
        ("open_time", "open", "close", "high", "low", "turnover", "volume"),  # HTX
    ),
    8: (("open_time", "open", "high", "low", "close", "vwap", "volume", "trades"),),  # Kraken's REST interface
    12: (
        (
            *CANDLE_ROW, "close_time", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore",
        ),
    ),  # Binance
}  # fmt: skip
"""Known layouts of rows without column names, by their number of columns."""

FUNDING_LAYOUTS = {2: ("funding_time", "funding_rate"), 3: ("calc_time", "funding_interval_hours", "last_funding_rate")}
# Lines above the line of names (an address, a title) that are skipped at most.
PREFACE_LINES_MAX = 5
NULL_VALUES = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none"]
SEPARATORS = (",", ";", "\t", "|")
# A text is a time of MetaTrader's form, which Bybit's archive uses: 2024.01.31 16:30.
DOTTED_TIME = re.compile(r"[0-9]{4}\.[0-9]{2}\.[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2})?")


def read_table(path: Path, *, kind: str = "") -> pd.DataFrame:
    """Return the raw table in a file, under its own column names or those of its layout.

    Args:
        path: the file; its suffix is one of `SUFFIXES`.
        kind: the kind of data if it is known; it decides the layout of three columns without names.

    Raises:
        FeedError: the file does not exist, cannot be read, holds several files, or its layout is not certain.
    """
    if not path.is_file():
        raise FeedError(f"{path} does not exist")
    suffix = data_suffix(path)
    if not suffix:
        raise FeedError(f"{path} cannot be read: unsupported file type; supported are {', '.join(SUFFIXES)}")
    try:
        table = _FORMATS[suffix](path, kind)
    except FeedError:
        raise
    except READ_ERRORS as error:
        raise FeedError(f"{path} cannot be read: {_one_line(error)}") from error
    if not len(table):
        raise FeedError(f"{path} holds no rows")
    return table


def rows_table(rows: Sequence[Sequence[Any]], where: str) -> pd.DataFrame:
    """Return a table of rows without names, such as the answer of ccxt's `fetch_ohlcv`.

    Raises:
        FeedError: the rows differ in length, or their layout is not certain.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise FeedError(f"{where}: its rows have {min(lengths)} to {max(lengths)} values; each needs the same")
    return _named(pd.DataFrame(list(rows)), where, "")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read_text(content: bytes, path: Path, kind: str) -> pd.DataFrame:
    """Return the table in the bytes of a CSV file."""
    return _read_csv(_decoded(content, path), path, kind)


def _decoded(content: bytes, path: Path) -> str:
    """Return bytes as text by their byte-order mark, UTF-8 without one."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FeedError(f"{path} cannot be read: its text is not UTF-8 ({error.reason}); save it as UTF-8") from error
    if "\0" in text:
        raise FeedError(f"{path} cannot be read: it holds NUL characters, so it is not text")
    return text


def _read_csv(text: str, path: Path, kind: str) -> pd.DataFrame:
    """Return the table in a CSV text: separator, lines above the names and presence of names follow from its first lines."""
    head = [line for line in text[:20_000].splitlines() if line.strip()][: PREFACE_LINES_MAX + 1]
    if not head:
        raise FeedError(f"{path} holds no rows")
    for skipped, line in enumerate(head):
        separator = max(SEPARATORS, key=lambda mark: (line.count(mark), -SEPARATORS.index(mark)))
        fields = [field.strip() for field in next(csv.reader([line], delimiter=separator))]
        if len(fields) < 2:
            continue
        body = "".join(_after(text, skipped))
        if _are_names(fields):
            _check_names(fields, path)
            return _parsed(body, separator, names=True)
        if _are_values(fields):
            return _named(_parsed(body, separator, names=False), str(path), kind)
        if _is_time(fields[0]):
            raise FeedError(f"{path}: its first row holds something that is no number: {line[:60]!r}")
    raise FeedError(f"{path}: no line of column names in its first {len(head)} lines; it begins {head[0][:60]!r}")


def _parsed(body: str, separator: str, *, names: bool) -> pd.DataFrame:
    """Return the table in the lines of a CSV text. Every line has as many fields as the first, or the file is broken."""
    if len(body.splitlines()) == names:
        return pd.DataFrame()
    table = pacsv.read_csv(
        pa.BufferReader(body.encode()),
        read_options=pacsv.ReadOptions(autogenerate_column_names=not names),
        parse_options=pacsv.ParseOptions(delimiter=separator),
        convert_options=pacsv.ConvertOptions(null_values=NULL_VALUES, strings_can_be_null=True),
    )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _after(text: str, skipped: int) -> list[str]:
    """Return the lines of a text after the first `skipped` lines that are not blank."""
    lines = text.splitlines(keepends=True)
    at = [n for n, line in enumerate(lines) if line.strip()][skipped]
    return lines[at:]


def _are_names(fields: Sequence[str]) -> bool:
    """Return whether the fields of a line are column names: none is a number, and one is a known name."""
    words = {re.sub(r"^[0-9]+[a-z]?\. ", "", field.strip("<>\"' ").lower()) for field in fields}
    known = {"open", "close", "mark_open", "funding_rate", *TIME_COLUMNS, *ALIASES}
    return not any(_is_number(field) for field in fields if field) and not words.isdisjoint(known)


def _check_names(fields: Sequence[str], path: Path) -> None:
    names = [field.strip("<>\"' ").lower() for field in fields]
    twice = next(
        (name for name in names if names.count(name) > 1 and name in {*CANONICAL, *ALIASES, *TIME_COLUMNS}), None
    )
    if twice is not None:
        raise FeedError(f"{path}: column {twice!r} occurs twice; drop or rename one")


def _are_values(fields: Sequence[str]) -> bool:
    """Return whether the fields of a line are a time followed by numbers."""
    return _is_time(fields[0]) and all(map(_is_number, fields[1:]))


def _is_time(text: str) -> bool:
    return _is_number(text) or bool(re.match(r"[0-9]{4}[-.][0-9]{2}", text))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(table: pd.DataFrame, where: str, kind: str) -> pd.DataFrame:
    """Return a table without column names under the names of the one layout that its rows agree with.

    Raises:
        FeedError: no layout agrees, or several do.
    """
    width = len(table.columns)
    if kind == "funding" and width in FUNDING_LAYOUTS:
        return table.set_axis(list(FUNDING_LAYOUTS[width]), axis=1)
    layouts = LAYOUTS.get(width)
    if layouts is None:
        raise FeedError(
            f"{where}: no column names, and rows of {width} columns have no known layout; add a line of names"
        )
    named = table.set_axis(range(width), axis=1)
    first = named[0].astype(str)
    if first.str.fullmatch(DOTTED_TIME).all():
        named[0] = pd.to_datetime(first.str.replace(".", "-", n=2, regex=False), format="ISO8601", utc=True)
    try:
        order = np.argsort(parse_times(named[0], where, TimeOptions(allow_unusual_times=True)), kind="stable")
        values = named.iloc[order, 1:].astype("float64")
    except (FeedError, ValueError, TypeError, OverflowError) as error:
        raise FeedError(
            f"{where}: no column names, and its rows are not a time and numbers ({_one_line(error)})"
        ) from error
    fitting = [layout for layout in layouts if _fits(values, layout)]
    if not fitting or any(not _same_prices(values, fitting[0], other) for other in fitting[1:]):
        found = "several orders of columns are" if fitting else "no known order of columns is"
        raise FeedError(f"{where}: no column names, and {found} possible for its rows; add a line of names")
    return named.set_axis(list(fitting[0]), axis=1)


def _fits(values: pd.DataFrame, layout: Sequence[str]) -> bool:
    """Return whether rows in order of time agree with a layout.

    They do if no candle contradicts itself, the opens continue the closes before them rather than the other way round, and
    the average price lies within the candle: the vwap, or turnover over volume.
    """
    columns = {name: values[n].to_numpy() for n, name in enumerate(layout) if n}
    prices = np.column_stack([columns[name] for name in PRICES])
    if not ((prices > 0) & np.isfinite(prices)).all() or impossible_candles(prices).any():
        return False
    if "vwap" in columns:
        inside = (columns["vwap"] >= 0.99 * columns["low"]) & (columns["vwap"] <= 1.01 * columns["high"])
        if not (inside | (columns["volume"] == 0)).all():
            return False
    if "turnover" in columns:
        paid, traded = columns["turnover"], columns["volume"]
        if not ((paid >= 0.99 * columns["low"] * traded) & (paid <= 1.01 * columns["high"] * traded)).all():
            return False
    opens, closes = columns["open"], columns["close"]
    return bool(np.abs(opens[1:] - closes[:-1]).sum() <= np.abs(closes[1:] - opens[:-1]).sum())


def _same_prices(values: pd.DataFrame, one: Sequence[str], other: Sequence[str]) -> bool:
    return all(values[one.index(name)].equals(values[other.index(name)]) for name in (*PRICES, "volume"))


def _read_zip(path: Path, kind: str) -> pd.DataFrame:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
        data = [name for name in names if data_suffix(Path(PurePosixPath(name).name)) in (".csv", ".txt")]
        if len(data) != 1:
            told = f"{len(data)} CSV files; unpack it and name the files" if data else "no CSV file"
            raise FeedError(f"{path} holds {told}")
        return _read_text(archive.read(data[0]), path, kind)


def _read_json(path: Path, _kind: str) -> pd.DataFrame:
    """Return the rows of a JSON file: a list of rows (freqtrade, ccxt) or of records."""
    content = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    decoded = msgspec.json.decode(content)
    if not isinstance(decoded, list):
        raise FeedError(
            f"{path}: a JSON file of candles is a list of rows [time, open, high, low, close, volume] or of records"
        )
    if all(isinstance(row, dict) for row in decoded):
        return pd.DataFrame(decoded)
    if not all(isinstance(row, list) for row in decoded):
        raise FeedError(f"{path}: its rows are neither lists nor records")
    return rows_table(decoded, str(path)) if decoded else pd.DataFrame()


def _read_columns(read: Callable[[Path], pd.DataFrame]) -> Callable[[Path, str], pd.DataFrame]:
    return lambda path, _kind: read(path)


_FORMATS: dict[str, Callable[[Path, str], pd.DataFrame]] = {
    ".csv": lambda path, kind: _read_text(path.read_bytes(), path, kind),
    ".txt": lambda path, kind: _read_text(path.read_bytes(), path, kind),
    ".csv.gz": lambda path, kind: _read_text(gzip.decompress(path.read_bytes()), path, kind),
    ".parquet": _read_columns(pd.read_parquet),
    ".feather": _read_columns(pd.read_feather),
    ".json": _read_json,
    ".json.gz": _read_json,
    ".zip": _read_zip,
}
