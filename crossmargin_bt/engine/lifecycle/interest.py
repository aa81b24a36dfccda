# SPDX-License-Identifier: GPL-3.0-or-later
"""Interest on what an account owes: the debts of its currencies, and the loans of its margin pairs.

A debt is charged for its first period when it is made and for each further one as the venue's clock says; what is borrowed
more within a period is charged for its first period too.

Assumption: what is paid back and borrowed again within one period is charged once; several periods that pass between two looks
are charged on the debt found at the second.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import currencies
from crossmargin_bt.engine.margin.modes import margin_pair
from crossmargin_bt.engine.terms.borrowing import INTEREST_FREE, Loan, loan_key

# A debt that grew by less than this part of itself did not grow.
RELATIVE_GROWTH_MIN = 1e-9


class Debt(NamedTuple):
    """What is owed in a currency: by a balance, or with a symbol by a margin pair."""

    currency: str
    amount: float
    symbol: str = ""
    side: str = ""

    @property
    def loan_key(self) -> str:
        """The name its loan is kept under."""
        return loan_key(self.currency, self.symbol, self.side)


def debts(account: Account) -> list[Debt]:
    """Return all that is owed now."""
    found = []
    if account.pooled and currencies.is_in_debt(account):
        found = [Debt(one.currency, one.debt) for one in currencies.holdings(account) if one.debt > 0]
    for symbol, book in account.books.items():
        if book.instrument.kind == "margin":
            found.extend(
                Debt(margin_pair.currency(book, leg), margin_pair.principal(book, leg), symbol, side)
                for side, leg in book.legs.items()
            )
    return found


def due(account: Account, time_ms: int, owing: Sequence[Debt]) -> Iterator[events.InterestCharged | events.DebtRepaid]:
    """Yield what is due at a time on all that is owed; apply each before asking for the next."""
    terms = account.rules.borrowing or INTEREST_FREE
    names = {debt.loan_key for debt in owing}
    for name in [name for name in account.loans if name not in names]:
        yield events.DebtRepaid(time_ms=time_ms, name=name)
    for debt in owing:
        made = account.loans.get(debt.loan_key, Loan(time_ms, 0, 0.0))
        periods = terms.clock.periods(made.since_ms, time_ms)
        new = periods - made.periods
        charged = debt.amount * new if new else 0.0
        if not new and debt.amount > made.peak * (1 + RELATIVE_GROWTH_MIN):
            first = terms.clock.periods(time_ms, time_ms)
            charged = (debt.amount - made.peak) * first
        rate = terms.rate_per_period(debt.currency, account.interest_rates)
        if new or charged:
            yield events.InterestCharged(
                time_ms=time_ms,
                currency=debt.currency,
                owed=debt.amount,
                rate=rate,
                periods=periods,
                since_ms=made.since_ms,
                amount=charged * rate,
                symbol=debt.symbol,
                side=debt.side,
            )
