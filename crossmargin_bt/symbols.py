# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbols: from ccxt's unified symbols and the exchanges' own names to the names of feeds and of folders in the store.

A perpetual is stored under its pair (`BTCUSDT`); every other market under its unified symbol with `/` and `:` replaced by `-`,
so that spot (`BTC-USDT`), a perpetual and a dated future (`BTC-USDT-USDT-250328`) of one pair never share a name.
"""

import re
from typing import Literal, NamedTuple

Product = Literal["", "spot", "perpetual", "future"]

# Quote currencies by which names without a separator are split, longest first.
QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDE", "USD1", "USDS", "DAI", "USD", "EUR", "GBP", "TRY", "BRL", "JPY", "BTC", "ETH", "BNB")  # fmt: skip
VALID_NAME = re.compile(r"\w[\w.-]*")
"""A symbol that can be the name of a folder: letters of any script, digits, `_`, `.` and `-`."""

_OKX_NAME = re.compile(r"^(?P<base>[^-]+)-(?P<quote>[^-_]+)(_UM)?-(SWAP|(?P<expiry>[0-9]{6}))$")
_BINANCE_NAME = re.compile(r"^(?P<pair>[^_]+)_(PERP|(?P<expiry>[0-9]{6}))$")


class MarketName(NamedTuple):
    """The symbol of a market in the store, and its product; an empty product is unknown."""

    symbol: str
    product: Product = ""


def short_symbol(symbol: str) -> str:
    """Return the short symbol of a perpetual that candle files use; a contract with a delivery date keeps its unified symbol.

    >>> short_symbol("BTC/USDT:USDT")
    'BTCUSDT'
    >>> short_symbol("BTC/USDT:USDT-250328")
    'BTC/USDT:USDT-250328'
    """
    pair, _, settle = symbol.partition(":")
    return symbol if "-" in settle else pair.replace("/", "")


def path_safe_symbol(symbol: str) -> str:
    """Return a unified symbol with the characters replaced that file names cannot hold.

    >>> path_safe_symbol("BTC/USDT:USDT-250328")
    'BTC-USDT-USDT-250328'
    """
    return symbol.replace("/", "-").replace(":", "-")


def market_name(text: str) -> MarketName:
    """Return the market that a unified symbol or an exchange's own name denotes; other names are kept as they are.

    >>> market_name("BTC/USDT"), market_name("BTC-USD-SWAP")
    (MarketName(symbol='BTC-USDT', product='spot'), MarketName(symbol='BTCUSD', product='perpetual'))
    >>> market_name("BTCUSDT_240329").symbol, market_name("BTCUSD_PERP").symbol, market_name("BTCUSDT")
    ('BTC-USDT-USDT-240329', 'BTCUSD', MarketName(symbol='BTCUSDT', product=''))
    """
    if "/" in text:
        if ":" not in text:
            return MarketName(path_safe_symbol(text), "spot")
        short = short_symbol(text)
        return MarketName(path_safe_symbol(short), "perpetual" if short != text else "future")
    if match := _OKX_NAME.match(text):
        return _contract(match["base"], match["quote"], match["expiry"])
    if match := _BINANCE_NAME.match(text):
        if match["expiry"] is None:
            return MarketName(match["pair"], "perpetual")
        pair = split_pair(match["pair"])
        return _contract(*pair, match["expiry"]) if pair else MarketName(text, "future")
    return MarketName(text)


def product_of_stored(symbol: str) -> Product:
    """Return the product of a symbol in the store, which its form states.

    >>> product_of_stored("BTC-USDT"), product_of_stored("BTC-USDT-USDT-250328"), product_of_stored("BTCUSDT")
    ('spot', 'future', '')
    """
    parts = symbol.split("-")
    return "spot" if len(parts) == 2 else "future" if len(parts) == 4 and re.fullmatch("[0-9]{6}", parts[3]) else ""


def spot_name(text: str) -> MarketName | None:
    """Return the spot market of a name such as BTCUSDT or BTC-USDT; None if its quote currency cannot be told.

    >>> spot_name("1000SATSUSDT")
    MarketName(symbol='1000SATS-USDT', product='spot')
    """
    pair = split_pair(text)
    return MarketName(f"{pair[0]}-{pair[1]}", "spot") if pair else None


def split_pair(text: str) -> tuple[str, str] | None:
    """Return base and quote of a pair; None if its quote currency is not one of `QUOTES`.

    >>> split_pair("ETHBTC"), split_pair("BTC_USDT"), split_pair("PEPE")
    (('ETH', 'BTC'), ('BTC', 'USDT'), None)
    """
    parts = re.split(r"[-_/]", text)
    if len(parts) == 2 and all(parts):
        return parts[0], parts[1]
    quote = next((quote for quote in QUOTES if text.endswith(quote) and text != quote), None)
    return (text.removesuffix(quote), quote) if quote else None


def _contract(base: str, quote: str, expiry: str | None) -> MarketName:
    """Return a perpetual or a dated future; contracts quoted in USD are inverse, settled in the base currency."""
    if expiry is None:
        return MarketName(base + quote, "perpetual")
    return MarketName(f"{base}-{quote}-{base if quote == 'USD' else quote}-{expiry}", "future")
