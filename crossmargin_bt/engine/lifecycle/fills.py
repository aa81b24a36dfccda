# SPDX-License-Identifier: GPL-3.0-or-later
"""Journal entries for fills, funding and debt. They are made here and applied by the account."""

import math
from collections.abc import Iterator

from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math import formulas


def order_fill(
    account: Account, time_ms: int, symbol: str, side: str, *, number: int, lots: int, price: float, maker: bool
) -> events.Filled:
    """Return the entry of a fill of signed `lots` at `price`; `maker` chooses the fee."""
    book = account.books[symbol]
    fee = book.fee(lots, price, maker=maker)
    return fill_entry(book, time_ms, side, number=number, lots=lots, price=price, fee=fee)


def fill_entry(
    book: Book,
    time_ms: int,
    side: str,
    *,
    number: int = 0,
    lots: int,
    price: float,
    fee: float,
    cause: events.Cause = "",
) -> events.Filled:
    """Return the entry of a fill with its fee given: of an order's, or with a `cause` of the venue's own."""
    held = book.leg(side)
    effect = position.apply_fill(held, lots, price, instrument=book.instrument)
    mode = MODES[book.margin_mode]
    moved = mode.opening_margin(book, effect, price) if effect.opened else 0.0
    units = book.instrument.units_per_lot
    return events.Filled(
        time_ms=time_ms,
        number=number,
        symbol=book.instrument.symbol,
        side=side,
        lots=lots,
        price=price,
        fee=fee,
        realised=effect.realised,
        margin=moved - released_margin(held, effect.closed),
        forced=cause != "",
        paid=units * (effect.opened * price + effect.closed * held.entry) if book.is_fully_funded else 0.0,
        received=units * lots if book.margin_mode == "spot" else 0.0,
        cause=cause,
    )


def released_margin(held: position.Position, closed: int) -> float:
    """Return the isolated margin that closing `closed` lots (signed like the fill) sets free, in proportion."""
    if not closed:
        return 0.0
    return held.margin if closed == -held.lots else held.margin * abs(closed) / abs(held.lots)


def isolated_shortfall(book: Book, entry: events.Filled) -> float:
    """Return by how much an isolated leg's loss in a fill exceeds the margin set free; the shared balance owes none."""
    if not MODES[book.margin_mode].ISOLATED:
        return 0.0
    held = book.leg(entry.side)
    closed, _ = position.split_fill(held.lots, entry.lots)
    return max(0.0, -(released_margin(held, closed) + entry.realised))


def shared_shortfall(account: Account, currency: str) -> float:
    """Return by how much the shared balance is below zero once no cross position is left to earn it back."""
    pooled = any(book.legs and MODES[book.margin_mode].POOLED for book in account.books_of(currency))
    return 0.0 if pooled else max(0.0, -account.balance(currency))


def loss_coverage(account: Account, currency: str, short: float) -> tuple[float, float]:
    """Return how much of what is `short` in a currency is paid for the account, and the insurance fund's part of that."""
    fund = max(0.0, account.insurance_fund)
    by_fund = short if math.isinf(fund) else min(short, fund / (account.price(currency) or 1.0))
    return (short if account.protected else by_fund), by_fund


def cover_debt(account: Account, time_ms: int, pool: str, currency: str, short: float) -> Iterator[events.DebtCovered]:
    """Yield the entry by which `short` is paid for the account: by the insurance fund as far as it reaches, then by the venue.

    Nothing where nothing is short, or where the fund is empty and the account is not protected: then the debt stays.
    """
    amount, by_fund = loss_coverage(account, currency, short)
    if amount > 0:
        paid = by_fund * account.price(currency)
        yield events.DebtCovered(
            time_ms=time_ms, pool=pool, currency=currency, amount=amount, by_fund=by_fund, fund_paid=paid
        )


def funding_due(account: Account, time_ms: int, symbol: str, mark: float, rate: float) -> list[events.FundingPaid]:
    """Return the entries of one funding settlement at `mark`, one a leg; `rate` is a fraction of the value."""
    book = account.books[symbol]
    return [
        events.FundingPaid(
            time_ms=time_ms,
            symbol=symbol,
            side=side,
            lots=leg.lots,
            mark=mark,
            rate=rate,
            amount=formulas.funding(math.copysign(book.instrument.value(leg.lots, mark), leg.lots), rate),
            isolated=MODES[book.margin_mode].ISOLATED,
        )
        for side, leg in book.legs.items()
    ]
