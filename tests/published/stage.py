# SPDX-License-Identifier: GPL-3.0-or-later
"""How a published example is set up on an account: instruments, fills, orders, and what is read off."""

from __future__ import annotations

import msgspec

from crossmargin_bt import venues
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import liquidation_prices, metrics
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rates import flat_rate


def account(*, cash: float, mode: str = "cross", position_mode: str = "one_way", **instruments: dict) -> Account:
    """Return an account with instruments given by symbol as dict(leverage=, rule=, **facts), under plain rules."""
    rules = instruments.pop("rules", {})
    base = venues.load(str(rules.pop("venue", "generic"))).at(rules.pop("at", None)).rules
    made = Account(msgspec.structs.replace(base, **{"maker": 0.0, "taker": 0.0, **rules}), position_mode=position_mode)
    for symbol, given in instruments.items():
        facts = dict(given)
        leverage, rule = facts.pop("leverage", 1.0), facts.pop("rule", None)
        made.list_instrument(Instrument(symbol=symbol, **{"lot": 1e-6, "maintenance": rule, **facts}))
        made.apply(events.SettingChanged(time_ms=0, symbol=symbol, margin_mode=mode, leverage=leverage))
    made.apply(events.CashTransferred(time_ms=0, currency="USDT", amount=cash))
    return made


def trade(made: Account, symbol: str, size: float, price: float, side: str = "net") -> None:
    """Fill `size` contracts at `price`, marked there."""
    made.set_mark(symbol, price)
    lots = made.books[symbol].instrument.lots(size)
    made.apply(fills.order_fill(made, 0, symbol, side, number=1, lots=lots, price=price, maker=False))


def rest(made: Account, symbol: str, number: int, size: float, price: float) -> None:
    """Let an order rest."""
    made.apply(
        events.OrderPlaced(
            time_ms=0, number=number, symbol=symbol, side="net", lots=made.books[symbol].instrument.lots(size),
            price=price, reduce_only=False, group=None, immediate=False, covered=0,
        )
    )  # fmt: skip


def shared(made: Account, *, with_orders: bool = True) -> metrics.Risk:
    return metrics.risk(made, next(p for p in metrics.pools(made) if not p.isolated), with_orders=with_orders)


def isolated_price(
    case: dict, *, fee: float = 0.0, at_entry: bool = False, rule=None, size: float = 1.0, cash: float = 1e9
) -> float | None:
    """Return the liquidation price of a lone isolated position given by entry, leverage, side and rate."""
    given = case["inputs"]
    short = given.get("short", given.get("side") == "short")
    rules = {
        "isolated_closing_fee": "mark" if fee else "none",
        "isolated_maintenance_price": "entry" if at_entry else "mark",
        "taker": fee,
    }
    made = account(
        cash=cash,
        mode="isolated",
        rules=rules,
        X={"leverage": given["leverage"], "rule": rule or flat_rate(given["mmr"])},
    )
    trade(made, "X", -size if short else size, given.get("entry", given.get("hp")))
    return liquidation_prices.liquidation_price(made, "X").price


def requirement(value: float, rule, quantity: float = 1.0) -> float:
    """Return what an account keeps for a position of `quantity` worth `value`."""
    made = account(cash=1e12, X={"leverage": 1.0, "rule": rule})
    trade(made, "X", quantity, value / quantity)
    return shared(made).requirement
