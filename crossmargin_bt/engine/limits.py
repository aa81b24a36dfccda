# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on the size of a position that margin alone does not set: a tier's leverage, and an open-size curve."""

import math

from crossmargin_bt.engine import formulas, reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.modes import MODES
from crossmargin_bt.engine.rates import SizeRate
from crossmargin_bt.engine.refusal import Refusal


def beyond(before: Account, after: Account, symbol: str) -> Refusal | None:
    """Return why what an order makes of an account stands beyond a limit of its contract, or None.

    A position that already stands beyond one may not grow, and may always shrink.
    """
    book, then = before.books[symbol], after.books[symbol]
    lots = exposed_lots(then)
    if lots <= exposed_lots(book):
        return None
    if book.rules.above_tier_leverage == "refuse":
        lowest = then.floor(lots)
        if lowest * book.leverage > 1 + reading.TIE:
            return Refusal(
                "rejected",
                f"a position of {book.instrument.size(lots):g} {symbol} stands in a tier of at most {1 / lowest:g}x, "
                f"{book.leverage:g}x is set; lower the size or the leverage",
            )
    largest = largest_open_lots(before, symbol)
    if largest is not None and lots > largest:
        return Refusal(
            "rejected",
            f"a position of {book.instrument.size(lots):g} {symbol} is above the largest that may be opened, "
            f"{book.instrument.size(largest):g}; lower the size or raise the leverage (now {book.leverage:g}x)",
        )
    return None


def exposed_lots(book: Book) -> int:
    """Return the lots that pick the tier of a book's initial margin: its largest side once its orders have filled."""
    if not book.hedged:
        waiting = book.pending("net")
        held = abs(book.leg("net").lots)
        return int(formulas.worst_net_size(held, waiting.same_lots, waiting.opposite_lots))
    sides = [abs(book.leg(side).lots) + book.pending(side).same_lots for side in book.sides]
    return max(sides) if not MODES[book.margin_mode].POOLED else max(book.tier_lots(*sides))


def largest_open_lots(account: Account, symbol: str) -> int | None:
    """Return the largest position a contract with an open-size constant may have, at its mark; None without one.

    Capital is the collateral of the pool less what the other contracts lock of it.
    Source: docs/sources.md#kucoin-open-size.
    """
    book = account.books[symbol]
    constant = book.maintenance.open_constant if isinstance(book.maintenance, SizeRate) else None
    if constant is None:
        return None
    own = MODES[book.margin_mode].in_use(book)
    capital = max(0.0, reading.headroom(account, book) + own)
    form = formulas.inverse_largest_open_size if book.instrument.inverse else formulas.largest_open_size
    units = form(capital, book.leverage, book.long_mark, constant)
    return math.floor(units / book.instrument.units_per_lot * (1 + reading.TIE))
