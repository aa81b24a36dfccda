# SPDX-License-Identifier: GPL-3.0-or-later
"""Risk control before a liquidation: what a pool passes on its way down, and which orders go.

Levels are margin levels, collateral over requirement; 1 is liquidation.
"""

from collections.abc import Callable, Iterator

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import orders_that_can_open
from crossmargin_bt.engine.lifecycle.immediate_orders import after_immediate_orders
from crossmargin_bt.engine.liquidation import repayment
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math.tolerances import OVERDRAWN_TOL


def risk_state(
    account: Account, time_ms: int, pool: Pool, name: events.PoolState, threshold: float
) -> events.RiskState:
    """Return the entry of a state a pool has come into, with the figures of this moment."""
    risk = metrics.risk(account, pool)
    return events.RiskState(
        time_ms=time_ms,
        pool=pool.name,
        state=name,
        threshold=threshold,
        collateral=risk.collateral,
        requirement=risk.requirement,
        prices=account.prices(),
    )


def books_drawing_on(account: Account, pool: Pool) -> list[tuple[Book, str]]:
    """Return the (book, side) whose orders draw on the pool; isolated orders do where the venue counts what they lock."""
    if pool.isolated:
        return [(account.books[symbol], side) for symbol, side in pool.legs]
    rules = account.rules
    all_of_them = rules.isolated_orders_in_ratio or rules.orders_cancelled_overdrawn
    books = [b for b in account.books_of(pool.currency) if all_of_them or MODES[b.margin_mode].POOLED]
    return [(book, side) for book in books for side in book.sides]


def has_debt(account: Account, pool: Pool) -> bool:
    """Return whether a shared pool owes something."""
    return account.pooled and not pool.isolated and currencies.is_in_debt(account)


def can_repay(account: Account, pool: Pool) -> bool:
    """Return whether a shared pool owes something that what it holds could pay back, in part at least."""
    return has_debt(account, pool) and repayment.can_repay(account)


def risk_increasing_orders(account: Account, pool: Pool) -> list[tuple[str, int]]:
    """Return (symbol, order number) of the orders that draw on the pool and can do more than close, all taken together."""
    return [
        (book.instrument.symbol, order.number)
        for book, side in books_drawing_on(account, pool)
        for order in orders_that_can_open(book.leg(side).lots, [o for o in book.orders.values() if o.side == side])
    ]


def margin_deficit(balance: metrics.PoolBalance) -> float:
    """Return the in-use margin minus the collateral that covers it (balance and unrealised profit); negative is a surplus.

    In the pool's currency. A surplus or deficit within rounding of the in-use margin counts as a surplus.
    """
    return balance.in_use * (1 - OVERDRAWN_TOL) - balance.collateral_value - balance.cross_profit


def account_margin_deficit(account: Account, currency: str) -> float:
    """Return the margin deficit of a shared pool at the present marks, once the orders in flight have filled."""
    for book in account.books.values():
        if book.orders.immediate:
            account = after_immediate_orders(account)
            break
    return margin_deficit(metrics.pool_balance(account, currency))


def cancellation_order(account: Account, pool: Pool, relief: Callable[[Account], float]) -> Iterator[tuple[str, int]]:
    """Yield the adding orders in the order in which cancelling them relieves the account most, until none relieves it.

    Orders that take the next price there is are not among them: they trade.
    `relief` rises as the account gets better. Cancel each before asking for the next, and stop when it is enough.
    Of orders that relieve alike the oldest goes first.
    """
    while True:
        now = relief(account)
        found = []
        for symbol, number in risk_increasing_orders(account, pool):
            if account.books[symbol].orders[number].immediate:
                continue
            without = account.copy(symbol)
            del without.books[symbol].orders[number]
            found.append((relief(without) - now, -number, symbol))
        gain, oldest, symbol = max(found, default=(0.0, 0, ""))
        if gain <= 0:
            return
        yield symbol, -oldest
