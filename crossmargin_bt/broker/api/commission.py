# SPDX-License-Identifier: GPL-3.0-or-later
"""Commission infos that know contracts, so backtrader's trades, sizers and targets agree with the account."""

import math
from typing import Any

import backtrader as bt

from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.terms.instrument import Instrument


class ContractCommission(bt.CommInfoBase):
    """Values, profits and fees of a contract, in the account's currency: `rate` is what the contract's is worth in it.

    A position's value is its signed notional, so `order_target_percent(target=2.0)` aims at a long
    of twice the equity. `getcommission` charges the taker rate; the broker books the maker rate
    itself where it applies.
    """

    params: Any = (("instrument", None), ("leverage", 1.0), ("price", None), ("stocklike", True), ("percabs", True))

    def __init__(self) -> None:
        self.p.mult = self._mult = self.p.instrument.contract_size
        self._is_linear = not self.p.instrument.is_curved
        self.p.commtype = self.COMM_PERC
        super().__init__()

    @property
    def instrument(self) -> Instrument:
        """The contract behind this info."""
        contract: Instrument = self.p.instrument
        return contract

    @property
    def rate(self) -> float:
        """What a unit of the contract's currency is worth in the account's now."""
        return 1.0 if self.p.price is None else float(self.p.price())

    def get_margin(self, price: float) -> float:
        """Return the initial margin of one contract at `price`."""
        return self._value(1.0, price) / float(self.p.leverage)

    def _value(self, size: float, price: float) -> float:
        if self._is_linear:
            return float(formulas.value(size * self._mult, price)) * self.rate
        return float(formulas.inverse_value(size * self.p.mult, price if self.instrument.inverse else 1.0)) * self.rate

    def profitandloss(self, size: float, price: float, newprice: float) -> float:
        """Return the profit of `size` from `price` to `newprice`."""
        if not size:
            return 0.0
        units = size * self.p.mult
        if not self.instrument.is_curved:
            return float(formulas.unrealised_profit(units, price, newprice)) * self.rate
        units = units if self.instrument.inverse else units * price
        return float(formulas.inverse_profit(units, price, newprice)) * self.rate

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


class FillCommission(ContractCommission):
    """Commission info of one fill, for backtrader's trades: it closes at the account's own average entry.

    backtrader's trades average prices arithmetically, an inverse contract's entry is their harmonic mean.
    """

    params: Any = (("entry", 0.0), ("at_rate", 1.0))

    @property
    def rate(self) -> float:
        """What a unit of the contract's currency was worth in the account's at the fill."""
        return float(self.p.at_rate)

    def profitandloss(self, size: float, price: float, newprice: float) -> float:
        """Return the profit of `size` from the entry of its trade to `newprice`."""
        return super().profitandloss(size, self.p.entry or price, newprice)


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


class CommissionBook:
    """The commission infos of a session's contracts, made once per feed and setting."""

    def __init__(self, session: BrokerSession) -> None:
        self._session = session
        self._infos: dict[Any, ContractCommission] = {}

    def forget(self, data: Any) -> None:
        """Drop a feed's commission info after its leverage changed."""
        self._infos.pop(data, None)

    def of(self, data: Any) -> ContractCommission:
        """Return the commission info of a feed with an instrument."""
        made = self._infos.get(data)
        if made is None:
            account = self._session.account
            book = self._session.books[data]
            kind: Any = ContractCommission
            settle = book.instrument.settle
            is_foreign = len(account.balances) > 1 and settle != self._session.currency
            price = (lambda: account.price(settle)) if is_foreign else None
            leverage = 1.0 if book.is_fully_funded else book.leverage
            made = self._infos[data] = kind(
                instrument=book.instrument, leverage=leverage, commission=book.taker, price=price
            )
        return made

    def of_fill(self, data: Any, entry: float) -> ContractCommission:
        """Return the commission info for the trade of one fill, whose part of the leg was held at `entry`."""
        info = self.of(data)
        if info.p.price is None and not info.instrument.is_curved:
            return info
        kind: Any = FillCommission
        made: ContractCommission = kind(
            instrument=info.instrument,
            leverage=info.p.leverage,
            commission=info.p.commission,
            entry=entry,
            at_rate=info.rate,
        )
        return made
