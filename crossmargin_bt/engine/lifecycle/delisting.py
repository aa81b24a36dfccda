# SPDX-License-Identifier: GPL-3.0-or-later
"""Delisting: a market whose bars end while others go on is settled as exchanges settle a contract that they delist.

Assumption: the settlement price is the last mark, and the moment that of the first bar without one of its own; exchanges use
the average of an index over the last half hour or hour. Its fee is the venue's (`Rules.delisting_fee`). Coins of a spot market
stay in the account at their last price.
Source: docs/sources.md#delisting.
"""

from collections.abc import Iterator

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills


def delisting_entry(account: Account, time_ms: int, symbol: str) -> events.Delisted:
    """Return the delisting entry of a market at its last mark."""
    book = account.books[symbol]
    return events.Delisted(time_ms=time_ms, symbol=symbol, price=book.long_mark)


def settlement_fills(account: Account, entry: events.Delisted) -> Iterator[events.Filled]:
    """Yield the fill that settles each leg; apply each entry before requesting the next."""
    book = account.books[entry.symbol]
    if book.instrument.kind == "spot":
        return
    share = account.rules.delisting_fee
    for side, leg in list(book.legs.items()):
        fee = book.instrument.value(leg.lots, entry.price) * (book.taker if share is None else share)
        yield fills.fill_entry(book, entry.time_ms, side, lots=-leg.lots, price=entry.price, fee=fee, cause="delisting")
