# SPDX-License-Identifier: GPL-3.0-or-later
"""The margin account: the engine's only state.

`apply` is the one door through which balances, positions and orders change, and it takes a journal
entry; folding a journal over an empty account gives the same account again. `mark` moves prices,
which no journal needs. Everything else in the engine reads.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from crossmargin_bt.engine import events, position
from crossmargin_bt.engine.book import SIDES, Book
from crossmargin_bt.engine.instrument import Instrument
from crossmargin_bt.engine.orders import OpenOrder
from crossmargin_bt.engine.rates import MaintenanceRule
from crossmargin_bt.engine.rules import ContractTerms, Rules


class Account:
    """Balances by settle currency and a book per instrument, under one venue's rules."""

    def __init__(
        self, rules: Rules, *, position_mode: str = "one_way", insurance_fund: float = math.inf, protected: bool = True
    ) -> None:
        self.rules = rules
        self.hedged = SIDES[position_mode] != ("net",)
        self.balances: dict[str, float] = {}
        self.books: dict[str, Book] = {}
        self.version = 0
        """Counts what was applied: the same version is the same balances, positions and orders."""
        self._symbols: dict[str, list[str]] = {}
        self.fees = 0.0
        self.funding = 0.0
        self.bad_debt = 0.0
        self.insurance_fund = insurance_fund
        """What is left in the insurance fund."""
        self.protected = protected
        """Whether a balance below zero is made up for even when the fund is empty."""

    def list_instrument(self, instrument: Instrument) -> Book:
        """Open the book of an instrument; it trades in cross mode at 1x until a SettingChanged says otherwise.

        Where the venue has terms for the contract, the oldest hold until a MaintenanceChanged says otherwise.
        """
        rules = self.rules
        terms = rules.terms(instrument.symbol)
        book = Book(
            instrument=instrument,
            margin_mode="cross",
            leverage=1.0,
            rules=rules,
            rates=self._rates(instrument, terms),
            maker=rules.maker if instrument.maker is None else instrument.maker,
            taker=rules.taker if instrument.taker is None else instrument.taker,
            hedged=self.hedged,
        )
        self.books[instrument.symbol] = book
        self._symbols.setdefault(instrument.settle, []).append(instrument.symbol)
        self.balances.setdefault(instrument.settle, 0.0)
        return book

    def _rates(self, instrument: Instrument, terms: Sequence[ContractTerms]) -> dict[str, MaintenanceRule]:
        if instrument.maintenance is None and terms:
            return terms[0].rates
        return dict.fromkeys(("cross", "isolated"), instrument.maintenance or self.rules.maintenance)

    def books_of(self, currency: str) -> list[Book]:
        """Return the books that settle in a currency, in the order they were listed."""
        return [self.books[symbol] for symbol in self._symbols.get(currency, ())]

    def mark(self, symbol: str, price: float) -> None:
        """Value the instrument's legs at `price`."""
        self.books[symbol].mark(price)

    def prices(self) -> events.Prices:
        """Return the prices the account is valued at, of every instrument that has one."""
        return {s: (b.long_mark, b.short_mark, b.last) for s, b in self.books.items() if b.long_mark}

    def set_prices(self, prices: events.Prices) -> None:
        """Value the account at prices that an entry of the journal names."""
        for symbol, book in self.books.items():
            book.long_mark, book.short_mark, book.last = prices.get(symbol, (0.0, 0.0, 0.0))

    def copy(self, *symbols: str) -> "Account":
        """Return an account whose balances and books of `symbols` can change without touching this one."""
        other = Account(self.rules)
        other.__dict__.update(self.__dict__)
        other.balances = dict(self.balances)
        other.books = {**self.books, **{symbol: self.books[symbol].copy() for symbol in symbols}}
        return other

    def apply(self, event: events.JournalEntry) -> None:
        """Take one journal entry into the account."""
        self.version += 1
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)


def replay(
    journal: Iterable[events.JournalEntry],
    rules: Rules,
    instruments: Mapping[str, Instrument],
    *,
    position_mode: str = "one_way",
    insurance_fund: float = math.inf,
    protected: bool = True,
) -> Account:
    """Return the account that a journal leads to, from nothing but the journal and the instruments."""
    account = Account(rules, position_mode=position_mode, insurance_fund=insurance_fund, protected=protected)
    for instrument in instruments.values():
        account.list_instrument(instrument)
    for event in journal:
        account.apply(event)
    return account


