# SPDX-License-Identifier: GPL-3.0-or-later
"""Every margin formula once, over plain numbers.

The functions hold no float literal, so the same code runs on floats (the account), on
`fractions.Fraction` (exact tests) and on `decimal.Decimal`. A size is signed, positive when long,
and counts base coins, or for an inverse contract units of the quote currency; a value is in the
settle currency: size x price, or size / price when inverse; a rate is a plain fraction. Sources
are named per function and collected in docs/sources.md.
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

Number = TypeVar("Number", float, Decimal, Fraction)


def average_entry(size: Number, entry: Number, added: Number, price: Number) -> Number:
    """Return the average entry after `added` units at `price` join `size` units at `entry`.

    Linear contracts average arithmetically.

    >>> average_entry(1.0, 100.0, 1.0, 110.0)
    105.0
    """
    return (size * entry + added * price) / (size + added)


def unrealised_profit(size: Number, entry: Number, mark: Number) -> Number:
    """Return the floating profit of a linear position, in the settle currency.

    >>> unrealised_profit(-2.0, 100.0, 90.0)
    20.0
    """
    return size * (mark - entry)


def inverse_average_entry(size: Number, entry: Number, added: Number, price: Number) -> Number:
    """Return the average entry of an inverse contract: the harmonic mean, which keeps its value in coin.

    Source: docs/sources.md#inverse (1,000 USD at 50,000 and 2,000 at 60,000: 56,250).

    >>> round(inverse_average_entry(1000.0, 50_000.0, 2000.0, 60_000.0), 6)
    56250.0
    """
    return (size + added) / (size / entry + added / price)


def inverse_profit(size: Number, entry: Number, mark: Number) -> Number:
    """Return the floating profit of an inverse position, in coin: size x (1/entry - 1/mark).

    Source: docs/sources.md#inverse.

    >>> inverse_profit(100.0, 50.0, 100.0)
    1.0
    """
    return size * (1 / entry - 1 / mark)


def value(size: Number, price: Number) -> Number:
    """Return the value of a linear position, signed like its size.

    >>> value(-2.0, 100.0)
    -200.0
    """
    return size * price


def inverse_value(size: Number, price: Number) -> Number:
    """Return the value of an inverse position in coin, signed like its size.

    >>> inverse_value(100.0, 25_000.0)
    0.004
    """
    return size / price


def initial_rate(leverage: Number, floor: Number) -> Number:
    """Return the initial margin rate: 1/leverage, never below the venue's floor.

    >>> initial_rate(20.0, 0.1)
    0.1
    """
    return max(1 / leverage, floor)


def in_slices(value: Number, rate: Number, deduction: Number) -> Number:
    """Return what `value` comes to at its tier's rate: the maintenance margin of a position, what a holding counts for.

    `deduction` turns the tier's rate into marginal slices; it is zero where the rate applies to
    the whole. Source: docs/sources.md#tiers.

    >>> in_slices(100_000.0, 0.005, 50.0)
    450.0
    """
    return value * rate - deduction


def next_deduction(deduction: Number, bound: Number, rate: Number, next_rate: Number) -> Number:
    """Return the deduction of the tier that starts at `bound`, so that margin is continuous there.

    Source: docs/sources.md#tiers.

    >>> round(next_deduction(0.0, 50_000.0, 0.004, 0.005), 9)
    50.0
    """
    return deduction + bound * (next_rate - rate)


def size_dependent_rate(quantity: Number, doubling: Number, constant: Number) -> Number:
    """Return a maintenance rate that grows with the size held: (1 + quantity/doubling) / (2 x constant).

    `quantity` counts base coins, `doubling` is the quantity at which the rate has doubled.
    Source: docs/sources.md#kucoin-maintenance (12.102 BTC, 300, 125).

    >>> size_dependent_rate(12.102, 300.0, 125.0)
    0.00416136
    """
    return (1 + quantity / doubling) / (2 * constant)


def power_rate(value: float, base: float, factor: float, exponent: float) -> float:
    """Return a maintenance rate that grows with a power of the value: max(base, factor x value^exponent).

    Over floats alone: a broken power of a fraction is no fraction.
    Source: docs/sources.md#orderly-maintenance.

    >>> round(power_rate(4_500_000.0, 0.006, 0.6e-7, 0.8), 11)
    0.01261017929
    """
    powered: float = value**exponent
    return max(base, factor * powered)


def linear_rate(quantity: Number, base: Number, slope: Number) -> Number:
    """Return a rate that grows in proportion to the size held: base + slope x quantity.

    `quantity` counts base coins, `slope` is the rate a coin adds.
    Source: docs/sources.md#deribit-rates (2 % + 0.005 % a BTC; 25 BTC: 2.125 %).

    >>> round(linear_rate(25.0, 0.02, 0.00005), 9)
    0.02125
    """
    return base + slope * quantity


def largest_open_size(capital: float, leverage: float, price: float, constant: float) -> float:
    """Return the largest position in base coins that `capital` may open: k x ln(capital x leverage / (price x k) + 1).

    Over floats alone, for the logarithm. Source: docs/sources.md#kucoin-open-size
    (100,000 at 10x and 60,000 with k = 490: 16.39 BTC).

    >>> round(largest_open_size(100_000.0, 10.0, 60_000.0, 490.0), 2)
    16.39
    """
    return constant * math.log(capital * leverage / (price * constant) + 1)


def inverse_largest_open_size(capital: float, leverage: float, price: float, constant: float) -> float:
    """Return the same for an inverse contract, in units of the quote currency; `capital` is in coin.

    Source: docs/sources.md#kucoin-open-size.

    >>> round(inverse_largest_open_size(1.0, 10.0, 50_000.0, 1e9), 0)
    499875.0
    """
    return constant * math.log(capital * leverage * price / constant + 1)


def value_at_bankruptcy(value: Number, direction: Number, leverage: Number) -> Number:
    """Return what a position worth `value` at its entry is worth where its initial margin is used up.

    `direction` is 1 where that value is lower (a linear long, an inverse short), -1 where it is higher.
    Source: docs/sources.md#bankruptcy-price.

    >>> value_at_bankruptcy(50_000.0, 1.0, 10.0)
    45000.0
    """
    return value * (1 - direction / leverage)


def in_proportion(amount: Number, part: Number, whole: Number) -> Number:
    """Return the share of `amount` that `part` has in `whole`.

    >>> in_proportion(90.0, 1.0, 3.0)
    30.0
    """
    return amount * part / whole


def summed_margin(position: Number, same: Number, opening: Number) -> Number:
    """Return the margin without any offset: the position, the orders that add to it and the orders that open.

    `opening` is the margin of opposite orders beyond what merely closes the position.

    >>> summed_margin(100.0, 100.0, 250.0)
    450.0
    """
    return position + same + opening


def larger_side_margin(position: Number, same: Number, opening: Number) -> Number:
    """Return the margin after offset: the larger of |position + same-side orders| and |opposite orders that open|.

    Source: docs/sources.md#kucoin-order-margin.

    >>> larger_side_margin(100.0, 100.0, 250.0)
    250.0
    """
    return max(position + same, opening)


def worst_net_size(size: Number, buys: Number, sells: Number) -> Number:
    """Return the largest position that fills can leave: max(|position + buys|, |position - sells|).

    `buys` and `sells` are unsigned. Source: docs/sources.md#net-offset.

    >>> worst_net_size(-1.0, 3.0, 2.0)
    3.0
    """
    return max(abs(size + buys), abs(size - sells))


def worst_gross_size(size: Number, same: Number, opposite: Number) -> Number:
    """Return max(|position + same-side orders|, |opposite orders|), the opposite side taken gross.

    All three are unsigned. Source: docs/sources.md#kucoin-risk-rate (1 held, 2 bought, 3 sold: 3).

    >>> worst_gross_size(1.0, 2.0, 3.0)
    3.0
    """
    return max(size + same, opposite)


def available_margin(balance: Number, profit: Number, in_use: Number) -> Number:
    """Return what a balance and the profit that counts leave beyond what is in use; below zero when overdrawn.

    >>> available_margin(700.0, 15.0, 900.0)
    -185.0
    """
    return balance + profit - in_use


def free_margin(balance: Number, unrealised: Number, in_use: Number) -> Number:
    """Return the free margin of new derivative orders: max(0, balance + unrealised profit - margin in use).

    The maximum is written as (x + |x|) / 2, which is exact in floats and applies to arrays as well.
    Source: docs/sources.md#okx-free-margin.

    >>> free_margin(700.0, 15.0, 530.0)
    185.0
    """
    left = available_margin(balance, unrealised, in_use)
    return (left + abs(left)) / 2


def fee(value: Number, rate: Number) -> Number:
    """Return the fee on a fill worth `value` (never negative); a negative rate is a rebate.

    >>> fee(10_000.0, 0.0005)
    5.0
    """
    return value * rate


def funding(value: Number, rate: Number) -> Number:
    """Return what a position of signed `value` receives at a funding settlement; longs pay when `rate` is positive.

    Source: docs/sources.md#funding.

    >>> funding(200.0, 0.001)
    -0.2
    """
    return -value * rate


def bankruptcy_price(size: Number, mark: Number, collateral: Number) -> Number:
    """Return the price at which `collateral`, valued now at `mark`, is used up by this position alone.

    MarginedSide from an isolated entry, where collateral is entry value / leverage, this is the
    E (1 - 1/L) of docs/sources.md#bankruptcy-price.

    >>> bankruptcy_price(1.0, 40_000.0, 1_000.0)
    39000.0
    """
    return mark - collateral / size


def inverse_bankruptcy_price(size: Number, mark: Number, collateral: Number) -> Number:
    """Return the price at which `collateral` in coin, valued now at `mark`, is used up by an inverse position alone.

    A short whose collateral covers its whole value has none; the answer is then zero or below.
    Source: docs/sources.md#bankruptcy-price (28,000 at 50x: 27,450.98).

    >>> round(inverse_bankruptcy_price(28_000.0, 28_000.0, 1 / 50), 2)
    27450.98
    """
    return size / (size / mark + collateral)
