# SPDX-License-Identifier: GPL-3.0-or-later
"""A trading journal: the plan, execution and result of every closed trade."""

from typing import Any

import backtrader as bt

from crossmargin_bt.broker.session.bars import time_ms

STOP_TYPES = (bt.Order.Stop, bt.Order.StopLimit, bt.Order.StopTrail, bt.Order.StopTrailLimit)


class TradeJournal(bt.Analyzer):
    """One row per closed trade.

    `buy(..., plan="why")` sets the plan of an entry; the exits of a bracket are its stop and target. `get_analysis()`
    returns a list of dicts: `symbol`, `side`, `tradeid`, `plan`, `opened_ms`, `closed_ms`, `entry`, `exit`, `size` (maximum
    held), `stop`, `target`, `profit` (before fees), `fees`, `result` (after fees), `multiple` (R multiple: profit over the
    loss at the stop; None without a stop), `forced` (whether the venue closed it).
    """

    def create_analysis(self) -> None:
        """Create empty records."""
        self._rows: list[dict[str, Any]] = []
        self._open: dict[int, dict[str, Any]] = {}
        self._entries: dict[tuple[str, Any, bool], dict[str, Any]] = {}
        self._exits: dict[int, dict[str, float]] = {}
        self._last: dict[tuple[str, Any], tuple[float, bool]] = {}

    def notify_order(self, order: Any) -> None:
        """Record plans by direction, bracket exits, and the last fill price per feed and tradeid."""
        if order.parent is not None and order.status in (order.Submitted, order.Accepted):
            kind = "stop" if order.exectype in STOP_TYPES else "target"
            self._exits.setdefault(order.parent.ref, {})[kind] = order.created.price
        if order.status in (order.Partial, order.Completed):
            key = (order.data._name, order.tradeid)
            self._last[key] = (order.executed.price, order.info.get("forced") is not None)
            if order.parent is None:
                self._entries[(*key, order.isbuy())] = {"ref": order.ref, "plan": order.info.get("plan", "")}

    def notify_trade(self, trade: Any) -> None:
        """Open a row when a trade opens and complete it when the trade closes."""
        key = (trade.data._name, trade.tradeid)
        if trade.justopened:
            entry = self._entries.get((*key, trade.size > 0), {"ref": 0, "plan": ""})
            exits = self._exits.get(entry["ref"], {})
            self._open[trade.ref] = {
                "symbol": trade.data._name, "side": "long" if trade.size > 0 else "short", "tradeid": trade.tradeid,
                "plan": entry["plan"], "opened_ms": time_ms(trade.dtopen), "entry": trade.price, "size": 0.0,
                "stop": exits.get("stop"), "target": exits.get("target"),
            }  # fmt: skip
        row = self._open.get(trade.ref)
        if row is None:
            return
        if trade.size:
            row["size"] = max(row["size"], abs(trade.size))
            row["entry"] = trade.price
        if trade.isclosed:
            del self._open[trade.ref]
            self._rows.append(self._closed_row(trade, row, *self._last.get(key, (0.0, False))))

    def _closed_row(self, trade: Any, row: dict[str, Any], price: float, forced: bool) -> dict[str, Any]:  # noqa: FBT001
        risked = None
        if row["stop"] is not None:
            info = self.strategy.broker.getcommissioninfo(trade.data)
            direction = 1 if row["side"] == "long" else -1
            risked = -info.profitandloss(direction * row["size"], row["entry"], row["stop"])
        return {
            **row,
            "closed_ms": time_ms(trade.dtclose),
            "exit": price,
            "profit": trade.pnl,
            "fees": trade.commission,
            "result": trade.pnlcomm,
            "multiple": trade.pnl / risked if risked and risked > 0 else None,
            "forced": forced,
        }

    def get_analysis(self) -> list[dict[str, Any]]:
        """Return the rows of closed trades, oldest first."""
        return self._rows
