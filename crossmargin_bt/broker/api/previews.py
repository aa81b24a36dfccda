# SPDX-License-Identifier: GPL-3.0-or-later
"""What the account would be: after an order, or at other prices. Nothing is changed by asking."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from crossmargin_bt.broker.api.queries import Readings
from crossmargin_bt.broker.api.settings import finite_of
from crossmargin_bt.broker.orders import execution
from crossmargin_bt.broker.orders.matching import leg_of
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission import maximum_order, order_admission
from crossmargin_bt.engine.ledger import position
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.estimates import Distance, aggregate_distance, liquidation_price
from crossmargin_bt.errors import ConfigurationError

# The number of an order that was never entered; those of a run begin at 1.
NOT_ENTERED = -1


class Snapshot(NamedTuple):
    """An account at a moment. Amounts are in its currency.

    `requirement` is what all pools must keep; `margin_level` the lowest collateral over requirement;
    `liquidation_prices` are by feed name (name:long and name:short in hedge mode), None where there is none; `distance`
    is how far all marks may move together.
    """

    equity: float
    free_margin: float
    margin_used: float
    requirement: float
    margin_level: float
    leverage: float
    liquidation_prices: dict[str, float | None]
    distance: Distance


class Preview(NamedTuple):
    """What an order would do: whether it would be refused, what it would lock while it rests, the account after its fill."""

    refusal: Refusal | None
    locked: float
    after: Snapshot


class Previews(Readings):
    """Questions about accounts that are not."""

    def what_if(self, prices: Mapping[str, float]) -> Snapshot:
        """Return the account with some feeds' marks at other prices, by feed name; the others stand.

        Raises:
            ConfigurationError: a name is no feed with an instrument, a price is not above 0, or the account is in cash mode.
        """
        run = self._margin_run()
        moved = run.account.copy(*run.account.books)
        for name, price in prices.items():
            book = run.books[self._feed(run, name)]
            moved.books[book.instrument.symbol].set_mark(_above_0(f"the price of {name}", price))
        moved.update_option_indices()
        return self._snapshot(run, moved)

    def preview(
        self,
        order: Any = None,
        *,
        data: Any = None,
        size: float = 0.0,
        price: float | None = None,
        side: str | None = None,
    ) -> Preview:
        """Return what an order would do: one that was entered, or one of `size` (negative to sell) on a feed.

        Without a `price` a market order at the last price. The other orders stay as they are; guards are not asked. In hedge mode `side` names the leg.

        Raises:
            ConfigurationError: there is no such feed or side, the size is no lot, or the account is in cash mode.
        """
        run = self._margin_run()
        if order is not None and not order.alive():
            raise ConfigurationError(f"order {order.ref} has ended; there is nothing left of it to do")
        number = finite_of("size", size)
        if order is not None:
            data, side, lots = order.data, leg_of(order), run.lots_left(order)
            number, market = run.number(order), order.exectype in (order.Market, order.Close)
            price, reduces = execution.reference_price(order), execution.reduces_only(order)
        else:
            data = self._feed(run, data)
            side = self._side(run.books[data], side)
            lots, number, market, reduces = run.books[data].instrument.lots(number), NOT_ENTERED, price is None, False
        book = run.books[data]
        if not lots:
            raise ConfigurationError(f"size {size!r} is less than one lot of {book.instrument.symbol}")
        symbol = book.instrument.symbol
        if symbol not in run.last_close:
            raise ConfigurationError(f"feed {data._name!r} has delivered no bar yet; ask from next() on")
        at = run.last_close[symbol] if price is None else _above_0("the order's price", price)
        account = run.account.copy(symbol)
        account.books[symbol].orders.pop(number, None)
        resting = OpenOrder(number, str(side), lots, at, reduces, number, immediate=market)
        admitted = order_admission.admit(account, symbol, resting)
        before = metrics.available_margin(account, account.books[symbol])
        rests = account.copy(symbol)
        rests.books[symbol].orders[number] = resting
        locked = before - metrics.available_margin(rests, rests.books[symbol])
        if reduces:
            lots = position.cap_to_position(account.books[symbol].leg(str(side)).lots, lots)
        after = account.copy(symbol)
        if lots:
            after.apply(
                fills.order_fill(account, run.time_ms, symbol, str(side), number=0, lots=lots, price=at, maker=False)
            )
        refusal = admitted if isinstance(admitted, Refusal) else None
        settle = run.account.pool_of(book.instrument.settle)
        return Preview(refusal, max(0.0, locked) * run.account.price(settle), self._snapshot(run, after))

    def maximum_leverage(self, data: Any, stake: float) -> float:
        """Return the highest leverage at which `stake` (settle currency) may stand behind a position of the feed's instrument.

        The instrument's highest, or what its tiers allow a position worth stake x leverage at the mark; 1 in cash mode.
        Source: docs/sources.md#maximum-order-size.

        Raises:
            ConfigurationError: the feed has no instrument or no bar yet, or the stake is not above 0.
        """
        collateral = _above_0("stake", stake)
        run = self._run
        if run is None:
            return 1.0
        data = self._feed(run, data)
        symbol = run.books[data].instrument.symbol
        if symbol not in run.last_close:
            raise ConfigurationError(f"feed {data._name!r} has delivered no bar yet; ask from next() on")
        return maximum_order.maximum_leverage(run.account, symbol, collateral)

    def maximum_order_size(
        self, data: Any, *, isbuy: bool = True, price: float | None = None, side: str | None = None
    ) -> float:
        """Return the largest size, in contracts and whole lots, that an order would be admitted with now.

        Without a `price` for a market order at the last price; what closes counts, so the other side of a
        position may take more. Orders entered since the last bar are not counted yet, and a market order is judged
        again at the price it fills at. In hedge mode `side` names the leg. In cash mode what the cash buys.

        Raises:
            ConfigurationError: the feed has no instrument or no bar yet, the side does not exist, or the price
                is not above 0.
        """
        run = self._run
        given = None if price is None else _above_0("price", price)
        if run is not None:
            data = self._feed(run, data)
        if not len(data):
            raise ConfigurationError(f"feed {data._name!r} has delivered no bar yet; ask from next() on")
        if run is None:
            at = data.close[0] if given is None else given
            return float(self.getcommissioninfo(data).getsize(at, self.getcash()))
        leg = self._side(run.books[data], side)
        instrument = run.books[data].instrument
        at = run.last_close[instrument.symbol] if given is None else given
        direction = 1 if isbuy else -1
        lots = maximum_order.maximum_order_lots(
            run.account, instrument.symbol, leg, direction, at, immediate=given is None
        )
        return instrument.size(lots)

    def _margin_run(self) -> BrokerSession:
        if self._run is None:
            raise ConfigurationError("cash mode knows no margin; ask a broker in mode 'cross' or 'isolated'")
        return self._run

    def _snapshot(self, run: BrokerSession, account: Account) -> Snapshot:
        total = metrics.pool_balance(account, account.pool_of(run.currency))
        equity = metrics.total_equity(account)
        pools = metrics.pools(account)
        risks = [metrics.risk(account, pool) for pool in pools]
        prices: dict[str, float | None] = {}
        for data, book in run.books.items():
            for side in book.sides:
                name = data._name if side == "net" else f"{data._name}:{side}"
                prices[name] = liquidation_price(account, book.instrument.symbol, side).price
        return Snapshot(
            equity=equity,
            free_margin=total.free_margin,
            margin_used=metrics.total_margin_used(account),
            requirement=math.fsum(
                risk.requirement * account.price(pool.currency) for pool, risk in zip(pools, risks, strict=True)
            ),
            margin_level=min((risk.margin_level for risk in risks), default=math.inf),
            leverage=metrics.account_exposure(account) / equity if equity > 0 else 0.0,
            liquidation_prices=prices,
            distance=aggregate_distance(account, {}),
        )


def _above_0(what: str, given: Any) -> float:
    number = finite_of(what, given)
    if number <= 0:
        raise ConfigurationError(f"{what} must be above 0, got {given!r}")
    return number
