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
from crossmargin_bt.engine.terms.borrowing import AT_NO_COST, Loan, loan_name

# A debt that grew by less than this part of itself did not grow.
ROUNDING = 1e-9


class Debt(NamedTuple):
    """What is owed in a currency: by a balance, or with a symbol by a margin pair."""

    currency: str
    owed: float
    symbol: str = ""
    side: str = ""

    @property
    def name(self) -> str:
        """The name its loan is kept under."""
        return loan_name(self.currency, self.symbol, self.side)


def debts(account: Account) -> list[Debt]:
    """Return all that is owed now."""
    found = []
    if account.pooled and currencies.is_in_debt(account):
        found = [Debt(one.currency, one.owed) for one in currencies.holdings(account) if one.owed > 0]
    for symbol, book in account.books.items():
        if book.instrument.kind == "margin":
            found.extend(
                Debt(margin_pair.currency(book, leg), margin_pair.owed(book, leg), symbol, side)
                for side, leg in book.legs.items()
            )
    return found


def due(account: Account, time_ms: int, owing: Sequence[Debt]) -> Iterator[events.InterestCharged | events.DebtRepaid]:
    """Yield what is due at a time on all that is owed; apply each before asking for the next."""
    terms = account.rules.borrowing or AT_NO_COST
    names = {debt.name for debt in owing}
    for name in [name for name in account.loans if name not in names]:
        yield events.DebtRepaid(time_ms=time_ms, name=name)
    for debt in owing:
        made = account.loans.get(debt.name, Loan(time_ms, 0, 0.0))
        periods = terms.clock.periods(made.since_ms, time_ms)
        new = periods - made.periods
        charged = debt.owed * new if new else 0.0
        if not new and debt.owed > made.peak * (1 + ROUNDING):
            first = terms.clock.periods(time_ms, time_ms)
            charged = (debt.owed - made.peak) * first
        rate = terms.rate(debt.currency, account.interest_rates)
        if new or charged:
            yield events.InterestCharged(
                time_ms=time_ms,
                currency=debt.currency,
                owed=debt.owed,
                rate=rate,
                periods=periods,
                since_ms=made.since_ms,
                amount=charged * rate,
                symbol=debt.symbol,
                side=debt.side,
            )
