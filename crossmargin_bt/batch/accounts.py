# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of a batch, and what becomes of each."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from crossmargin_bt.errors import ConfigurationError


class Account(NamedTuple):
    """One account of a batch."""

    targets: int | None = 0
    """Which of the arrays of targets it follows; None follows none."""
    leverage: float = 10.0
    mode: str = "cross"
    """"cross" or "isolated"."""
    cash: float = 10_000.0
    orders: int | None = None
    """Which of the limit orders it places, if any."""


class LimitOrders(NamedTuple):
    """Limit orders that are placed at bars' ends, each in a slot of its own; one that fills leaves its slot empty.

    Both arrays have the shape (bars, slots) for one market, or (bars, markets, slots).
    """

    sizes: Any
    """In contracts, signed, rounded to lots toward zero: what stands in the slot is cancelled, and this placed in its stead
    (nothing when it is 0; refused when it is less than a lot). NaN leaves what stands there."""
    prices: Any
    """Where they rest, rounded to ticks never to a worse price; of no meaning where there is no size."""


class Outcome(NamedTuple):
    """What became of an account; amounts are in the settle currency."""

    account: Account
    equity: float
    """At the end of the last bar."""
    drawdown_max: float
    """The largest fall of equity at bars' ends from its highest so far, as a fraction of that (0.2 is 20 %)."""
    fees: float
    funding: float
    """Received; paid when negative."""
    fills: int
    """How often an order traded, in full or in part: a reversal whose opening half is refused did."""
    refused: int
    """Orders, in full or in part."""
    warnings: int
    """How often a pool fell to a margin level that the venue warns at."""
    liquidations: int
    bad_debt: float
    worked_through: int
    """How many bars the broker worked through."""
    curve: Any
    """Equity at the end of every bar, shape (bars,), float64; None unless it was asked for."""


def accounts(
    targets: int | Sequence[int | None],
    *,
    orders: int | Sequence[int | None] = (None,),
    leverages: Sequence[float] = (10.0,),
    modes: Sequence[str] = ("cross",),
    cash: Sequence[float] = (10_000.0,),
) -> list[Account]:
    """Return every combination of so many arrays of targets and of limit orders with leverages, modes and starting cash.

    >>> len(accounts(3, leverages=(5, 10), modes=("cross", "isolated")))
    12
    >>> accounts([None], orders=2, leverages=(5,))[1]
    Account(targets=None, leverage=5, mode='cross', cash=10000.0, orders=1)

    Raises:
        ConfigurationError: one of them stands alone, or is no number of arrays.
    """
    for name, given in (("leverages", leverages), ("modes", modes), ("cash", cash)):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigurationError(f"{name} are several, got {given!r}; write ({given!r},)")
    followed, placed = _numbered("targets", targets), _numbered("orders", orders)
    return [
        Account(target, leverage, mode, money, order)
        for target, order, leverage, mode, money in product(followed, placed, leverages, modes, cash)
    ]


def _numbered(name: str, given: Any) -> Iterable[int | None]:
    if isinstance(given, int | np.integer) and given >= 0:
        return range(int(given))
    if isinstance(given, str | int | np.integer) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{name} are how many arrays there are, or which of them to take; got {given!r}")
    return given
