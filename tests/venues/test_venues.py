# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule books: they load, name their sources, and errors name the file and key."""

import ast
import json
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
from places import SHARED

import crossmargin_bt
from crossmargin_bt import Instrument, venues
from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder, Prices, pending
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import TierTable, flat_rate
from crossmargin_bt.errors import ConfigurationError, RuleError
from crossmargin_bt.venues import tiers

TEXT = (Path(venues.__file__).parent / "generic.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", venues.names())
def test_profiles_load_and_say_where_values_come_from(name: str) -> None:
    """Every source belongs to a rule; every rule without a source is listed as an assumption."""
    venue = venues.load(name)
    assert venue.name == name
    assert set(venue.sources) <= set(venues.RULES)
    assert set(venue.statements) == set(venues.TOPICS)
    assert venue.assumptions
    assert all(terms.source for terms in venue.rules.contracts)


def test_unknown_venue_suggests_the_nearest() -> None:
    """The error suggests the nearest name."""
    with pytest.raises(ConfigurationError, match="did you mean 'okx'"):
        venues.load("okxx")
    with pytest.raises(ConfigurationError, match="does not exist"):
        venues.load("mine.toml")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("taker = 0.0005", 'taker = "high"', r"Expected `float`, got `str` - at `\$.rules.taker`"),
        ("taker = 0.0005", "takr = 0.0005", r"unknown field `takr` - at `\$.rules`"),
        ('order_offset = "sum"', 'order_offset = "all"', r"Invalid enum value 'all' - at `\$.rules.order_offset`"),
        ("maintenance_rate = 0.005", "maintenance_rate = 2.0", "maintenance rate 2"),
        ("[rules]", "[rules", "mine.toml"),
        ("taker = 0.0005", "taker = 5", "taker is a fraction"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, old: str, new: str, text: str) -> None:
    """The file, the key and what was expected."""
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(RuleError, match=text) as caught:
        venues.load(str(file))
    assert "mine.toml" in str(caught.value)


def test_a_users_own_file_is_a_venue(tmp_path: Path) -> None:
    """A new venue is a new file."""
    file = tmp_path / "mine.toml"
    file.write_text(TEXT.replace('order_offset = "sum"', 'order_offset = "net"'), encoding="utf-8")
    assert venues.load(str(file)).rules.order_offset == "net"
    assert (
        msgspec.structs.asdict(venues.load(str(file)).rules).keys()
        == msgspec.structs.asdict(venues.load("okx").rules).keys()
    )


# An exchange that none of the shipped files resembles: the root of the quantity for rates, sells above the last price, margin
# at the last price, tiers by the net of both legs and by orders, closing fees at the entry, profit that pays for nothing new.
MINE = """
name = "lunar"
title = "Lunar Exchange"
assumptions = ["made for a test"]

[rules]
maker = -0.0001
taker = 0.001
liquidation_fee = 0.01
tier_leverage_breach = "raise"
initial_price = "last"
order_offset = "larger_side"
order_fees_reserved = true
order_loss_reserved = true
sell_order_markup = 0.01
closing_fee_reserved = "entry"
hedge_margin = "larger"
hedge_maintenance = "sum"
tier_exposure = "net"
orders_in_tier = true
orders_in_maintenance = "net"
maintenance_price = "entry"
closing_fee_in_maintenance = "bankruptcy"
order_fees_in_ratio = true
order_loss_in_ratio = true
isolated_orders_in_ratio = true
isolated_maintenance_price = "entry"
isolated_closing_fee = "bankruptcy"
isolated_fee_in_margin = "bankruptcy"
profit_pays_for = []
order_size_share = 0.9
order_size_fees = 1
displayed_liquidation_price = "by_value"
ratio = "collateral_over_requirement"
warning_levels = [5.0, 2.5]
order_cancel_level = 1.5
orders_cancelled_overdrawn = true
safe_level = 1.25
liquidation = [{ step = "tiers", down = 1 }, { step = "fraction", share = 0.5, above = 10.0, cooldown_s = 60.0 }]

[rules.maintenance]
rule = "power"
base = 0.01
factor = 0.001
exponent = 0.5
initial_factor = 2.0
measure = "quantity"

[[rules.contracts]]
symbols = ["ALT"]
source = "its page"
since = 2025-01-02

[rules.contracts.maintenance]
rule = "share"
share = 0.8
marginal = false
tiers = [{ notional_min = 0.0, leverage_max = 5.0 }]

[sources]
maintenance = "its page"
"""


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('order_offset = "sum"', 'order_offset = "nett"', "choose from sum, net, net_value, larger_side"),
        ("order_offset =", "order_ofset =", "did you mean 'order_offset'"),
        ("assumptions = [", "asumptions = [", "did you mean 'assumptions'"),
        ("[sources]", '[sources]\nmakr = "x"', "sources names 'makr', which is not a rule; did you mean 'maker'"),
        ('name = "generic"', 'name = ""', "name is empty"),
        (
            "[sources]",
            '[[rules.contracts]]\nsymbols = []\nsource = ""\nmaintenance = {rule = "power"}\n[sources]',
            "missing",
        ),
    ],
)
def test_an_error_says_what_to_write(tmp_path: Path, old: str, new: str, text: str) -> None:
    """The error lists the valid answers or suggests the nearest key."""
    file = tmp_path / "mine.toml"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(RuleError, match=text):
        venues.load(str(file))


