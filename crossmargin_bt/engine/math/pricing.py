# SPDX-License-Identifier: GPL-3.0-or-later
"""European options on a forward: Black-76 prices, Greeks and implied volatility.

`black76` takes its logarithm and normal CDF as arguments, so the same code prices one option with `math` and an array of
options with NumPy (`crossmargin_bt.engine.margin.scenarios`). Prices are undiscounted and in the currency of the strike.
Source: docs/sources.md#option-prices.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from crossmargin_bt.time_units import DAYS_PER_YEAR, MS_PER_YEAR

# Below this standard deviation of the log price an option is worth its intrinsic value.
STANDARD_DEVIATION_MIN = 1e-12
# Bracket of the implied volatility search and its number of bisections.
VOLATILITY_MIN, VOLATILITY_MAX, BISECTIONS = 1e-4, 20.0, 80


def normal_cdf(x: float) -> float:
    """Return the cumulative distribution function of the standard normal distribution at `x`."""
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_pdf(x: float) -> float:
    """Return the probability density of the standard normal distribution at `x`."""
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _d1(forward: Any, strike: Any, standard_deviation: Any, log: Callable[[Any], Any]) -> Any:
    return log(forward / strike) / standard_deviation + standard_deviation / 2


def black76(
    forward: Any,
    strike: Any,
    standard_deviation: Any,
    sign: Any,
    *,
    log: Callable[[Any], Any] = math.log,
    normal: Callable[[Any], Any] = normal_cdf,
) -> Any:
    """Return the undiscounted Black-76 price: sign x (F N(sign x d1) - K N(sign x d2)).

    `sign` is 1 for a call and -1 for a put; `standard_deviation` is volatility x sqrt(years to expiry), above 0.
    Arguments may be floats, or arrays of one shape with a matching `log` and `normal`.

    >>> round(black76(100.0, 100.0, 0.2, 1), 4), round(black76(100.0, 110.0, 0.2, -1), 3)
    (7.9656, 14.292)
    """
    d1 = _d1(forward, strike, standard_deviation, log)
    d2 = d1 - standard_deviation
    return sign * (forward * normal(sign * d1) - strike * normal(sign * d2))


def payoff(price: float, strike: float, sign: int) -> float:
    """Return the intrinsic value of an option at a price of its underlying: max(0, sign x (price - strike)).

    >>> payoff(90.0, 100.0, -1), payoff(90.0, 100.0, 1)
    (10.0, 0.0)
    """
    return max(0.0, sign * (price - strike))


def years_to_expiry(expiry_ms: float, now_ms: float) -> float:
    """Return the time to expiry in years of 365 days, 0 after the expiry."""
    return max(0.0, expiry_ms - now_ms) / MS_PER_YEAR


def price(forward: float, strike: float, years: float, volatility: float, sign: int) -> float:
    """Return the undiscounted price of an option; at its expiry, the payoff."""
    standard_deviation = volatility * math.sqrt(years)
    if standard_deviation < STANDARD_DEVIATION_MIN:
        return payoff(forward, strike, sign)
    return float(black76(forward, strike, standard_deviation, sign))


class Greeks(NamedTuple):
    """Sensitivities of an option's price, in the currency of the strike, per unit of the underlying.

    `delta` and `gamma` are per unit of the forward; `vega` is per 1.0 of volatility (divide by 100 for one volatility
    point); `theta` is per day.
    """

    delta: float
    gamma: float
    vega: float
    theta: float


def greeks(forward: float, strike: float, years: float, volatility: float, sign: int) -> Greeks:
    """Return the Greeks of an option; at its expiry delta is 0, 1 or -1 and the others are 0."""
    standard_deviation = volatility * math.sqrt(years)
    if standard_deviation < STANDARD_DEVIATION_MIN:
        return Greeks(float(sign) if sign * (forward - strike) > 0 else 0.0, 0.0, 0.0, 0.0)
    d1 = float(_d1(forward, strike, standard_deviation, math.log))
    density = normal_pdf(d1)
    return Greeks(
        delta=sign * normal_cdf(sign * d1),
        gamma=density / (forward * standard_deviation),
        vega=forward * density * math.sqrt(years),
        theta=-forward * density * volatility / (2 * math.sqrt(years)) / DAYS_PER_YEAR,
    )


def implied_volatility(value: float, forward: float, strike: float, years: float, sign: int) -> float:
    """Return the implied volatility of a price `value`, by bisection; NaN if it lies outside 0.01 % to 2,000 %.

    >>> round(implied_volatility(price(100.0, 120.0, 0.5, 0.8, 1), 100.0, 120.0, 0.5, 1), 9)
    0.8
    """
    if years <= 0 or not price(forward, strike, years, VOLATILITY_MIN, sign) <= value <= price(
        forward, strike, years, VOLATILITY_MAX, sign
    ):
        return math.nan
    low, high = VOLATILITY_MIN, VOLATILITY_MAX
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if price(forward, strike, years, middle, sign) < value:
            low = middle
        else:
            high = middle
    return (low + high) / 2
