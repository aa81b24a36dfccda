# SPDX-License-Identifier: GPL-3.0-or-later
"""The margin account: the engine's only state, and how each journal entry changes it.

`apply` is the only writer of balances, positions, orders and settings, and it takes a journal entry: folding a journal over
an empty account gives the same account again. `set_mark` moves prices, which no journal needs. Everything else in the
engine reads.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.book import SIDES, Book, mode_of
from crossmargin_bt.engine.ledger.open_orders import OpenOrders
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.position import LegId, Position
from crossmargin_bt.engine.ledger.valuation import Valuation
from crossmargin_bt.engine.terms.borrowing import Loan, loan_key
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS, Instrument
from crossmargin_bt.engine.terms.liquidation_steps import LiquidationStep
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.engine.terms.rules import ContractTerms, Rules

Pooling = Literal["single_currency", "multi_currency"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class Account:
    """Balances by currency and a book per instrument, under one venue's rules.

    With `pooling` "single_currency" every settle currency is a pool of its own; with "multi_currency" all of them are
    one, valued in `unit` and named by it; with `portfolio` as well, and positions are margined by the venue's scenarios.
    `prices` are prices in `unit` of currencies that no instrument prices, `interest_rates` yearly rates by currency in
    place of the venue's. `position_mode` is "one_way" or "hedge", with a long and a short leg apart. The venue's
    `insurance_fund` (in `unit`; None or infinity for an unlimited one) covers a deficit left by a liquidation; once it is
    used up the deficit is a debt, unless the account is `protected`.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        position_mode: str = "one_way",
        insurance_fund: float | None = math.inf,
        protected: bool = True,
        pooling: Pooling = "single_currency",
        unit: str = "USDT",
        prices: Mapping[str, float] | None = None,
        interest_rates: Mapping[str, float] | None = None,
        portfolio: bool = False,
    ) -> None:
        self._position_mode = position_mode
        self.hedged = SIDES[position_mode] != ("net",)
        self.balances: dict[str, float] = {}
        self.books: dict[str, Book] = {}
        assert not portfolio or rules.portfolio is not None, "the venue has no portfolio margin"
        self.pooled = pooling == "multi_currency" or portfolio
        self.portfolio = portfolio
        """Whether positions are margined by the scenarios of their risk unit, see `Rules.portfolio`."""
        self.now_ms = 0.0
        """The present time, by which options lose time value."""
        self.valuation = Valuation(unit, prices or {})
        self.version = 0
        """Counts the entries applied: the same version means the same balances, positions and orders."""
        self.set_aside: dict[str, float] = {}
        """By currency, the amount that the trader set aside: it counts as in use."""
        self.has_options = False
        """Whether options can be traded."""
        self.set_rules(rules)
        self.has_coins = False
        """Whether coins can be traded."""
        self.has_loans = False
        """Whether margin pairs can be traded."""
        self.is_plain = not self.pooled
        """Whether every currency is a pool of its own, and neither coins nor options are traded."""
        self.loans: dict[str, Loan] = {}
        """By currency, or symbol:side:currency for a margin pair, the debts on which interest has been charged."""
        self.interest_rates: dict[str, float] = dict(interest_rates or {})
        """Yearly interest rates by currency in place of the venue's."""
        self._symbols: dict[str, list[str]] = {}
        self.sums: dict[tuple[str, str], float] = {}
        """By kind and currency, the fees paid, funding received and bad debt so far."""
        self._fund_at_start = math.inf if insurance_fund is None else insurance_fund
        self.insurance_fund = self._fund_at_start
        """What is left in the insurance fund, in the account's unit."""
        self.protected = protected
        """Whether a balance below zero is made up for even when the fund is empty."""

    @property
    def setup(self) -> dict[str, Any]:
        """What an account has to be made with to replay this one's journal, beside rules and instruments."""
        return {
            "position_mode": self._position_mode,
            "pooling": "multi_currency" if self.pooled else "single_currency",
            "unit": self.valuation.unit,
            "prices": self.valuation.fixed,
            "interest_rates": self.interest_rates,
            "portfolio": self.portfolio,
            # Files have no infinity: None is a fund without an end.
            "insurance_fund": None if math.isinf(self._fund_at_start) else self._fund_at_start,
            "protected": self.protected,
        }

    def list_instrument(self, instrument: Instrument) -> Book:
        """Open the book of an instrument; it trades in cross mode at 1x until a SettingChanged says otherwise.

        Where the venue has terms for the contract, the oldest hold until a MaintenanceChanged says otherwise.
        """
        rules = self.rules
        terms = rules.terms(instrument.symbol)
        book = Book(
            instrument=instrument,
            margin_mode=mode_of(instrument, "cross"),
            leverage=1.0,
            rules=rules,
            rates=self._rates(instrument, terms),
            maker=rules.maker if instrument.maker is None else instrument.maker,
            taker=rules.taker if instrument.taker is None else instrument.taker,
            hedged=self.hedged and instrument.kind in HEDGE_MODE_KINDS,
            orders=OpenOrders(instrument),
            is_fully_funded=instrument.kind in ("spot", "option"),
        )
        self.books[instrument.symbol] = book
        self._symbols.setdefault(self.pool_of(instrument.settle), []).append(instrument.symbol)
        self.balances.setdefault(instrument.settle, 0.0)
        if instrument.kind == "spot":
            self.balances.setdefault(instrument.base_currency, 0.0)
            self.has_coins = True
        if instrument.kind == "option":
            self.has_options = True
            self.set_rules(self.rules)
        self.has_loans |= instrument.kind == "margin"
        self.is_plain = not (self.pooled or self.has_coins or self.has_options)
        self.valuation.list(book)
        return book

    def set_rules(self, rules: Rules) -> None:
        """Put rules in force for the account as a whole; `set_book_rules` puts them in force for a book."""
        self.rules = rules
        terms = rules.portfolio if self.portfolio else None
        steps, level = (None, None) if terms is None else (terms.liquidation, terms.safe_level)
        self.liquidation: tuple[LiquidationStep, ...] = rules.liquidation if steps is None else steps
        """The steps of a partial liquidation: the venue's, or those of its portfolio margin."""
        self.safe_level: float = rules.safe_level if level is None else level
        """The margin level above which a partial liquidation stops: the venue's, or that of its portfolio margin."""
        by_terms = self.has_options and any(one.value_counts for one in rules.options)
        self.options_count = self.portfolio or by_terms
        """Whether what options are worth is part of the collateral: in a portfolio, and where a venue's margins leave it out."""

    def set_book_rules(self, book: Book, rules: Rules) -> None:
        """Put rules in force for a book: its fees, and the default rates where it has none of its own."""
        before, book.rules = book.rules, rules
        instrument = book.instrument
        book.maker = rules.maker if instrument.maker is None else instrument.maker
        book.taker = rules.taker if instrument.taker is None else instrument.taker
        if rules.maintenance != before.maintenance and not rules.terms(instrument.symbol):
            book.rates = self._rates(instrument, ())

    def pool_of(self, currency: str) -> str:
        """Return the name of the shared pool that a currency belongs to."""
        return self.valuation.unit if self.pooled else currency

    def conversion_rate(self, currency: str, *, owed: bool = False) -> float:
        """Return what a unit of a currency, held or `owed`, is in its pool's."""
        return self.valuation.price(self.books, currency, owed=owed) if self.pooled else 1.0

    def price(self, currency: str) -> float:
        """Return what a currency is worth in the account's unit; an account of one currency is counted in that.

        Raises:
            FeedError: nothing prices it.
        """
        alone = len(self.balances) == 1 and currency in self.balances
        return 1.0 if alone else self.valuation.price(self.books, currency)

    def add(self, kind: str, currency: str, amount: float) -> None:
        """Count an amount among the sums of a kind."""
        self.sums[kind, currency] = self.sums.get((kind, currency), 0.0) + amount

    def total(self, kind: str) -> float:
        """Return the sum of a kind in the account's unit, at the present prices."""
        return sum(amount * self.price(currency) for (one, currency), amount in self.sums.items() if one == kind)

    @property
    def fees(self) -> float:
        """Fees paid so far, in the account's unit."""
        return self.total("fees")

    @property
    def funding(self) -> float:
        """Funding received so far (paid, when negative), in the account's unit."""
        return self.total("funding")

    @property
    def interest(self) -> float:
        """Interest charged so far, in the account's unit."""
        return self.total("interest")

    @property
    def bad_debt(self) -> float:
        """The bad debt of the account so far, paid by the insurance fund and the venue, in its unit."""
        return self.total("bad_debt")

    def balance(self, pool: str) -> float:
        """Return the balances of a shared pool at their full worth, in its currency."""
        if not self.pooled:
            return self.balances.get(pool, 0.0)
        return sum(self.conversion_rate(currency) * amount for currency, amount in self.balances.items() if amount)

    def _rates(self, instrument: Instrument, terms: Sequence[ContractTerms]) -> dict[str, MaintenanceRule]:
        if instrument.maintenance is None and terms:
            return terms[0].rates
        return dict.fromkeys(("cross", "isolated"), instrument.maintenance or self.rules.maintenance)

    def books_of(self, currency: str) -> list[Book]:
        """Return the books of a shared pool, in the order they were listed."""
        return [self.books[symbol] for symbol in self._symbols.get(currency, ())]

    def busy_books(self, currency: str) -> list[Book]:
        """Return the books of a shared pool with a position or an order, in the order they were listed."""
        found = []
        for symbol in self._symbols.get(currency, ()):  # a loop, since the hot path evaluates risk by it
            book = self.books[symbol]
            if book.legs or book.orders:
                found.append(book)
        return found

    def set_mark(self, symbol: str, price: float) -> None:
        """Value the instrument's legs at `price`."""
        self.books[symbol].set_mark(price)

    def update_option_indices(self) -> None:
        """Take the marks of underlyings over as the index prices of their options; those that none prices keep theirs.

        On the adverse path a call meets the higher mark and a put the lower.
        """
        for book in self.books.values():
            if book.margin_mode != "option":
                continue
            symbol = self.valuation.index_symbol(book.instrument.underlying, book.instrument.quote_currency)
            if symbol is not None:
                underlying = self.books[symbol]
                book.index = underlying.short_mark if book.instrument.is_call else underlying.long_mark

    def prices(self) -> events.Prices:
        """Return the prices the account is valued at, of every instrument that has one."""
        return {symbol: book.prices() for symbol, book in self.books.items() if book.long_mark}

    def set_prices(self, prices: events.Prices) -> None:
        """Value the account at prices that an entry of the journal names."""
        for symbol, book in self.books.items():
            book.set_prices(prices.get(symbol, ()))

    def copy(self, *symbols: str) -> "Account":
        """Return an account whose balances and books of `symbols` can change without touching this one."""
        other = object.__new__(Account)
        other.__dict__.update(self.__dict__)
        other.balances = dict(self.balances)
        other.set_aside, other.loans = dict(self.set_aside), dict(self.loans)
        other.sums = dict(self.sums)
        other.books = {**self.books, **{symbol: self.books[symbol].copy() for symbol in symbols}}
        return other

    def apply(self, event: events.JournalEntry) -> None:
        """Change the account by one journal entry."""
        self.version += 1
        post = POSTINGS.get(type(event))
        if post is not None:
            post(self, event)


