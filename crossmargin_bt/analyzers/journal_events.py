# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers that evaluate the journal, and refused orders, at the end of the run."""

from collections import Counter
from typing import Any

import backtrader as bt
import msgspec

from crossmargin_bt.broker.session.bars import time_ms
from crossmargin_bt.engine.ledger import events


class Journal(bt.Analyzer):
    """The engine's journal as plain dicts, oldest first; empty in cash mode."""

    def create_analysis(self) -> None:
        """Create empty records."""
        self._journal: list[dict[str, Any]] = []

    def stop(self) -> None:
        """Copy the journal from the broker, which does not survive an optimisation in another process."""
        self._journal = [msgspec.to_builtins(event) for event in self.strategy.broker.journal]

    def get_analysis(self) -> list[dict[str, Any]]:
        """Return the entries; available after the run."""
        return self._journal


class Liquidations(bt.Analyzer):
    """Every liquidation with its pool, collateral, requirement, steps, fills and outcome.

    `get_analysis()` returns a list of dicts: `time_ms`, `pool`, `collateral`, `requirement`, `steps` (each `step` with its
    `closes`), `fills` (symbol, lots, price, fee), `borne` (losses paid by the insurance fund), `end` ("recovered",
    "closed_out", or "rests" if the run ended first).
    """

    def create_analysis(self) -> None:
        """Create empty records."""
        self._liquidations: list[dict[str, Any]] = []

    def stop(self) -> None:
        """Group the journal entries of each liquidation."""
        by_pool: dict[str, dict[str, Any]] = {}
        current: dict[str, Any] | None = None
        for event in self.strategy.broker.journal:
            if isinstance(event, events.Liquidated):
                current = {
                    "time_ms": event.time_ms, "pool": event.pool, "collateral": event.collateral,
                    "requirement": event.requirement, "steps": [], "fills": [], "borne": 0.0, "end": "rests",
                }  # fmt: skip
                by_pool[event.pool] = current
                self._liquidations.append(current)
            elif isinstance(event, events.LiquidationStepTaken):
                current = by_pool.get(event.pool, current)
                if current is not None:
                    current["steps"].append({"step": event.step, "closes": dict(event.closes)})
            elif isinstance(event, events.Filled) and event.cause == "liquidation" and current is not None:
                current["fills"].append(
                    {"symbol": event.symbol, "lots": event.lots, "price": event.price, "fee": event.fee}
                )
            elif isinstance(event, events.InsuranceFundTakeover | events.DebtCovered) and event.pool in by_pool:
                by_pool[event.pool]["borne"] += event.amount * self.strategy.broker.account.price(event.currency)
            elif (
                isinstance(event, events.RiskState)
                and event.state in ("recovered", "closed_out")
                and event.pool in by_pool
            ):
                by_pool[event.pool]["end"] = event.state

    def get_analysis(self) -> list[dict[str, Any]]:
        """Return the liquidations, oldest first."""
        return self._liquidations


class Rejections(bt.Analyzer):
    """Every refused order with its reason.

    `get_analysis()` returns a list of dicts: `time_ms`, `symbol` (the feed's name), `size`, `price`, `kind` ("margin" or
    "rejected"), `code` (`RefusalCode`), `needed`, `available`, `reason`, `guard` (the guard's name where the code is "guard").
    `count_by_code()` counts them.
    """

    def create_analysis(self) -> None:
        """Create empty records."""
        self._refusals: list[dict[str, Any]] = []

    def notify_order(self, order: Any) -> None:
        """Record a refusal; the broker stores its reason in `order.info.reject`, in cash mode too."""
        if order.status not in (order.Margin, order.Rejected):
            return
        refusal = order.info.get("reject")
        at = order.data.datetime[0] if len(order.data) else None
        self._refusals.append(
            {
                "time_ms": None if at is None else time_ms(at), "symbol": order.data._name, "size": order.created.size,
                "price": order.created.price, "kind": refusal.kind if refusal else "margin", "code": refusal.code if refusal else "",
                "needed": refusal.needed if refusal else 0.0, "available": refusal.available if refusal else 0.0,
                "reason": refusal.reason if refusal else "", "guard": refusal.guard if refusal else "",
            }
        )  # fmt: skip

    def get_analysis(self) -> list[dict[str, Any]]:
        """Return the refusals, oldest first."""
        return self._refusals

    def count_by_code(self) -> dict[str, int]:
        """Return the number of refusals per code, the most frequent first."""
        return dict(Counter(row["code"] for row in self._refusals).most_common())


class FundingAndFees(bt.Analyzer):
    """Fees and funding, in total and by contract.

    `get_analysis()` returns `fees` (positive if paid), `funding` (positive if received), `settlements`, and `by_symbol`
    with the same keys per contract. In cash mode `fees` are backtrader's commissions and there is no funding.
    """

    def create_analysis(self) -> None:
        """Create empty records."""
        self._total = {"fees": 0.0, "funding": 0.0, "settlements": 0}
        self._by_symbol: dict[str, dict[str, float]] = {}
        self._paid: dict[int, float] = {}

    def notify_order(self, order: Any) -> None:
        """Add commissions in cash mode, which has no journal."""
        if self.strategy.broker.p.mode == "cash" and order.status in (order.Partial, order.Completed):
            fee = order.executed.comm - self._paid.get(order.ref, 0.0)
            self._paid[order.ref] = order.executed.comm
            self._add(order.data._name, "fees", fee)

    def stop(self) -> None:
        """Sum the journal; other currencies are converted at the last prices of the run."""
        account = self.strategy.broker.account
        for event in self.strategy.broker.journal:
            if isinstance(event, events.Filled):
                self._add(
                    event.symbol, "fees", event.fee * account.price(account.books[event.symbol].instrument.settle)
                )
            elif isinstance(event, events.FundingPaid):
                price = account.price(account.books[event.symbol].instrument.settle)
                self._add(event.symbol, "funding", event.amount * price)
                self._add(event.symbol, "settlements", 1)

    def _add(self, symbol: str, what: str, amount: float) -> None:
        own = self._by_symbol.setdefault(symbol, {"fees": 0.0, "funding": 0.0, "settlements": 0})
        own[what] += amount
        self._total[what] += amount

    def get_analysis(self) -> dict[str, Any]:
        """Return the totals; available after the run."""
        return {**self._total, "by_symbol": self._by_symbol}
