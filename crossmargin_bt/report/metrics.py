# SPDX-License-Identifier: GPL-3.0-or-later
"""The performance and margin metrics of a run."""

from crossmargin_bt.performance import drawdown_max
from crossmargin_bt.results import RunResult, Summary


def summarise(result: RunResult) -> Summary:
    """Return the metrics of one run.

    Capital efficiency is net profit over the mean margin used in all bars, None if no margin was
    ever used. The lowest margin level is None if it never fell below 1,000,000 %.
    """
    final = result.equity[-1] if result.equity else result.starting_cash
    profit = final - result.starting_cash
    mean = sum(result.margin_used) / len(result.margin_used) if result.margin_used else 0.0
    forced = sum(entry["event"] == "Filled" and bool(entry.get("forced")) for entry in result.journal)
    return Summary(
        strategy=result.strategy,
        venue=result.venue,
        mode=result.mode,
        final_equity=final,
        total_return=profit / result.starting_cash if result.starting_cash else 0.0,
        drawdown_max=drawdown_max([result.starting_cash, *result.equity]),
        margin_used_peak=max(result.margin_used, default=0.0),
        margin_used_mean=mean,
        capital_efficiency=profit / mean if mean else None,
        fills=result.fills - forced,
        forced_fills=forced,
        refused=result.refused,
        liquidations=result.liquidations,
        bad_debt=result.bad_debt,
        lowest_margin_level=result.lowest_margin_level,
        fees=result.fees,
        funding=result.funding,
        interest=result.interest,
    )
