# SPDX-License-Identifier: GPL-3.0-or-later
"""What the name of a market data file says: symbol, kind of data and timeframe, by the naming of the program that wrote it."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from crossmargin_bt.errors import FeedError
from crossmargin_bt.symbols import MarketName, Product, market_name, path_safe_symbol, short_symbol, spot_name

TIMEFRAME = r"[0-9]+[smhdw]"
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather", ".json", ".json.gz", ".zip", ".txt")
"""Suffixes of files that may hold market data."""


class Archive(NamedTuple):
    """What the files of one program or exchange have in common, besides their names.

    `utc_offset` is the zone of their times. `has_ambiguous_names`: candles, mark and index prices have the same file names, the
    latter two with a volume of 0. `products` is the product of the files by ccxt's id of the exchange that they are imported for,
    `coin_margined` are the ids whose contracts are margined in coin: there the volume counts contracts.
    """

    name: str = ""
    utc_offset: timedelta = timedelta(0)
    has_ambiguous_names: bool = False
    products: Mapping[str, Product] = MappingProxyType({})
    coin_margined: frozenset[str] = frozenset()


UNKNOWN = Archive()
BINANCE = Archive(
    "binance",
    has_ambiguous_names=True,
    products={"binance": "spot", "binanceusdm": "perpetual", "binancecoinm": "perpetual"},
    coin_margined=frozenset({"binancecoinm"}),
)
# The files for MetaTrader 4 in Bybit's archive state times in UTC+3.
BYBIT = Archive("bybit", utc_offset=timedelta(hours=3))
OKX, KRAKEN, FREQTRADE, EXPORT = (Archive(name) for name in ("okx", "kraken", "freqtrade", "export"))


class FileMetadata(NamedTuple):
    """What is known of the rows in a file; an empty string means unknown."""

    symbol: str = ""
    kind: str = ""
    timeframe: str = ""
    product: Product = ""
    archive: Archive = UNKNOWN
    counts_contracts: bool = False
    """Whether the volume counts contracts, and the column of the quote volume coins."""

    def overridden(self, given: "FileMetadata") -> "FileMetadata":
        """Return the metadata with the values that are given instead of those of the name."""
        product = given.product if given.symbol else self.product
        return FileMetadata(
            given.symbol or self.symbol,
            given.kind or self.kind,
            given.timeframe or self.timeframe,
            product,
            self.archive,
            self.counts_contracts,
        )


def data_suffix(path: Path) -> str:
    """Return the suffix of a data file, `.csv.gz` as a whole; empty if it is not one of `SUFFIXES`."""
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


def parse_file_name(path: Path) -> FileMetadata:
    """Return what the name of a file (and of its folders) says.

    Raises:
        FeedError: the file belongs to a series that is not a price or a funding rate (Binance's premium index).

    >>> parse_file_name(Path("BTC_USDT_USDT-1h-futures.feather"))[:4]
    ('BTCUSDT', 'candles', '1h', 'perpetual')
    >>> parse_file_name(Path("ETHUSDT-fundingRate-2024-01.zip"))[:3]
    ('ETHUSDT', 'funding', '')
    >>> parse_file_name(Path("futures/um/monthly/markPriceKlines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"))[:4]
    ('BTCUSDT', 'mark', '1h', 'perpetual')
    >>> parse_file_name(Path("BTC-USDT-SWAP-candlesticks-2025-06-01.zip"))[:4]
    ('BTCUSDT', 'candles', '', 'perpetual')
    """
    stem = path.name[: len(path.name) - len(data_suffix(path))]
    for archive, pattern, reader in NAMINGS:
        if match := pattern.fullmatch(stem):
            return reader(match, path)._replace(archive=archive)
    return FileMetadata(stem)


def is_symbol(text: str) -> bool:
    """Return whether the stem of a file can be a symbol rather than a description such as `btc_history_2024`.

    >>> [is_symbol(text) for text in ("BTCUSDT", "币安人生USDT", "BTC-USDT-SWAP", "candles", "BTC-1h-2024-01", "my data")]
    [True, True, True, False, False, False]
    """
    if not re.fullmatch(r"[\w.]+([-_][\w.]+){0,3}", text):
        return False
    words = re.split(r"[-_.]", text.lower())
    described = {
        "candles",
        "candlesticks",
        "klines",
        "ohlc",
        "ohlcv",
        "data",
        "history",
        "prices",
        "price",
        "export",
        "trades",
        "merged",
    }
    dated = re.search(r"(19|20)[0-9]{2}[-_](0[1-9]|1[0-2])", text) is not None
    return not dated and described.isdisjoint(words) and not any(re.fullmatch(TIMEFRAME, word) for word in words)


def _freqtrade(match: re.Match[str], _path: Path) -> FileMetadata:
    kind = {None: "candles", "futures": "candles", "funding_rate": "funding"}.get(match["kind"], match["kind"])
    if kind == "premiumIndex":
        raise FeedError(f"{match[0]}: a premium index is neither a price nor a funding rate; leave the file out")
    if match["settle"] is None:
        spot = match["kind"] is None
        symbol = f"{match['base']}-{match['quote']}" if spot else match["base"] + match["quote"]
        product: Product = "spot" if spot else "perpetual"
    else:
        expiry = f"-{match['expiry']}" if match["expiry"] else ""
        unified = f"{match['base']}/{match['quote']}:{match['settle']}{expiry}"
        symbol, product = path_safe_symbol(short_symbol(unified)), "future" if expiry else "perpetual"
    return FileMetadata(symbol, kind, "" if kind == "funding" else match["timeframe"], product)


BINANCE_FOLDERS = {
    "klines": "candles",
    "markPriceKlines": "mark",
    "indexPriceKlines": "index",
    "fundingRate": "funding",
}


def _binance(match: re.Match[str], path: Path) -> FileMetadata:
    if "premiumIndexKlines" in path.parts:
        raise FeedError(f"{path}: a premium index is neither a price nor a funding rate; leave the file out")
    kind = (
        "funding"
        if match["funding"]
        else next((BINANCE_FOLDERS[part] for part in path.parts if part in BINANCE_FOLDERS), "")
    )
    name = market_name(match["symbol"])
    if "spot" in path.parts:
        name = spot_name(match["symbol"]) or name
    elif not name.product and ({"um", "cm"} & set(path.parts) or kind not in ("", "candles")):
        name = name._replace(product="perpetual")
    counts_contracts = kind != "funding" and ("cm" in path.parts or match["symbol"].endswith("USD_PERP"))
    return FileMetadata(name.symbol, kind, match["timeframe"] or "", name.product, counts_contracts=counts_contracts)


def _okx(match: re.Match[str], _path: Path) -> FileMetadata:
    name = market_name(match["symbol"])
    if not name.product:
        name = MarketName(match["symbol"], "spot")
    return FileMetadata(name.symbol, "funding" if match["funding"] else "candles", "", name.product)


def _kraken(match: re.Match[str], _path: Path) -> FileMetadata:
    minutes = int(match["minutes"])
    name = spot_name(match["symbol"]) or MarketName(match["symbol"], "spot")
    return FileMetadata(
        name.symbol,
        "candles",
        f"{minutes}m" if minutes < 60 else f"{minutes // 60}h" if minutes < 1440 else "1d",
        "spot",
    )


def _bybit(match: re.Match[str], _path: Path) -> FileMetadata:
    minutes = int(match["minutes"])
    return FileMetadata(match["symbol"], "candles", f"{minutes}m" if minutes < 60 else f"{minutes // 60}h", "perpetual")


def _export(match: re.Match[str], _path: Path) -> FileMetadata:
    if match["funded"]:
        return FileMetadata(match["funded"], "funding")
    if match["kind"] == "spot":
        name = spot_name(match["symbol"]) or MarketName(match["symbol"], "spot")
        return FileMetadata(name.symbol, "candles", match["timeframe"], "spot")
    kind = "candles" if match["kind"] == "last" else match["kind"]
    return FileMetadata(match["symbol"], kind, match["timeframe"])


def _suffixed(match: re.Match[str], _path: Path) -> FileMetadata:
    return FileMetadata(match["symbol"], "", match["timeframe"])


NAMINGS: tuple[tuple[Archive, re.Pattern[str], Callable[[re.Match[str], Path], FileMetadata]], ...] = (
    (BINANCE, re.compile(rf"(?P<symbol>[^\W_]+(_PERP|_[0-9]{{6}})?)-((?P<timeframe>{TIMEFRAME})|(?P<funding>fundingRate))-[0-9]{{4}}-[0-9]{{2}}(-[0-9]{{2}})?"), _binance),
    (OKX, re.compile(r"(?P<symbol>[^\W_]+(-[^-]+){1,2})-(candlesticks|(?P<funding>fundingrates?))-[0-9]{4}-[0-9]{2}(-[0-9]{2})?"), _okx),
    (FREQTRADE, re.compile(rf"(?P<base>[^_]+)_(?P<quote>[^_-]+)(_(?P<settle>[^_-]+)(-(?P<expiry>[0-9]{{6}}))?)?-(?P<timeframe>{TIMEFRAME})(-(?P<kind>futures|mark|funding_rate|index|premiumIndex))?"), _freqtrade),
    (BYBIT, re.compile(rf"(?P<symbol>[A-Z0-9]+)_(?P<minutes>[0-9]+)_{DAY}_{DAY}"), _bybit),
    (EXPORT, re.compile(rf"(?P<symbol>.+)_(?P<kind>last|spot|mark|index)_(?P<timeframe>{TIMEFRAME})|(?P<funded>.+)_funding"), _export),
    (KRAKEN, re.compile(r"(?P<symbol>[A-Z0-9]+)_(?P<minutes>1|5|15|30|60|240|720|1440)"), _kraken),
    (UNKNOWN, re.compile(rf"(?P<symbol>[^\W_]+)[-_](?P<timeframe>{TIMEFRAME})"), _suffixed),
)  # fmt: skip
"""The namings known, in the order in which they are tried."""
