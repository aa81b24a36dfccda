# SPDX-License-Identifier: GPL-3.0-or-later
"""What is owed when nothing is left to earn it back: paid out of other currencies, then by the insurance fund and the venue."""

from collections.abc import Callable, Iterator

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.position import LegId
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import repayment
from crossmargin_bt.engine.liquidation.forced_close import Close
from crossmargin_bt.engine.margin.modes import MODES

Entries = Iterator[events.Filled | events.Converted | events.DebtCovered]


def cover_after_fill(account: Account, entry: events.Filled, isolated_short: float) -> Entries:
    """Yield what follows from a fill that has happened: an isolated leg's shortfall, and that of its shared pool.

    Apply each entry before asking for the next.
    """
    book = account.books[entry.symbol]
    currency = book.instrument.settle
    if not (isolated_short or account.pooled) and account.balance(currency) >= 0:
        return  # most fills
    leg = str(LegId(entry.symbol, entry.side))
    yield from fills.cover_debt(account, entry.time_ms, leg, currency, isolated_short)

    def at_mark(close: Close) -> float:
        return account.books[close.symbol].mark_of(account.books[close.symbol].legs[close.side].lots)

    yield from cover_shared_pool(account, entry.time_ms, account.pool_of(currency), at_mark)


def cover_shared_pool(account: Account, time_ms: int, pool: str, price: Callable[[Close], float]) -> Entries:
    """Yield what ends a shared pool that has no positions left and less than nothing; nothing while it has either."""
    if not account.pooled:
        yield from fills.cover_debt(account, time_ms, pool, pool, fills.shared_shortfall(account, pool))
        return
    pooled = any(book.legs and MODES[book.margin_mode].POOLED for book in account.books.values())
    if pooled or account.balance(pool) >= 0:
        return
    yield from repayment.repayments(account, time_ms, price, "repayment")
    yield from cover_remaining(account, time_ms, pool)


def cover_remaining(account: Account, time_ms: int, pool: str) -> Iterator[events.DebtCovered]:
    """Yield what is paid for every currency of a pool that is below zero."""
    for currency, balance in list(account.balances.items()):
        yield from fills.cover_debt(account, time_ms, pool, currency, max(0.0, -balance))
