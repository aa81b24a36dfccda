# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of one expiry that never keep more than they can lose at it, where a venue says so.

Different expiries do not net. Source: docs/sources.md#option-margins.
"""

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import requirement
from crossmargin_bt.engine.margin.modes import option


def relief(account: Account, pool: str, *, initial: bool) -> float:
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
        account.conversion_rate(settle) * _beyond_loss(books, initial=initial)
        for (_, settle, _), books in groups.items()
    )


def _beyond_loss(books: list[Book], *, initial: bool) -> float:
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
    loss = option.largest_loss(legs)
    return 0.0 if loss is None else max(0.0, kept - loss)
