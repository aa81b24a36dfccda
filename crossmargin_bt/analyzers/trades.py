# SPDX-License-Identifier: GPL-3.0-or-later
"""A trading journal: what was planned, what was done, what came of it."""

from typing import Any

import backtrader as bt

from crossmargin_bt.broker.session.bars import time_ms

STOPS = (bt.Order.Stop, bt.Order.StopLimit, bt.Order.StopTrail, bt.Order.StopTrailLimit)


class TradeJournal(bt.Analyzer):
    """One row a closed trade, for keeping a journal.

    `buy(..., plan="why")` gives an entry its plan; a bracket's exits are its stop and target. `get_analysis()` is a list of
    dicts: `symbol`, `side`, `tradeid`, `plan`, `opened_ms`, `closed_ms`, `entry`, `exit`, `size` (the largest held), `stop`, `target`,
    `profit` (before fees), `fees`, `result` (after fees), `multiple` (profit over what was risked to the stop, None without
    one), `forced` (whether the venue closed it).
    """

    def create_analysis(self) -> None:
        """Start empty."""
        self._rows: list[dict[str, Any]] = []
        self._open: dict[int, dict[str, Any]] = {}
        self._entries: dict[tuple[str, Any, bool], dict[str, Any]] = {}
        self._exits: dict[int, dict[str, float]] = {}
        self._last: dict[tuple[str, Any], tuple[float, bool]] = {}

    def notify_order(self, order: Any) -> None:
        """Note plans by direction, exits, and the last price of every data and tradeid."""
        if order.parent is not None and order.status in (order.Submitted, order.Accepted):
            kind = "stop" if order.exectype in STOPS else "target"
            self._exits.setdefault(order.parent.ref, {})[kind] = order.created.price
        if order.status in (order.Partial, order.Completed):
            key = (order.data._name, order.tradeid)
            self._last[key] = (order.executed.price, order.info.get("forced") is not None)
            if order.parent is None:
                self._entries[(*key, order.isbuy())] = {"ref": order.ref, "plan": order.info.get("plan", "")}

    def notify_trade(self, trade: Any) -> None:
        """Open a row with a trade and end it with the trade."""
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
            self._rows.append(self._ended(trade, row, *self._last.get(key, (0.0, False))))

    def _ended(self, trade: Any, row: dict[str, Any], price: float, forced: bool) -> dict[str, Any]:  # noqa: FBT001
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
