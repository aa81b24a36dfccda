# SPDX-License-Identifier: GPL-3.0-or-later
"""Admission by an upper bound against exact admission, and running sums of orders against sums made anew."""

import math
from typing import Any

import msgspec
import pytest
from budget import examples
from hypothesis import given
from hypothesis import strategies as st

from crossmargin_bt import venues
from crossmargin_bt.broker.skip.admission_bound import BoundedAdmission
from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.open_orders import OpenOrders, exact, rounded
from crossmargin_bt.engine.ledger.orders import OpenOrder, Prices, pending
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.terms.instrument import Instrument

VENUES = ("generic", "okx", "binance", "bitget", "kucoin", "bybit", "hyperliquid", "kraken", "binance_coinm")

prices = st.floats(50.0, 200.0)
lots = st.integers(-5000, 5000).filter(bool)


@st.composite
def orders(draw: Any, number: int, mode: str) -> OpenOrder:
    side = draw(st.sampled_from(["long", "short"])) if mode == "hedge" else "net"
    return OpenOrder(number, side, draw(lots), draw(prices), group=number, immediate=draw(st.booleans()))


@st.composite
def accounts(draw: Any) -> tuple[Account, str, OpenOrder]:
    """An account with positions and resting orders in one contract, another position beside it, and one more order."""
    venue = venues.load(draw(st.sampled_from(VENUES)))
    mode = draw(st.sampled_from(["one_way", "hedge"]))
    inverse = venue.name == "binance_coinm"
    facts: dict[str, Any] = {"inverse": True, "settle": "BTC"} if inverse else {}
    account = Account(venue.rules, position_mode=mode, unit="BTC" if inverse else "USDT")
    for symbol in ("AAA", "BBB"):
        account.list_instrument(Instrument(symbol=symbol, lot=0.1, **facts))
        margin_mode = draw(st.sampled_from(["cross", "isolated"]))
        leverage = draw(st.sampled_from([1.0, 3.0, 10.0, 20.0]))
        account.apply(events.SettingChanged(time_ms=0, symbol=symbol, margin_mode=margin_mode, leverage=leverage))
        account.set_mark(symbol, draw(prices))
        account.books[symbol].last = account.books[symbol].long_mark * draw(st.floats(0.99, 1.01))
    cash = draw(st.floats(1.0, 1e6)) / (100.0 if inverse else 1.0)
    account.apply(events.CashTransferred(time_ms=0, currency="BTC" if inverse else "USDT", amount=cash))
    for symbol in ("AAA", "BBB"):
        for side in account.books[symbol].sides:
            if draw(st.booleans()):
                held = abs(draw(lots)) * (-1 if side == "short" else 1)
                account.apply(
                    fills.order_fill(account, 0, symbol, side, number=99, lots=held, price=draw(prices), maker=False)
                )
    for number in range(1, draw(st.integers(0, 6)) + 1):
        one = msgspec.structs.replace(draw(orders(number, mode)), immediate=draw(st.integers(0, 3)) == 0)
        placed = {name: getattr(one, name) for name in one.__struct_fields__}
        account.apply(events.OrderPlaced(time_ms=0, symbol="AAA", **placed))
    return account, "AAA", draw(orders(50, mode))


@examples(100)
@given(accounts())
def test_an_order_that_surely_fits_is_one_that_fits(drawn: tuple[Account, str, OpenOrder]) -> None:
    """With the bound, and judged exactly: the same order rests, or the same refusal comes back."""
    account, symbol, order = drawn
    assert BoundedAdmission(account, {}).admit(symbol, order) == order_admission.admit(account, symbol, order)


@examples(75)
@given(accounts(), st.lists(st.tuples(lots, prices), min_size=2, max_size=5))
def test_fills_that_share_a_bound_are_those_that_fit_one_by_one(
    drawn: tuple[Account, str, OpenOrder], more: list[tuple[int, float]]
) -> None:
    """One after the other at the same marks: an order that the bound admits is admitted without it."""
    account, symbol, order = drawn
    admission = BoundedAdmission(account, {})
    for size, price in more:
        entry = fills.order_fill(account, 0, symbol, order.side, number=60, lots=size, price=price, maker=False)
        exactly = order_admission.admit_fill(account, entry)
        assert admission.admit_fill(entry) == exactly
        if exactly is None:
            account.apply(entry)


@examples(75)
@given(accounts())
def test_a_fill_that_surely_fits_is_one_that_fits(drawn: tuple[Account, str, OpenOrder]) -> None:
    """The same for a fill, whose exact judgement never asks for the bound."""
    account, symbol, order = drawn
    entry = fills.order_fill(
        account, 0, symbol, order.side, number=order.number, lots=order.lots, price=order.price, maker=False
    )
    assert BoundedAdmission(account, {}).admit_fill(entry) == order_admission.admit_fill(account, entry)


