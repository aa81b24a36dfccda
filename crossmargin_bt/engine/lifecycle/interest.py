# SPDX-License-Identifier: GPL-3.0-or-later
"""Interest accrual on the debts of an account: negative currency balances and the loans of margin pairs.

A new debt is charged its first period at once, and each further period by the venue's clock (`InterestClock`). An increase of
the debt within a period is charged a first period too.

Assumption: an amount repaid and borrowed again within one period is charged once. If several periods pass between two
evaluations, all of them are charged on the debt at the second evaluation.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.margin import currencies
from crossmargin_bt.engine.margin.modes import margin_pair
from crossmargin_bt.engine.math.tolerances import DEBT_GROWTH_MIN
from crossmargin_bt.engine.terms.borrowing import INTEREST_FREE, Loan, loan_key


class Debt(NamedTuple):
    """An amount borrowed in a currency: by a balance, or, if `symbol` is set, by a leg of a margin pair."""

    currency: str
    amount: float
    symbol: str = ""
    side: str = ""

    @property
    def loan_key(self) -> str:
        """The key of its loan in `Account.loans`."""
        return loan_key(self.currency, self.symbol, self.side)


def debts(account: Account) -> list[Debt]:
    """Return all current debts of an account."""
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


def due(
    account: Account, time_ms: int, outstanding: Sequence[Debt]
) -> Iterator[events.InterestCharged | events.DebtRepaid]:
    """Yield the interest due on all outstanding debts at a time, and the end of loans that were repaid.

    Lazy: apply each entry to the account before requesting the next.
    """
    terms = account.rules.borrowing or INTEREST_FREE
    names = {debt.loan_key for debt in outstanding}
    for name in [name for name in account.loans if name not in names]:
        yield events.DebtRepaid(time_ms=time_ms, name=name)
    for debt in outstanding:
        made = account.loans.get(debt.loan_key, Loan(time_ms, 0, 0.0))
        periods = terms.clock.periods(made.since_ms, time_ms)
        new = periods - made.periods
        charged = debt.amount * new if new else 0.0
        if not new and debt.amount > made.peak * (1 + DEBT_GROWTH_MIN):
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
