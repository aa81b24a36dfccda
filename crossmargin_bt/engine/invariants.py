# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold after every journal entry; a failure is a bug of the engine, never of its input."""

import math

from crossmargin_bt.engine import reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.modes import MODES


def check(account: Account) -> None:
    """Raise AssertionError when the account contradicts itself."""
    for symbol, book in account.books.items():
        for side, leg in book.legs.items():
            assert side in book.sides, f"{symbol} holds a {side} leg"
            assert leg.lots != 0, f"{symbol}:{side} is flat and still listed"
            assert leg.entry > 0, f"{symbol}:{side} has lots without an entry"
            assert side == "net" or (leg.lots > 0) == (side == "long"), f"{symbol}:{side} holds {leg.lots} lots"
            assert not MODES[book.margin_mode].POOLED or leg.margin == 0, f"{symbol}:{side} has margin in cross mode"
        for order in book.orders.values():
            assert order.lots != 0, f"{symbol} order {order.number} rests without lots"
        assert MODES[book.margin_mode].in_use(book) >= 0, f"{symbol} locks a negative margin"
    for currency, balance in account.balances.items():
        assert math.isfinite(balance), f"{currency} balance is {balance}"
        assert reading.totals(account, currency).free_margin >= 0, f"{currency} free margin is negative"
