# SPDX-License-Identifier: GPL-3.0-or-later
"""Theoretical candles of options without recorded data: Black-76 prices on the candles of the underlying."""

from collections.abc import Callable, Hashable
from typing import Any

import pandas as pd

from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import FeedError

Volatility = float | str | Callable[[float, float, pd.Timestamp], float]
"""Annual volatility (0.6 is 60 %): a constant, a column of the underlying's frame, or a surface
`volatility(strike, years_to_expiry, time)`.
"""


def theoretical_candles(
    underlying: pd.DataFrame, instrument: Instrument, volatility: Volatility, *, price_min: float = 1e-6
) -> pd.DataFrame:
    """Return candles of an option until its expiry: `open high low close volume volatility index_price`.

    The high of a call is its price at the underlying's high, that of a put its price at the underlying's low. Open and close
    are priced at the open times of the bar and of the next bar, the extremes halfway between. `instrument` settles in the coin
    or in the currency of the strike.

    Assumption: the forward is the underlying's price (no interest), and the market trades at the model's price.

    Args:
        underlying: candles with `open high low close`, indexed by time (UTC unless the index has a time zone).
        instrument: the option.
        volatility: see `Volatility`.
        price_min: lower bound of the option's price.

    Raises:
        FeedError: the instrument is not an option, a column is missing, no bar is before the expiry, or a volatility is
            not above 0.
    """
    if instrument.kind != "option" or instrument.strike is None or instrument.expiry is None:
        raise FeedError(f"{instrument.symbol} is not an option; theoretical candles need kind='option'")
    missing = [name for name in ("open", "high", "low", "close") if name not in underlying]
    if missing:
        raise FeedError(f"{instrument.symbol}: the underlying's frame lacks {missing[0]!r}")
    times = pd.DatetimeIndex(underlying.index)
    times = times.tz_localize("UTC") if times.tz is None else times.tz_convert("UTC")
    alive = times < pd.Timestamp(instrument.expiry)
    if not alive.any():
        raise FeedError(f"{instrument.symbol}: no bar of the underlying is before the expiry {instrument.expiry}")
    frame, stamps = underlying[alive], times[alive]
    step_ms = (stamps[1:] - stamps[:-1]).min() / pd.Timedelta(1, "ms") if len(stamps) > 1 else 0.0
    rows = []
    for stamp, bar in zip(stamps, frame.to_dict("records"), strict=True):
        rows.append(_row(instrument, stamp, bar, volatility, step_ms=step_ms, price_min=price_min))
    columns = ["open", "high", "low", "close", "volume", "volatility", "index_price"]
    return pd.DataFrame(rows, columns=columns, index=frame.index)


def _row(
    instrument: Instrument,
    stamp: pd.Timestamp,
    bar: dict[Hashable, Any],
    volatility: Volatility,
    *,
    step_ms: float,
    price_min: float,
) -> tuple[float, ...]:
    assert instrument.strike is not None
    sign = 1 if instrument.is_call else -1
    opens_ms = stamp.timestamp() * 1000
    starts, ends = (pricing.years_to_expiry(instrument.expiry_ms, at) for at in (opens_ms, opens_ms + step_ms))
    sigma = _at(instrument, volatility, bar, starts, stamp)

    def worth(price: float, years: float) -> float:
        value = pricing.price(price, float(instrument.strike or 0.0), years, sigma, sign)
        return max(price_min, value / price if instrument.in_coin else value)

    first, last = worth(bar["open"], starts), worth(bar["close"], ends)
    extremes = [worth(bar[name], (starts + ends) / 2) for name in ("high", "low")]
    high, low = max(first, last, *extremes), min(first, last, *extremes)
    return first, high, low, last, 0.0, sigma, bar["open"]


def _at(
    instrument: Instrument, volatility: Volatility, bar: dict[Hashable, Any], years: float, stamp: pd.Timestamp
) -> float:
    if isinstance(volatility, str):
        if volatility not in bar:
            raise FeedError(f"{instrument.symbol}: the underlying's frame has no column {volatility!r} of volatilities")
        sigma = bar[volatility]
    else:
        sigma = volatility(instrument.strike or 0.0, years, stamp) if callable(volatility) else volatility
    if not sigma > 0:
        raise FeedError(f"{instrument.symbol}: the volatility at {stamp} is {sigma!r}; it must be above 0")
    return float(sigma)