def test_files_that_are_not_text_or_quote_their_dates(tmp_path: Path) -> None:
    """The error names the problem and the correction."""
    file = tmp_path / "mine.toml"
    file.write_bytes(b"name = \xff")
    with pytest.raises(RuleError, match=r"mine\.toml: the file is not UTF-8 text"):
        venues.load(str(file))
    file.write_text(MINE.replace("since = 2025-01-02", 'since = "2025-01-02"'), encoding="utf-8")
    with pytest.raises(RuleError, match="without quotes"):
        venues.load(str(file))
    file.write_text(MINE.replace('["ALT"]', "[]"), encoding="utf-8")
    with pytest.raises(RuleError, match="at least one symbol"):
        venues.load(str(file))


def test_a_new_exchange_needs_only_a_file(tmp_path: Path) -> None:
    """A combination of rules that no shipped venue has, applied to an account; every expected figure is calculated by hand."""
    file = tmp_path / "lunar.toml"
    file.write_text(MINE, encoding="utf-8")
    venue = venues.load(str(file))
    assert venue.unsourced == [
        key for key in venues.RULES if key != "maintenance" and getattr(venue.rules, key) not in (None, ())
    ]
    account = Account(venue.rules)
    account.list_instrument(Instrument(symbol="BTC", lot=1.0))
    account.list_instrument(Instrument(symbol="ALT", lot=1.0))
    for symbol in ("BTC", "ALT"):
        account.apply(events.SettingChanged(time_ms=0, symbol=symbol, margin_mode="cross", leverage=10.0))
        account.set_mark(symbol, 100.0)
    account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=100_000.0))
    account.apply(fills.order_fill(account, 0, "BTC", "net", number=1, lots=400, price=100.0, maker=False))
    account.set_mark("BTC", 150.0)
    # 40,000 at the last price: 0.001 x root of 400 = 2 % to keep, 4 % to open, but 1/10 is more; closing fee 0.1 % of 40,000.
    assert metrics.pool_balance(account, "USDT").in_use == pytest.approx(4000.0 + 40.0)
    # The requirement at the entry, with the fee of closing at the bankruptcy price: 0.1 % of 36,000.
    (pool,) = metrics.pools(account)
    assert metrics.risk(account, pool).requirement == pytest.approx(800.0 + 36.0)
    # 20,000 of floating profit pay for nothing: 100,000 less the fee of 40 and what is in use.
    assert metrics.pool_balance(account, "USDT").free_margin == pytest.approx(99_960.0 - 4040.0)
    # A sell beyond the position is valued above the last price: max(90, 150, 100 x 1.01) = 150; 100 of 500 lots open.
    order = OpenOrder(2, "net", -500, 90.0)
    book = account.books["BTC"]
    waiting = pending(400, [order], Prices(book.long_mark, book.last, 0.01), instrument=book.instrument)
    assert waiting.opening_value == pytest.approx(15_000.0)
    assert waiting.loss == pytest.approx(100 * 60.0)
    assert isinstance(order_admission.admit(account, "BTC", order), OpenOrder)
    # ALT has terms of its own: 80 % of the initial margin at 5x.
    assert account.books["ALT"].maintenance.margin(1000.0, 10.0) == pytest.approx(160.0)


