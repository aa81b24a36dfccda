# SPDX-License-Identifier: GPL-3.0-or-later
"""The amounts that a journal brings into a currency, and one contract of every kind."""

from __future__ import annotations

from datetime import UTC, datetime

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.terms.instrument import Instrument

FRIDAY = datetime(2025, 6, 27, 8, tzinfo=UTC)
PRODUCTS = {
    one.symbol: one
    for one in (
        Instrument(symbol="SPOT", kind="spot", underlying="BTC", lot=0.01),
        Instrument(symbol="PERP", underlying="BTC", lot=0.01),
        Instrument(symbol="INVERSE", underlying="BTC", settle="BTC", inverse=True, contract_size=100.0, lot=1.0),
        Instrument(symbol="FUTURE", kind="future", underlying="BTC", lot=0.01, expiry=FRIDAY),
        Instrument(symbol="PAIR", kind="margin", underlying="BTC", lot=0.01),
        Instrument(symbol="COINPAIR", kind="margin", underlying="BTC", settle="BTC", quote="USDT", lot=0.01),
        Instrument(
            symbol="CALL", kind="option", underlying="BTC", lot=0.01, strike=11_000.0, option="call", expiry=FRIDAY
        ),
        Instrument(
            symbol="PUT", kind="option", underlying="BTC", settle="BTC", quote="USDT", lot=0.01, strike=9_000.0,
            option="put", expiry=FRIDAY,
        ),
    )
}  # fmt: skip


def flows(journal, currency: str, products=PRODUCTS) -> float:
    """Return what a journal brings into a currency, from the amounts in it alone."""
    total = 0.0
    for entry in journal:
        if isinstance(entry, events.CashTransferred) and entry.currency == currency:
            total += entry.amount
        elif isinstance(entry, events.Filled):
            instrument = products[entry.symbol]
            if instrument.settle == currency:
                total += entry.realised - entry.fee - entry.margin - entry.paid
            if instrument.base_currency == currency:
                total += entry.received
        elif isinstance(entry, events.FundingPaid) and products[entry.symbol].settle == currency and not entry.isolated:
            total += entry.amount
        elif isinstance(entry, events.InterestCharged) and entry.currency == currency and not entry.symbol:
            total -= entry.amount
    return total
