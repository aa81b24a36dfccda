# SPDX-License-Identifier: GPL-3.0-or-later
"""What is traded: a perpetual, a future, a coin, a loan-backed pair or an option; its steps, its limits and what it pays."""

import math
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import Literal

import msgspec

from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.numbers import to_python_number
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.errors import RuleError

# A size that falls short of a whole lot by a hair is that lot: 0.3 / 0.1 is 2.9999999999999996. The hair is this part
# of a lot, and this part of the lots counted, since a float of many lots is coarser.
LOT_TOLERANCE, COUNT_TOLERANCE = 1e-9, 1e-14
# What is left between two sizes that are meant to be the same, in lots, is less than this.
DUST = 1e-6

OPTIONAL_NUMBERS = ("maker", "taker", "strike")
NUMBER_FIELDS = ("contract_size", "lot", "tick", "notional_min", "leverage_max", *OPTIONAL_NUMBERS)

Kind = Literal["perpetual", "future", "spot", "margin", "option"]
# Kinds that have a long and a short leg in hedge mode; of the others an account has one position.
HEDGE_MODE_KINDS = ("perpetual", "future")


def whole_lots(size: float, lot: float, lots_per_contract: float) -> int:
    """Return the whole lots in `size` contracts, rounded toward zero."""
    exact = size * lots_per_contract if lots_per_contract else size / lot
    return math.trunc(exact + math.copysign(LOT_TOLERANCE + COUNT_TOLERANCE * abs(exact), exact))


