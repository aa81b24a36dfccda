# SPDX-License-Identifier: GPL-3.0-or-later
"""Borrowing: interest accrual, interest rates, and the margin of debts.

Source: docs/sources.md#interest.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec

from crossmargin_bt.engine.terms.rates import MaintenanceRule, MarginalRates, flat_rate
from crossmargin_bt.errors import RuleError
from crossmargin_bt.time_units import HOURS_PER_YEAR, MS_PER_HOUR


class InterestClock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Interest accrual schedule, in periods of `hours` hours.

    `count`: with "clock", one period is charged when the loan is made and one at every boundary of the UTC clock (each
    full hour for `hours` = 1); with "elapsed", every started period since the loan was made. `opening` is the number
    of additional periods charged for opening the loan.

    >>> InterestClock("clock").periods(13 * 3_600_000 + 1_200_000, 14 * 3_600_000 + 900_000)
    2
    >>> InterestClock("elapsed").periods(0, 600_000), InterestClock("elapsed", hours=4, opening=1).periods(0, 5 * 3_600_000)
    (1, 3)
    """

    count: Literal["clock", "elapsed"] = "clock"
    hours: int = 1
    opening: int = 0

    def __post_init__(self) -> None:
        if self.hours < 1 or self.opening < 0:
            raise RuleError("an interest clock needs hours of at least 1 and opening periods that are not negative")

    def periods(self, since_ms: float, until_ms: float) -> int:
        """Return the number of periods charged on a loan made at `since_ms` and outstanding at `until_ms`."""
        step = self.hours * MS_PER_HOUR
        if self.count == "clock":
            return self.opening + 1 + math.floor(until_ms / step) - math.floor(since_ms / step)
        return self.opening + max(1, math.ceil((until_ms - since_ms) / step))


class Loan(NamedTuple):
    """Interest state of a debt: when it was made, the periods charged so far, and its peak in the current period."""

    since_ms: int
    periods: int
    peak: float


def loan_key(currency: str, symbol: str, side: str) -> str:
    """Return the key of a loan: its currency, or "symbol:side:currency" for the loan of a margin pair."""
    return f"{symbol}:{side}:{currency}" if symbol else currency


class DebtTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The initial and maintenance rates of each unit of a debt's value above `value_min` (inclusive)."""

    value_min: float
    initial: float
    maintenance: float


class DebtTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Margin rates of debts in some currencies, in marginal tiers of the debt's value.

    >>> terms = DebtTerms(("ETH",), (DebtTier(0.0, 0.1112, 0.05), DebtTier(30_000.0, 0.1429, 0.07)))
    >>> round(terms.initial(39_000.0), 2), round(terms.maintenance(39_000.0), 2)
    (4622.1, 2130.0)
    """

    currencies: tuple[str, ...]
    tiers: tuple[DebtTier, ...]

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].value_min != 0:
            raise RuleError("the first tier of debts must start at value_min = 0")

    @cached_property
    def _marginal_rates(self) -> tuple[MarginalRates, MarginalRates]:
        bounds = [tier.value_min for tier in self.tiers]
        return (
            MarginalRates.from_bounds(bounds, [tier.initial for tier in self.tiers]),
            MarginalRates.from_bounds(bounds, [tier.maintenance for tier in self.tiers]),
        )

    def initial(self, value: float) -> float:
        """Return the initial margin of a debt of `value`."""
        return self._marginal_rates[0].total(value)

    def maintenance(self, value: float) -> float:
        """Return the maintenance margin of a debt of `value`."""
        return self._marginal_rates[1].total(value)


class Borrowing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Borrowing terms of a venue, for debts in a multi-currency pool and for margin pairs.

    `initial` is the initial margin rate of a debt (1 / borrowing leverage) and `maintenance` its maintenance rule, both applied to
    the value of the debt. `yearly` are annual interest rates by currency, as fractions; `otherwise` is the rate of every other
    currency. `repay_level` is the margin level at which debts are repaid automatically out of the other currencies.

    Raises:
        RuleError: a rate is negative, or `initial` is not above 0 and at most 1.
    """

    initial: float
    maintenance: MaintenanceRule
    otherwise: float
    yearly: dict[str, float] = {}
    clock: InterestClock = InterestClock()
    repay_level: float = 1.0
    debts: tuple[DebtTerms, ...] = ()
    """Currencies with tiered debt margins; they override `initial` and `maintenance`."""

    def __post_init__(self) -> None:
        if not 0 < self.initial <= 1:
            raise RuleError(f"the initial rate of a debt must lie in (0, 1], got {self.initial!r}")
        if self.otherwise < 0 or any(rate < 0 for rate in self.yearly.values()):
            raise RuleError("interest rates must not be negative (0.1 is 10 % a year)")

    def margins(self, currency: str, debt: float, potential_debt: float, price: float) -> tuple[float, float]:
        """Return the initial margin of the potential debt and the maintenance margin of the current debt.

        Debts are amounts of `currency`; the potential debt includes the borrowing of resting orders. `price` and the
        margins are in the pool's currency.
        """
        own = next((terms for terms in self.debts if currency in terms.currencies), None)
        if own is not None:
            return own.initial(potential_debt * price), own.maintenance(debt * price)
        return potential_debt * price * self.initial, self.maintenance.margin(debt * price, debt)

    def rate_per_period(self, currency: str, overrides: Mapping[str, float]) -> float:
        """Return the interest rate of one period: from the annual `overrides` by currency, else the venue's rates."""
        yearly = overrides.get(currency, self.yearly.get(currency, self.otherwise))
        return yearly * self.clock.hours / HOURS_PER_YEAR


INTEREST_FREE = Borrowing(initial=1.0, maintenance=flat_rate(0.05), otherwise=0.0)
"""Borrowing without interest: the terms of margin pairs at a venue that defines none."""
