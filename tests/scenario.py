# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario language: a page a person can check with a pocket calculator.

Lines up to the first `bar` set the stage or work on the engine's account directly; a scenario with
`bar` lines runs through the broker, each action placed after the bar above it. docs/scenarios.md
describes every line. Numbers are compared to the digits written.
"""

from __future__ import annotations

import datetime as dt
import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import get_type_hints

import backtrader as bt
import msgspec
import pandas as pd
import pytest

from crossmargin_bt import CrossMarginBroker, feeds, venues
from crossmargin_bt.engine.admission import maximum_order, order_admission, settings_changes
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import waterfall
from crossmargin_bt.engine.liquidation.forced_close import PoolCloser
from crossmargin_bt.engine.margin import invariants, liquidation_prices, metrics
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.liquidation_steps import Above, Fraction, Hedges, Pairs, Portion, Reduce, Tiers
from crossmargin_bt.engine.terms.rates import (
    LeverageTier,
    LinearRate,
    PowerRate,
    ShareTable,
    SizeRate,
    flat_rate,
    tier_table,
)
from crossmargin_bt.engine.terms.rules import Rules

CURRENCY = "USDT"
RATES = {"size": SizeRate, "linear": LinearRate, "power": PowerRate}


def written(text: str):
    """Return a number to compare with, as exact as it is written: 28.55 means 28.55 to half a cent of its last digit."""
    if text in ("inf", "-inf"):
        return float(text)
    if text == "none":
        return pytest.approx(math.nan, nan_ok=True)
    exponent = Decimal(text).as_tuple().exponent
    return pytest.approx(float(text), rel=1e-12, abs=0.5001 * 10.0 ** int(exponent) if "." in text else 1e-6)


class Stage:
    """Everything set before the first bar or fill."""

    def __init__(self) -> None:
        self.venue, self.rules, self.mode, self.position, self.cash, self.path = (
            "generic",
            {},
            "cross",
            "one_way",
            1e4,
            "path",
        )
        self.day: date | None = None
        self.instruments: dict[str, Instrument] = {}
        self.leverage: dict[str, float] = {}
        self.modes: dict[str, str] = {}
        self.slippage = 0.0
        self.warnings: tuple[float, ...] = ()
        self.forced = (0.0, 0.0)

    def take(self, word: str, rest: list[str]) -> bool:
        """Take a line that sets the stage; return False when it is an action."""
        if word in ("mode", "position", "path"):
            setattr(self, word, rest[0])
        elif word == "venue":
            self.venue, self.day = rest[0], date.fromisoformat(rest[1]) if len(rest) > 1 else None
        elif word == "cash":
            self.cash = float(rest[0])
        elif word == "slippage":
            self.slippage = float(rest[0])
        elif word == "warnings":
            self.warnings = tuple(float(level) for level in rest)
        elif word == "forced":
            self.forced = (float(rest[0]), float(rest[1]))
        elif word == "rule":
            self.rules[rest[0]] = rule_value(rest[0], rest[1])
        elif word == "fees":
            self.rules["maker"], self.rules["taker"] = float(rest[0]), float(rest[1])
            self.rules["liquidation_fee"] = float(rest[2]) if len(rest) > 2 else 0.0
        elif word == "instrument":
            self._instrument(rest[0], dict(pair.split("=") for pair in rest[1:]))
        else:
            return False
        return True

    def _instrument(self, symbol: str, facts: dict[str, str]) -> None:
        self.leverage[symbol] = float(facts.pop("leverage", "1"))
        self.modes[symbol] = facts.pop("mode", self.mode)
        settings: dict = {"lot": 1.0, "leverage_max": 1000.0, "maintenance": flat_rate(0.005)}
        for key, value in facts.items():
            if key == "maintenance":
                settings[key] = None if value == "venue" else flat_rate(float(value))
            elif key == "tiers":
                kind, _, rows = value.partition("/")
                rows = [tuple(float(x) for x in row.split(":")) for row in rows.split(",")]
                table = tier_table([(*row, None)[:3] for row in rows], marginal=kind.startswith("marginal"))
                measure = "quantity" if kind.endswith("_by_quantity") else "value"
                settings["maintenance"] = msgspec.structs.replace(table, measure=measure)
            elif key in RATES:
                settings["maintenance"] = RATES[key](*(float(x) for x in value.split(":")))
            elif key == "share":
                share, _, rows = value.partition("/")
                tiers = tuple(LeverageTier(*(float(x) for x in row.split(":"))) for row in rows.split(","))
                settings["maintenance"] = ShareTable(tiers, float(share))
            elif key == "inverse":
                settings[key] = value == "true"
            else:
                settings[key] = value if key in ("settle", "underlying") else float(value)
        self.instruments[symbol] = Instrument(symbol=symbol, **settings)

    def book_rules(self):
        rules = venues.load(self.venue).at(self.day).rules
        return msgspec.structs.replace(rules, **self.rules)


STEPS = {
    "pairs": Pairs,
    "hedges": Hedges,
    "reduce": Reduce,
    "portion": Portion,
    "tiers": Tiers,
    "fraction": Fraction,
    "above": Above,
}


def rule_value(key: str, text: str):
    """Return a rule's answer from the text of a scenario: `true`, `none`, `3,1.5`, `pairs,tiers:2`."""
    if key == "liquidation":
        steps = (step.split(":") for step in text.split(",") if step != "all")
        return tuple(
            STEPS[name](*(int(n) if name == "tiers" else float(n) for n in numbers)) for name, *numbers in steps
        )
    if key in ("profit_pays_for", "warning_levels"):
        return tuple(text.split(",")) if key == "profit_pays_for" else tuple(float(level) for level in text.split(","))
    value = {"true": True, "false": False}.get(
        text, None if text == "none" and key.endswith(("level", "markup")) else text
    )
    return msgspec.convert(value, type=get_type_hints(Rules)[key], strict=False)


