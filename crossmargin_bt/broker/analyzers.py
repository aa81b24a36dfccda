# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorder: what a run's report needs, as plain data that survives a process boundary."""

from typing import Any

import backtrader as bt
import msgspec

from crossmargin_bt.broker.run import time_ms


class Recorder(bt.Analyzer):
    """Equity and margin used per bar, with fills, refusals and the journal.

    `on_bar`, when given, is called after every bar. Works with `CrossMarginBroker` in all modes.
    """

    params = (("on_bar", None),)

    def create_analysis(self) -> None:
        """Start empty."""
        self._record: dict[str, Any] = {}
        self._times: list[int] = []
        self._equity: list[float] = []
        self._margin_used: list[float] = []
        self._fills = 0
        self._refused = 0
        self._fees = 0.0
        self._cash_journal: list[dict[str, Any]] = []
        self._paid: dict[int, float] = {}

    def notify_order(self, order: Any) -> None:
        """Count fills and refusals, and keep cash mode's journal."""
        broker = self.strategy.broker
        if order.status in (order.Margin, order.Rejected):
            self._refused += 1
            self._cash_entry(order, "OrderRefused", order.created.size, order.created.price, 0.0)
        elif order.status in (order.Partial, order.Completed):
            self._fills += 1
            fee = order.executed.comm - self._paid.get(order.ref, 0.0)
            self._paid[order.ref] = order.executed.comm
            if broker.account is None:
                self._fees += fee
                bit = order.executed.exbits[-1]
                self._cash_entry(order, "Filled", bit.size, bit.price, fee)

    def _cash_entry(self, order: Any, event: str, size: float, price: float, fee: float) -> None:
        if self.strategy.broker.account is None:
            self._cash_journal.append(
                {
                    "event": event,
                    "time_ms": time_ms(order.data.datetime[0]),
                    "symbol": order.data._name,
                    "size": size,
                    "price": price,
                    "fee": fee,
                }
            )

    def next(self) -> None:
        """Record the bar."""
        broker = self.strategy.broker
        self._times.append(time_ms(self.strategy.datetime[0]))
        self._equity.append(broker.equity)
        self._margin_used.append(broker.margin_used)
        if self.p.on_bar is not None:
            self.p.on_bar()

    def stop(self) -> None:
        """Take from the broker what the record needs; in an optimisation only the record comes back."""
        broker = self.strategy.broker
        account = broker.account
        journal = broker.journal
        self._record = {
            "times_ms": self._times,
            "equity": self._equity,
            "margin_used": self._margin_used,
            "fills": self._fills,
            "refused": self._refused,
            "liquidations": sum(type(event).__name__ == "Liquidated" for event in journal),
            "lowest_margin_level": broker.lowest_margin_level,
            "bad_debt": 0.0 if account is None else account.bad_debt,
            "fees": self._fees if account is None else account.fees,
            "funding": 0.0 if account is None else account.funding,
            "journal": self._cash_journal if account is None else [msgspec.to_builtins(event) for event in journal],
        }

    def get_analysis(self) -> dict[str, Any]:
        """Return the record as plain lists, numbers and dicts; complete once the run has ended."""
        return self._record
