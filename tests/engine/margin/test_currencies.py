# SPDX-License-Identifier: GPL-3.0-or-later
"""Coins, pools of one and of many currencies, debts and their interest. Every figure by hand."""

from __future__ import annotations

import msgspec
import pytest

from crossmargin_bt import Instrument, venues
from crossmargin_bt.engine.admission import spot_orders
from crossmargin_bt.engine.admission.order_admission import admit
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills, interest
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.errors import FeedError

COIN = Instrument(symbol="BTC/USDT", kind="spot", underlying="BTC", lot=0.001)
PERPETUAL = Instrument(symbol="BTC", underlying="BTC", lot=0.001, maintenance=flat_rate(0.005))


def account(*, pooling: str, cash: float = 10_000.0, **changes) -> Account:
    """Return an account without fees in which BTC can be bought and shorted; BTC counts at 95 %."""
    rules = msgspec.structs.replace(venues.load("generic").rules, maker=0.0, taker=0.0, **changes)
    made = Account(rules, pooling=pooling, unit="USDT")
    for instrument in (COIN, PERPETUAL):
        made.list_instrument(instrument)
        made.apply(events.SettingChanged(time_ms=0, symbol=instrument.symbol, margin_mode="cross", leverage=10.0))
        made.set_mark(instrument.symbol, 10_000.0)
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=cash))
    return made


def trade(made: Account, symbol: str, size: float, price: float, number: int = 1) -> None:
    lots = made.books[symbol].instrument.lots(size)
    made.apply(fills.order_fill(made, 0, symbol, "net", number=number, lots=lots, price=price, maker=False))


def test_a_coin_is_paid_for_and_held() -> None:
    """0.5 BTC at 10,000 take 5,000 USDT; nothing is locked for them, and equity follows their price."""
    made = account(pooling="single_currency")
    trade(made, "BTC/USDT", 0.5, 10_000.0)
    assert made.balances == {"USDT": 5_000.0, "BTC": 0.5}
    assert metrics.pool_balance(made, "USDT").free_margin == 5_000.0
    assert metrics.pool_balance(made, "USDT").in_use == 0.0
    made.set_mark("BTC/USDT", 12_000.0)
    assert metrics.total_equity(made) == 11_000.0
    assert metrics.pools(made) == []


def test_a_hedge_locks_margin_for_its_short_alone() -> None:
    """Long 0.5 BTC of spot and short 0.5 of the perpetual: 500 of initial margin, and the price changes nothing."""
    made = account(pooling="single_currency")
    trade(made, "BTC/USDT", 0.5, 10_000.0)
    trade(made, "BTC", -0.5, 10_000.0, 2)
    assert metrics.pool_balance(made, "USDT").in_use == 500.0
    for price in (8_000.0, 15_000.0):
        made.set_mark("BTC/USDT", price)
        made.set_mark("BTC", price)
        assert metrics.total_equity(made) == pytest.approx(10_000.0)
    # In its own pool the short stands on the dollars alone: 5,000 - 0.5 x 5,000 = 2,500 against 0.5 x 15,000 x 0.5 %.
    (pool,) = metrics.pools(made)
    assert metrics.risk(made, pool) == (pytest.approx(2_500.0), pytest.approx(37.5))


def test_many_currencies_are_one_pool() -> None:
    """The same hedge in one pool: the coin counts at 95 %, so 0.5 x 15,000 x 0.95 stand beside the dollars."""
    made = account(pooling="multi_currency")
    trade(made, "BTC/USDT", 0.5, 10_000.0)
    trade(made, "BTC", -0.5, 10_000.0, 2)
    made.set_mark("BTC/USDT", 15_000.0)
    made.set_mark("BTC", 15_000.0)
    (pool,) = metrics.pools(made)
    assert metrics.risk(made, pool) == (pytest.approx(2_500.0 + 7_125.0), pytest.approx(37.5))
    total = metrics.pool_balance(made, "USDT")
    assert (total.equity, total.haircut, total.in_use) == (
        pytest.approx(10_000.0), pytest.approx(375.0), pytest.approx(750.0),
    )  # fmt: skip
    assert total.free_margin == pytest.approx(10_000.0 - 375.0 - 750.0)


def test_a_debt_counts_in_full_and_locks_margin() -> None:
    """Short 8,000 of dollars: the debt is 8,000, locks a tenth and keeps a twentieth of itself."""
    made = account(pooling="multi_currency", cash=2_000.0)
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=2.0))
    trade(made, "BTC/USDT", 1.0, 10_000.0)
    assert made.balances == {"USDT": -8_000.0, "BTC": 3.0}
    total = metrics.pool_balance(made, "USDT")
    assert total.equity == pytest.approx(22_000.0)
    assert total.in_use == pytest.approx(800.0)
    (pool,) = metrics.pools(made)
    assert metrics.risk(made, pool) == (pytest.approx(30_000.0 * 0.95 - 8_000.0), pytest.approx(400.0))