def parse_order(rest: list[str]) -> tuple[str, int, float, dict]:
    """Read `BTC +100 @ 40000 long reduce group=1 immediate`."""
    symbol, lots, _, price = rest[:4]
    options: dict = {"side": "net", "reduce_only": False, "group": None, "immediate": False}
    for word in rest[4:]:
        if word in ("long", "short"):
            options["side"] = word
        elif word == "reduce":
            options["reduce_only"] = True
        elif word == "immediate":
            options["immediate"] = True
        elif word.startswith("group="):
            options["group"] = int(word.partition("=")[2])
    return symbol, int(lots), float(price), options


class AccountScenario:
    """A scenario on the engine's account."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.journal: list = []
        self.orders = 0
        self.account = Account(stage.book_rules(), position_mode=stage.position)
        for symbol, instrument in stage.instruments.items():
            self.account.list_instrument(instrument)
            self.record(
                events.SettingChanged(
                    time_ms=0, symbol=symbol, margin_mode=stage.modes[symbol], leverage=stage.leverage[symbol]
                )
            )
        self.record(events.CashTransferred(time_ms=0, currency=CURRENCY, amount=stage.cash))

    def record(self, event) -> None:
        self.account.apply(event)
        self.journal.append(event)
        invariants.check(self.account)

    def run(self, word: str, rest: list[str]) -> None:
        getattr(self, f"do_{word.replace('-', '_')}")(rest)

    def do_mark(self, rest) -> None:
        self.account.set_mark(rest[0], float(rest[1]))

    def do_fill(self, rest) -> None:
        symbol, lots, price, options = parse_order(rest)
        if not self.account.books[symbol].long_mark:
            self.account.set_mark(symbol, price)
        entry = fills.order_fill(
            self.account, 0, symbol, options["side"], number=10_000, lots=lots, price=price, maker="maker" in rest
        )
        self.record(entry)

    def _order(self, rest):
        symbol, lots, price, options = parse_order(rest)
        if not self.account.books[symbol].long_mark:
            self.account.set_mark(symbol, price)
        self.orders += 1
        order = OpenOrder(
            self.orders, options["side"], lots, price, options["reduce_only"], options["group"], options["immediate"]
        )
        admitted = order_admission.below_minimum(self.account.books[symbol], order) or order_admission.admit(
            self.account, symbol, order
        )
        refused = isinstance(admitted, Refusal)
        return symbol, order if refused else admitted, admitted if refused else None

    def do_order(self, rest) -> None:
        symbol, order, refusal = self._order(rest)
        assert refusal is None, str(refusal)
        self.record(
            events.OrderPlaced(
                time_ms=0, number=order.number, symbol=symbol, side=order.side, lots=order.lots, price=order.price,
                reduce_only=order.reduce_only, group=order.group, immediate=order.immediate,
                covered=order.covered,
            )
        )  # fmt: skip

    def do_refused(self, rest) -> None:
        _, _, refusal = self._order([word for word in rest if "=" not in word])
        assert refusal is not None, "the order was admitted"
        for pair in (word.split("=") for word in rest if "=" in word):
            assert getattr(refusal, pair[0]) == written(pair[1]), f"{pair[0]}: {refusal}"

    def do_cancel(self, rest) -> None:
        number = int(rest[0])
        symbol = next(s for s, book in self.account.books.items() if number in book.orders)
        self.record(events.OrderRemoved(time_ms=0, number=number, symbol=symbol, reason="canceled"))

    def do_margin(self, rest) -> None:
        self.record(events.IsolatedMarginAdjusted(time_ms=0, symbol=rest[0], side=rest[1], amount=float(rest[2])))

    def do_maximum(self, rest) -> None:
        """`maximum BTC +1200 @ 100`: the most that may be bought (sold, when negative) at that price."""
        symbol, lots, price, options = parse_order(rest)
        if not self.account.books[symbol].long_mark:
            self.account.set_mark(symbol, price)
        found = maximum_order.maximum_order_lots(self.account, symbol, options["side"], 1 if lots > 0 else -1, price)
        assert found == abs(lots)

    def do_funding(self, rest) -> None:
        mark = self.account.books[rest[0]].long_mark
        for event in fills.funding_due(self.account, 0, rest[0], mark, float(rest[1])):
            self.record(event)

    def do_liquidate(self, rest) -> None:
        pools = [pool for pool in metrics.pools(self.account) if metrics.risk(self.account, pool).gap <= 0]
        assert [pool.name for pool in pools] == rest, "which pools are liquidated"
        for pool in pools:
            self.record(waterfall.liquidation_entry(self.account, 0, pool))
            work = PoolCloser(self.account, 0, pool, self.mark_of)
            for event in waterfall.liquidate(work):
                self.record(event)

    def mark_of(self, close: waterfall.Close) -> float:
        book = self.account.books[close.symbol]
        return book.mark_of(book.legs[close.side].lots)

    def do_reduced(self, rest) -> None:
        """`reduced pairs BTC:long=-10 BTC:short=+10`: the steps of liquidations so far, each after `|`."""
        found = [
            [event.step, *(f"{leg}={lots:+d}" for leg, lots in event.closes.items())] for event in reduced(self.journal)
        ]
        assert found == [group.split() for group in " ".join(rest).split("|")], found

    def do_expect(self, rest) -> None:
        for key, value in zip(rest[::2], rest[1::2], strict=True):
            assert self.reading(key) == written(value), key

    def do_leg(self, rest) -> None:
        symbol, side, lots, *figures = rest
        leg = self.account.books[symbol].leg(side)
        assert leg.lots == int(lots)
        for name, value in (figure.split("=") for figure in figures):
            assert getattr(leg, name) == written(value), name

    def reading(self, key: str) -> float:
        return read(self.account, key)

    def finish(self) -> None:
        again = replay(self.journal, self.account.rules, self.stage.instruments, position_mode=self.stage.position)
        assert again.balances == self.account.balances
        assert {s: b.legs for s, b in again.books.items()} == {s: b.legs for s, b in self.account.books.items()}


def read(account: Account, key: str) -> float:
    """Return one of the figures a scenario may expect."""
    key, _, where = key.partition(":")
    if key in ("liquidation", "fall", "rise"):
        found = estimate(account, key, where)
        return math.nan if found is None else found
    if key == "bankruptcy":
        pool = next(p for p in metrics.pools(account) if where in [f"{s}:{side}" for s, side in p.legs])
        return metrics.bankruptcy_prices(account, pool)[where]
    if key.partition("_")[0] in ("maintenance", "level", "ratio"):
        return risk_figure(account, key, where)
    return {
        "equity": lambda: metrics.pool_balance(account, CURRENCY).equity,
        "balance": lambda: account.balances[CURRENCY],
        "in_use": lambda: metrics.pool_balance(account, CURRENCY).in_use,
        "used": lambda: metrics.pool_balance(account, CURRENCY).margin_used,
        "free": lambda: metrics.pool_balance(account, CURRENCY).free_margin,
        "available": lambda: metrics.pool_balance(account, CURRENCY).available_balance,
        "withdrawable": lambda: settings_changes.withdrawable(account, CURRENCY),
        "bad_debt": lambda: account.bad_debt,
        "fees": lambda: account.fees,
        "funding": lambda: account.funding,
        "realised": lambda: sum(account.books[where].realised.values()),
        "value": lambda: account.books[where].value(account.books[where].leg("net")),
    }[key]()


def estimate(account: Account, key: str, where: str) -> float | None:
    """Return a liquidation price, or how far all prices may fall or rise together (betas as ETH=2)."""
    if key == "liquidation":
        symbol, _, side = where.partition(":")
        return liquidation_prices.liquidation_price(account, symbol, side or "net").price
    betas = {symbol: float(beta) for symbol, beta in (pair.split("=") for pair in where.split(",") if pair)}
    return getattr(liquidation_prices.aggregate_distance(account, betas), key)


def risk_figure(account: Account, key: str, where: str) -> float:
    """Return requirement, margin level or the venue's ratio of a pool."""
    name, _, positions = key.partition("_")
    pool = next((p for p in metrics.pools(account) if p.name == (where or CURRENCY)), None)
    if pool is None:
        return {"maintenance": 0.0, "level": math.inf, "ratio": 0.0}[name]
    risk = metrics.risk(account, pool, with_orders=not positions)
    if name == "ratio":
        return risk.ratio(account.rules.ratio)
    return {"maintenance": risk.requirement, "level": risk.margin_level}[name]


