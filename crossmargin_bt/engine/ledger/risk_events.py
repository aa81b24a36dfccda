# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's entries about pools in danger: states, liquidations, and who pays for what is lost beyond the collateral."""

from crossmargin_bt.engine.ledger.event import Event, Prices


class RiskState(Event, frozen=True, gc=False, kw_only=True):
    """A pool came into a state on its way into or out of danger.

    `state`: "warning" (the margin level fell to `threshold`), "orders_cancelled" (risk control began to cancel what
    adds to the requirement, `threshold` being its level, or 0 where more was in use than there was), "margin_call"
    (more is in use than there is, `threshold` is 0: nothing can be opened), "liquidation_check" (liquidation was due, orders
    that add risk go before the pool is looked at again), "recovered" (the pool is above its requirement again), "closed_out" (nothing is left of it).
    """

    pool: str
    state: str
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
    takes them. `left` is what closing in the market would leave, below zero; `amount` what is borne for
    the account, `by_fund` the part of it that the fund can bear. The rest is the venue's.
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
