# SPDX-License-Identifier: GPL-3.0-or-later
"""Which feeds trade what at the start of a session, and why one cannot."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from crossmargin_bt.broker.session import bars
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.intrabar_data import IntrabarCandles
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS, Instrument
from crossmargin_bt.engine.terms.portfolio_terms import PortfolioTerms
from crossmargin_bt.errors import ConfigurationError, FeedError, suggestion
from crossmargin_bt.protocols import perpetual_feed


def instruments(broker: BrokerHost, session: BrokerSession) -> Iterator[tuple[Any, Instrument]]:
    """Yield the feeds that trade and their instruments; list each before asking for the next.

    Raises:
        FeedError: a feed or its instrument cannot be traded in this account.
    """
    for data in broker.cerebro.datas:
        instrument = getattr(data, "instrument", None) or (broker.p.instruments or {}).get(data._name)
        if instrument is not None:
            _check(broker, session, data, instrument)
            terms = session.account.rules.portfolio if session.account.portfolio else None
            yield data, instrument if terms is None else with_underlying(instrument, terms)


def with_underlying(instrument: Instrument, terms: PortfolioTerms) -> Instrument:
    """Return an instrument with the coin that picks its risk unit, taken from its symbol where `underlying` is not set.

    A symbol that is itself a coin of the venue's terms is that coin.

    Raises:
        FeedError: the symbol does not say which coin it is.
    """
    if instrument.base_currency:
        return instrument
    symbol, quote = instrument.symbol, instrument.quote_currency
    is_coin = any(symbol in unit.underlyings for unit in terms.units)
    first = re.split(r"[/:_-]", symbol)[0]
    coin = first if is_coin else first.removesuffix(quote)
    # XBT is another name of BTC, and 1000PEPE is a thousand PEPE: neither picks the parameters of its coin.
    if not coin.isalpha() or coin == "XBT" or (coin == symbol and not is_coin):
        raise FeedError(
            f"{symbol} names no coin and quote currency {quote}, by which portfolio margin picks its parameters; set "
            f"underlying= on its instrument (Instrument(symbol={symbol!r}, underlying='BTC'))"
        )
    return msgspec.structs.replace(instrument, underlying=coin)


def _check(broker: BrokerHost, session: BrokerSession, data: Any, instrument: Instrument) -> None:
    if not data._name:
        raise FeedError(f"the feed of {instrument.symbol} has no name; add it with adddata(feed, name=...)")
    perpetual = perpetual_feed(data)
    if perpetual is not None and (data.resampling or data.replaying) and (perpetual.has_mark or perpetual.has_funding):
        raise FeedError(
            f"feed {data._name}: backtrader's resampling drops mark and funding columns; resample the frame first, or trade "
            f"on the base feed and give the resampled one no instrument"
        )
    if instrument.symbol in session.account.books:
        raise FeedError(f"two feeds carry the instrument {instrument.symbol}; give it to the one that trades")
    known = (session.currency, *(broker.p.deposits or {}))
    if instrument.settle not in known and not session.account.pooled:
        raise FeedError(
            f"{instrument.symbol} settles in {instrument.settle}, the account holds {', '.join(known)}; set "
            f"currency={instrument.settle!r}, pay some in with deposits={{{instrument.settle!r}: amount}}, or leave the feed out"
        )
    kind = "inverse" if instrument.inverse else "linear"
    venue = broker.venue
    derivative = instrument.kind in HEDGE_MODE_KINDS
    if derivative and instrument.maintenance is None and venue.contracts not in ("both", kind):
        raise FeedError(
            f"{instrument.symbol} is {kind}, the rates of venue {venue.name!r} are for {venue.contracts} contracts; "
            f"choose another venue or give the instrument a maintenance rule"
        )


def check_names(broker: BrokerHost, session: BrokerSession, declared: Iterable[str]) -> None:
    """Check that every feed named in a setting is there, and hand finer candles to the session.

    Raises:
        FeedError: no feed has an instrument.
        ConfigurationError: a setting names no feed.
    """
    names = [data._name for data in broker.cerebro.datas if data._name]
    if not session.books:
        given = f" (it has {', '.join(broker.p.instruments)})" if broker.p.instruments else ""
        raise FeedError(
            f"no feed has an instrument; the feeds are named {', '.join(names) or 'nothing'}: build them with "
            f"crossmargin_bt.feeds.from_frame(frame, name=, instrument=) or give the broker instruments="
            f"{{feed name: Instrument(...)}}{given}"
        )
    for data, book in session.books.items():
        instrument = book.instrument
        priced = session.account.valuation.index_symbol(instrument.underlying, instrument.quote_currency) is not None
        if instrument.kind == "option" and not priced and not getattr(data, "has_index", False):
            raise FeedError(
                f"nothing prices the underlying of {instrument.symbol}: add a feed of {instrument.underlying} in "
                f"{instrument.quote_currency} or a dollar coin, or a column index_price to its frame"
            )
    for name in (*declared, *(broker.p.instruments or ())):
        if name not in names:
            raise ConfigurationError(f"a setting names {name!r}, which is no feed{suggestion(name, names)}")
    for name, frame in (broker.p.finer or {}).items():
        feed = next((data for data in session.books if data._name == name), None)
        if feed is None:
            raise ConfigurationError(f"finer names {name!r}, which is no feed{suggestion(name, names)}")
        session.intrabar[session.books[feed].instrument.symbol] = IntrabarCandles(name, frame, bars.bar_ms(feed))


def refuse_unpayable(datas: Iterable[Any]) -> None:
    """Raise where a feed trades what cash cannot pay for.

    Raises:
        FeedError: an instrument is no coin and no linear perpetual or future.
    """
    for data in datas:
        instrument = getattr(data, "instrument", None)
        if instrument is None:
            continue
        if instrument.inverse:
            raise FeedError(
                f"{data._name} is an inverse contract: it cannot be paid for in full; leave mode 'cash' out for it"
            )
        if instrument.kind in ("margin", "option"):
            raise FeedError(
                f"{data._name} is of kind {instrument.kind!r}, which the stock broker does not know; leave mode 'cash' out for it"
            )
