# SPDX-License-Identifier: GPL-3.0-or-later
"""An event screen for risk that is not monotone in price: portfolio margin, options, and orders that reduce collateral.

A Lipschitz bound: everything held may change against the account by its value times a relative move, collateral and
requirement alike. Where that leaves a pool above its thresholds, nothing within the move can bring it there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from crossmargin_bt.broker.bar.risk_monitor import RiskMonitor
from crossmargin_bt.broker.bar.screen import BarEvent
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.safe_range import NO_RANGE, RANGE_MARGIN, SafePriceRange
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.liquidation import risk_control
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool

# The Lipschitz constant: a value may change by this many times the relative move, as margins do whose rates rise with it.
LIPSCHITZ = 2.0
# An option's own price may move by this many times the larger of a bar's moves from its open, from its low to its high.
OPTION_MOVE_FACTOR = 2.0
# Larger relative moves are not bounded: a chain of prices would change by more than LIPSCHITZ allows for.
MOVE_MAX = 0.3


def has_no_single_worst_price(account: Account) -> bool:
    """Return whether no price of each instrument is the worst for all figures of its pools."""
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


class ValueChange(NamedTuple):
    """An upper bound on how much figures of an account change against it, in its unit."""

    collateral: float
    requirement: float


class ThresholdSlack(NamedTuple):
    """How far a pool is from an event, in the account's unit, and how changes count against that."""

    event: BarEvent
    slack: float
    of_collateral: float
    of_requirement: float

    def used_by(self, change: ValueChange) -> float:
        """Return how much of the slack a change uses."""
        return self.of_collateral * change.collateral + self.of_requirement * change.requirement


def screen_bars(session: BrokerSession, monitor: RiskMonitor, bars: Sequence[Bar]) -> tuple[BarEvent, SafePriceRange]:
    """Return the most that can happen within bars, and a price range in which nothing can. The marks are left as they were.

    The range is how far all marks may move from the opens before the bound uses the slack up or a tier is reached; it
    holds for one version of the account, orders included.
    """
    account = session.account
    kept = [(book, book.prices()) for book in account.books.values()]
    try:
        for bar in bars:
            bar.book.set_mark(bar.mark.open)
        account.update_option_indices()
        return _screen_at_opens(session, monitor, bars)
    finally:
        for book, prices in kept:
            book.set_prices(prices)


def _screen_at_opens(
    session: BrokerSession, monitor: RiskMonitor, bars: Sequence[Bar]
) -> tuple[BarEvent, SafePriceRange]:
    account = session.account
    pools = metrics.pools(account)
    if not pools:
        return BarEvent.NOTHING, NO_RANGE
    prices = [account.price(pool.currency) for pool in pools]
    moves = relative_moves(bars)
    distances = [found for pool in pools for found in _distances_to_breakpoints(account, pool)]
    breakpoint_reached = any(
        moves.get(symbol, 0.0) >= distance for symbol, distance in distances
    )  # the rate jumps there
    if not all(prices) or max(moves.values()) > MOVE_MAX or breakpoint_reached:
        return BarEvent.THRESHOLD, NO_RANGE
    slacks = [
        one
        for pool, price in zip(pools, prices, strict=True)
        for one in threshold_slacks(session, monitor, pool, price)
    ]
    change = value_change_bound(account, moves)
    reached = [one.event for one in slacks if one.slack <= one.used_by(change)]
    if reached:
        return max(reached), NO_RANGE
    return BarEvent.NOTHING, _range_within(account, slacks, [distance for _, distance in distances])


def _range_within(account: Account, slacks: Sequence[ThresholdSlack], distances: Sequence[float]) -> SafePriceRange:
    """Return the prices around the marks at which no slack is used up and no breakpoint is reached."""
    if _changes_with_time(account):
        return NO_RANGE
    at_most = value_change_bound(account, dict.fromkeys(account.books, MOVE_MAX))
    ends = [MOVE_MAX * one.slack / one.used_by(at_most) for one in slacks if one.used_by(at_most)]
    move = RANGE_MARGIN * min([*ends, *distances, MOVE_MAX])
    ranges = {
        symbol: (book.long_mark * (1 - move), book.long_mark * (1 + move)) for symbol, book in account.books.items()
    }
    return SafePriceRange(account.version, ranges)


def _distances_to_breakpoints(account: Account, pool: Pool) -> list[tuple[str, float]]:
    """Return by symbol the relative distance of its mark to the breakpoints of the pool's maintenance rules."""
    return [
        (symbol, abs(mark / account.books[symbol].long_mark - 1))
        for symbol, _, mark in ([] if account.portfolio else metrics.breakpoints(account, pool))
        if account.books[symbol].long_mark
    ]


