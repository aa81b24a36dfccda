# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin formulas: the single source of every formula, generic over the number type.

No function contains a float literal, so the same code runs on floats (the account), on
`fractions.Fraction` (exact tests) and on `decimal.Decimal`.

Units: a size is signed (positive for a long) and counts base coins, or units of the quote currency
for an inverse contract. A value is in the settle currency: size x price for a linear contract,
size / price for an inverse one. A rate is a plain fraction. docs/sources.md lists the sources.
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

Number = TypeVar("Number", float, Decimal, Fraction)


def average_entry(size: Number, entry: Number, added: Number, price: Number) -> Number:
    """Return the average entry price after adding `added` units at `price` to `size` units at `entry`.

    The size-weighted arithmetic mean, for linear contracts.

    >>> average_entry(1.0, 100.0, 1.0, 110.0)
    105.0
    """
    return (size * entry + added * price) / (size + added)


def unrealised_profit(size: Number, entry: Number, mark: Number) -> Number:
    """Return the unrealised profit of a linear position in the settle currency: size x (mark - entry).

    >>> unrealised_profit(-2.0, 100.0, 90.0)
    20.0
    """
    return size * (mark - entry)


def inverse_average_entry(size: Number, entry: Number, added: Number, price: Number) -> Number:
    """Return the average entry price of an inverse contract: the harmonic mean, which preserves its value in coin.

    Source: docs/sources.md#inverse (1,000 USD at 50,000 and 2,000 at 60,000: 56,250).

    >>> round(inverse_average_entry(1000.0, 50_000.0, 2000.0, 60_000.0), 6)
    56250.0
    """
    return (size + added) / (size / entry + added / price)


def inverse_profit(size: Number, entry: Number, mark: Number) -> Number:
    """Return the unrealised profit of an inverse position in coin: size x (1/entry - 1/mark).

    Source: docs/sources.md#inverse.

    >>> inverse_profit(100.0, 50.0, 100.0)
    1.0
    """
    return size * (1 / entry - 1 / mark)


def value(size: Number, price: Number) -> Number:
    """Return the notional value of a linear position, size x price, with the sign of the size.

    >>> value(-2.0, 100.0)
    -200.0
    """
    return size * price


def inverse_value(size: Number, price: Number) -> Number:
    """Return the notional value of an inverse position in coin, size / price, with the sign of the size.

    >>> inverse_value(100.0, 25_000.0)
    0.004
    """
    return size / price


def initial_rate(leverage: Number, floor: Number) -> Number:
    """Return the initial margin rate: max(1/leverage, floor).

    >>> initial_rate(20.0, 0.1)
    0.1
    """
    return max(1 / leverage, floor)


def tiered_amount(value: Number, rate: Number, deduction: Number) -> Number:
    """Return value x rate - deduction: an amount under a tier table.

    Used for the maintenance margin of a position and for the collateral value of a holding. The
    deduction (Binance: maintenance amount, "cum") makes the rate of a tier apply only to the part
    of the value inside it; it is zero where the rate applies to the whole value.
    Source: docs/sources.md#tiers.

    >>> tiered_amount(100_000.0, 0.005, 50.0)
    450.0
    """
    return value * rate - deduction


def next_deduction(deduction: Number, bound: Number, rate: Number, next_rate: Number) -> Number:
    """Return the deduction of the tier that starts at `bound`: deduction + bound x (next_rate - rate).

    It makes the margin continuous at the tier boundary. Source: docs/sources.md#tiers.

    >>> round(next_deduction(0.0, 50_000.0, 0.004, 0.005), 9)
    50.0
    """
    return deduction + bound * (next_rate - rate)


def size_dependent_rate(quantity: Number, doubling: Number, constant: Number) -> Number:
    """Return a size-dependent maintenance rate: (1 + quantity/doubling) / (2 x constant).

    `quantity` counts base coins; `doubling` is the quantity at which the rate is twice its minimum.
    Source: docs/sources.md#kucoin-maintenance (12.102 BTC, 300, 125).

    >>> size_dependent_rate(12.102, 300.0, 125.0)
    0.00416136
    """
    return (1 + quantity / doubling) / (2 * constant)


def power_rate(value: float, base: float, factor: float, exponent: float) -> float:
    """Return a power-law maintenance rate: max(base, factor x value^exponent).

    Floats only: a fractional power of a rational number is not rational.
    Source: docs/sources.md#orderly-maintenance.

    >>> round(power_rate(4_500_000.0, 0.006, 0.6e-7, 0.8), 11)
    0.01261017929
    """
    powered: float = value**exponent
    return max(base, factor * powered)


def linear_rate(quantity: Number, base: Number, slope: Number) -> Number:
    """Return a rate that is linear in the position size: base + slope x quantity.

    `quantity` counts base coins; `slope` is the rate added per coin.
    Source: docs/sources.md#deribit-rates (2 % + 0.005 % a BTC; 25 BTC: 2.125 %).

    >>> round(linear_rate(25.0, 0.02, 0.00005), 9)
    0.02125
    """
    return base + slope * quantity


def largest_open_size(capital: float, leverage: float, price: float, constant: float) -> float:
    """Return the maximum position size in base coins for `capital`: k x ln(capital x leverage / (price x k) + 1).

    Floats only, because of the logarithm. Source: docs/sources.md#kucoin-open-size
    (100,000 at 10x and 60,000 with k = 490: 16.39 BTC).

    >>> round(largest_open_size(100_000.0, 10.0, 60_000.0, 490.0), 2)
    16.39
    """
    return constant * math.log(capital * leverage / (price * constant) + 1)