def _deposited(account: Account, event: events.Deposited) -> None:
    account.balances[event.currency] = account.balances.get(event.currency, 0.0) + event.amount


def _setting_changed(account: Account, event: events.SettingChanged) -> None:
    book = account.books[event.symbol]
    book.margin_mode = "isolated" if event.margin_mode == "isolated" else "cross"
    book.leverage = event.leverage


def _order_placed(account: Account, event: events.OrderPlaced) -> None:
    account.books[event.symbol].orders[event.number] = OpenOrder(
        event.number,
        event.side,
        event.lots,
        event.price,
        event.reduce_only,
        event.group,
        event.immediate,
        event.covered,
    )


def _order_removed(account: Account, event: events.OrderRemoved) -> None:
    account.books[event.symbol].orders.pop(event.number, None)


def _filled(account: Account, event: events.Filled) -> None:
    book = account.books[event.symbol]
    effect = position.fill(
        book.leg(event.side),
        event.lots,
        event.price,
        instrument=book.instrument,
        margin=event.margin,
    )
    if effect.position.lots:
        book.legs[event.side] = effect.position
    else:
        book.legs.pop(event.side, None)
    book.realised[event.side] = book.realised.get(event.side, 0.0) + event.realised
    book.last = event.price
    account.balances[book.instrument.settle] += event.realised - event.fee - event.margin
    account.fees += event.fee
    _shrink_order(book, event)


def _shrink_order(book: Book, event: events.Filled) -> None:
    order = book.orders.get(event.number)
    if order is None:
        return
    left = order.lots - event.lots
    if left:
        book.orders[order.number] = msgspec.structs.replace(order, lots=left, covered=min(order.covered, abs(left)))
    else:
        del book.orders[order.number]


def _funding_paid(account: Account, event: events.FundingPaid) -> None:
    book = account.books[event.symbol]
    account.funding += event.amount
    if event.isolated:
        leg = book.legs[event.side]
        book.legs[event.side] = position.Position(leg.lots, leg.entry, leg.margin + event.amount)
    else:
        account.balances[book.instrument.settle] += event.amount


def _margin_moved(account: Account, event: events.MarginMoved) -> None:
    book = account.books[event.symbol]
    leg = book.legs[event.side]
    book.legs[event.side] = position.Position(leg.lots, leg.entry, leg.margin + event.amount)
    account.balances[book.instrument.settle] -= event.amount


def _maintenance_changed(account: Account, event: events.MaintenanceChanged) -> None:
    account.books[event.symbol].rates = {"cross": event.maintenance, "isolated": event.isolated}


def _rates_scaled(account: Account, event: events.RatesScaled) -> None:
    account.books[event.symbol].scale = event.factor


def _debt_covered(account: Account, event: events.DebtCovered) -> None:
    account.balances[event.currency] += event.amount
    account.bad_debt += event.amount
    account.insurance_fund -= event.by_fund


def _taken_over(account: Account, event: events.TakenOver) -> None:
    account.bad_debt += event.amount
    account.insurance_fund -= event.by_fund


def _replenished(account: Account, event: events.Replenished) -> None:
    symbol, _, side = event.pool.rpartition(":")
    if symbol not in account.books:
        account.balances[event.currency] += event.amount
        return
    legs = account.books[symbol].legs
    legs[side] = position.Position(legs[side].lots, legs[side].entry, legs[side].margin + event.amount)


_HANDLERS: dict[type, Callable[[Account, Any], None]] = {
    events.Deposited: _deposited,
    events.SettingChanged: _setting_changed,
    events.OrderPlaced: _order_placed,
    events.OrderRemoved: _order_removed,
    events.Filled: _filled,
    events.FundingPaid: _funding_paid,
    events.MarginMoved: _margin_moved,
    events.MaintenanceChanged: _maintenance_changed,
    events.RatesScaled: _rates_scaled,
    events.DebtCovered: _debt_covered,
    events.TakenOver: _taken_over,
    events.Replenished: _replenished,
}
