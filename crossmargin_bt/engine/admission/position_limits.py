# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on the size of a position that margin alone does not set: a tier's leverage, and an open-size curve."""

import math
from collections.abc import Sequence

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.tolerances import REL_TOL
from crossmargin_bt.engine.terms.rates import SizeRate


def limit_refusal(before: Account, after: Account, symbol: str, price: float) -> Refusal | None:
    """Return why the position after an order would exceed a limit of its contract, or None.

    A position already above a limit may not grow, and may always shrink. It is valued at the mark or at the
    order's price, whichever is worth more.
    """
    book, then = before.books[symbol], after.books[symbol]
    if (
        book.is_fully_funded
        or before.portfolio
        or not (_has_tier_limit(book) or isinstance(book.maintenance, SizeRate))
    ):
        return None
    value = book.instrument.value
    at = price if value(1, price) > value(1, book.long_mark) else book.long_mark
    pairs = list(zip(tier_exposures(book), tier_exposures(then), strict=True))
    refusal = tier_limit_refusal(then, [lots for was, lots in pairs if lots > was], at)
    if refusal is not None:
        return refusal
    largest = largest_open_lots(before, symbol, at)
    if largest is None:
        return None
    for was, lots in zip(_open_sizes(book), _open_sizes(then), strict=True):
        if lots > was and lots > largest:
            return Refusal(
                "rejected",
                "above_open_size",
                f"a position of {book.instrument.size(lots):g} {symbol} is above the largest that may be opened, "
                f"{book.instrument.size(largest):g}; lower the size or raise the leverage (now {book.leverage:g}x)",
            )
    return None


def _has_tier_limit(book: Book) -> bool:
    return book.rules.tier_leverage_breach != "raise" and book.maintenance.has_initial_floor


def tier_limit_refusal(book: Book, exposed: Sequence[int], price: float | None = None) -> Refusal | None:
    """Return why exposures are in a tier with a maximum leverage below the leverage set, where the venue refuses that; None elsewhere."""
    if not _has_tier_limit(book):
        return None
    for lots in exposed:
        lowest = book.floor(lots, price)
        if lots and lowest * book.leverage > 1 + REL_TOL:
            return Refusal(
                "rejected",
                "above_tier_leverage",
                f"a position of {book.instrument.size(lots):g} {book.instrument.symbol} is in a tier of at most "
                f"{1 / lowest:g}x, {book.leverage:g}x is set; lower the size or the leverage",
            )
    return None


def tier_exposures(book: Book) -> list[int]:
    """Return the lots that pick the tiers of a book's initial margin once its orders have filled, one a leg."""
    if not book.hedged:
        waiting = book.pending("net")
        held = abs(book.leg("net").lots)
        return [int(formulas.worst_net_size(held, waiting.same_lots, waiting.opposite_lots))]
    sides = [abs(book.leg(side).lots) + book.pending(side).same_lots for side in book.sides]
    return list(book.tier_lots(*sides)) if MODES[book.margin_mode].POOLED else sides


def _open_sizes(book: Book) -> list[int]:
    """Return the lots an open-size limit is held against: in hedge mode what the other leg holds gives room."""
    if not book.hedged:
        return tier_exposures(book)
    held = {side: abs(book.leg(side).lots) for side in book.sides}
    ordered = {side: book.pending(side).same_lots for side in book.sides}
    return [
        held["long"] + ordered["long"] - held["short"],
        held["short"] + ordered["short"] - held["long"],
    ]


def largest_open_lots(account: Account, symbol: str, price: float) -> int | None:
    """Return the largest position a cross contract with an open-size constant may have at a price; None without one.

    Capital is the collateral of the pool less what the other contracts lock of it.
    Source: docs/sources.md#kucoin-open-size.
    """
    book = account.books[symbol]
    constant = book.maintenance.open_constant if isinstance(book.maintenance, SizeRate) else None
    if constant is None or not MODES[book.margin_mode].POOLED:
        return None
    own = MODES[book.margin_mode].in_use(book)
    capital = max(0.0, metrics.available_margin(account, book) + own)
    form = formulas.inverse_largest_open_size if book.instrument.inverse else formulas.largest_open_size
    units = form(capital, book.leverage, price, constant)
    return math.floor(units / book.instrument.units_per_lot * (1 + REL_TOL))