def threshold_slacks(session: BrokerSession, monitor: RiskMonitor, pool: Pool, price: float) -> list[ThresholdSlack]:
    """Return how far a pool is from its next threshold and from the lowest margin level so far."""
    lowest = session.lowest_level
    risk = metrics.risk(session.account, pool)
    level = monitor.next_threshold(pool).level
    found = [ThresholdSlack(BarEvent.THRESHOLD, price * (risk.collateral - level * risk.requirement), 1.0, level)]
    if monitor.watches_deficit(pool):
        balance = metrics.pool_balance(session.account, pool.currency)
        found.append(ThresholdSlack(BarEvent.THRESHOLD, -price * risk_control.margin_deficit(balance), 1.0, 1.0))
    if risk.requirement:
        slack = price * (risk.collateral - lowest * risk.requirement)
        found.append(ThresholdSlack(BarEvent.NEW_LOW_LEVEL, slack, 1.0, lowest))
    return found


def _changes_with_time(account: Account) -> bool:
    """Return whether the value of a holding changes with time as well as with prices."""
    return any(book.instrument.expiry is not None and (book.legs or book.orders) for book in account.books.values())


def relative_moves(bars: Sequence[Bar]) -> dict[str, float]:
    """Return by symbol the largest move of a mark from its open within its bar, as a fraction of it."""
    ranges = {bar.book.instrument.symbol: bar.mark for bar in bars}
    return {symbol: max(mark.high / mark.open - 1, 1 - mark.low / mark.open) for symbol, mark in ranges.items()}


def value_change_bound(account: Account, moves: dict[str, float]) -> ValueChange:
    """Return an upper bound on how far collateral falls and requirement rises while marks move by these fractions.

    Positions, orders and debts change the requirement, and so do coins that take part in scenarios. A holding settled in
    a coin also changes with the price of the coin, unrealised profit included.
    """
    largest = max(moves.values())
    revalued = _coin_revaluations(account, largest)
    terms = account.rules.portfolio if account.portfolio else None
    held = floating = 0.0
    for symbol, book in account.books.items():
        if not (book.legs or book.orders):
            continue
        # The charges of a portfolio value coins at the price of another market.
        own = largest if terms is not None else moves.get(symbol, 0.0)
        coin = revalued[book.instrument.settle]
        price = account.price(book.instrument.settle)
        held += price * (_value_change(book, own, largest) * (1 + coin) + gross_value(book) * coin)
        is_floating = book.legs and book.margin_mode != "option"
        floating += price * abs(book.unrealised()) * coin if is_floating else 0.0
    coins = {
        currency: amount * account.price(currency) * revalued[currency] for currency, amount in account.balances.items()
    }
    in_scenarios = {coin for coin in coins if terms is not None and terms.unit_terms(coin).coins == "all"}
    required = held + sum(abs(change) for coin, change in coins.items() if change < 0 or coin in in_scenarios)
    return ValueChange(LIPSCHITZ * (held + floating + sum(map(abs, coins.values()))), LIPSCHITZ * required)


def _coin_revaluations(account: Account, largest: float) -> dict[str, float]:
    """Return the largest relative rise in the price of each currency when every market moves by `largest`."""
    valuation = account.valuation
    return {
        currency: (1 + largest) ** len(valuation.route(currency)) - 1 if currency != valuation.unit else 0.0
        for currency in account.balances
    }


def _value_change(book: Book, own: float, largest: float) -> float:
    """Return how far the value of positions and orders can change with a move of their mark, in their settle currency."""
    if book.margin_mode == "option":
        return _units(book) * (OPTION_MOVE_FACTOR * book.long_mark * own + book.underlying_value * largest)
    return gross_value(book) * own


def gross_value(book: Book) -> float:
    """Return the unsigned value of all positions and orders, an option with its underlying, in the settle currency."""
    if book.margin_mode == "option":
        return _units(book) * (book.long_mark + book.underlying_value)
    # Positions settled in coin gain and lose in proportion to their value where they were opened.
    mark, is_inverse = book.long_mark, book.instrument.inverse
    return sum(book.instrument.value(lots, min(mark, price) if is_inverse else mark) for lots, price in _parts(book))


def _units(book: Book) -> float:
    return sum(abs(lots) for lots, _ in _parts(book)) * book.instrument.units_per_lot


def _parts(book: Book) -> list[tuple[int, float]]:
    """Return the lots of every position and order, with the entry or order price of each."""
    return [
        *((leg.lots, leg.entry) for leg in book.legs.values()),
        *((order.lots, order.price) for order in book.orders.values()),
    ]
