# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's entries. Every change of a balance is in one of them, with its exact amount.

Amounts are in the currency an entry names, else in its instrument's settle currency. What comes into the account is
positive in `CashTransferred`, `FundingPaid`, `DebtCovered`, `CollateralToppedUp` and as `realised`. A `fee`, and the amount of
`InterestCharged`, is what is paid; of `Converted` the `amount` leaves and `received` arrives; what `IsolatedMarginAdjusted` and
`SetAside` say leaves the free balance. Times are milliseconds since 1970-01-01 UTC: the label of the bar in which the
event happened.
"""

from typing import Literal

from crossmargin_bt.engine.ledger.event import Event, Prices
from crossmargin_bt.engine.ledger.refusal import RefusalKind
from crossmargin_bt.engine.ledger.risk_events import (
    CollateralToppedUp,
    DebtCovered,
    Deleveraged,
    InsuranceFundTakeover,
    Liquidated,
    LiquidationStepTaken,
    RiskState,
)
from crossmargin_bt.engine.terms.rates import MaintenanceRule

__all__ = [
    "BarIgnored",
    "CashTransferred",
    "CollateralToppedUp",
    "Converted",
    "DebtCovered",
    "DebtRepaid",
    "Deleveraged",
    "Event",
    "Expired",
    "Filled",
    "FundingPaid",
    "GuardActed",
    "InsuranceFundTakeover",
    "InterestCharged",
    "IsolatedMarginAdjusted",
    "JournalEntry",
    "Liquidated",
    "LiquidationStepTaken",
    "MaintenanceChanged",
    "OrderPlaced",
    "OrderRefused",
    "OrderRemoved",
    "PositionModeChanged",
    "Prices",
    "RatesScaled",
    "RiskState",
    "SetAside",
    "SettingChanged",
    "WithdrawalRefused",
]


class CashTransferred(Event, frozen=True, gc=False, kw_only=True):
    """Collateral was added (or withdrawn, when negative)."""

    currency: str
    amount: float


class WithdrawalRefused(Event, frozen=True, gc=False, kw_only=True):
    """More was to be withdrawn than the available balance; nothing was."""

    currency: str
    amount: float
    available: float


class SettingChanged(Event, frozen=True, gc=False, kw_only=True):
    """Margin mode and leverage in force for an instrument from now on."""

    symbol: str
    margin_mode: str
    leverage: float


class PositionModeChanged(Event, frozen=True, gc=False, kw_only=True):
    """From now on contracts have one position each ("one_way"), or a long and a short leg ("hedge")."""

    position_mode: str


class MaintenanceChanged(Event, frozen=True, gc=False, kw_only=True):
    """The venue's terms for a contract changed: another maintenance rule is in force from now on."""

    symbol: str
    maintenance: MaintenanceRule
    isolated: MaintenanceRule
    source: str


class RatesScaled(Event, frozen=True, gc=False, kw_only=True):
    """The rates of a contract are from now on its terms' times `factor`, after an annualised `volatility`."""

    symbol: str
    volatility: float
    factor: float


class IsolatedMarginAdjusted(Event, frozen=True, gc=False, kw_only=True):
    """Margin went from the shared balance to an isolated position (or back, when negative)."""

    symbol: str
    side: str
    amount: float


class OrderPlaced(Event, frozen=True, gc=False, kw_only=True):
    """An order was admitted and rests."""

    number: int
    symbol: str
    side: str
    lots: int
    price: float
    reduce_only: bool
    group: int | None
    immediate: bool
    covered: int


class OrderRefused(Event, frozen=True, gc=False, kw_only=True):
    """An order was refused; `needed` and `available` are amounts of margin, 0 where the reason is another.

    `price` is the one the order was valued at, or with `at_fill` the price of the fill that was refused; `prices`
    are what it was judged by, empty where it was refused before that. `code` is a `RefusalCode` (docs/refusals.md), empty in
    files of versions without codes.
    """

    number: int
    symbol: str
    side: str
    lots: int
    price: float
    kind: RefusalKind
    code: str = ""
    needed: float
    available: float
    reason: str
    group: int | None
    immediate: bool
    at_fill: bool
    prices: Prices