@examples(50)
@given(accounts())
def test_orders_admitted_together_fit_together(drawn: tuple[Account, str, OpenOrder]) -> None:
    """A bound that reserves for what it admitted never admits what would not fit beside it."""
    account, symbol, order = drawn
    admission = BoundedAdmission(account, {})
    for number in range(60, 66):
        one = msgspec.structs.replace(order, number=number, group=number)
        found = admission.admit(symbol, one)
        assert found == order_admission.admit(account, symbol, one)
        if not isinstance(found, OpenOrder):
            break
        placed = {name: getattr(found, name) for name in found.__struct_fields__}
        account.apply(events.OrderPlaced(time_ms=0, symbol=symbol, **placed))


@examples(75)
@given(
    st.lists(st.tuples(st.integers(1, 8), lots, prices, st.booleans()), max_size=30),
    st.integers(-4000, 4000),
    st.booleans(),
)
def test_running_sums_are_those_made_anew(changes: list[Any], held: int, inverse: bool) -> None:
    """However orders came, changed and went: bit for bit what summing those that are left comes to."""
    instrument = Instrument(symbol="AAA", lot=0.1, **({"inverse": True, "settle": "BTC"} if inverse else {}))
    running = OpenOrders(instrument)
    for number, size, price, goes in changes:
        if goes and number in running:
            running.pop(number)
        else:
            running[number] = OpenOrder(number, "net", size, price, group=number)
    anew = pending(held, running.values(), Prices(100.0, 100.0, None), instrument=instrument)
    assert running.pending("net", held)._replace(loss=0.0) == anew._replace(loss=0.0)
    twin = running.copy()
    twin.clear()
    assert running.pending("net", held)._replace(loss=0.0) == anew._replace(loss=0.0)
    assert not any(twin.pending("net", held))


def test_orders_of_a_group_are_not_plain_while_there_are_two() -> None:
    """Then one stands for both, and the running sums do not serve."""
    book = OpenOrders(Instrument(symbol="AAA", lot=0.1))
    book[1] = OpenOrder(1, "net", 5, 100.0, group=7)
    assert book.is_plain
    book[2] = OpenOrder(2, "net", 5, 110.0, group=7)
    assert not book.is_plain
    book[2] = OpenOrder(2, "net", 3, 110.0, group=7)
    assert not book.is_plain
    del book[1]
    assert book.is_plain


@given(st.lists(st.floats(-1e300, 1e300), max_size=20))
def test_exact_units_round_as_fsum_does(values: list[float]) -> None:
    """A sum of floats in whole units is `math.fsum`."""
    try:
        expected = math.fsum(values)
    except OverflowError:
        return
    assert rounded(sum(map(exact, values))) == expected


@pytest.mark.parametrize("venue", ["generic", "okx", "kraken"])
def test_small_orders_surely_fit(venue: str) -> None:
    """The bound serves: not every order is judged exactly."""
    account = Account(venues.load(venue).rules)
    account.list_instrument(Instrument(symbol="AAA", lot=0.1))
    account.apply(events.SettingChanged(time_ms=0, symbol="AAA", margin_mode="cross", leverage=10.0))
    account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=10_000.0))
    account.set_mark("AAA", 100.0)
    taken = BoundedAdmission(account, {}).try_reserve(account.books["AAA"], "net", 10, 100.0)
    bounded = not account.books["AAA"].maintenance.has_initial_floor
    assert taken == bounded


@examples(75)
@given(accounts(), st.data())
def test_orders_of_one_bar_are_admitted_as_each_by_itself(drawn: tuple[Account, str, OpenOrder], data: Any) -> None:
    """A bound that admits some of them says of every other what the exact admission says."""
    account, _, _ = drawn
    mode = "hedge" if account.hedged else "one_way"
    admission = BoundedAdmission(account, {})
    for number in range(60, 66):
        symbol = data.draw(st.sampled_from(["AAA", "BBB"]))
        order = data.draw(orders(number, mode))
        kinds = st.booleans() if not account.hedged else st.just(False)
        order = msgspec.structs.replace(order, reduce_only=data.draw(kinds) and data.draw(st.booleans()))
        admitted = admission.admit(symbol, order)
        assert admitted == order_admission.admit(account, symbol, order)
        if isinstance(admitted, OpenOrder) and admitted.lots:
            placed = {name: getattr(admitted, name) for name in admitted.__struct_fields__}
            account.apply(events.OrderPlaced(time_ms=0, symbol=symbol, **placed))


def test_an_order_that_was_judged_exactly_closes_the_bound() -> None:
    """60 and 45 of 100 that are free: the first is admitted, the second refused, in one bar as in two."""
    account = Account(venues.load("generic").rules)
    for symbol in ("AAA", "BBB"):
        account.list_instrument(Instrument(symbol=symbol, lot=0.1))
        account.apply(events.SettingChanged(time_ms=0, symbol=symbol, margin_mode="isolated", leverage=10.0))
        account.set_mark(symbol, 100.0)
    account.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=100.0))
    admission = BoundedAdmission(account, {})
    first = admission.admit("AAA", OpenOrder(1, "net", 60, 100.0, immediate=True))
    assert isinstance(first, OpenOrder)
    placed = {name: getattr(first, name) for name in first.__struct_fields__}
    account.apply(events.OrderPlaced(time_ms=0, symbol="AAA", **placed))
    assert not isinstance(admission.admit("BBB", OpenOrder(2, "net", 45, 100.0, immediate=True)), OpenOrder)
