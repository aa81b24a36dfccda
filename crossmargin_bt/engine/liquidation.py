# SPDX-License-Identifier: GPL-3.0-or-later
"""Liquidation of a pool: cancel its orders, look again, close everything out.

Assumption: the whole pool is closed at once; the phases in which some venues reduce a pool are not
modelled. What remains after fees stays with the account.
"""

from collections.abc import Iterator, Mapping

from crossmargin_bt.engine import events, fills, formulas, reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.modes import MODES
from crossmargin_bt.engine.orders import beyond_closing
from crossmargin_bt.engine.reading import Pool


def adding_orders(account: Account, pool: Pool) -> list[tuple[str, int]]:
    """Return (symbol, order number) of the orders that draw on the pool and can do more than close, all taken together."""
    if pool.isolated:
        legs = [(account.books[symbol], side) for symbol, side in pool.legs]
    else:
        pooled = [book for book in account.books_of(pool.currency) if MODES[book.margin_mode].POOLED]
        legs = [(book, side) for book in pooled for side in book.sides]
    return [
        (book.instrument.symbol, order.number)
        for book, side in legs
        for order in beyond_closing(book.leg(side).lots, [o for o in book.orders.values() if o.side == side])
    ]


def started(account: Account, time_ms: int, pool: Pool) -> events.Liquidated:
    """Return the entry that opens a liquidation, with the figures that brought it about."""
    risk = reading.risk(account, pool)
    return events.Liquidated(
        time_ms=time_ms,
        pool=pool.name,
        collateral=risk.collateral,
        requirement=risk.requirement,
        marks={
            f"{symbol}:{side}": account.books[symbol].mark_of(account.books[symbol].legs[side].lots)
            for symbol, side in pool.legs
        },
        bankruptcy_prices=reading.bankruptcy_prices(account, pool),
        prices=account.prices(),
    )


def close_out(
    account: Account, time_ms: int, pool: Pool, prices: Mapping[tuple[str, str], float]
) -> Iterator[events.Filled | events.DebtCovered]:
    """Yield the forced closes of a pool's legs at `prices`, then what the insurance fund pays.

    Apply each entry before asking for the next. Taker and liquidation fees are taken from what the
    losses leave, so a fee never makes a debt.
    """
    for n, (symbol, side) in enumerate(pool.legs):
        book = account.books[symbol]
        lots, price = -book.legs[side].lots, prices[symbol, side]
        value = book.instrument.value(lots, price)
        owed = formulas.fee(value, book.taker) + formulas.fee(value, account.rules.liquidation_fee)
        fee = min(owed, max(0.0, _left(account, pool, pool.legs[n:], prices)))
        entry = fills.entry_of(book, time_ms, side, number=0, lots=lots, price=price, fee=fee)
        short = fills.isolated_shortfall(book, entry)
        yield entry
        if short:
            yield fills.debt_covered(time_ms, pool.name, pool.currency, short)
    short = fills.shared_shortfall(account, pool.currency)
    if short:
        yield fills.debt_covered(time_ms, pool.name, pool.currency, short)


def _left(
    account: Account, pool: Pool, legs: tuple[tuple[str, str], ...], prices: Mapping[tuple[str, str], float]
) -> float:
    """Return what closing `legs` at `prices` would leave of the pool, before fees."""
    left = 0.0 if pool.isolated else account.balances[pool.currency]
    for symbol, side in legs:
        book = account.books[symbol]
        held = book.legs[side]
        left += held.margin + book.instrument.profit(held.lots, held.entry, prices[symbol, side])
    return left
