# SPDX-License-Identifier: GPL-3.0-or-later
"""Dated changes of a rule book: read, refused when wrong, and in force on each day of a run."""

from __future__ import annotations

import datetime as dt
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from click.testing import CliRunner
from random_trader import RandomTrader, candles, seeds
from rich.console import Console
from scripted import FLAT, PLAIN, bars, run

from crossmargin_bt import CrossMarginBroker, Instrument, compare, feeds, venues
from crossmargin_bt.batch.market import Market
from crossmargin_bt.broker.api.instruments import with_underlying
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.cli.venues_command import venues as command
from crossmargin_bt.compare import stress
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import replay
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.errors import ConfigurationError, FeedError, RuleError
from crossmargin_bt.report import event_table, summary, table
from crossmargin_bt.venues import Venue

TEXT = (Path(venues.__file__).parent / "generic.toml").read_text(encoding="utf-8")
BASE = venues.load("generic")


def change(since: str = "2025-01-02", rules: str = 'initial_price = "entry"', more: str = "") -> str:
    return f'\n[[changes]]\nsince = {since}\nsource = "page"\nsays = "it changed"\n{more}\n[changes.rules]\n{rules}\n'


def changing(*given: tuple[str, dict[str, Any]], base: Venue = BASE, positions: str | Sequence[str] = "all") -> Venue:
    """Return a rule book with changes, each as (date, values), for positions of one kind or of one kind each."""
    kinds = [positions] * len(given) if isinstance(positions, str) else positions
    made = [
        venues.VenueChange(
            since=dt.date.fromisoformat(day), source="page", says="it changed", rules=values, positions=kind
        )
        for (day, values), kind in zip(given, kinds, strict=True)
    ]
    return msgspec.structs.replace(base, changes=tuple(made))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (change('"2025-01-02"'), 0, "write the date without quotes"),
        (change("2025-01-32"), None, r"at line \d+, .*; a date is written 2022-02-16, without quotes"),
        (change().replace("since = 2025-01-02\n", ""), 0, "missing required field `since`"),
        (change().replace('source = "page"', 'source = ""'), 0, "the change of 2025-01-02 has no source"),
        (change().replace('source = "page"\n', ""), 0, "missing required field `source`"),
        (change().replace('says = "it changed"\n', ""), 0, "missing required field `says`"),
        (change(rules=""), 0, "the change of 2025-01-02 changes no rule"),
        (change(rules="takr = 0.1"), 1, "'takr' is not a rule; did you mean 'taker'"),
        (change(rules='initial_price = "entri"'), 1, "Invalid enum value 'entri'; choose from mark, entry, last"),
        (change(rules="taker = 5.0"), 1, "taker is a fraction"),
        (change(rules="contracts = []"), 0, "give each of .*rules.contracts.* its own since"),
        (change() + change(), 9, "two changes of 2025-01-02 give initial_price; a key has one value a day"),
        (change() + change("2024-01-02"), 9, "the change of 2024-01-02 is listed after the later one of 2025-01-02; sort them by date"),
        (change(more='positions = "new"'), 0, "Invalid enum value 'new'"),
        (change(more='sourc = "x"'), 0, "unknown field `sourc`.*did you mean 'source'"),
        (change().replace("[[changes]]", "[[changes]] # first").replace('source = "page"', "") + change("2025-03-01"), 0, "`source`"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_named_with_file_and_line(text: str, line: int | None, message: str) -> None:
    """`line` counts from the head of the first change."""
    with pytest.raises(RuleError, match=message) as caught:
        venues.parse(TEXT + text, "mine.toml")
    first = len(TEXT.splitlines()) + 2
    assert str(caught.value).startswith("mine.toml" if line is None else f"mine.toml:{first + line}: ")


def test_a_change_before_the_first_known_day_is_an_error() -> None:
    """What is known begins before it changes."""
    with pytest.raises(RuleError, match=r"mine.toml:\d+: the change of 2025-01-02 is not after known_since"):
        venues.parse(TEXT.replace("[rules]", "known_since = 2025-01-02\n[rules]", 1) + change(), "mine.toml")


def test_the_rules_of_a_day() -> None:
    """A change counts from the start of its day, at its hour where it has one; its source becomes that of its keys."""
    venue = venues.parse(TEXT + change() + change("2025-02-03T08:00:00", 'initial_price = "last"'), "mine.toml")
    found = {
        day: venue.at(dt.date.fromisoformat(day)).rules.initial_price
        for day in ("2025-01-01", "2025-01-02", "2025-02-02", "2025-02-03")
    }
    assert list(found.values()) == ["mark", "entry", "entry", "last"]
    assert venue.at(dt.datetime(2025, 2, 3, 7, 59)).rules.initial_price == "entry"  # noqa: DTZ001 - UTC
    assert venue.at(dt.datetime(2025, 2, 3, 8, tzinfo=dt.UTC)).rules.initial_price == "last"
    latest = venue.at()
    assert (latest.rules.initial_price, latest.changes, latest.known_since) == ("last", (), dt.date(2025, 2, 3))
    assert latest.sources["initial_price"] == "page (since 2025-02-03 08:00:00)"
    assert len(venue.at(dt.date(2025, 1, 15)).changes) == 1


def test_a_run_meets_the_rules_of_each_day() -> None:
    """A taker fee that doubles at midnight; the entry says so, and the account replays from the journal."""
    venue = changing(
        ("2025-01-02", {"taker": 0.002}), base=msgspec.structs.replace(BASE, rules=BASE.rules.changed({"taker": 0.001}))
    )
    broker = CrossMarginBroker(cash=1000.0, venue=venue, check=True)
    script = {20: lambda s: s.buy(size=1), 26: lambda s: s.buy(size=1)}
    run(broker, bars(*[FLAT] * 30), scripts=(script,), instrument=Instrument(symbol="BTC", lot=1.0))
    assert [round(e.fee, 9) for e in broker.journal if isinstance(e, events.Filled)] == [0.1, 0.2]
    (entry,) = [e for e in broker.journal if isinstance(e, events.RulesChanged)]
    assert (entry.since, entry.changed, entry.source) == ("2025-01-02", {"taker": 0.002}, "page")
    assert entry.time_ms == 1_735_776_000_000
    books = broker.account.books
    again = replay(list(broker.journal), venue.rules, {"BTC": books["BTC"].instrument}, **broker.account.setup)
    assert again.rules == broker.account.rules == venue.at().rules
    assert again.books["BTC"].taker == 0.002
    assert again.balances == broker.account.balances


def test_rules_before_the_first_bar_are_in_force_from_it() -> None:
    """All changes up to the first bar come before the first order."""
    venue = changing(("2024-01-02", {"taker": 0.002}), ("2024-06-01", {"taker": 0.004, "maker": 0.003}))
    broker = CrossMarginBroker(cash=1000.0, venue=venue)
    run(
        broker, bars(*[FLAT] * 4), scripts=({1: lambda s: s.buy(size=1)},), instrument=Instrument(symbol="BTC", lot=1.0)
    )
    kinds = [type(e).__name__ for e in broker.journal if not isinstance(e, events.SettingChanged)]
    assert kinds[:4] == ["CashTransferred", "RulesChanged", "RulesChanged", "OrderPlaced"]
    assert [e.fee for e in broker.journal if isinstance(e, events.Filled)] == [pytest.approx(0.4)]


def test_open_positions_keep_the_rules_they_were_opened_under() -> None:
    """Where the venue says so: until they are closed; the other instrument and the next position have the new rate."""
    table = {"rule": "tiers", "marginal": False, "tiers": [{"notional_min": 0.0, "maintenance_rate": 0.02}]}
    venue = changing(("2025-01-02", {"maintenance": table}), positions="opened_since")
    rates: dict[int, float] = {}

    def note(bar: int) -> Callable[[Any], None]:
        return lambda s: rates.update({bar: s.broker.account.books["BTC"].maintenance.margin(100.0, 1.0) / 100})

    script = {20: lambda s: s.buy(size=1), 27: note(27), 28: lambda s: s.close(), 30: note(30)}
    broker = CrossMarginBroker(cash=1000.0, venue=venue, check=True)
    run(broker, bars(*[FLAT] * 34), scripts=(script,), instrument=Instrument(symbol="BTC", lot=1.0))
    assert rates == {27: pytest.approx(BASE.rules.maintenance.margin(100.0, 1.0) / 100), 30: pytest.approx(0.02)}


TABLE = {"rule": "tiers", "marginal": False, "tiers": [{"notional_min": 0.0, "maintenance_rate": 0.02}]}


def rate_after(script: dict[int, Callable[[Any], Any]], venue: Venue, **settings: Any) -> float:
    """Return the maintenance rate of BTC at the end of 60 flat hours from 2025-01-01 on."""
    broker = CrossMarginBroker(cash=1000.0, venue=venue, check=True, **settings)
    run(broker, bars(*[FLAT] * 60), scripts=(script,), instrument=Instrument(symbol="BTC", lot=1.0))
    return round(broker.account.books["BTC"].maintenance.margin(100.0, 1.0) / 100, 9)


def test_a_later_change_for_all_positions_does_not_end_what_others_keep() -> None:
    """It applies to the rules that an open position keeps, and leaves the change that waits for its end waiting."""
    venue = changing(
        ("2025-01-02", {"maintenance": TABLE}), ("2025-01-03", {"taker": 0.002}), positions=["opened_since", "all"]
    )
    old = round(BASE.rules.maintenance.margin(100.0, 1.0) / 100, 9)
    assert rate_after({20: lambda s: s.buy(size=1)}, venue) == old
    assert rate_after({20: lambda s: s.buy(size=1), 55: lambda s: s.close()}, venue) == 0.02
    broker = CrossMarginBroker(cash=1000.0, venue=venue)
    script = {20: lambda s: s.buy(size=1), 55: lambda s: s.buy(size=1)}
    run(broker, bars(*[FLAT] * 60), scripts=(script,), instrument=Instrument(symbol="BTC", lot=1.0))
    assert broker.account.books["BTC"].rules.taker == broker.account.books["BTC"].taker == 0.002


def test_a_position_turned_by_one_order_is_a_new_one() -> None:
    """It has the rules of its day, as one closed and opened again; one leg of two is not enough."""
    venue = changing(("2025-01-02", {"maintenance": TABLE}), positions="opened_since")
    assert rate_after({20: lambda s: s.buy(size=1), 30: lambda s: s.sell(size=2)}, venue) == 0.02
    legs = {
        20: lambda s: s.buy(size=1, position_side="long"),
        30: lambda s: s.sell(size=1, position_side="short"),
        40: lambda s: s.sell(size=1, position_side="long"),
    }
    assert rate_after(legs, venue, position_mode="hedge") == 0.005
    legs[50] = lambda s: s.buy(size=1, position_side="short")
    assert rate_after(legs, venue, position_mode="hedge") == 0.02


def test_a_change_may_end_a_rule() -> None:
    """With "none", where the rule may be absent; levels of 0 or NaN are refused."""
    rules = BASE.rules.changed({"order_cancel_level": 1.5})
    assert rules.changed({"order_cancel_level": "none"}).order_cancel_level is None
    with pytest.raises(RuleError, match="taker: Expected `float`, got `str`"):
        rules.changed({"taker": "none"})
    for level in (0.0, float("nan"), float("inf")):
        with pytest.raises(RuleError, match=r"must be a finite number|order_cancel_level above 1"):
            rules.changed({"order_cancel_level": level})


def test_cash_mode_pays_the_fee_of_its_first_bar() -> None:
    """The stock broker has one fee a run."""
    venue = changing(("2024-06-01", {"taker": 0.005}), ("2025-01-03", {"taker": 0.009}))
    market = [Candles("AAA", candles(1, 100), None, Instrument(symbol="AAA", lot=0.01))]
    built = compare.runs.build_cerebro(
        compare.load("strategies/scalping.py"), market, venue=venue, mode="cash", settings=compare.Settings()
    )
    assert built.broker.getcommissioninfo(built.datas[0]).p.commission == 0.005


def test_a_result_keeps_the_instrument_that_was_traded() -> None:
    """In portfolio mode the coin comes from the symbol, for the explanation and the comparison of venues too."""
    market = [Candles("BTCUSDT", candles(1, 40), None, Instrument(symbol="BTCUSDT", lot=0.01))]
    result = compare.run(
        compare.load("strategies/scalping.py"), market, venue="okx", mode="portfolio", settings=compare.Settings()
    )
    assert [one["underlying"] for one in result.instruments] == ["BTC"]


@pytest.mark.parametrize(
    ("symbol", "coin"),
    [
        ("BTCUSDT", "BTC"), ("BTC/USDT:USDT", "BTC"), ("BTC-USDT-SWAP", "BTC"), ("LINK_USDT", "LINK"), ("BTCUSDT_250627", "BTC"),
        ("BTC", "BTC"), ("XBTUSDT", None), ("1000PEPEUSDT", None), ("XBTUSDTM", None), ("AAA", None), ("USDT", None),
    ],
)  # fmt: skip
def test_a_symbol_says_for_certain_which_coin_it_is(symbol: str, coin: str | None) -> None:
    """Or it is refused."""
    terms = venues.load("okx").rules.portfolio
    instrument = Instrument(symbol=symbol, lot=1.0)
    if coin is not None:
        assert with_underlying(instrument, terms).underlying == coin
        return
    with pytest.raises(FeedError, match="set underlying="):
        with_underlying(instrument, terms)


def test_an_instrument_whose_symbol_names_no_coin_is_refused_in_portfolio_mode() -> None:
    """Instead of being margined as some other coin."""
    broker = CrossMarginBroker(venue="okx", mode="portfolio")
    with pytest.raises(
        FeedError, match=r"XBTM names no coin and quote currency USDT, .* set underlying= on its instrument"
    ):
        run(broker, bars(FLAT, FLAT), instrument=Instrument(symbol="XBTM", lot=1.0))


def test_an_instruments_own_rates_and_fees_outlast_a_change() -> None:
    """What the user wrote into the instrument is not replaced."""
    table = {"rule": "tiers", "tiers": [{"notional_min": 0.0, "maintenance_rate": 0.02}]}
    broker = CrossMarginBroker(venue=changing(("2025-01-01", {"maintenance": table, "taker": 0.01})))
    run(broker, bars(FLAT, FLAT), instrument=PLAIN)
    book = broker.account.books["BTC"]
    assert (book.maintenance, book.taker, book.rules.taker) == (PLAIN.maintenance, 0.0, 0.01)


def test_thresholds_change_in_mid_run() -> None:
    """A warning level that the venue introduces warns from its day on, without a move of the price."""
    broker = CrossMarginBroker(cash=100.0, leverage=20.0, venue=changing(("2025-01-02", {"warning_levels": [30.0]})))
    run(broker, bars(*[FLAT] * 30), scripts=({2: lambda s: s.buy(size=10)},), instrument=PLAIN)
    (warned,) = [e for e in broker.journal if isinstance(e, events.RiskState)]
    assert (warned.state, warned.threshold, warned.time_ms) == ("warning", 30.0, 1_735_776_000_000)


KEYS: dict[str, list[Any]] = {
    "order_offset": ["sum", "net", "net_value", "larger_side"],
    "initial_price": ["mark", "entry", "last"],
    "orders_in_maintenance": ["none", "sum", "opening", "net", "gross"],
    "orders_in_tier": [True, False],
    "order_fees_reserved": [True, False],
    "order_loss_reserved": [True, False],
    "order_loss_in_ratio": [True, False],
    "closing_fee_in_maintenance": ["none", "mark", "entry", "bankruptcy"],
    "maintenance_price": ["mark", "entry"],
    "isolated_maintenance_price": ["mark", "entry"],
    "isolated_closing_fee": ["none", "mark", "entry"],
    "hedge_margin": ["sum", "larger"],
    "warning_levels": [[], [3.0], [5.0, 2.0]],
    "orders_cancelled_overdrawn": [True, False],
    "profit_pays_for": [[], ["cross_orders"], ["cross_orders", "isolated_orders"]],
    "taker": [0.0002, 0.0005, 0.001],
    "sell_order_markup": [None, 0.0, 0.05],
    "liquidation": [[], [{"step": "reduce"}]],
}


def randomly_changing(seed: int) -> Venue:
    """Return a rule book that changes several keys on each of three days."""
    draw = random.Random(seed)  # noqa: S311 - a seeded test
    days = ("2025-01-02", "2025-01-03", "2025-01-05")
    given = [(day, {key: draw.choice(KEYS[key]) for key in draw.sample(sorted(KEYS), 4)}) for day in days]
    return changing(*given, base=msgspec.structs.replace(venues.load(draw.choice(["generic", "okx", "binance", "bybit", "kucoin"])), known_since=None, changes=()), positions=[draw.choice(["all", "opened_since"]) for _ in given])  # fmt: skip


def journal_of(seed: int, engine: str, *, mode: str, position_mode: str) -> list:
    cerebro = bt.Cerebro(stdstats=False)
    for number, symbol in enumerate(("AAA", "BBB")):
        frame = candles(seed + number, 140, start=100.0 * (number + 1))
        cerebro.adddata(feeds.from_frame(frame, name=symbol, instrument=Instrument(symbol=symbol, lot=0.01)))
    broker = CrossMarginBroker(
        cash=600.0, leverage=20.0, venue=randomly_changing(seed), mode=mode, position_mode=position_mode, check=True, engine=engine
    )  # fmt: skip
    cerebro.setbroker(broker)
    cerebro.addstrategy(RandomTrader, seed=seed, hedged=position_mode == "hedge", reduces=True, size=20.0)
    cerebro.run()
    entries = list(broker.journal)
    books = broker.account.books
    again = replay(
        entries, broker.venue.rules, {name: book.instrument for name, book in books.items()}, **broker.account.setup
    )
    assert again.rules == broker.account.rules
    assert {name: (book.rules, book.rates, book.legs) for name, book in again.books.items()} == {
        name: (book.rules, book.rates, book.legs) for name, book in books.items()
    }
    return entries


# In seed 34 the open loss of an order alone overdraws the pool, far from where the rest of it is worst.
@pytest.mark.parametrize("seed", [*seeds(5, 200), 34])
def test_skipping_bars_changes_nothing_when_rules_change(seed: int) -> None:
    """Random changes of rules under a random trader: both engines write one journal, which replays to the account."""
    mode, position_mode = ("cross", "isolated")[seed % 2], ("one_way", "hedge")[seed // 2 % 2]
    walked = journal_of(seed, "reference", mode=mode, position_mode=position_mode)
    assert sum(isinstance(e, events.RulesChanged) for e in walked) == 3
    assert journal_of(seed, "skipping", mode=mode, position_mode=position_mode) == walked


def seen_by_day(
    venue: str, instrument: Instrument, price: float, days: tuple[str, str], **settings: Any
) -> dict[str, Any]:
    """Return the liquidation price and the requirement of 1 bought at a flat price, at the end of each of two days of one run."""
    index = pd.date_range(f"{days[0]} 20:00", periods=8, freq="h")
    flat = pd.DataFrame(price, index=index, columns=["open", "high", "low", "close"]).assign(volume=1.0)
    seen: dict[str, Any] = {}

    class Holder(bt.Strategy):
        def next(self) -> None:
            if len(self) == 1:
                self.buy(size=1.0)
                return
            account = self.broker.account
            for pool in metrics.pools(account):
                found = metrics.risk(account, pool).requirement
                seen[str(self.data.datetime.date())] = self.broker.liquidation_price(self.data).price, found

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(flat, name=instrument.symbol, instrument=instrument))
    cerebro.setbroker(CrossMarginBroker(venue=venue, cash=10 * price, **settings))
    cerebro.addstrategy(Holder)
    cerebro.run()
    assert tuple(seen) == days
    return seen


def test_one_run_prints_both_sides_of_a_change() -> None:
    """Bybit, 1 at 50,000 and 10x: 45,250.00, then 45,226.13. Gate, a value of its page: 6,000 kept, then 4,900. One position each."""
    contract = Instrument(symbol="BTC", lot=1.0, maintenance=flat_rate(0.005), maker=0.0, taker=0.0)
    bybit = seen_by_day("bybit", contract, 50_000.0, ("2025-09-01", "2025-09-02"), mode="isolated", leverage=10.0)
    prices = [price for price, _ in bybit.values()]
    assert prices == [pytest.approx(45_250.0), pytest.approx(45_226.13, abs=0.005)]
    listed = Instrument(symbol="BTCUSDT", lot=1.0, maker=0.0, taker=0.0)
    gate = seen_by_day("gate", listed, 1_200_000.0, ("2025-07-28", "2025-07-29"), leverage=1.0)
    assert [kept for _, kept in gate.values()] == [pytest.approx(6_000.0), pytest.approx(4_900.0)]


def test_a_batch_takes_the_rules_of_its_days() -> None:
    """A change within the candles divides them; only positions that keep older rules are refused, in words."""
    frame = candles(1, 60)
    venue = changing(("2025-01-02", {"taker": 0.004}))
    market = [Candles("AAA", frame, None, Instrument(symbol="AAA", lot=0.01))]
    periods = Market(market, venue).periods
    assert [(one.first, one.end, one.books[0].taker) for one in periods] == [(0, 24, BASE.rules.taker), (24, 60, 0.004)]
    keeping = changing(("2025-01-02", {"taker": 0.004}), positions="opened_since")
    with pytest.raises(
        ConfigurationError,
        match="positions that keep older rules: generic has new ones for positions opened since 2025-01-02",
    ):
        Market(market, keeping)
    after = [Candles("AAA", frame.loc["2025-01-02":], None, Instrument(symbol="AAA", lot=0.01))]
    before = [Candles("AAA", frame.loc[:"2025-01-01"], None, Instrument(symbol="AAA", lot=0.01))]
    assert [Market(one, venue).books[0].taker for one in (before, after)] == [BASE.rules.taker, 0.004]
    later = [Candles("BTCUSDT", candles(1, 60), None, Instrument(symbol="BTCUSDT", lot=0.01))]
    assert len(Market(later, "gate").periods) == 1, "its tiers change months after the last bar"
    unmet = changing(("2025-01-02", {"order_size_fees": 2, "ratio": "collateral_over_requirement"}))
    assert len(Market(market, unmet).periods) == 1, "these rules apply to no account of a batch"


def test_stress_reaches_the_rules_of_every_period() -> None:
    """Fees are doubled before and after a change of the fee."""
    venue = changing(("2025-01-02", {"taker": 0.004}), ("2025-01-03", {"initial_price": "entry"}))

    def doubled(rules: Rules) -> Rules:
        return msgspec.structs.replace(rules, taker=2 * rules.taker)

    worse = venue.with_rules(doubled)
    days = [dt.date(2025, 1, day) for day in (1, 2, 3)]
    assert [worse.at(day).rules for day in days] == [doubled(venue.at(day).rules) for day in days]
    fees = next(one for one in stress.stress_scenarios([]) if one.name == "fees")
    assert venue.with_rules(fees.rules).at().rules.taker == 0.008


def test_the_command_line_shows_a_day_and_all_changes(tmp_path: Path) -> None:
    """`venues show --at` has the rules of the day, `venues changes` each change with its values before and after."""
    file = tmp_path / "mine.toml"
    file.write_text(TEXT + change(), encoding="utf-8")
    prices = {}
    for day in ("2025-01-01", "2025-01-02"):
        shown = CliRunner().invoke(command, ["show", str(file), "--at", day], env={"COLUMNS": "200"}).output
        prices[day] = next(line for line in shown.splitlines() if "(initial_price)" in line)
    assert "entry" not in prices["2025-01-01"]
    assert "entry" in prices["2025-01-02"]
    told = CliRunner().invoke(command, ["changes", str(file)], env={"COLUMNS": "200"}).output
    assert "2025-07-29" in CliRunner().invoke(command, ["changes", "gate"], env={"COLUMNS": "200"}).output
    assert all(word in told for word in ("2025-01-02", "initial_price", "mark", "entry", "it changed", "page"))
    assert "no dated change is known" in CliRunner().invoke(command, ["changes", "generic"]).output
    assert CliRunner().invoke(command, ["show", "okx", "--at", "soon"]).exit_code == 2


def test_a_report_names_the_changes_within_a_run() -> None:
    """Those that were in force at the start are not named; nor are those of portfolio margin in another mode."""
    venue = changing(
        ("2024-01-02", {"taker": 0.002}), ("2025-01-02", {"taker": 0.004}), ("2025-01-02", {"portfolio": {"peg_factor": 0.0}}),
        base=msgspec.structs.replace(venues.load("okx"), changes=(), known_since=None),
    )  # fmt: skip
    market = [Candles("AAA", candles(1, 60), None, Instrument(symbol="AAA", lot=0.01))]
    result = compare.run(
        compare.load("strategies/scalping.py"), market, venue=venue, mode="cross", settings=compare.Settings()
    )
    assert summary.rule_changes([result]) == ["okx since 2025-01-02, it changed"]
    printed = Console(width=200, file=io.StringIO())
    printed.print(table.build_tables([result]))
    assert "okx since 2025-01-02, it changed" in printed.file.getvalue()
    rows = event_table.build_event_table(result).rows
    assert [row.text for row in rows if "in force" in row.text][:2] == [
        "rules of 2024-01-02 in force: it changed", "rules of 2025-01-02 in force: it changed",
    ]  # fmt: skip


def test_a_run_before_the_first_known_day_says_so() -> None:
    """As an assumption of its result."""
    market = [Candles("AAA", candles(1, 60), None, Instrument(symbol="AAA", lot=0.01))]
    told = {}
    for known in (dt.date(2025, 1, 1), dt.date(2025, 1, 2)):
        venue = msgspec.structs.replace(BASE, known_since=known)
        result = compare.run(
            compare.load("strategies/scalping.py"), market, venue=venue, mode="cross", settings=compare.Settings()
        )
        told[known.day] = [text for text in result.assumptions if "established from" in text]
    assert told == {
        1: [],
        2: ["the rules of generic are established from 2025-01-02 on; before that day the run uses those of that day"],
    }


def test_rates_are_no_longer_scaled_when_their_rule_ends() -> None:
    """The factor of the last bar does not outlast the rule of volatility scaling, in either engine."""
    scaling = {"reference": 0.1, "cap": 3.0, "window_days": 1.0, "half_life_days": 0.25}
    base = msgspec.structs.replace(BASE, rules=BASE.rules.changed({"volatility_scaling": scaling}))
    venue = changing(("2025-01-02", {"volatility_scaling": "none"}), base=base)
    for engine in ("skipping", "reference"):
        broker = CrossMarginBroker(venue=venue, engine=engine)
        run(broker, candles(1, 60, volatility=0.05), instrument=Instrument(symbol="BTC", lot=1.0))
        factors = [e.factor for e in broker.journal if isinstance(e, events.RatesScaled)]
        assert max(factors) == 3.0
        assert factors[-1] == broker.account.books["BTC"].scale == 1.0
