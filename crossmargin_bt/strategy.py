# SPDX-License-Identifier: GPL-3.0-or-later
"""A backtrader strategy whose methods know the two legs of hedge mode, and a helper that rolls futures."""

from datetime import UTC, timedelta
from typing import Any

import backtrader as bt

from crossmargin_bt.engine.ledger.book import SIDES
from crossmargin_bt.errors import ConfigurationError


class HedgeStrategy(bt.Strategy):
    """`bt.Strategy` with `position_side` where backtrader knows one position: `close`, `getposition`, `order_target_*`.

    `self.buy(data, position_side="long")` and `self.close(data, position_side="short")` read as they are meant. Without a
    side every method is backtrader's own, so the same strategy runs in one-way mode. Trades are notified per leg, with
    `trade.tradeid` as `(position_side, tradeid)`.
    """

    def getposition(self, data: Any = None, broker: Any = None, side: str | None = None) -> Any:
        """Return a position: in hedge mode of the leg that `side` names."""
        if side is None:
            return super().getposition(data, broker)
        return self.broker.getposition(self._feed(data), side)

    def close(
        self, data: Any = None, size: float | None = None, position_side: str | None = None, **keywords: Any
    ) -> Any:
        """Close a position, or the leg that `position_side` names; None where nothing is held."""
        if position_side is None:
            return super().close(data, size, **keywords)
        feed = self._feed(data)
        held = self.getposition(feed, side=position_side).size
        if not held:
            return None
        order = self.sell if held > 0 else self.buy
        amount = abs(held if size is None else size)
        return order(data=feed, size=amount, position_side=position_side, reduce_only=True, **keywords)

    def order_target_size(
        self, data: Any = None, target: float = 0, position_side: str | None = None, **keywords: Any
    ) -> Any:
        """Bring a position, or a leg, to a size; a short leg's is negative. None where it is there already.

        Raises:
            ConfigurationError: the target stands on the other side of the leg.
        """
        if position_side is None:
            return super().order_target_size(data, target, **keywords)
        if position_side not in SIDES["hedge"]:
            raise ConfigurationError(f"position_side is 'long' or 'short', got {position_side!r}")
        if target * (1 if position_side == "long" else -1) < 0:
            raise ConfigurationError(f"a target of {target:g} is on the other side of the {position_side} leg")
        feed = self._feed(data)
        held = self.getposition(feed, side=position_side).size
        if not target:
            return self.close(feed, position_side=position_side, **keywords)
        if target == held:
            return None
        order = self.buy if target > held else self.sell
        return order(data=feed, size=abs(target - held), position_side=position_side, **keywords)

    def order_target_value(
        self,
        data: Any = None,
        target: float = 0.0,
        price: float | None = None,
        position_side: str | None = None,
        **keywords: Any,
    ) -> Any:
        """Bring a position, or a leg, to a value in the account's currency; a short leg's is negative."""
        if position_side is None:
            return super().order_target_value(data, target, price, **keywords)
        feed = self._feed(data)
        info = self.broker.getcommissioninfo(feed)
        instrument = getattr(info, "instrument", None)
        at = feed.close[0] if price is None else price
        if instrument is None:
            return self.order_target_size(feed, target / at, position_side=position_side, price=price, **keywords)
        lots = int(abs(target) / (instrument.value(1, at) * info.rate) * (1 + 1e-12))
        size = instrument.size(lots if target >= 0 else -lots)
        return self.order_target_size(feed, size, position_side=position_side, price=price, **keywords)

    def order_target_percent(
        self, data: Any = None, target: float = 0.0, position_side: str | None = None, **keywords: Any
    ) -> Any:
        """Bring a position, or a leg, to a part of equity (1.0 is all of it, 2.0 twice)."""
        if position_side is None:
            return super().order_target_percent(data, target, **keywords)
        value = target * self.broker.getvalue()
        return self.order_target_value(data, value, position_side=position_side, **keywords)

    def _feed(self, data: Any) -> Any:
        if data is None:
            return self.data
        return self.getdatabyname(data) if isinstance(data, str) else data


def roll(
    strategy: bt.Strategy,
    near: Any,
    far: Any,
    *,
    before: timedelta = timedelta(days=1),
    position_side: str | None = None,
) -> tuple[Any, Any] | None:
    """Carry a position from a contract that ends over to a later one, once its expiry is as near as `before`.

    Call it from `next`; it returns the order that closes and the one that opens, or None while there is nothing to do. As many
    coins are held afterwards, whatever the contracts' sizes; in hedge mode `position_side` names the leg.

    Raises:
        ConfigurationError: `near` trades no contract with an expiry.
    """
    contract, later = getattr(near, "instrument", None), getattr(far, "instrument", None)
    if contract is None or later is None or contract.expiry is None:
        raise ConfigurationError("roll carries a position from a feed whose instrument has an expiry to another's")
    leg = {} if position_side is None else {"position_side": position_side}
    held = strategy.broker.getposition(near, *leg.values()).size
    now = near.datetime.datetime(0).replace(tzinfo=UTC)
    if not held or not contract.expiry - before <= now < contract.expiry:
        return None
    close, open_ = (strategy.sell, strategy.buy) if held > 0 else (strategy.buy, strategy.sell)
    size = abs(held) * contract.contract_size / later.contract_size
    return close(data=near, size=abs(held), reduce_only=True, **leg), open_(data=far, size=size, **leg)