def inverse_largest_open_size(capital: float, leverage: float, price: float, constant: float) -> float:
    """Return the maximum size of an inverse contract: k x ln(capital x leverage x price / k + 1).

    The size is in units of the quote currency; `capital` is in coin.

    Source: docs/sources.md#kucoin-open-size.

    >>> round(inverse_largest_open_size(1.0, 10.0, 50_000.0, 1e9), 0)
    499875.0
    """
    return constant * math.log(capital * leverage * price / constant + 1)


def value_at_bankruptcy(value: Number, direction: Number, leverage: Number) -> Number:
    """Return the value of a position at its bankruptcy price: value x (1 - direction / leverage).

    `value` is the value at entry. At the bankruptcy price the loss equals the initial margin. `direction`
    is 1 if the value falls towards that price (linear long, inverse short), -1 if it rises.
    Source: docs/sources.md#bankruptcy-price.

    >>> value_at_bankruptcy(50_000.0, 1.0, 10.0)
    45000.0
    """
    return value * (1 - direction / leverage)


def pro_rata(amount: Number, part: Number, whole: Number) -> Number:
    """Return the pro-rata share: amount x part / whole.

    >>> pro_rata(90.0, 1.0, 3.0)
    30.0
    """
    return amount * part / whole


def summed_margin(position: Number, same: Number, opening: Number) -> Number:
    """Return the margin without offset: position + same-side orders + opposite orders that open.

    `opening` is the margin of the opposite orders in excess of the quantity that closes the position.

    >>> summed_margin(100.0, 100.0, 250.0)
    450.0
    """
    return position + same + opening


def larger_side_margin(position: Number, same: Number, opening: Number) -> Number:
    """Return the margin of the larger side: max(|position + same-side orders|, |opposite orders that open|).

    Source: docs/sources.md#kucoin-order-margin.

    >>> larger_side_margin(100.0, 100.0, 250.0)
    250.0
    """
    return max(position + same, opening)


def worst_net_size(size: Number, buys: Number, sells: Number) -> Number:
    """Return the largest position size that fills can produce: max(|position + buys|, |position - sells|).

    `buys` and `sells` are unsigned. Source: docs/sources.md#net-offset.

    >>> worst_net_size(-1.0, 3.0, 2.0)
    3.0
    """
    return max(abs(size + buys), abs(size - sells))


def worst_gross_size(size: Number, same: Number, opposite: Number) -> Number:
    """Return the larger side with gross opposite orders: max(|position + same-side orders|, |opposite orders|).

    All three are unsigned. Source: docs/sources.md#kucoin-risk-rate (1 held, 2 bought, 3 sold: 3).

    >>> worst_gross_size(1.0, 2.0, 3.0)
    3.0
    """
    return max(size + same, opposite)


def available_margin(balance: Number, profit: Number, in_use: Number) -> Number:
    """Return the available margin: balance + eligible profit - margin in use; negative if overdrawn.

    >>> available_margin(700.0, 15.0, 900.0)
    -185.0
    """
    return balance + profit - in_use


def free_margin(balance: Number, unrealised: Number, in_use: Number) -> Number:
    """Return the free margin for a new derivative order: max(0, balance + unrealised profit - margin in use).

    The maximum is written as (x + |x|) / 2, which is exact in floats and applies to arrays as well.
    Source: docs/sources.md#okx-free-margin.

    >>> free_margin(700.0, 15.0, 530.0)
    185.0
    """
    left = available_margin(balance, unrealised, in_use)
    return (left + abs(left)) / 2


def fee(value: Number, rate: Number) -> Number:
    """Return the fee on a fill of unsigned `value`; a negative rate is a rebate.

    >>> fee(10_000.0, 0.0005)
    5.0
    """
    return value * rate


def funding(value: Number, rate: Number) -> Number:
    """Return the funding received on a position of signed `value`: -value x rate. Longs pay a positive rate.

    Source: docs/sources.md#funding.

    >>> funding(200.0, 0.001)
    -0.2
    """
    return -value * rate


def bankruptcy_price(size: Number, mark: Number, collateral: Number) -> Number:
    """Return the bankruptcy price, where the loss on this position alone uses up `collateral`: mark - collateral / size.

    `collateral` is measured at the current `mark`. For an isolated position measured at its entry, where the
    collateral is entry value / leverage, this equals E (1 - 1/L). Source: docs/sources.md#bankruptcy-price.

    >>> bankruptcy_price(1.0, 40_000.0, 1_000.0)
    39000.0
    """
    return mark - collateral / size


def inverse_bankruptcy_price(size: Number, mark: Number, collateral: Number) -> Number:
    """Return the bankruptcy price of an inverse position: size / (size / mark + collateral).

    `collateral` is in coin, measured at the current `mark`. A short whose collateral covers its whole value
    has no bankruptcy price; the result is then zero or negative.
    Source: docs/sources.md#bankruptcy-price (28,000 at 50x: 27,450.98).

    >>> round(inverse_bankruptcy_price(28_000.0, 28_000.0, 1 / 50), 2)
    27450.98
    """
    return size / (size / mark + collateral)
