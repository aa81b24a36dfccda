# SPDX-License-Identifier: GPL-3.0-or-later
"""Borrowed money: when interest falls due, at which rate, and what a debt must be covered by.

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
    """When interest falls due.

    `count` says how periods of `hours` are counted: "clock" counts one when money is borrowed and one at every full
    period of the clock; "elapsed" counts the periods begun since the money was borrowed. `opening` are the periods
    charged besides for borrowing at all.

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
            raise RuleError("an interest clock counts whole hours, and opening periods are not negative")

    def periods(self, since_ms: float, until_ms: float) -> int:
        """Return how many periods are charged on money borrowed at `since_ms` and still owed at `until_ms`."""
        step = self.hours * MS_PER_HOUR
        if self.count == "clock":
            return self.opening + 1 + math.floor(until_ms / step) - math.floor(since_ms / step)
        return self.opening + max(1, math.ceil((until_ms - since_ms) / step))


class Loan(NamedTuple):
    """A debt on which interest has been charged: since when, for how many periods, and its peak in the present one."""

    since_ms: int
    periods: int
    peak: float


def loan_key(currency: str, symbol: str, side: str) -> str:
    """Return the name a debt is kept under: its currency, or for a margin pair the leg and what it owes."""
    return f"{symbol}:{side}:{currency}" if symbol else currency


class DebtTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a debt worth `value_min` (inclusive) on, each further unit of it counts at these rates."""

    value_min: float
    initial: float
    maintenance: float


class DebtTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What debts in some currencies must be covered by, in marginal tiers of their value.

    >>> terms = DebtTerms(("ETH",), (DebtTier(0.0, 0.1112, 0.05), DebtTier(30_000.0, 0.1429, 0.07)))
    >>> round(terms.initial(39_000.0), 2), round(terms.maintenance(39_000.0), 2)
    (4622.1, 2130.0)
    """

    currencies: tuple[str, ...]
    tiers: tuple[DebtTier, ...]

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].value_min != 0:
            raise RuleError("the tiers of debts start at value_min = 0")

    @cached_property
    def _marginal_rates(self) -> tuple[MarginalRates, MarginalRates]:
        bounds = [tier.value_min for tier in self.tiers]
        return (
            MarginalRates.from_bounds(bounds, [tier.initial for tier in self.tiers]),
            MarginalRates.from_bounds(bounds, [tier.maintenance for tier in self.tiers]),
        )

    def initial(self, value: float) -> float:
        """Return the initial margin of a debt worth `value`."""
        return self._marginal_rates[0].total(value)

    def maintenance(self, value: float) -> float:
        """Return the maintenance margin of a debt worth `value`."""
        return self._marginal_rates[1].total(value)


class Borrowing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a venue asks of debts in a pool of many currencies, and of margin pairs.

    `initial` is the initial rate of a debt (1 / the leverage at which coins are borrowed); `maintenance` its maintenance rule,
    both on the value of the debt. `yearly` are interest rates a year by currency, as fractions; `otherwise` that of currencies not
    among them. `repay_level` is the margin level at which debts are paid back out of the other currencies.

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
    """Currencies whose debts have tiers of their own."""

    def __post_init__(self) -> None:
        if not 0 < self.initial <= 1:
            raise RuleError(f"the initial rate of a debt lies above 0 and not above 1, got {self.initial!r}")
        if self.otherwise < 0 or any(rate < 0 for rate in self.yearly.values()):
            raise RuleError("interest rates are not negative (0.1 is 10 % a year)")

    def margins(self, currency: str, owed: float, potential: float, price: float) -> tuple[float, float]:
        """Return the initial margin of the debt that may come about and the maintenance margin of the one there is."""
        own = next((terms for terms in self.debts if currency in terms.currencies), None)
        if own is not None:
            return own.initial(potential * price), own.maintenance(owed * price)
        return potential * price * self.initial, self.maintenance.margin(owed * price, owed)

    def rate_per_period(self, currency: str, given: Mapping[str, float]) -> float:
        """Return the interest rate of one period: of what a trader gave by currency, else the venue's."""
        yearly = given.get(currency, self.yearly.get(currency, self.otherwise))
        return yearly * self.clock.hours / HOURS_PER_YEAR


INTEREST_FREE = Borrowing(initial=1.0, maintenance=flat_rate(0.05), otherwise=0.0)
"""The interest on margin pairs of a venue without terms of its own: none."""
