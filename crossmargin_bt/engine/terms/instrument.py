# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruments: perpetuals, futures, spot, margin pairs and options, with their trading steps, limits and payoffs."""

import math
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import Literal

import msgspec

from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.numbers import to_python_number
from crossmargin_bt.engine.math.tolerances import LOT_REL_TOL, LOT_REMAINDER_MIN, LOT_TOL, LOT_TOL_MAX
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.errors import RuleError
from crossmargin_bt.printable import control_text

OPTIONAL_NUMBERS = ("maker", "taker", "strike")
NUMBER_FIELDS = ("contract_size", "lot", "tick", "notional_min", "leverage_max", *OPTIONAL_NUMBERS)

Kind = Literal["perpetual", "future", "spot", "margin", "option"]
# Kinds with separate long and short legs in hedge mode; the others have one net position.
HEDGE_MODE_KINDS = ("perpetual", "future")


def whole_lots(size: float, lot: float, lots_per_contract: float) -> int:
    """Return the number of whole lots in `size` contracts, rounded toward zero."""
    exact = size * lots_per_contract if lots_per_contract else size / lot
    return math.trunc(exact + math.copysign(min(LOT_TOL + LOT_REL_TOL * abs(exact), LOT_TOL_MAX), exact))


def size_of_lots(lots: int, lot: float, lots_per_contract: float) -> float:
    """Return the size in contracts of a number of lots."""
    return lots / lots_per_contract if lots_per_contract else lots * lot


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A tradable instrument; the default `kind` is a perpetual contract.

    Sizes are numbers of contracts of `contract_size` base coins; `lot` is the size increment. An `inverse` contract has its
    `contract_size` in the quote currency (100 USD), settles in the coin and pays size x (1/entry - 1/price). `underlying` is
    the coin that contracts have in common (BTC); only contracts with the same underlying hedge each other. `tick` is the price
    increment, 0 for none. `notional_min` (settle currency) is the minimum value of an order that opens; `leverage_max` is the
    maximum leverage a user may set. `maker`, `taker` (fee rates) and `maintenance` override the venue's defaults; rates are
    plain fractions.

    `kind`: "spot" is the coin `underlying` paid for in `settle`. "margin" is the same pair traded with a loan; its margin is
    held in `settle`, either the quote currency or the coin. A "future" expires at `expiry`. An "option" is European, expires at
    `expiry`, and has a `strike` and an `option` type of "call" or "put"; a contract of size 1 is on one unit of the `underlying`. An
    option whose `settle` is its underlying is priced in coin. `quote` is the currency of prices if it differs from `settle`.

    Raises:
        RuleError: a step, size or limit is not positive, the symbol is empty, or a field that the kind needs is missing.
    """

    symbol: str
    kind: Kind = "perpetual"
    settle: str = "USDT"
    contract_size: float = 1.0
    lot: float = 0.001
    tick: float = 0.0
    notional_min: float = 0.0
    leverage_max: float = 125.0
    inverse: bool = False
    underlying: str = ""
    quote: str = ""
    expiry: datetime | None = None
    strike: float | None = None
    option: Literal["call", "put"] | None = None
    maker: float | None = None
    taker: float | None = None
    maintenance: MaintenanceRule | None = None

    def __post_init__(self) -> None:
        if not self.symbol or control_text(self.symbol):
            raise RuleError(f"an instrument needs a symbol without control characters, got {self.symbol!r}")
        for name in NUMBER_FIELDS:
            given = getattr(self, name)
            if given is None and name in OPTIONAL_NUMBERS:
                continue
            number = to_python_number(given)
            if number is None or not math.isfinite(number):
                raise RuleError(f"{self.symbol}: {name} must be a finite number, got {given!r}")
            if number is not given:
                msgspec.structs.force_setattr(self, name, number)
        for name in ("contract_size", "lot"):
            if not 0 < getattr(self, name) < math.inf:
                raise RuleError(f"{self.symbol}: {name} must be above 0, got {getattr(self, name)!r}")
        if not (self.tick >= 0 and self.notional_min >= 0 and self.leverage_max >= 1):
            raise RuleError(f"{self.symbol}: tick and notional_min must not be negative, leverage_max at least 1")
        if abs(self.maker or 0.0) >= 1 or abs(self.taker or 0.0) >= 1:
            raise RuleError(f"{self.symbol}: maker and taker are fractions (0.0005 is 0.05 %)")
        self._check_kind()

    def _check_kind(self) -> None:
        kind = self.kind
        if kind in ("spot", "margin", "option") and not self.underlying:
            raise RuleError(f"{self.symbol}: {kind} needs an underlying coin; set underlying='BTC'")
        if kind in ("spot", "margin", "option") and self.inverse:
            raise RuleError(
                f"{self.symbol}: inverse is for perpetuals and futures; {kind} settles in the currency `settle`"
            )
        if kind == "spot" and self.settle == self.underlying:
            raise RuleError(f"{self.symbol}: spot needs a settle currency other than its underlying {self.settle!r}")
        if (kind in ("future", "option")) != (self.expiry is not None):
            raise RuleError(f"{self.symbol}: futures and options need an expiry, other kinds must have none")
        if self.expiry is not None and self.expiry.tzinfo is None:
            raise RuleError(f"{self.symbol}: expiry needs a time zone (2025-06-27T08:00:00Z)")
        if {self.option is not None, self.strike is not None} != {kind == "option"}:
            raise RuleError(
                f"{self.symbol}: an option needs a strike and an option of 'call' or 'put', other kinds must have neither"
            )
        if self.strike is not None and not 0 < self.strike < math.inf:
            raise RuleError(f"{self.symbol}: the strike must be above 0, got {self.strike!r}")

    @cached_property
    def expiry_ms(self) -> float:
        """The expiry in milliseconds since 1970-01-01 UTC, infinity if there is none."""
        return math.inf if self.expiry is None else round(self.expiry.timestamp() * 1000)

    @cached_property
    def in_coin(self) -> bool:
        """Whether a margin pair or an option settles in its underlying coin; False for inverse contracts."""
        return not self.inverse and bool(self.underlying) and self.settle == self.underlying

    @cached_property
    def quote_currency(self) -> str:
        """The currency of its prices; for an option priced in coin, the currency of its strike."""
        if self.quote:
            return self.quote
        return "USD" if self.inverse or self.in_coin else self.settle

    @cached_property
    def base_currency(self) -> str:
        """The coin that its price values, empty if none is known."""
        return self.underlying or (self.settle if self.inverse else "")

    @cached_property
    def is_curved(self) -> bool:
        """Whether its profit is non-linear in its price: inverse contracts, and margin pairs with their margin in coin."""
        return self.inverse or (self.kind == "margin" and self.in_coin)

    @cached_property
    def is_call(self) -> bool:
        """Whether it is a call option."""
        return self.option == "call"

    @cached_property
    def lots_per_contract(self) -> int:
        """The number of lots in one contract, 0 if a contract is not a whole number of lots."""
        ratio = 1 / self.lot
        return round(ratio) if abs(ratio - round(ratio)) < LOT_TOL * ratio and ratio >= 1 else 0

    @cached_property
    def units_per_lot(self) -> float:
        """Base coins per lot; units of the quote currency per lot of an inverse contract."""
        return self.size(1) * self.contract_size

    def lots(self, size: float) -> int:
        """Return the number of whole lots in `size` contracts, rounded toward zero.

        The only conversion from a float size to lots.

        >>> Instrument(symbol="BTCUSDT", lot=0.1).lots(0.3)
        3
        >>> Instrument(symbol="BTCUSDT", lot=0.1).lots(-0.39)
        -3
        """
        return whole_lots(size, self.lot, self.lots_per_contract)

    def is_dust(self, size: float) -> bool:
        """Return whether a size is only the rounding error between two equal sizes.

        >>> Instrument(symbol="BTCUSDT", lot=0.001).is_dust(0.1 + 0.2 - 0.3)
        True
        """
        return abs(size) < LOT_REMAINDER_MIN * self.lot

    def size(self, lots: int) -> float:
        """Return the size in contracts of `lots`.

        >>> Instrument(symbol="BTCUSDT", lot=0.1).size(3)
        0.3
        """
        return size_of_lots(lots, self.lot, self.lots_per_contract)

    def value(self, lots: int, price: float) -> float:
        """Return the unsigned notional value of `lots` at `price`, in the settle currency."""
        units = abs(lots) * self.units_per_lot
        if not self.is_curved:
            return formulas.value(units, price)
        return formulas.inverse_value(units, price) if self.inverse else units

    def price_at_value(self, lots: int, value: float) -> float:
        """Return the price at which the notional value of `lots` is `value` (settle currency): the inverse of `value`."""
        units = abs(lots) * self.units_per_lot
        return units / value if self.inverse else value / units

    def base_quantity(self, lots: int, price: float) -> float:
        """Return the unsigned quantity of `lots` in base coins; for an inverse contract, its value in coin at `price`."""
        return self.value(lots, price) if self.inverse else abs(lots) * self.units_per_lot

    def profit(self, lots: int, entry: float, price: float) -> float:
        """Return the profit of signed `lots` from `entry` to `price`, in the settle currency."""
        size = lots * self.units_per_lot
        if not self.is_curved:
            return formulas.unrealised_profit(size, entry, price)
        return formulas.inverse_profit(size if self.inverse else size * entry, entry, price)

    def interest_cost(self, lots: int, interest: float, price: float) -> float:
        """Return the interest on a margin pair's loan, converted at `price` to the settle currency.

        A long owes interest in the quote currency, a short in the coin.
        """
        owed_in_coin = lots < 0
        if owed_in_coin == self.in_coin:
            return interest
        return formulas.value(interest, price) if owed_in_coin else formulas.inverse_value(interest, price)

    def average_entry(self, lots: int, entry: float, added: int, price: float) -> float:
        """Return the average entry price after adding `added` lots at `price` to `lots` at `entry`, all on one side."""
        average = formulas.inverse_average_entry if self.inverse else formulas.average_entry
        return average(float(lots), entry, float(added), price)

    def bankruptcy_price(self, lots: int, mark: float, collateral: float, *, entry: float) -> float:
        """Return the bankruptcy price of signed `lots` from `entry`, where their loss uses up `collateral`; infinity if none.

        `collateral` (settle currency) is measured at the current `mark`.
        """
        size = lots * self.units_per_lot
        if not self.is_curved:
            return formulas.bankruptcy_price(size, mark, collateral)
        size = size if self.inverse else size * entry
        price = formulas.inverse_bankruptcy_price(size, mark, collateral) if size / mark + collateral else math.inf
        return price if price > 0 else math.inf

    def round_price(self, price: float, rounding: str) -> float:
        """Return `price` rounded to the tick grid "down", "up" or to the "nearest" tick (ties to even); unchanged without a tick.

        >>> Instrument(symbol="BTCUSDT", tick=0.1).round_price(100.19, "down")
        100.1
        """
        if not self.tick or not math.isfinite(price):
            return price
        mode = {"down": ROUND_FLOOR, "up": ROUND_CEILING, "nearest": ROUND_HALF_EVEN}[rounding]
        tick = Decimal(repr(self.tick))
        return float((Decimal(repr(float(price))) / tick).to_integral_value(mode) * tick)
