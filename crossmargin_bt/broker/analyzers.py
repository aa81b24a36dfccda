# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers whose results are plain data that survives a process boundary: the report's recorder, and distances."""

from typing import Any

import backtrader as bt
import msgspec

from crossmargin_bt.broker.run import time_ms


class LiquidationDistance(bt.Analyzer):
    """How far from liquidation the account was, bar by bar.

    Params:
        betas: dict by feed name of how far a price moves with the market; 1 where it names none.

    `get_analysis()` holds lists of one entry a bar: `times_ms`; `fall` and `rise`, how far all marks must move
    together until something is liquidated (fractions; None for never); and `prices`, by feed name (in hedge mode
    name:long and name:short) the liquidation price the venue would show, None where it shows none.
    """

    params = (("betas", None),)

    def create_analysis(self) -> None:
        """Start empty."""
        self._rows: dict[str, Any] = {"times_ms": [], "fall": [], "rise": [], "prices": {}}

    def next(self) -> None:
        """Ask the broker at the end of the bar."""
        broker, rows = self.strategy.broker, self._rows
        fall, rise = broker.aggregate_distance(self.p.betas)
        rows["times_ms"].append(time_ms(self.strategy.datetime[0]))
        rows["fall"].append(fall)
        rows["rise"].append(rise)
        for data in self.datas:
            for side in broker.sides(data):
                name = data._name if side == "net" else f"{data._name}:{side}"
                rows["prices"].setdefault(name, []).append(broker.liquidation_price(data, side).price)

    def get_analysis(self) -> dict[str, Any]:
        """Return the lists."""
        return self._rows


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
        self._free_margin: list[float] = []
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
        self._free_margin.append(float(broker.getcash()))
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
            "free_margin": self._free_margin,
            "fills": self._fills,
            "refused": self._refused,
            "liquidations": sum(type(event).__name__ == "Liquidated" for event in journal),
            "lowest_margin_level": broker.lowest_margin_level,
            "bad_debt": 0.0 if account is None else account.bad_debt,
            "fees": self._fees if account is None else account.fees,
            "funding": 0.0 if account is None else account.funding,
            "interest": 0.0 if account is None else account.interest,
            "account": {} if account is None else account.setup,
            "journal": self._cash_journal if account is None else [msgspec.to_builtins(event) for event in journal],
        }

    def get_analysis(self) -> dict[str, Any]:
        """Return the record as plain lists, numbers and dicts; complete once the run has ended."""
        return self._record
