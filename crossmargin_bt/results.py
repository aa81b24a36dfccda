# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves behind, as plain data: the contract between running, reporting and files."""

from typing import Any, NamedTuple

import msgspec

SCHEMA_VERSION = 2


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy under one venue and mode. Amounts are in the account's currency.

    `times_ms`, `equity` and `margin_used` have one entry a bar. `journal` holds the engine's
    entries in order; in cash mode, where there is no engine, fills and refusals as backtrader
    reported them.
    """

    strategy: str
    venue: str
    mode: str
    position_mode: str
    currency: str
    starting_cash: float
    times_ms: list[int]
    equity: list[float]
    margin_used: list[float]
    lowest_margin_level: float
    fills: int
    refused: int
    liquidations: int
    bad_debt: float
    fees: float
    funding: float
    journal: list[dict[str, Any]]
    assumptions: list[str]
    rules: dict[str, Any]
    instruments: list[dict[str, Any]]
    """The rules and contracts of the run, from which the journal can be worked through again."""
    free_margin: list[float] = []
    """Free margin by bar, in cash mode the cash."""
    account: dict[str, Any] = {}
    """How the account was made: position mode, pools, unit, fixed prices, portfolio; empty in cash mode."""
    interest: float = 0.0
    """Interest charged."""

    @property
    def setup(self) -> dict[str, Any]:
        """What an account is made with to work the journal through again."""
        return self.account or {"position_mode": self.position_mode}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one run that the table shows. Rates are plain fractions, None where undefined."""

    strategy: str
    venue: str
    mode: str
    final_equity: float
    total_return: float
    drawdown_max: float
    margin_used_peak: float
    margin_used_mean: float
    capital_efficiency: float | None
    fills: int
    refused: int
    liquidations: int
    bad_debt: float
    lowest_margin_level: float | None
    fees: float
    funding: float
    interest: float = 0.0


class Verdict(NamedTuple):
    """What a rule book makes of an event: whether it lets it pass, with the figures it looked at."""

    passes: bool
    needed: float
    available: float


class Difference(NamedTuple):
    """An event of one run, and what another venue's rules would have made of it."""

    strategy: str
    mode: str
    venue: str
    what: str
    """The event in words."""
    verdict: Verdict
    other: str
    other_verdict: Verdict
    reasons: tuple[str, ...]
    """The rules that, exchanged alone, turn the answer."""
