# SPDX-License-Identifier: GPL-3.0-or-later
"""An option of a book priced: its volatility, its Greeks."""

import math
from collections.abc import Callable

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import requirement
from crossmargin_bt.engine.margin.modes import option
from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.math.pricing import Greeks


def option_volatility(book: Book, now_ms: float) -> float:
    """Return the volatility of an option: what it was given, else what its mark implies; NaN where none does."""
    if book.volatility > 0:
        return book.volatility
    instrument = book.instrument
    assert instrument.strike is not None
    value = book.long_mark * book.index if instrument.in_coin else book.long_mark
    years = pricing.years_to_expiry(instrument.expiry_ms, now_ms)
    return pricing.implied_volatility(value, book.index, instrument.strike, years, 1 if instrument.is_call else -1)


def option_greeks(book: Book, now_ms: float) -> Greeks | None:
    """Return the Greeks of an option for one unit of its underlying, None where no volatility is known."""
    instrument = book.instrument
    assert instrument.strike is not None
    volatility = option_volatility(book, now_ms)
    if math.isnan(volatility) or not book.index:
        return None
    years = pricing.years_to_expiry(instrument.expiry_ms, now_ms)
    return pricing.greeks(book.index, instrument.strike, years, volatility, 1 if instrument.is_call else -1)


def option_repricer(account: Account) -> Callable[[], None]:
    """Return what prices an account's options anew at the present marks of their underlyings, each at its volatility of now.

    An option whose underlying nothing prices, or of which no volatility is known, keeps its mark.
    """
    found: dict[str, tuple[float, float]] = {}
    for symbol, book in account.books.items():
        if book.margin_mode == "option" and book.index and (book.legs or book.orders):
            volatility = option_volatility(book, account.now_ms)
            if not math.isnan(volatility):
                found[symbol] = (volatility, book.long_mark - _model_price(book, volatility, account.now_ms))

    def reprice_options() -> None:
        if not found:
            return
        account.update_option_indices()
        for symbol, (volatility, beyond) in found.items():
            book = account.books[symbol]
            # What the market pays beyond the model's price stays.
            book.set_mark(max(0.0, _model_price(book, volatility, account.now_ms) + beyond))

    return reprice_options


def _model_price(book: Book, volatility: float, now_ms: float) -> float:
    instrument = book.instrument
    assert instrument.strike is not None
    years = pricing.years_to_expiry(instrument.expiry_ms, now_ms)
    value = pricing.price(book.index, instrument.strike, years, volatility, 1 if instrument.is_call else -1)
    return value / book.index if instrument.in_coin else value


def payoff_cap_reduction(account: Account, pool: str, *, initial: bool) -> float:
    """Return by how much the options of a shared pool keep more than they can lose, in the pool's currency.

    With `initial` of what they lock, otherwise of what they keep; orders are no part of it.
    """
    if not any(terms.capped_by_payoff for terms in account.rules.options):
        return 0.0
    groups: dict[tuple[str, str, float], list[Book]] = {}
    for book in account.books_of(pool):
        instrument = book.instrument
        # What options in coin may lose has no bound in coin: it is worth more the lower the price.
        if book.margin_mode == "option" and book.legs and book.option_terms.capped_by_payoff and not instrument.in_coin:
            groups.setdefault((instrument.underlying, instrument.settle, instrument.expiry_ms), []).append(book)
    return sum(
        account.conversion_rate(settle) * _margin_above_max_loss(books, initial=initial)
        for (_, settle, _), books in groups.items()
    )


def _margin_above_max_loss(books: list[Book], *, initial: bool) -> float:
    legs: dict[tuple[float, int], float] = {}
    kept = 0.0
    for book in books:
        instrument = book.instrument
        assert instrument.strike is not None
        key = (instrument.strike, 1 if instrument.is_call else -1)
        legs[key] = legs.get(key, 0.0) + book.leg("net").lots * instrument.units_per_lot
        bare = book.copy()
        bare.orders.clear()
        kept += option.in_use(bare) if initial else requirement.book_requirement(bare, with_orders=False)
    loss = option.max_loss(legs)
    return 0.0 if loss is None else max(0.0, kept - loss)
