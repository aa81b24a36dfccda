# SPDX-License-Identifier: GPL-3.0-or-later
"""A backtrader strategy whose methods accept the leg of a hedge-mode position, and a function that rolls futures."""

from datetime import UTC, timedelta
from typing import Any

import backtrader as bt

from crossmargin_bt.engine.ledger.book import SIDES
from crossmargin_bt.errors import ConfigurationError


class HedgeStrategy(bt.Strategy):
    """`bt.Strategy` whose `close`, `getposition` and `order_target_*` accept a `position_side`.

    For example `self.buy(data, position_side="long")` and `self.close(data, position_side="short")`. Without a side each method is
    backtrader's own, so that the same strategy runs in one-way mode. Trades are notified per leg, with
    `trade.tradeid` as `(position_side, tradeid)`.
    """

    def getposition(self, data: Any = None, broker: Any = None, side: str | None = None) -> Any:
        """Return a position; in hedge mode that of the leg `side`."""
        if side is None:
            return super().getposition(data, broker)
        return self.broker.getposition(self._feed(data), side)

    def close(
        self, data: Any = None, size: float | None = None, position_side: str | None = None, **keywords: Any
    ) -> Any:
        """Close a position, or the leg `position_side`; return None if there is no position."""
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
        """Order the difference to a target size of a position, or of a leg (negative for a short leg). None if it is reached.

        Raises:
            ConfigurationError: the sign of the target contradicts the leg.
        """
        if position_side is None:
            return super().order_target_size(data, target, **keywords)
        if position_side not in SIDES["hedge"]:
            raise ConfigurationError(f"position_side must be 'long' or 'short', got {position_side!r}")
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
        """Order the difference to a target value in the account currency of a position, or of a leg (negative for a short leg)."""
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
        """Order the difference to a target value as a fraction of equity (1.0 is all of it, 2.0 twice)."""
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
    """Roll a position from an expiring contract to a later one, once the expiry is at most `before` away.

    Call it from `next`. It returns the closing and the opening order, or None if there is nothing to roll. The quantity of
    the underlying stays the same even if contract sizes differ. In hedge mode `position_side` names the leg.

    Raises:
        ConfigurationError: the instrument of `near` has no expiry.
    """
    contract, later = getattr(near, "instrument", None), getattr(far, "instrument", None)
    if contract is None or later is None or contract.expiry is None:
        raise ConfigurationError("roll needs two feeds with instruments, and the first instrument needs an expiry")
    leg = {} if position_side is None else {"position_side": position_side}
    held = strategy.broker.getposition(near, *leg.values()).size
    now = near.datetime.datetime(0).replace(tzinfo=UTC)
    if not held or not contract.expiry - before <= now < contract.expiry:
        return None
    close, open_ = (strategy.sell, strategy.buy) if held > 0 else (strategy.buy, strategy.sell)
    size = abs(held) * contract.contract_size / later.contract_size
    return close(data=near, size=abs(held), reduce_only=True, **leg), open_(data=far, size=size, **leg)
