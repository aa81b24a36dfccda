# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything can happen within a bar to pools for which no single price is worst: portfolios, options, orders that count in collateral."""

from collections.abc import Sequence
from typing import NamedTuple

from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.safe_range import ALMOST, NO_RANGE, BarEvent, SafePriceRange
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool

# What is held may change by so many times its range, as margins do whose rates rise with it.
ROOM = 2.0
# A bar may go so many times its farther way from its low to its high.
TWICE = 2.0
# Of farther moves, as a part of the price, nothing is said: beyond, a chain of prices falls by more than `ROOM` allows for.
FARTHEST = 0.3


def is_stirred(account: Account) -> bool:
    """Return whether no price of each instrument is worst for all figures of its pools."""
    if account.portfolio:
        return True
    if account.has_options and any(b.margin_mode == "option" and (b.legs or b.orders) for b in account.books.values()):
        return True
    rules = account.rules
    return (
        account.pooled
        and (rules.orders_lower_collateral or rules.orders_cancelled_overdrawn)
        and any(book.orders for book in account.books.values())
    )


def danger(run: BrokerSession, bars: Sequence[Bar]) -> BarEvent:
    """Return what could happen to pools that no single price is worst for, and find the next band.

    At the opens, all that is held may change against the account by its value x the range of its bar, and what is
    required too: where that leaves a pool above its thresholds, nothing within the bars can bring it there. The
    band is where the same holds of everything that has a price, moved equally far from where it opened.
    """
    account = run.account
    run.band = NO_RANGE
    for bar in bars:
        bar.book.set_mark(bar.mark.open)
    account.update_option_indices()
    pools = metrics.pools(account)
    if not pools:
        return BarEvent.NOTHING
    clear: list[Clear] = []
    for pool in pools:
        price = account.price(pool.currency)
        if not price:
            return BarEvent.THRESHOLD
        clear += _clear(run, pool, price)
    moves = _moves(bars)
    if max(moves.values()) > FARTHEST:
        return BarEvent.THRESHOLD
    most = _largest_change(account, moves)
    jumps = [_jump(account, pool) for pool in pools]
    if any(moves.get(symbol, 0.0) >= far for found in jumps for symbol, far in found):
        return BarEvent.THRESHOLD  # a rate that jumps takes more than in proportion
    reached = [one.act for one in clear if one.slack <= one.of(most)]
    if reached:
        return max(reached)
    if not _runs_out(account):
        everything = _largest_change(account, dict.fromkeys(account.books, FARTHEST))
        ends = [FARTHEST * one.slack / one.of(everything) for one in clear if one.of(everything)]
        ends += [far for found in jumps for _, far in found]
        part = ALMOST * min([*ends, FARTHEST])
        run.band = SafePriceRange(account.version, _around(account, part), counts_orders=True)
    return BarEvent.NOTHING


def _around(account: Account, part: float) -> dict[str, tuple[float, float]]:
    """Return the ranges of all marks so far around where they stand."""
    return {
        symbol: (book.long_mark * (1 - part), book.long_mark * (1 + part)) for symbol, book in account.books.items()
    }


def _jump(account: Account, pool: Pool) -> list[tuple[str, float]]:
    """Return by symbol how far its mark is from where a maintenance rule of the pool breakpoints or jumps, as a part of it."""
    return [
        (symbol, abs(mark / account.books[symbol].long_mark - 1))
        for symbol, _, mark in ([] if account.portfolio else metrics.breakpoints(account, pool))
        if account.books[symbol].long_mark
    ]


class Change(NamedTuple):
    """By how much figures of an account may change against it, in its unit."""

    collateral: float
    requirement: float


class Clear(NamedTuple):
    """How far a pool is from something, in the account's unit, and how changes count in that."""

    act: BarEvent
    slack: float
    of_collateral: float
    of_requirement: float

    def of(self, change: Change) -> float:
        """Return what a change takes of the slack."""
        return self.of_collateral * change.collateral + self.of_requirement * change.requirement


