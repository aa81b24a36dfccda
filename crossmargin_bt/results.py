# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves behind, as plain data: the contract between running, reporting and files."""

from typing import Any

import msgspec

SCHEMA_VERSION = 4
"""Of result files; docs/result-files.md says what each version added."""


class LiquidationPrices(msgspec.Struct, frozen=True, kw_only=True):
    """The liquidation prices a venue would show, at the bars `times_ms`: by symbol (symbol:side in hedge mode), None without one."""

    times_ms: list[int] = []
    prices: dict[str, list[float | None]] = {}


class MarketCandles(msgspec.Struct, frozen=True, kw_only=True):
    """The candles one symbol was traded on, and what is missing of them."""

    symbol: str
    times_ms: list[int]
    high: list[float]
    low: list[float]
    close: list[float]
    step_ms: int
    """The usual time from bar to bar."""
    holes: list[tuple[int, int, int]]
    """Where bars are missing: the first and the last time without one, and how many."""
    has_mark: bool
    funding_settlements: int
    """Bars at which funding was due."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy under one venue and mode. Amounts are in the account's currency, times are milliseconds since 1970-01-01 UTC.

    `times_ms`, `equity`, `margin_used`, `free_margin`, `margin_level` and the lists of `exposure` have one entry a bar. `journal`
    holds the engine's entries in order; in cash mode, where there is no engine, fills and refusals as backtrader reported them.
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
    lowest_margin_level: float | None
    """The lowest collateral over requirement, within bars too; None where it never came below 10,000 (1,000,000 %)."""
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
    params: dict[str, Any] = {}
    """What the strategy was given in place of its defaults."""
    leverage: float | None = None
    path: str = "path"
    lowest_margin_level_ms: int | None = None
    """The bar of it."""
    margin_level: list[float | None] = []
    """The lowest of all pools at the end of the bar; None with nothing required."""
    exposure: dict[str, list[float]] = {}
    """The signed value of what is held, by symbol."""
    liquidation_prices: LiquidationPrices = LiquidationPrices()

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


class RuleVerdict(msgspec.Struct, frozen=True):
    """What a rule book makes of an event: whether it lets it pass, with the figures it looked at."""

    passes: bool
    needed: float
    available: float


class VenueDifference(msgspec.Struct, frozen=True):
    """An event of one run, and what another venue's rules would have made of it."""

    strategy: str
    mode: str
    venue: str
    what: str
    """The event in words."""
    verdict: RuleVerdict
    other: str
    other_verdict: RuleVerdict
    reasons: tuple[str, ...]
    """The rules that, exchanged alone, turn the answer."""


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to, in short: what a stressed run is compared by."""

    strategy: str
    venue: str
    mode: str
    final_equity: float
    profit: float
    liquidations: int
    refused: int
    lowest_margin_level: float | None
    failed: str = ""
    """Why it came to nothing, where it did."""


class Shock(msgspec.Struct, frozen=True, kw_only=True):
    """The same comparison under one thing made worse."""

    name: str
    what: str
    """What was changed, in words."""
    outcomes: list[RunOutcome]
    changes: list[str]
    """The conclusions that no longer hold, in sentences; empty where all do."""


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a file, with the figures of the table."""

    summary: Summary
    result: RunResult


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `crossmargin compare --json` writes."""

    schema: int
    runs: list[RunEntry]
    markets: list[MarketCandles] = []
    differences: list[VenueDifference] | None = None
    """Why venues differ; None where only one was compared."""
    shocks: list[Shock] = []
    """What `--stress` found."""

    @property
    def results(self) -> list[RunResult]:
        """The runs without their figures."""
        return [entry.result for entry in self.runs]
