# SPDX-License-Identifier: GPL-3.0-or-later
"""The margin account: the engine's only state.

`apply` is the one door through which balances, positions and orders change, and it takes a journal
entry; folding a journal over an empty account gives the same account again. `mark` moves prices,
which no journal needs. Everything else in the engine reads.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.book import SIDES, Book, mode_of
from crossmargin_bt.engine.ledger.open_orders import OpenOrders
from crossmargin_bt.engine.ledger.postings import POSTINGS
from crossmargin_bt.engine.ledger.valuation import Valuation
from crossmargin_bt.engine.terms.borrowing import Loan
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS, Instrument
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.engine.terms.rules import ContractTerms, Rules

Pooling = Literal["single_currency", "multi_currency"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class Account:
    """Balances by currency and a book per instrument, under one venue's rules.

    With `pooling` "single_currency" every settle currency is a pool of its own; with "multi_currency" all of them are
    one, valued in `unit` and named by it; with `portfolio` they are too, and risk units keep what scenarios ask. `prices` are prices in `unit` of currencies that no instrument prices.
    `position_mode` is "one_way" or "hedge", with a long and a short leg apart. The venue's `insurance_fund` (in `unit`; None or
    infinity for one without end) pays what a liquidation leaves below zero; where it is used up that stays owed, unless the account is `protected`.
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
        portfolio: bool = False,
    ) -> None:
        self.rules = rules
        self._position_mode = position_mode
        self.hedged = SIDES[position_mode] != ("net",)
        self.balances: dict[str, float] = {}
        self.books: dict[str, Book] = {}
        assert not portfolio or rules.portfolio is not None, "the venue has no portfolio margin"
        self.pooled = pooling == "multi_currency" or portfolio
        self.portfolio = portfolio
        """Whether positions keep what the scenarios of their risk unit ask, see `Rules.portfolio`."""
        self.now_ms = 0.0
        """The time the account is looked at, which options run out by."""
        self.valuation = Valuation(unit, prices or {})
        self.version = 0
        """Counts what was applied: the same version is the same balances, positions and orders."""
        self.risk_version = 0
        """The same without orders that come and go, where the venue counts none in its ratio."""
        self._orders_raise_risk = rules.orders_raise_risk
        self.set_aside: dict[str, float] = {}
        """By currency, what the trader set aside: it counts as in use."""
        self.has_options = False
        """Whether options can be traded."""
        self.has_coins = False
        """Whether coins can be traded."""
        self.has_loans = False
        """Whether margin pairs can be traded."""
        self.loans: dict[str, Loan] = {}
        """By currency, or symbol:side:currency for a margin pair, the debts on which interest has been charged."""
        self.interest_rates: dict[str, float] = {}
        """Yearly interest rates by currency in place of the venue's."""
        self.dearness: dict[str, tuple[Any, float | None]] = {}
        """By symbol, what `crossmargin_bt.broker.skip.order_bound` has found out about a book, and under which setting."""
        self._symbols: dict[str, list[str]] = {}
        self.sums: dict[tuple[str, str], float] = {}
        """By kind and currency, what was paid (received, for funding) and borne so far."""
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
            "portfolio": self.portfolio,
            # Files have no infinity: None is a fund without an end.
            "insurance_fund": None if math.isinf(self._fund_at_start) else self._fund_at_start,
            "protected": self.protected,
        }

    @property
    def options_count(self) -> bool:
        """Whether what options are worth is part of the collateral: in a portfolio, and where a venue's margins leave it out."""
        return self.portfolio or (self.has_options and any(terms.value_counts for terms in self.rules.options))

    @property
    def is_plain(self) -> bool:
        """Whether currencies stand apart and neither coins nor options are traded."""
        return not (self.pooled or self.has_coins or self.has_options)

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
        self.has_options |= instrument.kind == "option"
        self.has_loans |= instrument.kind == "margin"
        self.valuation.list(book)
        self.dearness.clear()
        return book

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
        """What was borne for the account so far, in its unit."""
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
        """Return those of them that hold a position or an order."""
        books = self.books
        return [book for symbol in self._symbols.get(currency, ()) if (book := books[symbol]).legs or book.orders]

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
        other = Account(self.rules)
        other.__dict__.update(self.__dict__)
        other.balances = dict(self.balances)
        other.set_aside, other.loans = dict(self.set_aside), dict(self.loans)
        other.sums = dict(self.sums)
        other.books = {**self.books, **{symbol: self.books[symbol].copy() for symbol in symbols}}
        return other

    def apply(self, event: events.JournalEntry) -> None:
        """Take one journal entry into the account."""
        self.version += 1
        kind = type(event)
        if self._orders_raise_risk or (kind is not events.OrderPlaced and kind is not events.OrderRemoved):
            self.risk_version += 1
        post = POSTINGS.get(kind)
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
