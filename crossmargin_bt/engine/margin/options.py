# SPDX-License-Identifier: GPL-3.0-or-later
"""Options: volatility, Greeks, revaluation at moved prices, and the payoff cap of their margin.

Source: docs/sources.md#option-margins.
"""

import math
from collections.abc import Callable

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin.modes import option
from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.math.pricing import Greeks


def option_volatility(book: Book, now_ms: float) -> float:
    """Return the annual volatility of an option: that of its data, else implied by its mark; NaN if there is none."""
    if book.volatility > 0:
        return book.volatility
    instrument = book.instrument
    assert instrument.strike is not None
    value = book.long_mark * book.index if instrument.in_coin else book.long_mark
    years = pricing.years_to_expiry(instrument.expiry_ms, now_ms)
    return pricing.implied_volatility(value, book.index, instrument.strike, years, 1 if instrument.is_call else -1)


def option_greeks(book: Book, now_ms: float) -> Greeks | None:
    """Return the Greeks of an option per unit of its underlying, None if no volatility is known."""
    instrument = book.instrument
    assert instrument.strike is not None
    volatility = option_volatility(book, now_ms)
    if math.isnan(volatility) or not book.index:
        return None
    years = pricing.years_to_expiry(instrument.expiry_ms, now_ms)
    return pricing.greeks(book.index, instrument.strike, years, volatility, 1 if instrument.is_call else -1)


def option_repricer(account: Account) -> Callable[[], None]:
    """Return a callback that revalues the account's options at the current marks of their underlyings.

    The volatility of each option, and the spread between its mark and its model price, are fixed when this function
    is called. An option without a price of its underlying or without a volatility keeps its mark.
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
        for symbol, (volatility, spread) in found.items():
            book = account.books[symbol]
            # The spread between the mark and the model price is held constant.
            book.set_mark(max(0.0, _model_price(book, volatility, account.now_ms) + spread))

    return reprice_options


def _model_price(book: Book, volatility: float, now_ms: float) -> float:
    instrument = book.instrument
    assert instrument.strike is not None
    years = pricing.years_to_expiry(instrument.expiry_ms, now_ms)
    value = pricing.price(book.index, instrument.strike, years, volatility, 1 if instrument.is_call else -1)
    return value / book.index if instrument.in_coin else value


def payoff_cap_reduction(account: Account, pool: str, *, initial: bool) -> float:
    """Return the margin of a shared pool's options in excess of their maximum loss, in the pool's currency.

    Sum over expiries of max(0, margin - maximum loss at expiry), where the venue caps option margin at the maximum
    loss (`OptionTerms.capped_by_payoff`); different expiries do not net. The margin is the initial margin with
    `initial`, else the maintenance margin; resting orders are excluded.
    """
    if not any(terms.capped_by_payoff for terms in account.rules.options):
        return 0.0
    groups: dict[tuple[str, str, float], list[Book]] = {}
    for book in account.books_of(pool):
        instrument = book.instrument
        # The loss of an option settled in coin is unbounded in coin: the coin's value falls with the price.
        if book.margin_mode == "option" and book.legs and book.option_terms.capped_by_payoff and not instrument.in_coin:
            groups.setdefault((instrument.underlying, instrument.settle, instrument.expiry_ms), []).append(book)
    return sum(
        account.conversion_rate(settle) * _margin_above_max_loss(books, initial=initial)
        for (_, settle, _), books in groups.items()
    )


def _margin_above_max_loss(books: list[Book], *, initial: bool) -> float:
    legs: dict[tuple[float, int], float] = {}
    margin = 0.0
    for book in books:
        instrument = book.instrument
        assert instrument.strike is not None
        key = (instrument.strike, 1 if instrument.is_call else -1)
        legs[key] = legs.get(key, 0.0) + book.leg("net").lots * instrument.units_per_lot
        bare = book.copy()
        bare.orders.clear()
        margin += option.in_use(bare) if initial else option.maintenance_margin(bare, with_orders=False)
    loss = option.max_loss(legs)
    return 0.0 if loss is None else max(0.0, margin - loss)
