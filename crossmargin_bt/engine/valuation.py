# SPDX-License-Identifier: GPL-3.0-or-later
"""What one currency is worth in another, by the marks of what is listed.

A price is looked for directly, then through USDT, USDC and BTC; a coin in a pair is worth the mark of the pair's
spot market, or else of a perpetual or future on it.
Source: docs/sources.md#total-equity.
"""

from collections.abc import Mapping
from typing import NamedTuple

from crossmargin_bt.engine.book import Book
from crossmargin_bt.errors import FeedError

BRIDGES = ("USDT", "USDC", "BTC")
PRICING = ("spot", "perpetual", "future")


class Hop(NamedTuple):
    """One step of a conversion: the mark of a symbol, or one over it."""

    symbol: str
    inverted: bool


class Valuation:
    """Prices of currencies out of books; `fixed` are prices (in `unit`) of currencies that no book prices."""

    def __init__(self, unit: str, fixed: Mapping[str, float]) -> None:
        self.unit = unit
        self.fixed = dict(fixed)
        self._pairs: dict[tuple[str, str], str] = {}
        self._ranks: dict[tuple[str, str], int] = {}
        self._routes: dict[str, tuple[Hop, ...] | None] = {}

    def list(self, book: Book) -> None:
        """Take in a book that prices a coin."""
        instrument = book.instrument
        if instrument.kind not in PRICING or not instrument.base_currency:
            return
        pair = (instrument.base_currency, instrument.quote_currency)
        rank = PRICING.index(instrument.kind)
        if pair not in self._pairs or rank < self._ranks[pair]:
            self._pairs[pair], self._ranks[pair] = instrument.symbol, rank
        self._routes.clear()

    def symbol_of(self, currency: str, quote: str) -> str | None:
        """Return the symbol whose mark is the price of `currency` in `quote`, None without one."""
        return self._pairs.get((currency, quote))

    def symbol_for(self, currency: str) -> str | None:
        """Return the symbol that prices a coin, in whatever currency: the first listed of the best kind."""
        found = [
            (self._ranks[pair], n, symbol)
            for n, (pair, symbol) in enumerate(self._pairs.items())
            if pair[0] == currency
        ]
        return min(found)[2] if found else None

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
        return bool(currency) and (currency in self.fixed or self.symbol_for(currency) is not None)

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
        straight = self._pairs.get((currency, quote))
        if straight is not None:
            return Hop(straight, inverted=False)
        turned = self._pairs.get((quote, currency))
        return None if turned is None else Hop(turned, inverted=True)
