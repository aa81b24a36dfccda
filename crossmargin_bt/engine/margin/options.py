# SPDX-License-Identifier: GPL-3.0-or-later
"""An option of a book priced: its volatility, its Greeks."""

import math
from collections.abc import Callable

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.math.pricing import Greeks


def volatility_of(book: Book, now_ms: float) -> float:
    """Return the volatility of an option: what it was given, else what its mark implies; NaN where none does."""
    if book.volatility > 0:
        return book.volatility
    instrument = book.instrument
    assert instrument.strike is not None
    value = book.long_mark * book.index if instrument.in_coin else book.long_mark
    years = pricing.years_to(instrument.expiry_ms, now_ms)
    return pricing.implied_volatility(value, book.index, instrument.strike, years, 1 if instrument.is_call else -1)


def option_greeks(book: Book, now_ms: float) -> Greeks | None:
    """Return the Greeks of an option for one unit of its underlying, None where no volatility is known."""
    instrument = book.instrument
    assert instrument.strike is not None
    volatility = volatility_of(book, now_ms)
    if math.isnan(volatility) or not book.index:
        return None
    years = pricing.years_to(instrument.expiry_ms, now_ms)
    return pricing.greeks(book.index, instrument.strike, years, volatility, 1 if instrument.is_call else -1)


def revaluer(account: Account) -> Callable[[], None]:
    """Return what prices an account's options anew at the present marks of their underlyings, each at its volatility of now.

    An option whose underlying nothing prices, or of which no volatility is known, keeps its mark.
    """
    found: dict[str, tuple[float, float]] = {}
    for symbol, book in account.books.items():
        if book.margin_mode == "option" and book.index and (book.legs or book.orders):
            volatility = volatility_of(book, account.now_ms)
            if not math.isnan(volatility):
                found[symbol] = (volatility, book.long_mark - _model(book, volatility, account.now_ms))

    def revalue() -> None:
        if not found:
            return
        account.update_option_indices()
        for symbol, (volatility, beyond) in found.items():
            book = account.books[symbol]
            # What the market pays beyond the model's price stays.
            book.set_mark(max(0.0, _model(book, volatility, account.now_ms) + beyond))

    return revalue


def _model(book: Book, volatility: float, now_ms: float) -> float:
    instrument = book.instrument
    assert instrument.strike is not None
    years = pricing.years_to(instrument.expiry_ms, now_ms)
    value = pricing.price(book.index, instrument.strike, years, volatility, 1 if instrument.is_call else -1)
    return value / book.index if instrument.in_coin else value
