# SPDX-License-Identifier: GPL-3.0-or-later
"""What one currency is worth in another, by the marks of what is listed.

A price is looked for directly, then through USDT, USDC and BTC; a coin in a pair is worth the mark of the pair's
spot market, or else of a perpetual or future on it.
Source: docs/sources.md#total-equity.
"""

from collections.abc import Mapping
from typing import NamedTuple

from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.errors import FeedError

BRIDGES = ("USDT", "USDC", "BTC")
PRICING = ("spot", "perpetual", "future")
DOLLARS = ("USD", "USDT", "USDC")
"""Currencies taken for one another where only one of them is priced."""


class Hop(NamedTuple):
    """One step of a conversion: the mark of a symbol, or one over it."""

    symbol: str
    inverted: bool


class Valuation:
    """Prices of currencies out of books; `fixed` are prices (in `unit`) of currencies that no book prices."""

    def __init__(self, unit: str, fixed: Mapping[str, float]) -> None:
        self.unit = unit
        self.fixed = dict(fixed)
        self._markets: dict[tuple[str, str], list[tuple[int, float, int, str]]] = {}
        self._routes: dict[str, tuple[Hop, ...] | None] = {}

    def list(self, book: Book) -> None:
        """Take in a book that prices a coin; of several the best kind does, of futures the one that ends first."""
        instrument = book.instrument
        if instrument.kind not in PRICING or not instrument.base_currency:
            return
        markets = self._markets.setdefault((instrument.base_currency, instrument.quote_currency), [])
        rank = PRICING.index(instrument.kind)
        markets.append((rank, instrument.expiry_ms, len(markets), instrument.symbol))
        markets.sort()
        self._routes.clear()

    def drop(self, symbol: str) -> None:
        """Let a contract that has ended price nothing any more, unless it is the last that does: then its last mark stays."""
        for pair, markets in self._markets.items():
            self._markets[pair] = [one for one in markets if one[-1] != symbol] or markets
        self._routes.clear()

    def index_symbol(self, coin: str, quote: str, *, lasting: bool = False) -> str | None:
        """Return the symbol whose mark is the index of a coin in a currency, one dollar coin being as good as another.

        With `lasting` one that does not end. None where nothing prices it.
        """
        quotes = (quote, *(other for other in DOLLARS if other != quote)) if quote in DOLLARS else (quote,)
        for one in quotes:
            for rank, _, _, symbol in self._markets.get((coin, one), ()):
                if not lasting or PRICING[rank] != "future":
                    return symbol
        return None

    def price(self, books: Mapping[str, Book], currency: str, *, owed: bool = False) -> float:
        """Return the price of a currency in the unit; 0 until its markets have a price.

        With `owed` that of a debt: on the adverse path a short's mark, where a holding meets a long's.

        Raises:
            FeedError: nothing prices it.
        """
        if currency == self.unit:
            return 1.0
        price = 1.0
        for hop in self.route(currency):
            book = books[hop.symbol]
            mark = book.short_mark if owed != hop.inverted else book.long_mark
            price *= mark if not hop.inverted else 1 / mark if mark else 0.0
            currency = book.instrument.base_currency if hop.inverted else book.instrument.quote_currency
        return price if currency == self.unit else price * self.fixed[currency]

    def knows(self, currency: str) -> bool:
        """Return whether a currency has a price of its own here."""
        return bool(currency) and (currency in self.fixed or any(coin == currency for coin, _ in self._markets))

    def route(self, currency: str) -> tuple[Hop, ...]:
        """Return the hops from a currency to the unit, or to a currency whose price is fixed.

        Raises:
            FeedError: there is no way.
        """
        if currency not in self._routes:
            self._routes[currency] = self._found(currency, ())
        route = self._routes[currency]
        if route is None:
            raise FeedError(
                f"nothing prices {currency} in {self.unit}: add a feed of {currency} against {self.unit} or USDT with "
                f"underlying={currency!r}, or give the broker prices={{{currency!r}: its price in {self.unit}}}"
            )
        return route

    def _found(self, currency: str, seen: tuple[str, ...]) -> tuple[Hop, ...] | None:
        direct = self._hop(currency, self.unit)
        if direct is not None:
            return (direct,)
        if currency in self.fixed or currency == self.unit:
            return ()
        for bridge in BRIDGES:
            first = None if bridge in (currency, *seen) else self._hop(currency, bridge)
            rest = None if first is None else self._found(bridge, (currency, *seen))
            if first is not None and rest is not None:
                return (first, *rest)
        return None

    def _hop(self, currency: str, quote: str) -> Hop | None:
        straight = self._markets.get((currency, quote))
        if straight:
            return Hop(straight[0][-1], inverted=False)
        turned = self._markets.get((quote, currency))
        return Hop(turned[0][-1], inverted=True) if turned else None