def _clear(run: BrokerSession, pool: Pool, price: float) -> list[Clear]:
    """Return how far a pool is from its next threshold and from the lowest margin level so far."""
    watch, lowest = run.watch, run.lowest_level
    risk = metrics.risk(run.account, pool)
    level = watch.armed(pool).level
    found = [Clear(BarEvent.THRESHOLD, price * (risk.collateral - level * risk.requirement), 1.0, level)]
    if watch.watches_overdrawn(pool):
        total = metrics.pool_balance(run.account, pool.currency)
        free = total.collateral_value + total.cross_profit - total.in_use
        found.append(Clear(BarEvent.THRESHOLD, price * free, 1.0, 1.0))
    if risk.requirement:
        found.append(Clear(BarEvent.NEW_LOW_LEVEL, price * (risk.collateral - lowest * risk.requirement), 1.0, lowest))
    return found


def _runs_out(account: Account) -> bool:
    """Return whether what the account holds changes with time as well."""
    return any(book.instrument.expiry is not None and (book.legs or book.orders) for book in account.books.values())


def _moves(bars: Sequence[Bar]) -> dict[str, float]:
    """Return by symbol how far a mark moves from its open within its bar, as a part of it."""
    ranges = {bar.book.instrument.symbol: bar.mark for bar in bars}
    return {symbol: max(mark.high / mark.open - 1, 1 - mark.low / mark.open) for symbol, mark in ranges.items()}


def _largest_change(account: Account, moves: dict[str, float]) -> Change:
    """Return by how much an account may change as marks move so far, all of it against the account.

    Positions, orders and debts change what is required, and so do coins that take part in scenarios. What is settled in
    a coin also changes with the price of the coin, floating profit and all.
    """
    most = max(moves.values())
    revalued = _revalued(account, most)
    terms = account.rules.portfolio if account.portfolio else None
    held = floating = 0.0
    for symbol, book in account.books.items():
        if not (book.legs or book.orders):
            continue
        # The charges of a portfolio count coins at the price of another market.
        own = most if terms is not None else moves.get(symbol, 0.0)
        coin = revalued[book.instrument.settle]
        rate = account.price(book.instrument.settle)
        held += rate * (_changed(book, own, most) * (1 + coin) + _kept(book) * coin)
        floating += rate * abs(book.unrealised()) * coin if book.legs and book.margin_mode != "option" else 0.0
    coins = {
        currency: amount * account.price(currency) * revalued[currency] for currency, amount in account.balances.items()
    }
    count = {coin for coin in coins if terms is not None and terms.unit_terms(coin).coins == "all"}
    required = held + sum(abs(change) for coin, change in coins.items() if change < 0 or coin in count)
    return Change(ROOM * (held + floating + sum(map(abs, coins.values()))), ROOM * required)


def _revalued(account: Account, most: float) -> dict[str, float]:
    """Return by how much the price of each currency may rise, as a part of it, where every market moves so far."""
    valuation = account.valuation
    return {
        currency: (1 + most) ** len(valuation.route(currency)) - 1 if currency != valuation.unit else 0.0
        for currency in account.balances
    }


def _changed(book: Book, own: float, most: float) -> float:
    """Return by how much what is held and ordered may change as its mark moves so far, in its settle currency."""
    if book.margin_mode == "option":
        return _units(book) * (TWICE * book.long_mark * own + book.underlying_value * most)
    return _kept(book) * own


def _kept(book: Book) -> float:
    """Return what positions and orders are worth together, an option with its underlying, in the settle currency."""
    if book.margin_mode == "option":
        return _units(book) * (book.long_mark + book.underlying_value)
    # What is settled in coin gains and loses in proportion to its value where it was opened.
    mark, curved = book.long_mark, book.instrument.inverse
    return sum(book.instrument.value(lots, min(mark, price) if curved else mark) for lots, price in _parts(book))


def _units(book: Book) -> float:
    return sum(abs(lots) for lots, _ in _parts(book)) * book.instrument.units_per_lot


def _parts(book: Book) -> list[tuple[int, float]]:
    """Return the lots of everything held and ordered, and the price of each."""
    return [
        *((leg.lots, leg.entry) for leg in book.legs.values()),
        *((order.lots, order.price) for order in book.orders.values()),
    ]
