# SPDX-License-Identifier: GPL-3.0-or-later
"""Contracts that come to their end during a run: their orders go, their positions settle."""

from collections.abc import Sequence
from typing import Any

from crossmargin_bt.broker.orders import execution
from crossmargin_bt.broker.session.bars import Bar
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.lifecycle import expiry, fills


def settle(broker: Any, run: BrokerSession, bars: Sequence[Bar]) -> None:
    """Settle what expired at or before the bars' time, at the marks of their opens."""
    due = run.ending()
    if not due:
        return
    for bar in bars:
        bar.book.set_mark(bar.mark.open)
    run.account.update_option_indices()
    for data in due:
        _settle(broker, run, data)


def _settle(broker: Any, run: BrokerSession, data: Any) -> None:
    run.feeds[data].is_ended = True
    book = run.books[data]
    for order in list(broker.pending):
        if order.data is data and order.alive():
            execution.cancel(broker, order, "expired")
    entry = expiry.expiry_entry(run.account, run.time_ms, book.instrument.symbol)
    run.record(entry)
    run.notices.append(entry)
    for fill in expiry.settlement_fills(run.account, entry):
        short = fills.isolated_shortfall(book, fill)
        execution.forced_close(broker, run, data, fill)
        execution.settle(run, fill, short)
    if entry.price:
        book.set_mark(entry.price)