class Script(bt.Strategy):
    """Places what the scenario writes after each bar, and checks what it expects there."""

    params = (("steps", ()),)

    def __init__(self) -> None:
        self.entered: list = []
        self.statuses: dict[int, list[str]] = {}
        self.closed_trades: list = []

    def notify_order(self, order) -> None:
        self.statuses.setdefault(order.ref, []).append(order.getstatusname())

    def notify_trade(self, trade) -> None:
        if trade.isclosed:
            self.closed_trades.append(trade)

    def next(self) -> None:
        for word, rest in self.p.steps[len(self) - 1]:
            getattr(self, f"do_{word.replace('-', '_')}")(rest)

    def do_buy(self, rest) -> None:
        self._enter(self.buy, rest)

    def do_sell(self, rest) -> None:
        self._enter(self.sell, rest)

    def _enter(self, method, rest) -> None:  # noqa: C901, PLR0912 - one branch a word of the language
        data = self.getdatabyname(rest[0])
        words, keywords = rest[2:], {"exectype": bt.Order.Market}
        kinds = {"limit": bt.Order.Limit, "stop": bt.Order.Stop, "stoplimit": bt.Order.StopLimit}
        while words:
            word = words.pop(0)
            if word in kinds:
                keywords.update(exectype=kinds[word], price=float(words.pop(0)))
                if word == "stoplimit":
                    keywords["plimit"] = float(words.pop(0))
            elif word == "trail":
                keywords.update(exectype=bt.Order.StopTrail, trailamount=float(words.pop(0)))
            elif word == "atclose":
                keywords["exectype"] = bt.Order.Close
            elif word in ("long", "short"):
                keywords["position_side"] = word
            elif word == "reduce":
                keywords["reduce_only"] = True
            elif word.startswith("oco="):
                keywords["oco"] = self.entered[int(word.partition("=")[2]) - 1]
            elif word.startswith("trade="):
                keywords["tradeid"] = int(word.partition("=")[2])
            elif word.startswith("valid="):
                keywords["valid"] = dt.timedelta(hours=float(word.partition("=")[2]))
            elif word.startswith("price="):
                keywords["price"] = float(word.partition("=")[2])
            elif word.startswith("stopat="):
                self._bracket(method, data, float(rest[1]), float(word.partition("=")[2]), words, keywords)
                return
            else:
                keywords[word.partition("=")[0]] = word.partition("=")[2]
        self.entered.append(method(data=data, size=float(rest[1]), **keywords))

    def _bracket(self, method, data, size, stop, words, keywords) -> None:
        exits = {key: keywords[key] for key in ("position_side",) if key in keywords}
        target = next((float(word.partition("=")[2]) for word in words if word.startswith("takeat=")), None)
        bracket = self.buy_bracket if method == self.buy else self.sell_bracket
        orders = bracket(
            data=data, size=size, stopprice=stop, stopargs=exits, limitprice=target, limitargs=exits,
            limitexec=None if target is None else bt.Order.Limit, **keywords,
        )  # fmt: skip
        self.entered.extend(order for order in orders if order is not None)

    def do_close(self, rest) -> None:
        self.entered.append(self.close(data=self.getdatabyname(rest[0])))

    def do_cancel(self, rest) -> None:
        self.cancel(self.entered[int(rest[0]) - 1])

    def do_leverage(self, rest) -> None:
        self.outcome = self.broker.set_leverage(rest[0], float(rest[1]))

    def do_margin_mode(self, rest) -> None:
        self.outcome = self.broker.set_margin_mode(rest[0], rest[1])

    def do_outcome(self, rest) -> None:
        assert (self.outcome is None) == (rest[0] == "done"), str(self.outcome)

    def do_expect(self, rest) -> None:
        for key, value in zip(rest[::2], rest[1::2], strict=True):
            found = {
                "value": self.broker.getvalue, "cash": self.broker.getcash,
                "open_orders": lambda: len(self.broker.get_orders_open()),
                "closed_trades": lambda: len(self.closed_trades),
                "trade_profit": lambda: sum(trade.pnl for trade in self.closed_trades),
                "lowest_level": lambda: self.broker.lowest_margin_level,
            }.get(key)  # fmt: skip
            found = found() if found else read(self.broker.account, key)
            assert found == written(value), key

    def do_position(self, rest) -> None:
        data = self.getdatabyname(rest[0])
        side = rest[3] if len(rest) > 3 else None
        net = side is None and self.broker.p.position_mode == "hedge"
        position = self.broker.positions[data] if net else self.broker.getposition(data, side)
        assert position.size == written(rest[1])
        assert position.price == written(rest[2])

    def do_status(self, rest) -> None:
        order = self.entered[int(rest[0]) - 1]
        assert order.getstatusname() == rest[1], f"{self.statuses[order.ref]} {order.info.get('reject')}"
        assert self.statuses[order.ref][-1] == rest[1], "what notify_order heard last"
        if len(rest) > 2:
            told = str(order.info.get("reject") or order.info.get("removed"))
            assert " ".join(rest[2:]) in told, told

    def do_filled(self, rest) -> None:
        symbol, lots, _, price = rest[:4]
        found = [e for e in self.broker.journal if isinstance(e, events.Filled) and e.symbol == symbol]
        forced = "forced" in rest
        assert any(e.lots == int(lots) and e.price == written(price) and e.forced == forced for e in found), found

    def do_reduced(self, rest) -> None:
        found = [
            [event.step, *(f"{leg}={lots:+d}" for leg, lots in event.closes.items())]
            for event in reduced(self.broker.journal)
        ]
        assert found == [group.split() for group in " ".join(rest).split("|")], found

    def do_states(self, rest) -> None:
        """`states warning liquidation_check recovered`: the states pools came into, in order; with `heard` what the strategy was told."""
        found = [event.state for event in self.broker.journal if isinstance(event, events.RiskState)]
        assert found == ([] if rest == ["none"] else rest), found

    def do_liquidated(self, rest) -> None:
        found = [e.pool for e in self.broker.journal if isinstance(e, events.Liquidated)]
        assert found == ([] if rest == ["none"] else rest)


