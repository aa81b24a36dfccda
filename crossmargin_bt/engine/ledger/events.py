# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's entries. Every change of a balance is in one of them, with its exact amount.

Amounts are in the currency an entry names, else in its instrument's settle currency. What comes into the account is
positive in `CashTransferred`, `FundingPaid`, `DebtCovered`, `CollateralToppedUp` and as `realised`. A `fee`, and the amount of
`InterestCharged`, is what is paid; of `Converted` the `amount` leaves and `received` arrives; what `IsolatedMarginAdjusted` and
`SetAside` say leaves the free balance. Times are milliseconds since 1970-01-01 UTC: the label of the bar in which the
event happened.
"""

from typing import Any, Literal

import msgspec

from crossmargin_bt.engine.ledger.refusal import RefusalKind
from crossmargin_bt.engine.terms.rates import MaintenanceRule

Prices = dict[str, tuple[float, ...]]
"""By symbol, the mark of a long, the mark of a short (different only on the adverse path) and the last price; of an option
also the price of its underlying, its volatility and its interest rate."""

Cause = Literal["", "liquidation", "repayment", "expiry", "delisting"]
"""Why the venue itself traded; empty for a fill of an order."""
PoolState = Literal["warning", "orders_cancelled", "margin_call", "liquidation_check", "recovered", "closed_out"]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag=True, kw_only=True):
    """Something that happened to the account."""

    time_ms: int


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


class RulesChanged(Event, frozen=True, gc=False, kw_only=True):
    """The venue's rules changed: from now on `changed` are in force, key by key of the rule book.

    With `opened_since`, positions open at this moment keep the rules before it until they are closed.
    """

    since: str
    changed: dict[str, Any]
    opened_since: bool
    says: str
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
    """An order left the venue before it was filled whole: cancelled, expired or refused at its fill."""

    number: int
    symbol: str
    reason: str


class Filled(Event, frozen=True, gc=False, kw_only=True):
    """A fill. The shared balance changes by realised - fee - margin - paid, the leg's own margin by `margin`.

    `number` is the order's, or 0 where it is `forced`, the venue's own; `cause` says why: "liquidation", "repayment" or
    "expiry", "delisting", empty for an order's fill. Of what is paid for in full, a coin or an option,
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


class Delisted(Event, frozen=True, gc=False, kw_only=True):
    """The bars of a market ended while others went on; what follows are the settlements of its legs at `price`, its last mark."""

    symbol: str
    price: float


class GuardActed(Event, frozen=True, gc=False, kw_only=True):
    """One of the trader's own guards did something.

    `action`: "refused" or "reduced" (an order, whose size is now `amount`), "closed" (`amount` contracts), "swept" (`amount`
    left the account), "stopped" or "told" (`amount` is the figure it checked). `number` is the order's, 0 without one.
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


class AccountRestored(Event, frozen=True, gc=False, kw_only=True):
    """The account begins where another run left it: balance, sums and legs are set, nothing is added.

    `sums` are by kind ("fees", "funding", "bad_debt"), in `currency`; `legs` hold lots, entry and isolated margin by
    symbol:side.
    """

    currency: str
    balance: float
    sums: dict[str, float]
    legs: dict[str, tuple[int, float, float]]


class RiskState(Event, frozen=True, gc=False, kw_only=True):
    """A pool came into a state on its way into or out of danger.

    `state`: "warning" (the margin level fell to `threshold`), "orders_cancelled" (risk control began to cancel what
    adds to the requirement, `threshold` being its level, or 0 where more was in use than there was), "margin_call"
    (more is in use than there is, `threshold` is 0: nothing can be opened), "liquidation_check" (liquidation was due, orders
    that add risk are cancelled before the pool is checked again), "recovered" (the pool is above its requirement again), "closed_out" (nothing is left of it).
    """

    pool: str
    state: PoolState
    threshold: float
    collateral: float
    requirement: float
    prices: Prices


class LiquidationStepTaken(Event, frozen=True, gc=False, kw_only=True):
    """A step of a liquidation is about to close `closes`, lots by symbol:side, signed like the fills."""

    pool: str
    step: str
    closes: dict[str, int]


class Liquidated(Event, frozen=True, gc=False, kw_only=True):
    """A pool's collateral no longer covered its requirement; what follows in the journal are its steps.

    `pool` is the settle currency of the shared pool, or symbol:side of an isolated one.
    `bankruptcy_prices` maps symbol:side to the price at which the pool is used up, the others standing; None where
    no price does that.
    """

    pool: str
    collateral: float
    requirement: float
    marks: dict[str, float]
    bankruptcy_prices: dict[str, float | None]
    prices: Prices


class DebtCovered(Event, frozen=True, gc=False, kw_only=True):
    """What was lost beyond the collateral was paid for the account: its bad debt.

    `by_fund` is the insurance fund's part of `amount`; the rest, once the fund is empty, is the venue's.
    """

    pool: str
    currency: str
    amount: float
    by_fund: float
    fund_paid: float
    """The fund's part in the account's unit."""


class InsuranceFundTakeover(Event, frozen=True, gc=False, kw_only=True):
    """A pool that closing in the market would leave below zero goes to the insurance fund where it is used up.

    By symbol:side, `markets` are the prices at which its legs would be closed and `takeovers` those at which the fund
    takes them. `left` is the negative balance that closing in the market would leave; `amount` is the bad debt taken over from
    the account, `by_fund` the part that the insurance fund pays. The venue pays the rest.
    """

    pool: str
    currency: str
    left: float
    amount: float
    by_fund: float
    fund_paid: float
    """The fund's part in the account's unit."""
    markets: dict[str, float]
    takeovers: dict[str, float]
    prices: Prices


class Deleveraged(Event, frozen=True, gc=False, kw_only=True):
    """A profitable leg is about to be closed against a bankrupt one, at the price the fund could not take it at.

    `lots` are signed like the fill, `amount` is the profit the leg forgoes: `market` is what closing it would bring.
    """

    pool: str
    symbol: str
    side: str
    lots: int
    price: float
    market: float
    amount: float


class CollateralToppedUp(Event, frozen=True, gc=False, kw_only=True):
    """Collateral came out of the reserve to a pool, which leaves `left` there, in the account's unit.

    `wanted` is what would have brought the pool to the margin level `to_level`.
    """

    pool: str
    currency: str
    amount: float
    left: float
    wanted: float
    to_level: float
    collateral: float
    requirement: float
    prices: Prices


JournalEntry = (
    CashTransferred
    | AccountRestored
    | WithdrawalRefused
    | SettingChanged
    | PositionModeChanged
    | MaintenanceChanged
    | RulesChanged
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
    | Delisted
    | GuardActed
    | BarIgnored
)