def replay(
    journal: Iterable[events.JournalEntry], rules: Rules, instruments: Mapping[str, Instrument], **setup: Any
) -> Account:
    """Return the account that a journal leads to, from nothing but the journal and the instruments.

    `setup` are the keywords the account was made with (`Account.setup`).
    """
    account = Account(rules, **setup)
    for instrument in instruments.values():
        account.list_instrument(instrument)
    for event in journal:
        account.apply(event)
    return account


# How each journal entry changes an account; entries without a function here change nothing.


def _cash_transferred(account: Account, event: events.CashTransferred) -> None:
    account.balances[event.currency] = account.balances.get(event.currency, 0.0) + event.amount


def _setting_changed(account: Account, event: events.SettingChanged) -> None:
    book = account.books[event.symbol]
    book.margin_mode = mode_of(book.instrument, "isolated" if event.margin_mode == "isolated" else "cross")
    book.leverage = event.leverage


def _position_mode_changed(account: Account, event: events.PositionModeChanged) -> None:
    account.hedged = event.position_mode == "hedge"
    for book in account.books.values():
        book.hedged = account.hedged and book.instrument.kind in HEDGE_MODE_KINDS


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
    held = book.leg(event.side)
    effect = position.apply_fill(
        held,
        event.lots,
        event.price,
        instrument=book.instrument,
        margin=event.margin,
    )
    if effect.position.lots:
        book.legs[event.side] = effect.position
    else:
        book.legs.pop(event.side, None)
    turned = held.lots * effect.position.lots < 0 and len(book.legs) == 1
    if book.keeps_rules and (turned or not book.legs):
        book.keeps_rules = False
        account.set_book_rules(book, account.rules)
    book.realised[event.side] = book.realised.get(event.side, 0.0) + event.realised
    book.last = event.price
    account.balances[book.instrument.settle] += event.realised - event.fee - event.margin - event.paid
    if event.received:
        account.balances[book.instrument.base_currency] += event.received
    account.add("fees", book.instrument.settle, event.fee)
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
    account.add("funding", book.instrument.settle, event.amount)
    if event.isolated:
        book.legs[event.side] = position.with_margin(book.legs[event.side], event.amount)
    else:
        account.balances[book.instrument.settle] += event.amount


