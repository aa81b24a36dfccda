# SPDX-License-Identifier: GPL-3.0-or-later
"""backtrader's contract with a broker, as the broker's own components use it.

Everything in `BacktraderBroker` has the name that `backtrader.brokers.BackBroker` gave it, underscores included, and is the
framework's; `BrokerHost` adds the few names that are ours.
"""

from collections import deque
from typing import Any, NamedTuple, Protocol

from crossmargin_bt.broker.session.order_queue import OrderQueue
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.guards.base import GuardedBroker
from crossmargin_bt.venues import Venue


class Match(NamedTuple):
    """A fill that backtrader's own matching found for an order in this bar, executed or not."""

    price: float
    ago: int
    created_at_close: float | None
    """The time of the previous close when the order cheats on close, else None."""


class BacktraderBroker(Protocol):
    """The attributes and methods of `BackBroker` that components read, write or call."""

    p: Any
    """The broker's params."""
    cerebro: Any
    positions: Any
    orders: Any
    pending: OrderQueue
    submitted: deque[Any]
    notifs: deque[Any]
    startingcash: float
    _cash_addition: deque[float]
    _fundshares: float
    _fundval: float
    _ocol: dict[Any, list[int]]
    """Members of every one-cancels-other group, by its leader's reference."""
    _ocos: dict[int, int]
    """The leader's reference of every order's group."""
    _pchildren: dict[int, deque[Any]]
    """Orders that wait for the last of their bracket, by the parent's reference."""
    _toactivate: deque[Any]
    """Children whose parent has filled, to be activated in the next bar."""
    _userhist: list[Any]

    def _ocoize(self, order: Any, oco: Any) -> None:
        """Put an order into the one-cancels-other group of `oco`, or into one of its own."""
        ...

    def _process_order_history(self) -> None:
        """Enter the orders of `add_order_history` that are due."""
        ...

    def _slip_down(self, pmin: float, price: float) -> float | None:
        """Return a sale's price after slippage; None where it slips out of the bar."""
        ...

    def _slip_up(self, pmax: float, price: float) -> float | None:
        """Return a purchase's price after slippage; None where it slips out of the bar."""
        ...


class CommissionInfo(Protocol):
    """A commission info of a contract, in the account's currency."""

    @property
    def instrument(self) -> Instrument:
        """The contract."""
        ...

    @property
    def rate(self) -> float:
        """The price of the contract's currency in the account's."""
        ...

    def get_margin(self, price: float) -> float:
        """Return the initial margin of one contract at a price."""
        ...

    def getvaluesize(self, size: float, price: float) -> float:
        """Return the signed value of a size at a price."""
        ...


class BrokerHost(BacktraderBroker, GuardedBroker, Protocol):
    """The whole broker as its components see it."""

    venue: Venue
    """The rule book of the run."""
    notifies_order_states: bool
    """Whether a listener wants to hear of an order's states beside its fills; trades are made of the fills."""

    def match(self, order: Any) -> Match | None:
        """Return the fill that backtrader's matching finds for the order in this bar, executing nothing."""
        ...

    def fill_commission(self, data: Any, entry: float) -> CommissionInfo:
        """Return the commission info of one fill, whose part of the leg was held at `entry`."""
        ...

    def count_paid_in(self, worth: float) -> None:
        """Issue (or redeem) shares of the fund for cash that came in (or left), so that the fund's value does not jump."""
        ...

    def refresh(self) -> None:
        """Take the account's snapshot anew after a change between bars."""
        ...

    def buy(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a buy order."""
        ...

    def sell(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a sell order."""
        ...
