# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothetical accounts: after an order, or at other prices. No question changes the account."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from crossmargin_bt.broker.api.queries import feed_of, side_of
from crossmargin_bt.broker.api.settings import finite_of
from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.bt_orders import leg_of, reduces_only
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission import maximum_order, order_admission
from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.liquidation_prices import Distance, aggregate_distance, liquidation_price
from crossmargin_bt.errors import ConfigurationError

# The number of an order that was never entered; those of a run begin at 1.
NOT_ENTERED = -1


class Snapshot(NamedTuple):
    """An account at a moment. Amounts are in its currency.

    `requirement` is the maintenance requirement of all pools; `margin_level` the lowest collateral over requirement;
    `liquidation_prices` are by feed name (name:long and name:short in hedge mode), None where there is none; `distance`
    is how far all marks may move together.
    """

    equity: float
    free_margin: float
    margin_used: float
    requirement: float
    margin_level: float
    leverage: float
    liquidation_prices: dict[str, float | None]
    distance: Distance


class Preview(NamedTuple):
    """The effect of an order: whether it would be refused, the margin it would lock while it rests, the account after its fill."""

    refusal: Refusal | None
    locked: float
    after: Snapshot


def what_if(session: BrokerSession, prices: Mapping[str, float]) -> Snapshot:
    """Return the account with some marks at other prices; see `CrossMarginBroker.what_if`."""
    moved = session.account.copy(*session.account.books)
    for name, price in prices.items():
        book = session.books[feed_of(session, name)]
        moved.books[book.instrument.symbol].set_mark(positive_of(f"the price of {name}", price))
    moved.update_option_indices()
    return _snapshot(session, moved)


class OrderTerms(NamedTuple):
    """An order to preview. `lots` are signed; without a `price` it is a market order at the last price."""

    data: Any
    side: str
    lots: int
    price: float | None
    number: int
    is_market: bool
    reduces: bool


def terms_of_order(session: BrokerSession, order: Any) -> OrderTerms:
    """Return the terms of an order that was entered."""
    if not order.alive():
        raise ConfigurationError(f"order {order.ref} has ended; there is nothing left of it to do")
    is_market = order.exectype in (order.Market, order.Close)
    price = bt_orders.reference_price(order)
    lots, number = session.lots_left(order), session.number(order)
    return OrderTerms(order.data, leg_of(order), lots, price, number, is_market, reduces_only(order))


def terms_of(session: BrokerSession, data: Any, size: Any, price: float | None, side: str | None) -> OrderTerms:
    """Return the terms of an order that was not entered."""
    number = finite_of("size", size)
    feed = feed_of(session, data)
    book = session.books[feed]
    leg = side_of(book, side)
    lots = book.instrument.lots(number)
    if not lots:
        raise ConfigurationError(f"size {size!r} is less than one lot of {book.instrument.symbol}")
    return OrderTerms(feed, leg, lots, price, NOT_ENTERED, price is None, reduces=False)


def preview(session: BrokerSession, terms: OrderTerms) -> Preview:
    """Return the effect of an order; see `CrossMarginBroker.preview`."""
    data, side, lots, price, number, is_market, reduces = terms
    book = session.books[data]
    symbol = book.instrument.symbol
    at = last_price(session, data) if price is None else positive_of("the order's price", price)
    account = session.account.copy(symbol)
    account.books[symbol].orders.pop(number, None)
    resting = OpenOrder(number, side, lots, at, reduces, number, immediate=is_market)
    admitted = order_admission.admit(account, symbol, resting)
    before = metrics.available_margin(account, account.books[symbol])
    rests = account.copy(symbol)
    rests.books[symbol].orders[number] = resting
    locked = before - metrics.available_margin(rests, rests.books[symbol])
    if reduces:
        lots = position.cap_to_position(account.books[symbol].leg(side).lots, lots)
    after = account.copy(symbol)
    if lots:
        fill = fills.order_fill(account, session.time_ms, symbol, side, number=0, lots=lots, price=at, maker=False)
        after.apply(fill)
    refusal = admitted if isinstance(admitted, Refusal) else None
    settle = session.account.pool_of(book.instrument.settle)
    return Preview(refusal, max(0.0, locked) * session.account.price(settle), _snapshot(session, after))


def maximum_leverage(session: BrokerSession, data: Any, stake: float) -> float:
    """Return the highest leverage of a stake; see `CrossMarginBroker.maximum_leverage`."""
    feed = feed_of(session, data)
    last_price(session, feed)
    return maximum_order.maximum_leverage(session.account, session.books[feed].instrument.symbol, stake)


def maximum_order_size(
    session: BrokerSession, data: Any, *, isbuy: bool, price: float | None, side: str | None
) -> float:
    """Return the largest size that would be admitted; see `CrossMarginBroker.maximum_order_size`."""
    feed = feed_of(session, data)
    at = last_price(session, feed) if price is None else price
    book = session.books[feed]
    leg = side_of(book, side)
    direction = 1 if isbuy else -1
    instrument = book.instrument
    lots = maximum_order.maximum_order_lots(
        session.account, instrument.symbol, leg, direction, at, immediate=price is None
    )
    return instrument.size(lots)


def last_price(session: BrokerSession, data: Any) -> float:
    """Return the last close of a feed.

    Raises:
        ConfigurationError: it has delivered no bar.
    """
    price = session.last_close.get(session.books[data].instrument.symbol)
    if price is None:
        raise ConfigurationError(f"feed {data._name!r} has delivered no bar yet; ask from next() on")
    return price


def positive_of(what: str, given: Any) -> float:
    """Return a number above 0 of any library as a Python number.

    Raises:
        ConfigurationError: it is none.
    """
    number = finite_of(what, given)
    if number <= 0:
        raise ConfigurationError(f"{what} must be above 0, got {given!r}")
    return number


def _snapshot(session: BrokerSession, account: Account) -> Snapshot:
    balance = metrics.pool_balance(account, account.pool_of(session.currency))
    equity = metrics.total_equity(account)
    pools = metrics.pools(account)
    risks = [metrics.risk(account, pool) for pool in pools]
    prices: dict[str, float | None] = {}
    for data, book in session.books.items():
        for side in book.sides:
            name = data._name if side == "net" else f"{data._name}:{side}"
            prices[name] = liquidation_price(account, book.instrument.symbol, side).price
    return Snapshot(
        equity=equity,
        free_margin=balance.free_margin,
        margin_used=metrics.total_margin_used(account),
        requirement=math.fsum(
            risk.requirement * account.price(pool.currency) for pool, risk in zip(pools, risks, strict=True)
        ),
        margin_level=min((risk.margin_level for risk in risks), default=math.inf),
        leverage=metrics.account_exposure(account) / equity if equity > 0 else 0.0,
        liquidation_prices=prices,
        distance=aggregate_distance(account, {}),
    )