def _isolated_margin_adjusted(account: Account, event: events.IsolatedMarginAdjusted) -> None:
    book = account.books[event.symbol]
    book.legs[event.side] = position.with_margin(book.legs[event.side], event.amount)
    account.balances[book.instrument.settle] -= event.amount


def _maintenance_changed(account: Account, event: events.MaintenanceChanged) -> None:
    account.books[event.symbol].rates = {"cross": event.maintenance, "isolated": event.isolated}


def _rules_changed(account: Account, event: events.RulesChanged) -> None:
    account.set_rules(account.rules.changed(event.changed))
    for book in account.books.values():
        if event.opened_since and book.legs:
            book.keeps_rules = True
        else:
            # A book that keeps older rules takes this change alone.
            account.set_book_rules(book, book.rules.changed(event.changed) if book.keeps_rules else account.rules)


def _rates_scaled(account: Account, event: events.RatesScaled) -> None:
    account.books[event.symbol].scale = event.factor


def _debt_covered(account: Account, event: events.DebtCovered) -> None:
    account.balances[event.currency] += event.amount
    _count_bad_debt(account, event)


def _count_bad_debt(account: Account, event: events.DebtCovered | events.InsuranceFundTakeover) -> None:
    account.add("bad_debt", event.currency, event.amount)
    account.insurance_fund -= event.fund_paid


