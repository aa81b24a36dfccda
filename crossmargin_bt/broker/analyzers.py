# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers whose results are plain data that survives a process boundary: the report's recorder, and distances."""

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import backtrader as bt
import msgspec

from crossmargin_bt.broker.session.bars import EPOCH_DAY, INSTANT, time_ms
from crossmargin_bt.engine.ledger.journal import Journal
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.time_units import MS_PER_DAY


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
    """What a report tells of a run: curves, fills, refusals and the journal.

    Params:
        on_bar: called after every bar.
        since_ms: bars before this time are not recorded (a strategy that only warms up trades in none of them).
        detail: also record margin level, exposure and, at up to `estimates_max` bars, liquidation prices.

    Works with `CrossMarginBroker` in all modes.
    """

    params = (("on_bar", None), ("since_ms", None), ("detail", True), ("estimates_max", 1000))

    def create_analysis(self) -> None:
        """Start empty."""
        self._record: dict[str, Any] = {}
        self._journal = Journal()
        self._curve: Any = None
        self._days = array("d")
        self._places: Sequence[int] = array("q")
        self._cash_curve: dict[str, list[float]] = {"equity": [], "margin_used": [], "free_margin": []}
        self._levels: list[float | None] = []
        self._exposure: dict[str, list[float]] = {}
        self._estimates: dict[str, Any] = {"times_ms": [], "prices": {}}
        self._bars = 0
        self._fills = 0
        self._refused = 0
        self._fees = 0.0
        self._cash_journal: list[dict[str, Any]] = []
        self._paid: dict[int, float] = {}

    def notify_order(self, order: Any) -> None:
        """Keep cash mode's journal, fills and refusals; a margin account has its own."""
        if self._is_margin:
            return
        if order.status in (order.Margin, order.Rejected):
            self._refused += 1
            self._cash_entry(order, "OrderRefused", order.created.size, order.created.price, 0.0)
        elif order.status in (order.Partial, order.Completed):
            self._fills += 1
            fee = order.executed.comm - self._paid.get(order.ref, 0.0)
            self._paid[order.ref] = order.executed.comm
            self._fees += fee
            bit = order.executed.exbits[-1]
            self._cash_entry(order, "Filled", bit.size, bit.price, fee)

    @property
    def hears_orders(self) -> bool:
        """Whether it handles orders: in cash mode, which has no journal."""
        return not self._is_margin

    def _cash_entry(self, order: Any, event: str, size: float, price: float, fee: float) -> None:
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

    def start(self) -> None:
        """Let the broker keep its curve, which costs less than asking in every bar."""
        self._since = -math.inf if self.p.since_ms is None else self.p.since_ms / MS_PER_DAY + EPOCH_DAY - INSTANT
        mode = getattr(self.strategy.broker.p, "mode", None)
        if mode is None:
            raise ConfigurationError(
                "a Recorder needs a CrossMarginBroker; for the stock broker's cash use CrossMarginBroker(mode='cash')"
            )
        self._is_margin = mode != "cash"
        self._time: Any = self.strategy.lines.datetime
        self._reads_at_the_end = False
        if self._is_margin:
            self.strategy.broker.keep_curve()

    def read_at_the_end(self) -> bool:
        """Return whether nothing has to be recorded bar by bar: by then the strategy has its times, and the broker its curve.

        Only a loop that asks the broker once for every bar of a strategy may call this; bars are left out from then on.
        """
        self._reads_at_the_end = self._is_margin and not self.p.detail and self.p.on_bar is None
        return self._reads_at_the_end

    def next(self) -> None:
        """Record the bar."""
        if self._reads_at_the_end:
            return
        broker, time = self.strategy.broker, self._time
        day = time.array[time._idx]
        if day >= self._since:
            self._days.append(day)
            if self._is_margin:
                self._places.append(broker.bars)  # type: ignore[attr-defined]  # an array, bar by bar
            else:
                row = (broker.equity, broker.margin_used, float(broker.getcash()))
                for values, value in zip(self._cash_curve.values(), row, strict=True):
                    values.append(value)
            if self.p.detail:
                self._look(time_ms(day))
            self._bars += 1
        if self.p.on_bar is not None:
            self.p.on_bar()

    def _look(self, now_ms: int) -> None:
        """Record what takes a look at every position."""
        broker = self.strategy.broker
        level = broker.margin_level
        self._levels.append(level if math.isfinite(level) else None)
        traded = [data for data in self.datas if broker.sides(data)]
        for data in traded:
            size = broker.positions[data].size if len(data) else 0.0
            value = broker.getcommissioninfo(data).getvaluesize(size, data.close[0]) if size else 0.0
            self._exposure.setdefault(data._name, []).append(math.copysign(value, size))
        every = max(1, math.ceil(self.data.buflen() / self.p.estimates_max))
        if broker.account is None or self._bars % every:
            return
        self._estimates["times_ms"].append(now_ms)
        for data in traded:
            for side in broker.sides(data):
                name = data._name if side == "net" else f"{data._name}:{side}"
                price = broker.liquidation_price(data, side).price if len(data) else None
                self._estimates["prices"].setdefault(name, []).append(price)

    def stop(self) -> None:
        """Take from the broker what the record needs; in an optimisation only this comes back."""
        broker = self.strategy.broker
        account = broker.account
        if self._reads_at_the_end:
            days = self._time.array[: self._time.lencount]
            first = bisect_left(days, self._since)
            self._days, self._places = days[first:], range(first + 1, len(days) + 1)
        self._time = None  # lines would take all feeds along to another process
        self._journal = broker.journal
        if self._is_margin:
            self._curve = broker.curve
        lowest = broker.lowest_margin_level
        self._record = {
            "margin_level": self._levels,
            "exposure": self._exposure,
            "liquidation_prices": self._estimates,
            "fills": broker.fills if self._is_margin else self._fills,
            "refused": broker.refused if self._is_margin else self._refused,
            "liquidations": sum(type(event).__name__ == "Liquidated" for event in self._journal),
            "lowest_margin_level": lowest if math.isfinite(lowest) else None,
            "lowest_margin_level_ms": broker.lowest_margin_level_ms,
            "bad_debt": 0.0 if account is None else float(account.bad_debt),
            "fees": self._fees if account is None else float(account.fees),
            "funding": 0.0 if account is None else float(account.funding),
            "interest": 0.0 if account is None else float(account.interest),
            "account": {} if account is None else account.setup,
        }

    def get_analysis(self) -> dict[str, Any]:
        """Return the record as plain lists, numbers and dicts; complete once the run has ended.

        Until it is asked for, the record is arrays and journal entries, a tenth of that.
        """
        if self._record and "journal" not in self._record:
            journal = [msgspec.to_builtins(event) for event in self._journal]
            self._record = {
                **self._curves(),
                **self._record,
                "journal": journal if self._is_margin else self._cash_journal,
            }
        return self._record

    def _curves(self) -> dict[str, list[Any]]:
        """Return the curves, one entry a bar that was recorded."""
        times = [time_ms(day) for day in self._days]
        if not self._is_margin:
            return {"times_ms": times, **self._cash_curve}
        kept = self._curve
        places = [bar - kept.since - 1 for bar in self._places]
        curves = {name: getattr(kept, name) for name in self._cash_curve}
        return {"times_ms": times, **{name: [values[n] for n in places] for name, values in curves.items()}}