def run_bars(stage: Stage, lines: list[tuple[str, list[str]]], **cerebro_settings) -> Script:
    """Run a scenario with bars through the broker, and return the strategy."""
    steps: list[list] = []
    rows: dict[str, list] = {symbol: [] for symbol in stage.instruments}
    for word, rest in lines:
        if word == "bar":
            for group in " ".join(rest).split("|"):
                symbol, *figures = group.split()
                rows[symbol].append((len(steps), figures))
            steps.append([])
        else:
            steps[-1].append((word, rest))
    cerebro = bt.Cerebro(stdstats=False, **cerebro_settings)
    for symbol, instrument in stage.instruments.items():
        cerebro.adddata(feeds.from_frame(bars_frame(rows[symbol]), name=symbol, instrument=instrument))
    broker = CrossMarginBroker(
        cash=stage.cash, venue=stage.venue, mode=stage.mode, leverage=stage.leverage, position_mode=stage.position,
        path=stage.path, check=True, slip_perc=stage.slippage, slip_open=True, warning_levels=stage.warnings,
        liquidation_slippage=stage.forced[0], liquidation_impact=stage.forced[1],
    )  # fmt: skip
    broker.venue = msgspec.structs.replace(broker.venue, rules=stage.book_rules(), changes=())
    for symbol, mode in stage.modes.items():
        if mode != stage.mode:
            broker.set_margin_mode(symbol, mode)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Script, steps=steps)
    return cerebro.run()[0]


