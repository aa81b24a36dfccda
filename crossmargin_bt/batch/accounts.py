# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs and results of a batch: accounts, limit orders, and the result of each account."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from crossmargin_bt.errors import ConfigurationError


class BatchAccount(NamedTuple):
    """One account of a batch."""

    targets: int | None = 0
    """Index of the array of target positions that the account follows; None for no targets."""
    leverage: float = 10.0
    mode: str = "cross"
    """"cross" or "isolated"."""
    cash: float = 10_000.0
    """Starting balance, in the settle currency."""
    orders: int | None = None
    """Index of the limit orders that the account places; None for no limit orders."""


class LimitOrders(NamedTuple):
    """Limit orders placed at bar ends. Each slot holds at most one resting order; an order that fills frees its slot.

    Both arrays have the shape (bars, slots) for one market, or (bars, markets, slots).
    """

    sizes: Any
    """In contracts, signed, rounded to lots toward zero. A number cancels the order in the slot and places this one instead; 0
    cancels only, and a size of less than one lot is refused. NaN leaves the slot unchanged."""
    prices: Any
    """Limit prices, rounded to ticks, never to a worse price. Ignored where no order is placed."""


class BatchResult(NamedTuple):
    """The result of one account; amounts are in the settle currency."""

    account: BatchAccount
    equity: float
    """At the end of the last bar."""
    drawdown_max: float
    """Maximum drawdown of the equity at bar ends, as a fraction of the preceding peak (0.2 is 20 %)."""
    fees: float
    funding: float
    """Net funding received; negative when paid."""
    fills: int
    """Number of fills, partial fills included: a reversal whose opening part is refused counts as one."""
    refused: int
    """Number of orders refused, in full or in part."""
    warnings: int
    """How often a pool fell to a margin level at which the venue warns."""
    liquidations: int
    bad_debt: float
    broker_bars: int
    """Number of bars that were processed by the broker instead of the compiled loop."""
    curve: Any
    """Equity at the end of every bar, shape (bars,), float64; None unless requested."""


def accounts(
    targets: int | Sequence[int | None],
    *,
    orders: int | Sequence[int | None] = (None,),
    leverages: Sequence[float] = (10.0,),
    modes: Sequence[str] = ("cross",),
    cash: Sequence[float] = (10_000.0,),
) -> list[BatchAccount]:
    """Return the Cartesian product of targets, limit orders, leverages, modes and starting cash.

    `targets` and `orders` are the number of arrays, or a list of their indices.

    >>> len(accounts(3, leverages=(5, 10), modes=("cross", "isolated")))
    12
    >>> accounts([None], orders=2, leverages=(5,))[1]
    BatchAccount(targets=None, leverage=5, mode='cross', cash=10000.0, orders=1)

    Raises:
        ConfigurationError: leverages, modes or cash is not a sequence, or targets or orders is neither a number nor a list.
    """
    for name, given in (("leverages", leverages), ("modes", modes), ("cash", cash)):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigurationError(f"{name} must be a sequence, got {given!r}; write ({given!r},)")
    target_indices, order_indices = _indices("targets", targets), _indices("orders", orders)
    return [
        BatchAccount(target, leverage, mode, money, order)
        for target, order, leverage, mode, money in product(target_indices, order_indices, leverages, modes, cash)
    ]


def _indices(name: str, given: Any) -> Iterable[int | None]:
    if isinstance(given, int | np.integer) and given >= 0:
        return range(int(given))
    if isinstance(given, str | int | np.integer) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{name} must be the number of arrays or a list of their indices, got {given!r}")
    return given
