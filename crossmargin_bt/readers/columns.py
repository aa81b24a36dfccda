# SPDX-License-Identifier: GPL-3.0-or-later
"""Which column of a table is what: the spellings of time, price, volume, mark price, funding and symbol columns."""

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from crossmargin_bt.columns import MARKS, OPTIONAL_COLUMNS, PRICES
from crossmargin_bt.errors import FeedError
from crossmargin_bt.readers.options import DEFAULT_TIMES, TimeOptions
from crossmargin_bt.readers.times import parse_times
from crossmargin_bt.symbols import QUOTES

TIME_COLUMNS = (
    "date", "datetime", "timestamp", "time", "open_time", "opentime", "open time", "unix", "unix timestamp", "ts", "start_at",
    "start_time", "starttime", "calc_time", "funding_time", "fundingtime", "funding time", "candle_begin_time", "gmt time",
    "time_period_start",
)  # fmt: skip
"""Names of columns that hold a bar's open time or a settlement's time, in lower case."""

UNNAMED_INDEX = ("unnamed: 0", "index", "")
"""Names of an index that was written without a name; they hold the times if no other column does."""

ALIASES = {
    "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vol": "volume", "base_volume": "volume",
    "basevolume": "volume", "volume from": "volume", "open_price": "open", "openprice": "open", "price_open": "open", "high_price": "high",
    "highprice": "high", "price_high": "high", "low_price": "low", "lowprice": "low", "price_low": "low", "close_price": "close",
    "closeprice": "close", "price_close": "close", "tickvol": "volume", "fundingrate": "funding_rate", "funding rate": "funding_rate",
    "last_funding_rate": "funding_rate", "realized_rate": "funding_rate", "rate": "funding_rate",
}  # fmt: skip
SYMBOL_COLUMNS = (
    "symbol", "pair", "instrument_name", "instid", "inst_id", "instrument_id", "instrument", "contract", "market", "ticker",
)  # fmt: skip
# A volume column that names its currency: "Volume BTC", "Volume_(USDT)", "volume_btc".
NAMED_VOLUME = re.compile(r"^vol(?:ume)?[ _]*\(?(?P<unit>[a-z0-9]+)\)?$")
# OKX and HTX count volume in up to three currencies: contracts (spot: base), base (spot: quote), quote.
THREE_VOLUMES = (("vol", "vol_ccy", "vol_quote"), ("vol", "volccy", "volccyquote"))
SYMBOL = "symbol"
CANONICAL = (*PRICES, *MARKS, *OPTIONAL_COLUMNS)


def canonical_table(table: pd.DataFrame, where: str, options: TimeOptions = DEFAULT_TIMES) -> pd.DataFrame:
    """Return a table under the canonical column names, as float64, indexed by its times in UTC; row order is kept.

    Columns that are neither prices nor volume, mark, funding or option data are dropped. A column `symbol` holds the symbol of
    each row if the table has a symbol column.

    Args:
        table: the raw table; times are in its index or in a column.
        where: how errors name the table.
        options: see `TimeOptions`.

    Raises:
        FeedError: a column name occurs twice, there is no time, two time columns disagree, a time is invalid, or a value is
            not a number.
    """
    named = table.set_axis([_clean(name) for name in table.columns], axis=1)
    twice = next((name for name in named.columns if list(named.columns).count(name) > 1), None)
    if twice is not None:
        spellings = [str(name) for name in table.columns if _clean(name) == twice]
        raise FeedError(f"{where}: column {twice!r} occurs twice ({', '.join(spellings)}); drop or rename one")
    if not len(named):
        raise FeedError(f"{where} holds no rows")
    times = _times(named, where, options)
    roles = _roles([str(name) for name in named.columns], where)
    for contracts, base, quote in THREE_VOLUMES:
        if {contracts, base, quote} <= set(named.columns):
            roles["volume"] = contracts if named[base].equals(named[quote]) else base
    found = {role: _number(named[name], role, times, where) for role, name in roles.items()}
    symbols = next((name for name in SYMBOL_COLUMNS if name in named), None)
    if symbols is not None and named[symbols].isna().any():
        raise FeedError(f"{where}: a value of the symbol column {symbols!r} is missing")
    frame = pd.DataFrame({role: values.to_numpy() for role, values in found.items()}, index=times)
    if symbols is not None:
        frame[SYMBOL] = named[symbols].astype(str).str.strip().to_numpy()
    return frame


def _clean(name: Any) -> str:
    """Return a column name in lower case without byte-order mark, brackets, spaces and numbering ("1. open")."""
    text = str(name).strip().lstrip("\ufeff").strip("<>\"' ").lower()
    return re.sub(r"^[0-9]+[a-z]?\. ", "", text)