def reduced(journal) -> list[events.LiquidationStepTaken]:
    """Return the steps of the liquidations in a journal."""
    return [event for event in journal if isinstance(event, events.LiquidationStepTaken)]


def bars_frame(rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    """Return candles from `open high low close [mark open high low close] [funding rate]`, one hour apart."""
    records = []
    for hour, figures in rows:
        record = {**dict(zip(("open", "high", "low", "close"), map(float, figures[:4]), strict=True)), "volume": 1000.0}
        rest = figures[4:]
        while rest:
            word = rest.pop(0)
            if word == "mark":
                marks = ("mark_open", "mark_high", "mark_low", "mark_close")
                record.update(zip(marks, (float(rest.pop(0)) for _ in range(4)), strict=True))
            else:
                record["funding_rate"] = float(rest.pop(0))
        records.append({"date": pd.Timestamp("2025-01-01") + pd.Timedelta(hour, "h"), **record})
    return pd.DataFrame(records)


def run_file(path: Path, **cerebro_settings):
    """Run one scenario file."""
    return run_text(path.read_text(encoding="utf-8"), **cerebro_settings)


def run_text(text: str, **cerebro_settings):
    """Run the lines of a scenario."""
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    stage, actions = Stage(), []
    for word, *rest in (line for line in lines if line):
        if actions or not stage.take(word, rest):
            actions.append((word, rest))
    if any(word == "bar" for word, _ in actions):
        return run_bars(stage, actions, **cerebro_settings)
    scenario = AccountScenario(stage)
    for word, rest in actions:
        scenario.run(word, rest)
    scenario.finish()
    return scenario