@pytest.mark.parametrize(
    ("pooling", "size", "price", "refused"),
    [
        ("single_currency", 1.0, 10_000.0, False),
        ("single_currency", 1.001, 10_000.0, True),
        ("single_currency", -0.001, 10_000.0, True),
        # 10,000 x 0.95 - debt of 10 x 9.5 %: in one pool coins are bought with borrowed dollars as far as margin reaches.
        ("multi_currency", 2.0, 10_000.0, False),
        ("multi_currency", 100.0, 10_000.0, True),
        ("multi_currency", -1.0, 10_000.0, False),
    ],
)
def test_orders_for_coins_take_what_is_there(pooling: str, size: float, price: float, refused: bool) -> None:
    """Available balance without borrowing, free margin with it."""
    made = account(pooling=pooling)
    order = OpenOrder(1, "net", COIN.lots(size), price)
    for immediate in (False, True):
        found = admit(made, "BTC/USDT", msgspec.structs.replace(order, immediate=immediate))
        assert isinstance(found, Refusal) is refused
        if refused:
            assert found.kind == "margin"


def test_floating_profit_buys_no_coins() -> None:
    """1,000 of floating profit raise free margin, not what coins can be bought with."""
    made = account(pooling="single_currency", profit_pays_for=("cross_orders",))
    trade(made, "BTC", 1.0, 10_000.0)
    made.set_mark("BTC", 11_000.0)
    assert metrics.pool_balance(made, "USDT").free_margin == pytest.approx(11_000.0 - 1_100.0)
    assert spot_orders.available(made, "USDT") == pytest.approx(10_000.0 - 1_100.0)


def test_resting_orders_reserve_their_currency() -> None:
    """A buy reserves dollars with its fee, a sell reserves coins; of one-cancels-other orders the dearest counts."""
    made = account(pooling="single_currency")
    made.books["BTC/USDT"].orders[1] = OpenOrder(1, "net", 300, 9_000.0)
    made.books["BTC/USDT"].orders[2] = OpenOrder(2, "net", 200, 8_000.0, group=7)
    made.books["BTC/USDT"].orders[3] = OpenOrder(3, "net", 100, 9_500.0, group=7)
    assert metrics.pool_balance(made, "USDT").in_use == pytest.approx(2_700.0 + 1_600.0)
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=1.0))
    made.books["BTC/USDT"].orders[4] = OpenOrder(4, "net", -600, 11_000.0)
    assert spot_orders.available(made, "BTC") == pytest.approx(0.4)


def test_interest_by_the_clock() -> None:
    """A debt of 8,000 made at 13:20 is charged at once and at each full hour; what is borrowed more, for its first hour."""
    made = account(pooling="multi_currency", cash=2_000.0)
    made.interest_rates["USDT"] = 0.876  # a ten-thousandth an hour
    made.apply(events.CashTransferred(time_ms=0, currency="BTC", amount=2.0))
    trade(made, "BTC/USDT", 1.0, 10_000.0)

    def charge(minutes: int) -> float:
        found = list(interest.due(made, minutes * 60_000, interest.debts(made)))
        for entry in found:
            made.apply(entry)
        return sum(entry.amount for entry in found if isinstance(entry, events.InterestCharged))

    assert charge(13 * 60 + 20) == pytest.approx(0.8)
    assert charge(13 * 60 + 40) == 0.0
    assert charge(14 * 60) == pytest.approx(8_000.8 * 1e-4)
    trade(made, "BTC/USDT", 0.1, 10_000.0)
    assert charge(14 * 60 + 15) == pytest.approx(0.1)
    assert charge(16 * 60) == pytest.approx(2 * -made.balances["USDT"] * 1e-4 / (1 + 2e-4), rel=1e-6)
    assert made.interest == pytest.approx(-made.balances["USDT"] - 9_000.0)
    trade(made, "BTC/USDT", -1.0, 10_000.0)
    assert charge(17 * 60) == 0.0
    assert made.loans == {}


def test_currencies_need_a_price() -> None:
    """Directly, through USDT, or a clear error."""
    made = Account(venues.load("generic").rules, pooling="multi_currency", unit="USD", prices={"USDT": 0.999})
    made.list_instrument(COIN)
    made.list_instrument(Instrument(symbol="ALT/BTC", kind="spot", underlying="ALT", settle="BTC"))
    made.set_mark("BTC/USDT", 20_000.0)
    made.set_mark("ALT/BTC", 0.05)
    assert made.price("BTC") == pytest.approx(19_980.0)
    assert made.price("ALT") == pytest.approx(999.0)
    with pytest.raises(FeedError, match="nothing prices XRP in USD: add a feed of XRP"):
        made.price("XRP")