def _times(table: pd.DataFrame, where: str, options: TimeOptions) -> pd.DatetimeIndex:
    """Return the times of a table's rows: of its index if that holds dates, else of its time column."""
    columns = [name for name in TIME_COLUMNS if name in table]
    if isinstance(table.index, pd.DatetimeIndex):
        return parse_times(table.index, f"{where}: the index", options)
    if not columns:
        if _clean(table.index.name) in TIME_COLUMNS:
            return parse_times(table.index, f"{where}: the index", options)
        unnamed = next((name for name in UNNAMED_INDEX if name in table), None)
        if unnamed is not None:
            return parse_times(table[unnamed], f"{where}: the first column", options)
        raise FeedError(
            f"{where}: no times; it needs a column 'date' (or {', '.join(TIME_COLUMNS[1:4])}) or an index of dates; "
            f"it has {', '.join(map(str, table.columns))}"
        )
    if {"date", "time"} <= set(columns) and _is_time_of_day(table["time"]):
        days = table["date"].astype(str).str.strip()
        return parse_times(
            days + " " + table["time"].astype(str).str.strip(), f"{where}: columns 'date' and 'time'", options
        )
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(table[name])]
    chosen = (numeric or columns)[0]
    times = parse_times(table[chosen], f"{where}: column {chosen!r}", options)
    for other in (name for name in columns if name != chosen):
        _check_agreement(times, table[other], (chosen, other), where)
    return times


def _is_time_of_day(column: pd.Series) -> bool:
    return bool(column.astype(str).str.strip().str.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?").all())


def _check_agreement(times: pd.DatetimeIndex, other: pd.Series, names: tuple[str, str], where: str) -> None:
    """Raise if a second time column can be read for certain and names other times."""
    try:
        second = parse_times(other, where, TimeOptions(allow_unusual_times=True))
    except FeedError:
        return  # text in a format of its own; the first column decides
    differs = (times.floor("s") != second.floor("s")) if len(times) == len(second) else [True]
    if any(differs):
        row = int(pd.Series(differs).to_numpy().argmax())
        raise FeedError(
            f"{where}: columns {names[0]!r} and {names[1]!r} name different times in row {row + 1} "
            f"({times[row]:%Y-%m-%d %H:%M} and {second[row]:%Y-%m-%d %H:%M}); drop the wrong one"
        )


def _roles(names: Sequence[str], where: str) -> dict[str, str]:
    """Return the column of each canonical name."""
    roles = {name: name for name in names if name in CANONICAL}
    single_letters = {"o", "h", "l", "c"} <= set(names)
    for name in names:
        role = ALIASES.get(name)
        if role is not None and role not in roles and (len(name) > 1 or single_letters):
            roles[role] = name
    if "amount" in names and roles.get("volume") == "vol":
        roles["volume"] = "amount"  # HTX: vol counts quote currency, amount base currency
    if "volume" not in roles:
        volume = _named_volume(names, where)
        if volume is not None:
            roles["volume"] = volume
    return roles


def _named_volume(names: Sequence[str], where: str) -> str | None:
    """Return the volume column that counts base currency, of columns that name their currency.

    Raises:
        FeedError: several columns might be it.
    """
    units = {name: match["unit"].upper() for name in names if (match := NAMED_VOLUME.match(name))}
    units = {name: unit for name, unit in units.items() if unit not in ("CURRENCY", "QUOTE", "USD")}
    base = [name for name, unit in units.items() if unit not in QUOTES] or list(units)
    if len(base) > 1:
        order = [name for name in base if units[name] in QUOTES]
        # ETH against BTC: the quote currency is the one that quotes more markets, so it comes first in QUOTES.
        if len(order) == len(base):
            return max(base, key=lambda name: QUOTES.index(units[name]))
        raise FeedError(f"{where}: the volume may be {' or '.join(map(repr, base))}; rename one to 'volume'")
    return base[0] if base else None


def _number(column: pd.Series, role: str, times: pd.DatetimeIndex, where: str) -> pd.Series:
    """Return a column as float64; text is converted, a value that is not a number is an error."""
    try:
        return pd.to_numeric(column, errors="raise").astype("float64")
    except (ValueError, TypeError, OverflowError):
        pass
    for row, value in enumerate(column):
        try:
            float(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise FeedError(
                f"{where}: {role} is {str(value)[:40]!r} at {times[row]:%Y-%m-%d %H:%M}, not a number; numbers have a decimal "
                "point and no thousands separators"
            ) from error
    return column.map(float).astype("float64")
