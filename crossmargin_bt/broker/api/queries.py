# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures a trader reads of a margin account: levels, estimates, currencies, loans, Greeks, explanations.

Each function answers from a session that is caught up to the last bar.
"""

import math
from collections.abc import Mapping
from typing import Any

import backtrader as bt

from crossmargin_bt.broker.api.settings import finite_of, one_of
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.explain.account_view import CurrencyView, LoanView, currency_view, loan_view
from crossmargin_bt.engine.explain.explanations import account_before, explain, is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.margin.liquidation_prices import Distance, Estimate
from crossmargin_bt.engine.margin.options import option_greeks
from crossmargin_bt.engine.math.pricing import Greeks
from crossmargin_bt.errors import ConfigurationError, suggestion


def feed_of(session: BrokerSession, data: Any) -> Any:
    """Return a feed with an instrument, given by itself or by its name.

    Raises:
        ConfigurationError: there is no such feed.
    """
    named = isinstance(data, str)  # a feed compares by its prices
    feed = next((feed for feed in session.books if (feed._name == data if named else feed is data)), None)
    if feed is None:
        name = data if named else getattr(data, "_name", data)
        known = [feed._name for feed in session.books]
        raise ConfigurationError(f"{name!r} is no feed with an instrument{suggestion(str(name), known)}")
    return feed


def side_of(book: Book, side: str | None) -> str:
    """Return the side of a position that is meant: the only one, or in hedge mode the one named.

    Raises:
        ConfigurationError: hedge mode and no side named, or there is no such side.
    """
    sides = book.sides
    if side is None and len(sides) == 1:
        return sides[0]
    if side not in sides:
        raise ConfigurationError(
            f"hedge mode has two legs: name side='long' or side='short', got {side!r}"
            if len(sides) > 1
            else f"a one-way position has no side {side!r}; leave it out"
        )
    return str(side)


def margin_level(session: BrokerSession) -> float:
    """Return the lowest collateral over requirement of all pools now; infinity where nothing is required."""
    account = session.account
    return min((metrics.risk(account, pool).margin_level for pool in metrics.pools(account)), default=math.inf)


def liquidation_price(session: BrokerSession, data: Any, side: str | None) -> Estimate:
    """Return the estimate of a feed's liquidation price; see `CrossMarginBroker.liquidation_price`."""
    book = session.books[feed_of(session, data)]
    return liquidation_prices.liquidation_price(session.account, book.instrument.symbol, side_of(book, side))


def aggregate_distance(session: BrokerSession, betas: Mapping[str, float] | None) -> Distance:
    """Return how far all marks may move together; see `CrossMarginBroker.aggregate_distance`."""
    symbols = {data._name: book.instrument.symbol for data, book in session.books.items()}
    if betas is not None and not isinstance(betas, Mapping):
        raise ConfigurationError(f"betas is a dict by feed name, got {type(betas).__name__}")
    for name in betas or {}:
        if name not in symbols:
            raise ConfigurationError(f"betas names {name!r}, which is no feed{suggestion(name, list(symbols))}")
    moves = {symbols[name]: finite_of(f"the beta of {name}", beta) for name, beta in (betas or {}).items()}
    return liquidation_prices.aggregate_distance(session.account, moves)


def explanation(session: BrokerSession | None, event: events.JournalEntry) -> str:
    """Return the arithmetic of a journal entry as text; see `CrossMarginBroker.explain`."""
    equal = [] if session is None else [n for n, one in enumerate(session.journal) if one == event]
    if session is None or not equal or not is_explainable(event):
        raise ConfigurationError(
            "explain takes an OrderRefused, RiskState, Liquidated, InsuranceFundTakeover or CollateralToppedUp of "
            "broker.journal that was decided at market prices"
        )
    account, journal = session.account, session.journal
    instruments = {symbol: book.instrument for symbol, book in account.books.items()}
    at = next((n for n in equal if journal[n] is event), equal[0])
    before = account_before(journal, at, session.rules_at_start, instruments, **account.setup)
    return "\n".join(explain(before, event))


def total_equity(session: BrokerSession, unit: str | None) -> float:
    """Return the equity of all pools in a currency; see `CrossMarginBroker.total_equity`."""
    equity = metrics.total_equity(session.account)
    if unit in (None, session.currency):
        return equity
    price = session.account.price(str(unit))
    if not price:
        raise ConfigurationError(f"{unit} has no price yet; its feeds have delivered no bar")
    return equity / price


def currency(session: BrokerSession | None, name: str) -> CurrencyView:
    """Return the view of a currency; see `CrossMarginBroker.currency`."""
    if session is None or name not in session.account.balances:
        known = [] if session is None else list(session.account.balances)
        raise ConfigurationError(f"the account has no {name!r}{suggestion(name, known)}")
    return currency_view(session.account, name)


def loan(session: BrokerSession | None, data: Any, side: str | None) -> LoanView | None:
    """Return the loan behind a margin pair's position; see `CrossMarginBroker.loan`."""
    book = None if session is None else session.books[feed_of(session, data)]
    if session is None or book is None or book.instrument.kind != "margin":
        raise ConfigurationError("loan is that of a margin pair in a margin account")
    leg = book.legs.get(side_of(book, side))
    return None if leg is None else loan_view(session.account, book, leg)


def greeks(session: BrokerSession | None, data: Any) -> Greeks:
    """Return the Greeks of an option; see `CrossMarginBroker.greeks`."""
    book = None if session is None else session.books[feed_of(session, data)]
    if session is None or book is None or book.margin_mode != "option":
        raise ConfigurationError("greeks are those of an option in a margin account")
    found = option_greeks(book, session.time_ms)
    if found is None:
        raise ConfigurationError(
            f"no volatility makes {book.instrument.symbol} worth its mark of {book.long_mark:g}; give its feed a "
            f"volatility column"
        )
    return found


def position(session: BrokerSession, net: Any, data: Any, side: str | None) -> Any:
    """Return a copy of a feed's position, given backtrader's `net` one; see `CrossMarginBroker.getposition`."""
    book = session.books.get(data)
    if book is None:
        return net.clone()
    if book.hedged and side is None:
        raise ConfigurationError(
            "hedge mode has two positions: read broker.getposition(data, 'long') or 'short'; with a "
            "crossmargin_bt.HedgeStrategy close(position_side='long') and order_target_size(position_side=...) name the leg"
        )
    if side is None:
        return net.clone()
    one_of("position side", side, book.sides)
    leg = book.leg(side)
    return bt.Position(book.instrument.size(leg.lots), leg.entry)
