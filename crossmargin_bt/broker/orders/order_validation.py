# SPDX-License-Identifier: GPL-3.0-or-later
"""What an order must be to be entered at all: its keywords, its figures, its side, its prices on ticks."""

import math
from typing import Any

from backtrader import Order

from crossmargin_bt.broker.session import bt_orders
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.math.numbers import to_python_number
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS, Instrument
from crossmargin_bt.errors import suggestion

# Keywords a strategy may give to buy() and sell() beyond backtrader's own.
OWN_KEYWORDS = ("position_side", "reduce_only", "plan")
KEYWORDS = bt_orders.GIVEN | {"oco", "coc", "_checksubmit", *OWN_KEYWORDS}


def figures(run: BrokerSession, data: Any, size: Any, keywords: dict[str, Any]) -> tuple[float, str | None]:
    """Return the size of an order as Python's own number, NaN of what is none, and why the order cannot even be entered, or None.

    Prices among the keywords are made Python's own as well.
    """
    number = size if type(size) is float else to_python_number(size)
    if number is None:
        return math.nan, f"size must be a number, got {size!r}"
    return number, _unusable(run, data, number, keywords)


def _unusable(run: BrokerSession, data: Any, size: float, keywords: dict[str, Any]) -> str | None:
    if not keywords.keys() <= KEYWORDS:
        name = next(name for name in keywords if name not in KEYWORDS)
        return f"unknown order keyword {name!r}{suggestion(name, OWN_KEYWORDS)}"
    book = run.books.get(data)
    if book is None:
        return f"feed {data._name!r} has no instrument; build it with feeds.from_frame(..., instrument=)"
    if run.feeds[data].is_ended:
        return f"{book.instrument.symbol} expired at {book.instrument.expiry}; trade another contract"
    if not len(data):
        return f"feed {data._name!r} has delivered no bar yet; place orders from next() on"
    if book.margin_mode == "option" and not book.index:
        return (
            f"nothing has priced the underlying of {book.instrument.symbol} yet; place orders once its feed has begun"
        )
    return _bad_figure(book.instrument, size, keywords) or _bad_side(book, keywords.get("position_side"))


def _bad_figure(instrument: Instrument, size: float, keywords: dict[str, Any]) -> str | None:
    if not math.isfinite(size):
        return f"size must be a number of contracts, got {size!r}"
    if not instrument.lots(size):
        return f"size {float(size)!r} is less than one lot of {instrument.symbol} ({instrument.lot:g})"
    for name in ("price", "plimit"):
        given = keywords.get(name)
        if given is None:
            continue
        price: float | None = given if type(given) is float else to_python_number(given)
        if price is None:
            del keywords[name]
            return f"{name} must be a number, got {given!r}"
        keywords[name] = price
        if not 0 < price < math.inf:
            return f"{name} must be above 0, got {float(price)!r}"
    return None


def _bad_side(book: Book, side: Any) -> str | None:
    if book.hedged and side not in ("long", "short"):
        return f"hedge mode needs position_side='long' or 'short', got {side!r}"
    if not book.hedged and side is not None:
        kind = book.instrument.kind
        if kind not in HEDGE_MODE_KINDS:
            return f"{book.instrument.symbol} is of kind {kind!r}, which has one position; leave position_side out"
        return "position_side needs a broker with position_mode='hedge'"
    return None


def put_on_ticks(instrument: Instrument, keywords: dict[str, Any], *, buys: bool) -> str | None:
    """Round the prices among `keywords` to the tick: limits never to a worse price, triggers to the nearest.

    Return why an order cannot be entered at one of them, or None.
    """
    if not instrument.tick:
        return None
    passive = "down" if buys else "up"
    is_limit = keywords.get("exectype") == Order.Limit
    for name, rounding in (("price", passive if is_limit else "nearest"), ("plimit", passive)):
        if keywords.get(name) is not None:
            rounded = instrument.round_price(keywords[name], rounding)
            if not rounded:
                return f"{name} {keywords[name]:g} is less than a tick of {instrument.symbol} ({instrument.tick:g})"
            keywords[name] = rounded
    return None