class OrderRemoved(Event, frozen=True, gc=False, kw_only=True):
    """An order left the venue: filled, cancelled, expired or refused at its fill."""

    number: int
    symbol: str
    reason: str


Cause = Literal["", "liquidation", "repayment", "expiry"]


class Filled(Event, frozen=True, gc=False, kw_only=True):
    """A fill. The shared balance changes by realised - fee - margin - paid, the leg's own margin by `margin`.

    `number` is the order's, or 0 where it is `forced`, the venue's own; `cause` says why: "liquidation", "repayment" or
    "expiry", empty for an order's fill. Of what is paid for in full, a coin or an option,
    `paid` is the change of what was paid for what is held; `received` are the coins that came in (went out, when negative).
    """

    number: int
    symbol: str
    side: str
    lots: int
    price: float
    fee: float
    realised: float
    margin: float
    forced: bool
    paid: float = 0.0
    received: float = 0.0
    cause: Cause = ""


class FundingPaid(Event, frozen=True, gc=False, kw_only=True):
    """A funding settlement of one leg; `amount` is negative when the leg pays."""

    symbol: str
    side: str
    lots: int
    mark: float
    rate: float
    amount: float
    isolated: bool


class Converted(Event, frozen=True, gc=False, kw_only=True):
    """`amount` of a currency became `received` of another: a debt was paid back out of what the account holds."""

    currency: str
    amount: float
    into: str
    received: float
    reason: str


class SetAside(Event, frozen=True, gc=False, kw_only=True):
    """`amount` more of a currency counts as in use from now on (less, when negative): a bot's allocation."""

    currency: str
    amount: float
    reason: str


class InterestCharged(Event, frozen=True, gc=False, kw_only=True):
    """Interest on a debt of `owed`, at `rate` a period; all in `currency`.

    `periods` are those charged by now on the debt that was made at `since_ms`. With a `symbol` it accrues on the loan of a margin pair, otherwise it is taken from the balance.
    """

    currency: str
    owed: float
    rate: float
    periods: int
    since_ms: int
    amount: float
    symbol: str = ""
    side: str = ""


class DebtRepaid(Event, frozen=True, gc=False, kw_only=True):
    """A debt that interest was charged on is no more: `name` is its currency, or symbol:side:currency for a margin pair."""

    name: str


class Expired(Event, frozen=True, gc=False, kw_only=True):
    """A contract came to its end; what follows are the settlements of its legs at `price`.

    `price` is the settlement price of a future, or what an option is worth at it: `underlying` is the price that decided that.
    """

    symbol: str
    price: float
    underlying: float


class GuardActed(Event, frozen=True, gc=False, kw_only=True):
    """One of the trader's own guards did something.

    `action`: "refused" or "reduced" (an order, whose size is now `amount`), "closed" (`amount` contracts), "swept" (`amount`
    left the account), "stopped" or "told" (`amount` is what it looked at). `number` is the order's, 0 without one.
    """

    guard: str
    action: str
    symbol: str
    number: int
    amount: float
    reason: str


class BarIgnored(Event, frozen=True, gc=False, kw_only=True):
    """A bar without usable prices was treated as if it had not come."""

    symbol: str
    reason: str


JournalEntry = (
    CashTransferred
    | WithdrawalRefused
    | SettingChanged
    | PositionModeChanged
    | MaintenanceChanged
    | RatesScaled
    | IsolatedMarginAdjusted
    | OrderPlaced
    | OrderRefused
    | OrderRemoved
    | Filled
    | FundingPaid
    | RiskState
    | LiquidationStepTaken
    | Liquidated
    | DebtCovered
    | InsuranceFundTakeover
    | Deleveraged
    | CollateralToppedUp
    | Converted
    | SetAside
    | InterestCharged
    | DebtRepaid
    | Expired
    | GuardActed
    | BarIgnored
)