def size_of_lots(lots: int, lot: float, lots_per_contract: float) -> float:
    """Return the size in contracts of whole lots."""
    return lots / lots_per_contract if lots_per_contract else lots * lot


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Something that is traded; without a `kind` a perpetual contract.

    Sizes are counted in contracts of `contract_size` base coins; one lot is the smallest step of
    a size. With `inverse`, `contract_size` is in the quote currency (100 USD), the contract pays
    size x (1/entry - 1/price) and `settle` is the coin. `underlying` names what contracts of one
    coin have in common (BTC); by itself a contract hedges no other. `tick` of 0 leaves prices as they are. `notional_min` (settle currency) bounds orders
    that open; `leverage_max` bounds the leverage a user may set. `maker`, `taker` and
    `maintenance` override what the venue has by default; rates are plain fractions.

    `kind`: "spot" is the coin `underlying` bought with `settle`; "margin" is the same pair on borrowed money, its
    margin kept in `settle`, which is the quote currency or the coin; a "future" ends at `expiry`; so does an "option",
    European, on one `underlying` a contract of size 1, with a `strike` and an `option` of "call" or "put". An option
    whose `settle` is its underlying is priced in coin. `quote` names the currency of prices where that is not `settle`.

    Raises:
        RuleError: a step, size or limit is not positive, the symbol is empty, or a kind lacks what belongs to it.
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
        if not self.symbol:
            raise RuleError("an instrument needs a symbol")
        for name in NUMBER_FIELDS:
            given = getattr(self, name)
            if given is None and name in OPTIONAL_NUMBERS:
                continue
            number = to_python_number(given)
            if number is None:
                raise RuleError(f"{self.symbol}: {name} must be a number, got {given!r}")
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
            raise RuleError(f"{self.symbol}: {kind} needs the coin it is of; set underlying='BTC'")
        if kind in ("spot", "margin", "option") and self.inverse:
            raise RuleError(
                f"{self.symbol}: inverse is for perpetuals and futures; {kind} settles in what `settle` names"
            )
        if kind == "spot" and self.settle == self.underlying:
            raise RuleError(f"{self.symbol}: a coin is bought with another currency; settle is {self.settle!r} too")
        if (kind in ("future", "option")) != (self.expiry is not None):
            raise RuleError(f"{self.symbol}: futures and options have an expiry, others have none")
        if self.expiry is not None and self.expiry.tzinfo is None:
            raise RuleError(f"{self.symbol}: expiry needs a time zone (2025-06-27T08:00:00Z)")
        if {self.option is not None, self.strike is not None} != {kind == "option"}:
            raise RuleError(f"{self.symbol}: an option has a strike and an option of 'call' or 'put', others have none")
        if self.strike is not None and not 0 < self.strike < math.inf:
            raise RuleError(f"{self.symbol}: the strike must be above 0, got {self.strike!r}")

    @cached_property
    def expiry_ms(self) -> float:
        """The expiry in milliseconds since 1970-01-01 UTC; infinity without one."""
        return math.inf if self.expiry is None else round(self.expiry.timestamp() * 1000)

    @cached_property
    def in_coin(self) -> bool:
        """Whether it is margined or priced in the coin it is of without being inverse: a margin pair, an option."""
        return not self.inverse and bool(self.underlying) and self.settle == self.underlying

    @cached_property
    def quote_currency(self) -> str:
        """The currency its prices are in; for an option in coin that of its strike."""
        if self.quote:
            return self.quote
        return "USD" if self.inverse or self.in_coin else self.settle

    @cached_property
    def base_currency(self) -> str:
        """The coin its price is the price of, empty where none is named."""
        return self.underlying or (self.settle if self.inverse else "")

    @cached_property
    def is_curved(self) -> bool:
        """Whether its profit breakpoints with its price: inverse contracts, and margin pairs that keep their margin in coin."""
        return self.inverse or (self.kind == "margin" and self.in_coin)

    @cached_property
    def is_call(self) -> bool:
        """Whether it is an option to buy."""
        return self.option == "call"

    @cached_property
    def lots_per_contract(self) -> int:
        """Whole lots in one contract, or 0 where a lot is not a whole part of a contract."""
        ratio = 1 / self.lot
        return round(ratio) if abs(ratio - round(ratio)) < LOT_TOLERANCE * ratio and ratio >= 1 else 0

    @cached_property
    def units_per_lot(self) -> float:
        """Base coins in one lot; units of the quote currency when inverse."""
        return self.size(1) * self.contract_size

    def lots(self, size: float) -> int:
        """Return the whole lots in `size` contracts, rounded toward zero: the only door from floats.

        >>> Instrument(symbol="BTCUSDT", lot=0.1).lots(0.3)
        3
        >>> Instrument(symbol="BTCUSDT", lot=0.1).lots(-0.39)
        -3
        """
        return whole_lots(size, self.lot, self.lots_per_contract)

    def is_dust(self, size: float) -> bool:
        """Return whether a size is nothing but what rounding leaves between two sizes.

        >>> Instrument(symbol="BTCUSDT", lot=0.001).is_dust(0.1 + 0.2 - 0.3)
        True
        """
        return abs(size) < DUST * self.lot

    def size(self, lots: int) -> float:
        """Return the size in contracts of whole `lots`.

        >>> Instrument(symbol="BTCUSDT", lot=0.1).size(3)
        0.3
        """
        return size_of_lots(lots, self.lot, self.lots_per_contract)

    def value(self, lots: int, price: float) -> float:
        """Return the unsigned value of `lots` at `price`, in the settle currency."""
        units = abs(lots) * self.units_per_lot
        if not self.is_curved:
            return formulas.value(units, price)
        return formulas.inverse_value(units, price) if self.inverse else units

    def price_at_value(self, lots: int, value: float) -> float:
        """Return the price at which `lots` are worth `value`."""
        units = abs(lots) * self.units_per_lot
        return units / value if self.inverse else value / units

    def base_quantity(self, lots: int, price: float) -> float:
        """Return the base coins in `lots`, unsigned; an inverse contract is worth them at `price`."""
        return self.value(lots, price) if self.inverse else abs(lots) * self.units_per_lot

    def profit(self, lots: int, entry: float, price: float) -> float:
        """Return the profit of signed `lots` from `entry` to `price`, in the settle currency."""
        size = lots * self.units_per_lot
        if not self.is_curved:
            return formulas.unrealised_profit(size, entry, price)
        return formulas.inverse_profit(size if self.inverse else size * entry, entry, price)

    def interest_cost(self, lots: int, interest: float, price: float) -> float:
        """Return what the interest on a margin pair's loan costs at `price`, in the settle currency.

        A long owes its interest in the quote currency, a short in the coin.
        """
        owed_in_coin = lots < 0
        if owed_in_coin == self.in_coin:
            return interest
        return formulas.value(interest, price) if owed_in_coin else formulas.inverse_value(interest, price)

    def average_entry(self, lots: int, entry: float, added: int, price: float) -> float:
        """Return the average entry after `added` lots at `price` join `lots` at `entry`, all on one side."""
        average = formulas.inverse_average_entry if self.inverse else formulas.average_entry
        return average(float(lots), entry, float(added), price)

    def bankruptcy_price(self, lots: int, mark: float, collateral: float, *, entry: float) -> float:
        """Return the price at which signed `lots` from `entry` alone use up `collateral`, infinity where none does."""
        size = lots * self.units_per_lot
        if not self.is_curved:
            return formulas.bankruptcy_price(size, mark, collateral)
        size = size if self.inverse else size * entry
        price = formulas.inverse_bankruptcy_price(size, mark, collateral) if size / mark + collateral else math.inf
        return price if price > 0 else math.inf

    def round_price(self, price: float, rounding: str) -> float:
        """Return `price` on the tick grid: "down", "up" or "nearest"; unchanged without a tick.

        >>> Instrument(symbol="BTCUSDT", tick=0.1).round_price(100.19, "down")
        100.1
        """
        if not self.tick or not math.isfinite(price):
            return price
        mode = {"down": ROUND_FLOOR, "up": ROUND_CEILING, "nearest": ROUND_HALF_EVEN}[rounding]
        tick = Decimal(repr(self.tick))
        return float((Decimal(repr(float(price))) / tick).to_integral_value(mode) * tick)
