# SPDX-License-Identifier: GPL-3.0-or-later
"""Every refusal has a code: one word per cause, stable and documented."""

import ast
import inspect
from typing import Any, get_args

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from places import PROJECT

from crossmargin_bt import CrossMarginBroker, Instrument, analyzers, feeds
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.refusal import Refusal, RefusalCode
from crossmargin_bt.guards import MaximumLeverage

PACKAGE = PROJECT / "crossmargin_bt"
CODES = get_args(RefusalCode)


def flat_bars(count: int) -> pd.DataFrame:
    """Return hourly bars at 100."""
    times = pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC")
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 100.0), index=times)


def codes_in_source() -> set[str]:
    """Return the strings among the package's code, docstrings and the definition of the codes left out."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        if file.name != "refusal.py" and ("Refusal" in (text := file.read_text(encoding="utf-8"))):
            found |= {
                node.value
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    return found


def test_every_code_is_used_and_documented() -> None:
    """In the docstring of `Refusal` and on the page of refusals, and some line of the package refuses with it."""
    page = (PACKAGE.parent / "docs" / "refusals.md").read_text(encoding="utf-8")
    assert set(CODES) <= codes_in_source()
    assert [code for code in CODES if f"| `{code}` |" not in page] == []
    documented = {line.partition("  ")[0] for line in inspect.getdoc(Refusal).splitlines()}
    assert [code for code in CODES if code not in documented] == []


class Orders(bt.Strategy):
    """Enter one order in the third bar, straight at the broker, and note the codes of what was refused."""

    params = (("keywords", None), ("early", False))

    def start(self) -> None:
        self.codes: list[str] = []
        if self.p.early:
            self.buy(**self.p.keywords)

    def next(self) -> None:
        if len(self) == 3 and not self.p.early:
            self.broker.buy(self, self.data, **{"size": 1.0, **self.p.keywords})

    def notify_order(self, order: bt.Order) -> None:
        if order.status in (order.Margin, order.Rejected):
            self.codes.append(order.info.reject.code)


def codes_of(keywords: dict[str, Any], *, early: bool = False, **settings: Any) -> list[str]:
    """Return the codes of the refusals of one order at 100, on an account of 1,000 at 10x."""
    cerebro = bt.Cerebro(stdstats=False)
    instrument = settings.pop("instrument", Instrument(symbol="BTC", lot=0.01, tick=0.5))
    cerebro.adddata(feeds.from_frame(flat_bars(5), name="BTC", instrument=instrument))
    broker = CrossMarginBroker(**{"cash": 1_000.0, **settings})
    cerebro.setbroker(broker)
    cerebro.addstrategy(Orders, keywords=keywords, early=early)
    cerebro.addanalyzer(analyzers.Rejections, _name="rejections")
    (strategy,) = cerebro.run()
    found = strategy.analyzers.rejections
    assert [row["code"] for row in found.get_analysis()] == strategy.codes
    assert sum(found.count_by_code().values()) == len(strategy.codes)
    if settings.get("mode") != "cash":
        refused = [entry for entry in broker.journal if isinstance(entry, events.OrderRefused)]
        assert [entry.code for entry in refused] == strategy.codes
    return strategy.codes


@pytest.mark.parametrize(
    ("code", "keywords", "settings"),
    [
        ("insufficient_margin", {"size": 200.0}, {}),
        ("insufficient_balance", {"size": 200.0}, {"mode": "isolated"}),
        ("insufficient_cash", {"size": 200.0}, {"mode": "cash"}),
        ("below_minimum_value", {}, {"instrument": Instrument(symbol="BTC", lot=0.01, notional_min=200.0)}),
        ("not_a_number", {"size": "many"}, {}),
        ("not_a_number", {"size": float("nan")}, {}),
        ("not_a_number", {"price": []}, {}),
        ("size_below_one_lot", {"size": 0.001}, {}),
        ("size_below_one_lot", {"size": 0}, {"mode": "cash", "strict": True}),
        ("not_a_number", {"size": float("nan")}, {"mode": "cash", "strict": True}),
        ("price_not_positive", {"price": 0.0, "exectype": bt.Order.Limit}, {}),
        ("price_not_positive", {"price": 0.0, "exectype": bt.Order.Limit}, {"mode": "cash", "strict": True}),
        ("price_below_tick", {"price": 0.2, "exectype": bt.Order.Limit}, {}),
        ("unknown_keyword", {"reduceonly": True}, {}),
        ("side_missing", {}, {"position_mode": "hedge"}),
        ("side_unknown", {"position_side": "up"}, {"position_mode": "hedge"}),
        ("side_unavailable", {"position_side": "long"}, {}),
        ("guard", {"size": 50.0}, {"guards": [MaximumLeverage(2.0)]}),
    ],
)
def test_an_order_is_refused_with_the_code_of_its_cause(
    code: str, keywords: dict[str, Any], settings: dict[str, Any]
) -> None:
    """The order, the analyzer and the journal have the same code."""
    assert codes_of(keywords, **settings) == [code]


def test_an_order_before_the_first_bar_has_a_code() -> None:
    """Its feed has delivered nothing yet."""
    assert codes_of({"size": 1.0}, early=True) == ["no_bar_yet"]


def test_a_refusal_by_a_guard_names_the_guard() -> None:
    """By its field; the reason begins with the name as well."""
    seen: list[Refusal] = []

    class Noting(Orders):
        def notify_order(self, order: bt.Order) -> None:
            if order.status == order.Rejected:
                seen.append(order.info.reject)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(flat_bars(5), name="BTC", instrument=Instrument(symbol="BTC", lot=0.01)))
    cerebro.setbroker(CrossMarginBroker(cash=1_000.0, guards=[MaximumLeverage(2.0)]))
    cerebro.addstrategy(Noting, keywords={"size": 50.0})
    cerebro.run()
    assert [(refusal.code, refusal.guard) for refusal in seen] == [("guard", "MaximumLeverage")]
    assert seen[0].reason.startswith("MaximumLeverage: ")


def test_settings_and_transfers_are_refused_with_the_code_of_their_cause() -> None:
    """On a cross position of 10 at 100 and 10x, which locks 100 of 1,000, and an isolated one."""
    said: dict[str, str | None] = {}

    class Changing(bt.Strategy):
        def next(self) -> None:
            cross, isolated = self.datas
            if len(self) == 1:
                self.broker.set_margin_mode(isolated, "isolated")
                self.buy(cross, size=10)
                self.buy(isolated, size=1)
            if len(self) != 3:
                return
            broker = self.broker
            for name, refusal in {
                "leverage": broker.set_leverage(cross, 1.0),
                "isolated leverage": broker.set_leverage(isolated, 1.0),
                "margin mode": broker.set_margin_mode(cross, "isolated"),
                "position mode": broker.set_position_mode("hedge"),
                "transfer": broker.transfer("USDT", -5_000.0),
                "set aside": broker.set_aside("USDT", 5_000.0),
                "add": broker.add_margin(isolated, 5_000.0),
                "remove": broker.add_margin(isolated, -5_000.0),
                "no position": broker.add_margin(cross, 1.0),
                "done": broker.transfer("USDT", 1.0),
            }.items():
                said[name] = None if refusal is None else refusal.code

    cerebro = bt.Cerebro(stdstats=False)
    for name in ("BTC", "ETH"):
        cerebro.adddata(feeds.from_frame(flat_bars(4), name=name, instrument=Instrument(symbol=name, lot=0.01)))
    cerebro.setbroker(CrossMarginBroker(cash=1_000.0))
    cerebro.addstrategy(Changing)
    cerebro.run()
    assert said == {
        "leverage": "insufficient_margin",
        "isolated leverage": "leverage_of_isolated_position",
        "margin mode": "position_open",
        "position mode": "position_open",
        "transfer": "withdrawal_above_available",
        "set aside": "insufficient_balance",
        "add": "insufficient_balance",
        "remove": "removal_above_spare_margin",
        "no position": "no_isolated_position",
        "done": None,
    }


def test_journals_of_versions_without_codes_are_read() -> None:
    """Their refusals have an empty code."""
    entry = events.OrderRefused(
        time_ms=0, number=1, symbol="BTC", side="net", lots=1, price=100.0, kind="margin", code="insufficient_margin",
        needed=2.0, available=1.0, reason="", group=None, immediate=True, at_fill=False, prices={},
    )  # fmt: skip
    plain = msgspec.to_builtins(entry)
    assert msgspec.convert(plain, events.JournalEntry) == entry
    del plain["code"]
    assert msgspec.convert(plain, events.JournalEntry) == msgspec.structs.replace(entry, code="")