def test_another_package_adds_a_venue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point of an installed package: the name of the venue and the path of its file."""
    package = tmp_path / "lunar_rules"
    package.mkdir()
    (package / "__init__.py").write_text(
        'from pathlib import Path\nBOOK = Path(__file__).parent / "lunar.toml"\nNONE = BOOK.parent / "none.toml"\nNUMBER = 5\n',
        encoding="utf-8",
    )
    (package / "lunar.toml").write_text(MINE, encoding="utf-8")
    info = tmp_path / "lunar_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lunar-rules\nVersion: 1.0\n", encoding="utf-8")
    points = "[crossmargin_bt.venues]\nlunar = lunar_rules:BOOK\nmissing = lunar_rules:NONE\nother = lunar_rules:BOOK\nbroken = lunar_rules:NOWHERE\nwrong = lunar_rules:NUMBER\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"lunar", "okx"} <= set(venues.names())
    assert venues.load("lunar").title == "Lunar Exchange"
    with pytest.raises(ConfigurationError, match="which is not a file"):
        venues.load("missing")
    with pytest.raises(ConfigurationError, match="must be the path of a TOML file"):
        venues.load("wrong")
    with pytest.raises(ConfigurationError, match="of venue 'broken' cannot be loaded: AttributeError"):
        venues.load("broken")
    with pytest.raises(RuleError, match="the venue is named 'lunar', its entry point 'other'"):
        venues.load("other")


TIERS = """{"snapshots": [
  {"as_of": "2025-01-01", "source": "page one", "tiers": {"BTC/USDT:USDT": [
    {"notional_min": 0, "maintenance_rate": 0.01, "leverage_max": 50, "maintenance_amount": 0}]}},
  {"as_of": "2025-02", "tiers": {"BTC/USDT:USDT": [
    {"notional_min": 0, "maintenance_rate": 0.01, "maintenance_amount": 0}, {"notional_min": 1000, "maintenance_rate": 0.02, "maintenance_amount": 10}]}}
]}"""


def test_binance_has_the_tiers_of_its_most_traded_contracts_by_date() -> None:
    """65 contracts, most of them with several tables; of a day the table recorded last counts."""
    contracts = venues.load("binance").rules.contracts
    dated: dict[str, set[date | None]] = {}
    for one in contracts:
        dated.setdefault(one.symbols[0], set()).add(one.since)
    assert len(dated) >= 40
    assert sum(len(days) > 1 for days in dated.values()) >= 40

    def first_tiers(symbol: str, day: date) -> list[tuple[float, float, float | None]]:
        table = venues.load("binance").at(day).rules.terms(symbol)[0].maintenance
        assert isinstance(table, TierTable)
        return [(tier.notional_min, tier.maintenance_rate, tier.leverage_max) for tier in table.tiers[:2]]

    # In the weeks after FTX fell a first SOL kept 2 %, before and after it less.
    assert first_tiers("SOLUSDT", date(2022, 11, 24))[0][1] < 0.02
    assert first_tiers("SOLUSDT", date(2022, 12, 1))[0][1] == 0.02
    assert first_tiers("SOLUSDT", date(2024, 1, 1)) == [(0.0, 0.0065, 75.0), (10_000.0, 0.01, 50.0)]
    assert first_tiers("BTC/USDT:USDT", date(2025, 6, 18)) == [(0.0, 0.004, 125.0), (50_000.0, 0.005, 100.0)]
    assert first_tiers("BTCUSDT", date(2025, 8, 21)) == [(0.0, 0.004, 150.0), (300_000.0, 0.005, 100.0)]


@pytest.mark.skipif(not SHARED.is_dir(), reason="recorded tables are not here")
def test_binances_tiers_are_those_recorded_elsewhere() -> None:
    """Every table of seven recorded days is the one in force on that day."""
    recorded = tiers.read(SHARED / "data" / "tiers" / "binance_usdm_tiers_by_date.json")
    book, compared = venues.load("binance"), 0
    for one in recorded:
        # One record is named by its local day, one by its month.
        days = [one.since, one.since + timedelta(days=28 if one.since.month == 9 and one.since.year == 2026 else 1)]
        shipped = [book.at(day).rules.terms(one.symbols[0])[0] for day in days if book.rules.terms(one.symbols[0])]
        if shipped:
            assert one.maintenance in [terms.maintenance for terms in shipped], (one.symbols, one.since)
            compared += 1
    assert compared > 100


def test_a_book_of_ones_own_names_a_file_of_tiers(tmp_path: Path) -> None:
    """Beside it; one that is not there is named, and so is the place of a fault in it."""
    text = (Path(venues.__file__).parent / "generic.toml").read_text(encoding="utf-8")
    book, file = tmp_path / "mine.toml", tmp_path / "mine.json"
    book.write_text(f'tiers = "mine.json"\n{text}', encoding="utf-8")
    with pytest.raises(RuleError, match=r"mine\.toml: tiers names 'mine\.json', which is no file beside it"):
        venues.load(str(book))
    rows = [{"notional_min": 0, "maintenance_rate": 0.02}]
    file.write_text(json.dumps({"snapshots": [{"as_of": "2024-08-01", "tiers": {"BTC/USDT:USDT": rows}}]}))
    assert venues.load(str(book)).rules.terms("BTCUSDT")[0].maintenance == flat_rate(0.02)
    file.write_text('{"snapshots": [{"as_of": "2024-08-01", "tiers": {"BTC/USDT:USDT": [{}]}}]}')
    with pytest.raises(RuleError, match=r"mine\.toml, mine\.json: .*notional_min"):
        venues.load(str(book))


def test_tiers_by_date_are_read(tmp_path: Path) -> None:
    """By unified and short symbol; deductions make the tiers marginal; a month is its first day."""
    file = tmp_path / "tiers.json"
    file.write_text(TIERS, encoding="utf-8")
    first, second = tiers.read(file)
    assert first.symbols == ("BTC/USDT:USDT", "BTCUSDT")
    assert (str(first.since), str(second.since)) == ("2025-01-01", "2025-02-01")
    assert first.since_ms == 1_735_689_600_000
    assert second.maintenance.margin(2000.0, 1.0) == pytest.approx(30.0)
    book = venues.with_tiers(venues.load("kucoin"), [first, second]).rules
    assert [terms.source for terms in book.terms("BTCUSDT")] == ["page one", ""]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            '"maintenance_amount": 10',
            '"maintenance_amount": 11',
            "tier from 1000 has maintenance_amount 11, its rates give 10",
        ),
        ('"2025-02"', '"soon"', "'soon' is not a date"),
        ("0.02", '"much"', r"Expected `float`, got `str` - at `\$.snapshots\[1\]"),
        ('"notional_min": 1000', '"notional_min": 0', "BTC/USDT:USDT: tiers must rise"),
        ('"maintenance_amount": 0}, {', '"maintenence_amount": 0}, {', "unknown field `maintenence_amount`"),
        ('"maintenance_amount": 0}, {', '"leverage_max": 5}, {', "give all or none"),
        ('"leverage_max": 50', '"leverage_max": 0', "has leverage_max 0; it is 1 or more"),
    ],
)
def test_wrong_tiers_are_named_with_their_place(tmp_path: Path, old: str, new: str, text: str) -> None:
    """The file, the day, the contract and the tier."""
    file = tmp_path / "tiers.json"
    assert old in TIERS
    file.write_text(TIERS.replace(old, new), encoding="utf-8")
    with pytest.raises(RuleError, match=text) as caught:
        tiers.read(file)
    assert "tiers.json" in str(caught.value)
    file.write_text('{"snapshots": []}', encoding="utf-8")
    with pytest.raises(RuleError, match="contains no tier table"):
        tiers.read(file)
    file.write_text(TIERS.replace("2025-02", "2025-01"), encoding="utf-8")
    with pytest.raises(RuleError, match=r"tiers\.json: contracts gives BTC/USDT:USDT two terms"):
        venues.load_with("okx", file)
    with pytest.raises(ConfigurationError, match="does not exist"):
        tiers.read(tmp_path / "none.json")


def test_a_tiers_file_replaces_only_what_it_names(tmp_path: Path) -> None:
    """Terms remain valid for symbols that the file does not name; a contract with a delivery date is another contract."""
    file = tmp_path / "tiers.json"
    file.write_text(TIERS.replace("BTC/USDT:USDT", "XBTUSDTM"), encoding="utf-8")
    rules = venues.with_tiers(venues.load("kucoin"), tiers.read(file)).rules
    assert [terms.source for terms in rules.terms("XBTUSDTM")] == ["page one", ""]
    assert len(rules.terms("BTCUSDT")) == 1
    file.write_text(TIERS.replace("BTC/USDT:USDT", "BTC/USDT:USDT-250328"), encoding="utf-8")
    assert tiers.read(file)[0].symbols == ("BTC/USDT:USDT-250328",)


def test_terms_are_unambiguous() -> None:
    """Two terms of one contract for the same date are refused."""
    rules = venues.load("kucoin").rules
    with pytest.raises(RuleError, match="two terms for the same date"):
        msgspec.structs.replace(rules, contracts=(*rules.contracts, *rules.contracts))


def test_no_code_asks_for_a_venue_by_name() -> None:
    """Differences between venues are data, not code."""
    known = set(venues.names()) - {"generic"}
    for file in Path(crossmargin_bt.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.Match):
                named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & known
                assert not named, f"{file.name}:{node.lineno} compares with {named}"
