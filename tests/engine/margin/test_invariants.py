# SPDX-License-Identifier: GPL-3.0-or-later
"""What `check=True` looks for after every entry: each kind of contradiction is found."""

from collections.abc import Callable

import pytest
from published.stage import account, rest, trade

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.position import Position
from crossmargin_bt.engine.margin import invariants


def made() -> Account:
    """Return an account with a position and two resting orders."""
    account_ = account(cash=1000.0, X={"leverage": 10.0, "lot": 0.1})
    trade(account_, "X", 5.0, 100.0)
    rest(account_, "X", 2, 1.0, 90.0)
    rest(account_, "X", 3, -2.0, 110.0)
    return account_


def of_no_side(one: Account) -> None:
    one.books["X"].legs["long"] = one.books["X"].legs["net"]


def flat_and_listed(one: Account) -> None:
    one.books["X"].legs["net"] = Position(0, 100.0)


def margin_in_the_shared_pool(one: Account) -> None:
    one.books["X"].legs["net"] = Position(50, 100.0, 10.0)


def an_order_uncounted(one: Account) -> None:
    dict.__setitem__(one.books["X"].orders, 4, OpenOrder(4, "net", 10, 95.0))


def an_order_counted_still(one: Account) -> None:
    dict.pop(one.books["X"].orders, 3)


def no_number(one: Account) -> None:
    one.balances["USDT"] = float("nan")


def fund_overdrawn(one: Account) -> None:
    one.insurance_fund = -1.0


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (of_no_side, "X holds a long leg"),
        (flat_and_listed, "X:net is flat but still listed"),
        (margin_in_the_shared_pool, "X:net has margin in cross mode"),
        (an_order_uncounted, "X has running order sums that differ"),
        (an_order_counted_still, "X has running order sums that differ"),
        (no_number, "USDT balance is nan"),
        (fund_overdrawn, "the insurance fund is overdrawn by 1"),
    ],
)
def test_a_contradiction_is_found(spoil: Callable[[Account], None], text: str) -> None:
    """And an account as it should be is let pass."""
    one = made()
    invariants.check(one)
    spoil(one)
    with pytest.raises(AssertionError, match=text):
        invariants.check(one)


def test_equity_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked out a second way, from the legs."""
    one = made()
    read = invariants.metrics.pool_balance
    monkeypatch.setattr(
        invariants.metrics,
        "pool_balance",
        lambda *asked: read(*asked)._replace(cross_profit=1.0 + read(*asked).cross_profit),
    )
    with pytest.raises(AssertionError, match="USDT equity is"):
        invariants.check(one)
