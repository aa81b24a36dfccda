# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry of futures and options: settlement price and settlement fills.

Assumption: the settlement price is the mark, at the expiry, of the feed that prices the coin (its spot market first, then a
perpetual; else the future's own mark or the option's last index). Exchanges use the average of an index over the last half hour or
hour. Settlement is free of fees.
Source: docs/sources.md#expiry.
"""

from collections.abc import Iterator

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.math import pricing


def expiry_entry(account: Account, time_ms: int, symbol: str) -> events.Expired:
    """Return the expiry entry of a contract at the current marks: its settlement price and the underlying's price."""
    book = account.books[symbol]
    instrument = book.instrument
    at = _underlying_price(account, symbol)
    price = at
    if instrument.kind == "option":
        assert instrument.strike is not None
        price = pricing.payoff(at, instrument.strike, 1 if instrument.is_call else -1)
        price = price / at if instrument.in_coin and at else price
    return events.Expired(time_ms=time_ms, symbol=symbol, price=price, underlying=at)


def settlement_fills(account: Account, entry: events.Expired) -> Iterator[events.Filled]:
    """Yield the fill that settles each leg; apply each entry before requesting the next."""
    book = account.books[entry.symbol]
    for side, leg in list(book.legs.items()):
        yield fills.fill_entry(book, entry.time_ms, side, lots=-leg.lots, price=entry.price, fee=0.0, cause="expiry")


def _underlying_price(account: Account, symbol: str) -> float:
    book = account.books[symbol]
    instrument = book.instrument
    found = account.valuation.index_symbol(instrument.underlying, instrument.quote_currency, lasting=True)
    if found is not None:
        return account.books[found].long_mark
    return book.index if instrument.kind == "option" else book.long_mark
