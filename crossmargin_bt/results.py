# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of runs as plain data: the contract between running, reporting and result files."""

from typing import Any

import msgspec

SCHEMA_VERSION = 4
"""Schema version of result files; docs/result-files.md lists the changes of each version."""


class LiquidationPrices(msgspec.Struct, frozen=True, kw_only=True):
    """Liquidation prices as the venue would display them, by symbol (symbol:side in hedge mode) at the bars `times_ms`; None without one."""

    times_ms: list[int] = []
    prices: dict[str, list[float | None]] = {}


class MarketCandles(msgspec.Struct, frozen=True, kw_only=True):
    """The candles that a symbol was traded on, and the gaps in them."""

    symbol: str
    times_ms: list[int]
    high: list[float]
    low: list[float]
    close: list[float]
    step_ms: int
    """Median interval between bars."""
    holes: list[tuple[int, int, int]]
    """Gaps: times of the first and the last missing bar, and the number of missing bars."""
    has_mark: bool
    funding_settlements: int
    """Number of bars at which funding was due."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a strategy under one venue and mode. Amounts are in the account currency, times in milliseconds since 1970-01-01 UTC.

    `times_ms`, `equity`, `margin_used`, `free_margin`, `margin_level` and the lists of `exposure` have one entry per bar. `journal`
    holds the engine's events in order; in cash mode, which has no engine, fills and refusals as backtrader reported them.
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
    """Lowest ratio of collateral to requirement, intrabar included; None if it never fell below 10,000 (1,000,000 %)."""
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
    """Rules and contracts of the run, which replaying the journal needs."""
    free_margin: list[float] = []
    """Free margin by bar; in cash mode the cash."""
    account: dict[str, Any] = {}
    """Account setup: position mode, pools, unit, fixed prices, portfolio margin; empty in cash mode."""
    interest: float = 0.0
    """Interest charged."""
    params: dict[str, Any] = {}
    """Parameters of the strategy that differ from its defaults."""
    leverage: float | None = None
    path: str = "path"
    lowest_margin_level_ms: int | None = None
    """Time of the bar with the lowest margin level."""
    margin_level: list[float | None] = []
    """Lowest margin level of all pools at the close of the bar; None if nothing is required."""
    exposure: dict[str, list[float]] = {}
    """Signed position value by symbol."""
    liquidation_prices: LiquidationPrices = LiquidationPrices()
    warnings: list[str] = []
    """What the data lack, and which way that biases the run."""

    @property
    def setup(self) -> dict[str, Any]:
        """The arguments of the account setup for replaying the journal."""
        return self.account or {"position_mode": self.position_mode}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of one run as the comparison table shows them. Rates are plain fractions, None where undefined."""

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
    forced_fills: int = 0
    """Fills of the venue's own: liquidations, repayments, settlements. `fills` are those of the strategy's orders."""


class RuleVerdict(msgspec.Struct, frozen=True):
    """Whether a rule book allows an event, with the amounts compared."""

    passes: bool
    needed: float
    available: float


class VenueDifference(msgspec.Struct, frozen=True):
    """An event of one run that another venue's rules would have decided differently."""

    strategy: str
    mode: str
    venue: str
    what: str
    """The event in words."""
    verdict: RuleVerdict
    other: str
    other_verdict: RuleVerdict
    reasons: tuple[str, ...]
    """The rules that change the decision if exchanged alone."""


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of a run for comparing stressed runs."""

    strategy: str
    venue: str
    mode: str
    final_equity: float
    profit: float
    liquidations: int
    refused: int
    lowest_margin_level: float | None
    failed: str = ""
    """Reason why the run failed; empty if it did not."""


class Shock(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison repeated with one condition made worse."""

    name: str
    what: str
    """The changed condition, in words."""
    outcomes: list[RunOutcome]
    changes: list[str]
    """Conclusions that no longer hold, as sentences; empty if all do."""


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a result file, with its metrics."""

    summary: Summary
    result: RunResult


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a file written by `crossmargin compare --json`."""

    schema: int
    runs: list[RunEntry]
    markets: list[MarketCandles] = []
    differences: list[VenueDifference] | None = None
    """Why venues differ; None if only one was compared."""
    shocks: list[Shock] = []
    """Results of `--stress`."""

    @property
    def results(self) -> list[RunResult]:
        """The runs without their metrics."""
        return [entry.result for entry in self.runs]
