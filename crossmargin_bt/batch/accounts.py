# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of a batch, and what becomes of each."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple


class Account(NamedTuple):
    """One account of a batch."""

    targets: int = 0
    """Which of the arrays of targets it follows."""
    leverage: float = 10.0
    mode: str = "cross"
    """"cross" or "isolated"."""
    cash: float = 10_000.0


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
    refused: int
    warnings: int
    """How often a pool fell to a margin level that the venue warns at."""
    liquidations: int
    bad_debt: float
    worked_through: int
    """How many bars the broker worked through."""
    curve: Any
    """Equity at the end of every bar, shape (bars,), float64; None unless it was asked for."""


def accounts(
    targets: int,
    *,
    leverages: Sequence[float] = (10.0,),
    modes: Sequence[str] = ("cross",),
    cash: Sequence[float] = (10_000.0,),
) -> list[Account]:
    """Return every combination of so many arrays of targets with leverages, modes and starting cash.

    >>> len(accounts(3, leverages=(5, 10), modes=("cross", "isolated")))
    12
    """
    return [Account(*one) for one in product(range(targets), leverages, modes, cash)]
