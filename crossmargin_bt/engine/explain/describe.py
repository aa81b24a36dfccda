# SPDX-License-Identifier: GPL-3.0-or-later
"""One-line descriptions of the journal entries that margin decided."""

from datetime import UTC, datetime

from crossmargin_bt.engine.ledger import events

_STATES = {
    "warning": "warning at a margin level of {level}",
    "orders_cancelled": "risk control: orders that increase the margin cancelled",
    "margin_call": "margin call: margin in use exceeds equity, no order that opens is accepted",
    "liquidation_check": "pre-liquidation check: risk-increasing orders cancelled",
    "recovered": "recovered above its maintenance margin",
    "closed_out": "closed out: no position left",
}


def format_time(time_ms: int) -> str:
    """Return a time in milliseconds since 1970-01-01 UTC as text.

    >>> format_time(1_583_971_200_000)
    '2020-03-12 00:00'
    """
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")


def describe(entry: events.JournalEntry, currency: str) -> str:
    """Return a one-line description of an entry, without its time; amounts are in `currency`."""
    if isinstance(entry, events.Liquidated):
        return f"{entry.pool} liquidated with {entry.collateral:,.2f} against {entry.requirement:,.2f} {currency}"
    if isinstance(entry, events.OrderRefused):
        stage = "at its fill " if entry.at_fill else ""
        return f"order {entry.number} of {entry.symbol} refused {stage}({entry.reason.partition(';')[0]})"
    if isinstance(entry, events.RiskState):
        return f"{entry.pool} {_STATES[entry.state].format(level=f'{entry.threshold:.0%}')}"
    if isinstance(entry, events.InsuranceFundTakeover):
        return f"{entry.pool} taken over: {entry.amount:,.2f} {entry.currency} of loss covered by the insurance fund and the venue"
    if isinstance(entry, events.CollateralToppedUp):
        return f"{entry.pool} topped up with {entry.amount:,.2f} {entry.currency}"
    return (
        f"rules of {entry.since} in force: {entry.says}"
        if isinstance(entry, events.RulesChanged)
        else type(entry).__name__
    )
