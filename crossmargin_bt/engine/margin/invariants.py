# SPDX-License-Identifier: GPL-3.0-or-later
"""Invariants of an account, asserted after every journal entry; a failure is a bug of the engine, never of its input."""

import math

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math.tolerances import FUND_TOL, SUM_ABS_TOL, SUM_REL_TOL


def check(account: Account) -> None:
    """Raise AssertionError if an invariant of the account is broken."""
    for symbol, book in account.books.items():
        for side, leg in book.legs.items():
            assert side in book.sides, f"{symbol} holds a {side} leg"
            assert leg.lots != 0, f"{symbol}:{side} is flat but still listed"
            assert leg.entry > 0, f"{symbol}:{side} has lots without an entry"
            assert side == "net" or (leg.lots > 0) == (side == "long"), f"{symbol}:{side} holds {leg.lots} lots"
            assert not MODES[book.margin_mode].POOLED or leg.margin == 0, f"{symbol}:{side} has margin in cross mode"
        for order in book.orders.values():
            assert order.lots != 0, f"{symbol} order {order.number} has no lots"
        assert book.orders.counts == book.orders.recounted().counts, (
            f"{symbol} has running order sums that differ from a recount"
        )
        assert MODES[book.margin_mode].in_use(book) >= 0, f"{symbol} locks a negative margin"
    for currency, balance in account.balances.items():
        assert math.isfinite(balance), f"{currency} balance is {balance}"
        if account.is_plain:
            equity, summed = (
                metrics.pool_balance(account, currency).equity,
                balance + _equity_of_legs(account, currency),
            )
            assert math.isclose(equity, summed, rel_tol=SUM_REL_TOL, abs_tol=SUM_ABS_TOL), (
                f"{currency} equity is {equity}, not {summed}"
            )
    assert account.insurance_fund >= -FUND_TOL, f"the insurance fund is overdrawn by {-account.insurance_fund}"


def _equity_of_legs(account: Account, currency: str) -> float:
    """Return the sum of margins and unrealised profits of all legs that settle in a currency."""
    books = [book for book in account.books.values() if book.instrument.settle == currency]
    return math.fsum(leg.margin + book.profit(leg) for book in books for leg in book.legs.values())