def _insurance_takeover(account: Account, event: events.InsuranceFundTakeover) -> None:
    _count_bad_debt(account, event)


def _topped_up(account: Account, event: events.CollateralToppedUp) -> None:
    leg = LegId.parse(event.pool)
    if leg.symbol not in account.books:
        account.balances[event.currency] += event.amount
        return
    legs = account.books[leg.symbol].legs
    legs[leg.side] = position.with_margin(legs[leg.side], event.amount)


def _restored(account: Account, event: events.AccountRestored) -> None:
    account.balances[event.currency] = event.balance
    for kind, amount in event.sums.items():
        account.sums[kind, event.currency] = amount
    for name, (lots, entry, margin) in event.legs.items():
        leg = LegId.parse(name)
        account.books[leg.symbol].legs[leg.side] = Position(lots, entry, margin)


def _converted(account: Account, event: events.Converted) -> None:
    account.balances[event.currency] -= event.amount
    account.balances[event.into] += event.received


def _set_aside(account: Account, event: events.SetAside) -> None:
    account.set_aside[event.currency] = account.set_aside.get(event.currency, 0.0) + event.amount


def _expired(account: Account, event: events.Expired) -> None:
    account.valuation.drop(event.symbol)


def _debt_repaid(account: Account, event: events.DebtRepaid) -> None:
    account.loans.pop(event.name, None)


def _interest_charged(account: Account, event: events.InterestCharged) -> None:
    account.add("interest", event.currency, event.amount)
    name = loan_key(event.currency, event.symbol, event.side)
    before = account.loans.get(name)
    peak = event.owed + (0.0 if event.symbol else event.amount)
    if before is not None and before.periods == event.periods:
        peak = max(peak, before.peak)
    account.loans[name] = Loan(event.since_ms, event.periods, peak)
    if event.symbol:
        book = account.books[event.symbol]
        book.legs[event.side] = msgspec.structs.replace(
            book.legs[event.side], interest=book.legs[event.side].interest + event.amount
        )
        return
    account.balances[event.currency] -= event.amount


POSTINGS: dict[type, Callable[[Account, Any], None]] = {
    events.CashTransferred: _cash_transferred,
    events.SettingChanged: _setting_changed,
    events.PositionModeChanged: _position_mode_changed,
    events.OrderPlaced: _order_placed,
    events.OrderRemoved: _order_removed,
    events.Filled: _filled,
    events.FundingPaid: _funding_paid,
    events.IsolatedMarginAdjusted: _isolated_margin_adjusted,
    events.MaintenanceChanged: _maintenance_changed,
    events.RulesChanged: _rules_changed,
    events.RatesScaled: _rates_scaled,
    events.DebtCovered: _debt_covered,
    events.InsuranceFundTakeover: _insurance_takeover,
    events.CollateralToppedUp: _topped_up,
    events.AccountRestored: _restored,
    events.Converted: _converted,
    events.SetAside: _set_aside,
    events.InterestCharged: _interest_charged,
    events.DebtRepaid: _debt_repaid,
    events.Expired: _expired,
}
