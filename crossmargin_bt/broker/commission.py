# SPDX-License-Identifier: GPL-3.0-or-later
"""Commission infos that know contracts, so backtrader's trades, sizers and targets agree with the account."""

import math
from typing import Any

import backtrader as bt

from crossmargin_bt.engine import formulas
from crossmargin_bt.engine.instrument import Instrument


class ContractCommission(bt.CommInfoBase):
    """Values, profits and fees of a perpetual.

    A position's value is its signed notional, so `order_target_percent(target=2.0)` aims at a long
    of twice the equity. `getcommission` charges the taker rate; the broker books the maker rate
    itself where it applies.
    """

    params = (("instrument", None), ("leverage", 1.0), ("stocklike", True), ("percabs", True))

    def __init__(self) -> None:
        self.p.mult = self.p.instrument.contract_size
        self.p.commtype = self.COMM_PERC
        super().__init__()

    @property
    def instrument(self) -> Instrument:
        """The contract behind this info."""
        contract: Instrument = self.p.instrument
        return contract

    def get_margin(self, price: float) -> float:
        """Return the initial margin of one contract at `price`, in the settle currency."""
        return self._value(1.0, price) / float(self.p.leverage)

    def _value(self, size: float, price: float) -> float:
        of = formulas.inverse_value if self.instrument.inverse else formulas.value
        return float(of(size * self.p.mult, price))

    def profitandloss(self, size: float, price: float, newprice: float) -> float:
        """Return the profit of `size` from `price` to `newprice`, in the settle currency."""
        of = formulas.inverse_profit if self.instrument.inverse else formulas.unrealised_profit
        return float(of(size * self.p.mult, price, newprice)) if size else 0.0

    def getsize(self, price: float, cash: float) -> float:
        """Return the size, in whole lots, whose value at `price` is `cash`."""
        if not price > 0 or not math.isfinite(cash):
            return 0.0
        return self.instrument.size(self.instrument.lots(cash / self._value(1.0, price)))

    def getoperationcost(self, size: float, price: float) -> float:
        """Return the initial margin of `size` at `price`."""
        return abs(size) * self.get_margin(price)

    def getvaluesize(self, size: float, price: float) -> float:
        """Return the signed value of `size` at `price`."""
        return self._value(size, price)

    def getvalue(self, position: Any, price: float) -> float:
        """Return the signed value of a position at `price`."""
        return self.getvaluesize(position.size, price)

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:  # noqa: ARG002, FBT001 - backtrader's signature
        return float(formulas.fee(self._value(abs(size), price), self.p.commission))


class CashCommission(ContractCommission):
    """The same contract paid for in full, for `mode="cash"`: the stock broker's own cash, value and short rules."""

    def getoperationcost(self, size: float, price: float) -> float:
        """Return the full value of `size` at `price`."""
        return float(abs(size) * price * self.p.mult)

    def getvalue(self, position: Any, price: float) -> float:
        """Return the value of a position as the stock broker counts it, a short's growing as the price falls."""
        if position.size >= 0:
            return self.getvaluesize(position.size, price)
        return self.getvaluesize(position.size, 2 * position.price - price)
