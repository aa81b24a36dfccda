# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario language: a page a person can check with a pocket calculator.

Lines up to the first `bar` set the stage or work on the engine's account directly; a scenario with
`bar` lines runs through the broker, each action placed after the bar above it. docs/scenarios.md
describes every line. Numbers are compared to the digits written.
"""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import get_args

import backtrader as bt
import msgspec
import pandas as pd
from places import TESTS
from scenario_figures import read, written
from scenario_stage import START, Stage

from crossmargin_bt import CrossMarginBroker, feeds
from crossmargin_bt.engine.admission import maximum_order, order_admission, settings_changes
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal, RefusalCode, RefusalKind
from crossmargin_bt.engine.lifecycle import delisting, expiry, fills, interest
from crossmargin_bt.engine.liquidation import deficits, repayment, waterfall
from crossmargin_bt.engine.liquidation.forced_close import PoolCloser
from crossmargin_bt.engine.margin import invariants, liquidation_prices, metrics
from crossmargin_bt.time_units import MS_PER_HOUR


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


MAY_BE_REFUSED = ("withdraw", "set_aside", "leverage", "margin_mode", "position_mode", "margin")


class AccountScenario:
    """A scenario on the engine's account."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.journal: list = []
        self.orders = 0
        self.setup = {
            "position_mode": stage.position, "pooling": stage.pooling, "unit": stage.currency, "prices": stage.prices,
            "interest_rates": stage.interest, "portfolio": stage.mode == "portfolio",
            "insurance_fund": stage.insurance,
        }  # fmt: skip
        self.account = Account(stage.book_rules(), **self.setup)
        self.account.now_ms = 1000 * START.timestamp()
        for symbol, instrument in stage.instruments.items():
            if not self.account.list_instrument(instrument).is_fully_funded:
                self.record(
                    events.SettingChanged(
                        time_ms=0, symbol=symbol, margin_mode=stage.modes[symbol], leverage=stage.leverage[symbol]
                    )
                )
        for currency, amount in ((stage.currency, stage.cash), *stage.deposits.items()):
            self.record(events.CashTransferred(time_ms=0, currency=currency, amount=amount))

    @property
    def time_ms(self) -> int:
        """The present time of the scenario, in milliseconds."""
        return round(self.account.now_ms)

    def record(self, event) -> None:
        check_entry(event)
        self.account.apply(event)
        self.journal.append(event)
        invariants.check(self.account)

    def run(self, word: str, rest: list[str]) -> None:
        getattr(self, f"do_{word.replace('-', '_')}")(rest)

    def do_mark(self, rest) -> None:
        self.account.set_mark(rest[0], float(rest[1]))
        self.account.update_option_indices()

    def do_index(self, rest) -> None:
        self.account.books[rest[0]].index = float(rest[1])

    def do_volatility(self, rest) -> None:
        self.account.books[rest[0]].volatility = float(rest[1])

    def do_deposit(self, rest) -> None:
        self.record(events.CashTransferred(time_ms=self.time_ms, currency=rest[0], amount=float(rest[1])))

    def do_withdraw(self, rest) -> None:
        self.allowed("withdraw", rest)
        self.record(events.CashTransferred(time_ms=self.time_ms, currency=rest[0], amount=-float(rest[1])))

    def do_set_aside(self, rest) -> None:
        self.allowed("set_aside", rest)
        self.record(events.SetAside(time_ms=self.time_ms, currency=rest[0], amount=float(rest[1]), reason="a scenario"))

    def do_leverage(self, rest) -> None:
        self.allowed("leverage", rest)
        moves = settings_changes.margin_moves(self.account.books[rest[0]], float(rest[1]))
        self._set(rest[0], leverage=float(rest[1]))
        for side, amount in moves.items():
            self.record(events.IsolatedMarginAdjusted(time_ms=self.time_ms, symbol=rest[0], side=side, amount=amount))

    def do_margin_mode(self, rest) -> None:
        self.allowed("margin_mode", rest)
        self._set(rest[0], margin_mode=rest[1])

    def _set(self, symbol: str, **changed) -> None:
        book = self.account.books[symbol]
        setting = {"margin_mode": book.margin_mode, "leverage": book.leverage, **changed}
        self.record(events.SettingChanged(time_ms=self.time_ms, symbol=symbol, **setting))

    def do_position_mode(self, rest) -> None:
        self.allowed("position_mode", rest)
        self.record(events.PositionModeChanged(time_ms=self.time_ms, position_mode=rest[0]))

    def allowed(self, action: str, rest) -> None:
        refusal = self.refusal_of(action, rest)
        assert refusal is None, str(refusal)

    def refusal_of(self, action: str, rest) -> Refusal | None:
        """Return why an action on the account's money or settings may not be, or None."""
        account = self.account
        if action in ("withdraw", "set_aside"):
            return settings_changes.money_refusal(account, rest[0], float(rest[1]), aside=action == "set_aside")
        if action == "position_mode":
            return settings_changes.position_mode_refusal(account)
        book = account.books[rest[0]]
        if action == "leverage":
            return settings_changes.leverage_refusal(account, book, float(rest[1]))
        if action == "margin_mode":
            return settings_changes.margin_mode_refusal(account, book, rest[1])
        return order_admission.margin_move_refusal(account, book, rest[1], float(rest[2]))

    def do_accrue(self, rest) -> None:
        """`accrue 3`: interest is charged now, and at the end of each of the next three hours."""
        for hour in range(int(rest[0]) + 1):
            self.account.now_ms += MS_PER_HOUR if hour else 0
            for event in interest.due(self.account, self.time_ms, interest.debts(self.account)):
                self.record(event)

    def do_repay(self, rest) -> None:
        """`repay`: debts are paid back out of what else is held, as at the venue's level of automatic repayment."""
        for event in repayment.repayments(self.account, self.time_ms, self.mark_of, "repayment"):
            self.record(event)

    def do_expire(self, rest) -> None:
        entry = expiry.expiry_entry(self.account, self.time_ms, rest[0])
        self.record(entry)
        for event in expiry.settlement_fills(self.account, entry):
            self.record(event)

    def do_delist(self, rest) -> None:
        """`delist BTC`: a market ends, and its legs are settled at the mark."""
        entry = delisting.delisting_entry(self.account, self.time_ms, rest[0])
        self.record(entry)
        for event in delisting.settlement_fills(self.account, entry):
            self.record(event)

    def do_converted(self, rest) -> None:
        """`converted BTC 0.01 USDT 100 repayment | ...`: what was exchanged so far, what came of it, and why."""
        found = [entry for entry in self.journal if isinstance(entry, events.Converted)]
        groups = [group.split() for group in " ".join(rest).split("|")]
        assert len(found) == len(groups), found
        for entry, (currency, amount, into, received, *reason) in zip(found, groups, strict=True):
            assert (entry.currency, entry.into) == (currency, into)
            assert entry.amount == written(amount)
            assert entry.received == written(received)
            assert entry.reason == (reason[0] if reason else entry.reason)

    def do_forced(self, rest) -> None:
        """`forced BTC -12 @ 90 liquidation`: a forced fill, and why."""
        symbol, lots, _, price, *cause = rest
        found = [entry for entry in self.journal if isinstance(entry, events.Filled) and entry.cause]
        assert any(
            (e.symbol, e.lots) == (symbol, int(lots)) and e.price == written(price) and e.cause in (cause or [e.cause])
            for e in found
        ), found

    def do_taken_over(self, rest) -> None:
        """`taken_over BTC:net=90 | left=-100 amount=100 fund=40`: the latest takeover, its prices and who paid."""
        entry = [one for one in self.journal if isinstance(one, events.InsuranceFundTakeover)][-1]
        prices, _, figures = " ".join(rest).partition("|")
        told = dict(pair.split("=") for pair in prices.split())
        assert set(entry.takeovers) == set(told)
        assert all(entry.takeovers[leg] == written(price) for leg, price in told.items()), entry.takeovers
        names = {"left": entry.left, "amount": entry.amount, "by_fund": entry.by_fund, "fund_paid": entry.fund_paid}
        for name, value in (pair.split("=") for pair in figures.split()):
            assert names[name] == written(value), (name, entry)

    def do_deleveraged(self, rest) -> None:
        """`deleveraged BTC short +10 @ 90 market=80 amount=100`: a leg closed against what the fund could not pay."""
        symbol, side, lots, _, price, *figures = rest
        found = [one for one in self.journal if isinstance(one, events.Deleveraged)]
        told = {name: written(value) for name, value in (pair.split("=") for pair in figures)}
        assert any(
            (one.symbol, one.side, one.lots) == (symbol, side, int(lots))
            and one.price == written(price)
            and all(getattr(one, name) == value for name, value in told.items())
            for one in found
        ), found

    def do_fill(self, rest) -> None:
        symbol, lots, price, options = parse_order(rest)
        if not self.account.books[symbol].long_mark:
            self.account.set_mark(symbol, price)
        entry = fills.order_fill(
            self.account, self.time_ms, symbol, options["side"], number=10_000, lots=lots, price=price,
            maker="maker" in rest,
        )  # fmt: skip
        short = fills.isolated_shortfall(self.account.books[symbol], entry)
        self.record(entry)
        for paid in deficits.cover_after_fill(self.account, entry, short):
            self.record(paid)

    def _order(self, rest):
        symbol, lots, price, options = parse_order(rest)
        if not self.account.books[symbol].long_mark:
            self.account.set_mark(symbol, price)
        self.orders += 1
        order = OpenOrder(
            self.orders, options["side"], lots, price, options["reduce_only"], options["group"], options["immediate"]
        )
        admitted = order_admission.admit(self.account, symbol, order)
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
        """`refused [ACTION] ... [code=C] [needed=X] [available=Y] [currency=C] [says TEXT]`: an order, without an action."""
        words, _, said = " ".join(rest).partition(" says ")
        given = [word for word in words.split() if "=" not in word]
        refusal = self.refusal_of(given[0], given[1:]) if given[0] in MAY_BE_REFUSED else self._order(given)[2]
        assert refusal is not None, "it was allowed"
        self._is_whole(refusal)
        assert said in refusal.reason, refusal.reason
        for name, value in (word.split("=") for word in words.split() if "=" in word):
            found = getattr(refusal, name)
            assert found == (value if isinstance(found, str) else written(value)), f"{name}: {found!r}, {refusal}"

    def _is_whole(self, refusal: Refusal) -> None:
        """Assert that a refusal says all that one has to say: kind, code, reason, and of missing margin the amounts."""
        assert refusal.kind in get_args(RefusalKind)
        assert refusal.code in get_args(RefusalCode)
        assert refusal.reason
        if refusal.kind == "margin":
            assert refusal.needed > refusal.available >= 0
            assert refusal.currency in self.account.balances

    def do_cancel(self, rest) -> None:
        number = int(rest[0])
        symbol = next(s for s, book in self.account.books.items() if number in book.orders)
        self.record(events.OrderRemoved(time_ms=0, number=number, symbol=symbol, reason="canceled"))

    def do_margin(self, rest) -> None:
        self.allowed("margin", rest)
        self.record(events.IsolatedMarginAdjusted(time_ms=0, symbol=rest[0], side=rest[1], amount=float(rest[2])))

    def do_maximum(self, rest) -> None:
        """`maximum BTC +1200 @ 100`: the most that may be bought (sold, when negative) at that price."""
        symbol, lots, price, options = parse_order(rest)
        if not self.account.books[symbol].long_mark:
            self.account.set_mark(symbol, price)
        direction = -1 if rest[1].startswith("-") else 1
        found = maximum_order.maximum_order_lots(
            self.account, symbol, options["side"], direction, price, immediate=options["immediate"]
        )
        assert found == abs(lots)

    def do_maximum_leverage(self, rest) -> None:
        """`maximum_leverage BTC 100 20`: the highest leverage at which 100 are enough for a position of that size."""
        assert maximum_order.maximum_leverage(self.account, rest[0], float(rest[1])) == written(rest[2])

    def do_no_estimate(self, rest) -> None:
        """`no_estimate BTC covered down to a price of 0`: there is no liquidation price, and why."""
        symbol, _, side = rest[0].partition(":")
        found = liquidation_prices.liquidation_price(self.account, symbol, side or "net")
        assert found.price is None
        assert " ".join(rest[1:]) in str(found.reason), found.reason

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
            for event in waterfall.liquidate(work, deleverages=self.stage.insurance is not None):
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
            assert read(self.account, key) == written(value), key

    def do_leg(self, rest) -> None:
        symbol, side, lots, *figures = rest
        leg = self.account.books[symbol].leg(side)
        assert leg.lots == int(lots)
        for name, value in (figure.split("=") for figure in figures):
            assert getattr(leg, name) == written(value), name

    def finish(self) -> None:
        again = replay(self.journal, self.account.rules, self.stage.instruments, **self.setup)
        assert again.balances == self.account.balances
        assert {s: b.legs for s, b in again.books.items()} == {s: b.legs for s, b in self.account.books.items()}


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

    def do_deposit(self, rest) -> None:
        self.outcome = self.broker.transfer(rest[0], float(rest[1]))

    def do_withdraw(self, rest) -> None:
        self.outcome = self.broker.transfer(rest[0], -float(rest[1]))

    def do_set_aside(self, rest) -> None:
        self.outcome = self.broker.set_aside(rest[0], float(rest[1]))

    def do_outcome(self, rest) -> None:
        assert (self.outcome is None) == (rest[0] == "done"), str(self.outcome)

    def do_expired(self, rest) -> None:
        """`expired CALL 1500`: a contract came to its end at that price."""
        found = [e for e in self.broker.journal if isinstance(e, events.Expired)]
        assert any(e.symbol == rest[0] and e.price == written(rest[1]) for e in found), found

    def do_delisted(self, rest) -> None:
        """`delisted BTC 95`: a market ended while others went on, at that price."""
        found = [e for e in self.broker.journal if isinstance(e, events.Delisted)]
        assert any(e.symbol == rest[0] and e.price == written(rest[1]) for e in found), found

    def do_expect(self, rest) -> None:
        for key, value in zip(rest[::2], rest[1::2], strict=True):
            found = {
                "value": self.broker.getvalue, "cash": self.broker.getcash,
                "open_orders": lambda: len(self.broker.get_orders_open()),
                "closed_trades": lambda: len(self.closed_trades),
                "trade_profit": lambda: sum(trade.pnl for trade in self.closed_trades),
                "trade_fees": lambda: sum(trade.commission for trade in self.closed_trades),
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
        cash=stage.cash, currency=stage.currency, deposits=stage.deposits, prices=stage.prices, pooling=stage.pooling,
        interest_rates=stage.interest,
        venue=stage.venue, mode=stage.mode, leverage=stage.leverage, position_mode=stage.position,
        path=stage.path, check=True, slip_perc=stage.slippage,
        insurance_fund=math.inf if stage.insurance is None else stage.insurance,
        auto_deleveraging=stage.insurance is not None, slip_open=True, warning_levels=stage.warnings,
        liquidation_slippage=stage.forced[0], liquidation_impact=stage.forced[1],
    )  # fmt: skip
    broker.venue = msgspec.structs.replace(broker.venue, rules=stage.book_rules(), changes=())
    for symbol, mode in stage.modes.items():
        if stage.mode not in (mode, "portfolio"):
            broker.set_margin_mode(symbol, mode)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Script, steps=steps)
    strategy = cerebro.run()[0]
    for entry in broker.journal:
        check_entry(entry)
    return strategy


def check_entry(entry: events.JournalEntry) -> None:
    """Assert that an entry of a journal reads the same after it was written to a file."""
    assert msgspec.json.decode(msgspec.json.encode(entry), type=type(entry)) == entry


def reduced(journal) -> list[events.LiquidationStepTaken]:
    """Return the steps of the liquidations in a journal."""
    return [event for event in journal if isinstance(event, events.LiquidationStepTaken)]


COLUMNS = {"funding": "funding_rate", "index": "index_price", "volatility": "volatility"}


def bars_frame(rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    """Return candles from `open high low close [mark open high low close] [funding rate] [index price] [volatility v]`, one hour apart."""
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
                record[COLUMNS[word]] = float(rest.pop(0))
        records.append({"date": pd.Timestamp(START).tz_localize(None) + pd.Timedelta(hour, "h"), **record})
    return pd.DataFrame(records)


def files() -> list[Path]:
    """Return every scenario."""
    return sorted((TESTS / "scenarios").rglob("*.txt"))


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
