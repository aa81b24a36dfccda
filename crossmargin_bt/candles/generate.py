# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated candles: correlated perpetuals through quiet, trending, ranging and crashing months.

Nothing here is a market's data. The same seed gives the same candles.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

STEPS_PER_BAR = 12
BARS_PER_DAY = 24
FUNDING_EVERY = 8
FUNDING_LIMIT = 0.003
START = "2025-01-01"


class Coin(NamedTuple):
    """A generated coin: its first price, its share of the common factor, its own volatility, its price digits."""

    symbol: str
    price: float
    beta: float
    own_volatility: float
    digits: int
    volume: float


class Regime(NamedTuple):
    """A stretch of the year: days, daily drift and daily volatility of the common factor, pull to its start."""

    days: int
    drift: float
    volatility: float
    pull: float = 0.0


COINS = (
    Coin("SIMBTC", 40_000.0, 1.0, 0.004, 1, 900.0),
    Coin("SIMETH", 2_500.0, 1.25, 0.010, 2, 9_000.0),
    Coin("SIMALT", 0.8, 1.5, 0.020, 5, 9_000_000.0),
)
QUIET, RISING, RANGING = Regime(60, 0.0003, 0.009), Regime(90, 0.0045, 0.018), Regime(75, 0.0, 0.016, 0.12)
CRASH, FALLING, RECOVERY = Regime(3, -0.05, 0.075), Regime(62, -0.004, 0.028), Regime(75, 0.003, 0.020)
YEAR = (QUIET, RISING, RANGING, CRASH, FALLING, RECOVERY)
CRASH_DAY = QUIET.days + RISING.days + RANGING.days
CRASH_GAP = -0.13


def generate(
    seed: int = 20250101, coins: Sequence[Coin] = COINS, regimes: Sequence[Regime] = YEAR
) -> dict[str, pd.DataFrame]:
    """Return 1h candles by symbol: `date open high low close volume mark_open ... mark_close funding_rate`.

    `date` is the UTC time a bar opens. `funding_rate` stands at the bars 00:00, 08:00 and 16:00 and
    is NaN elsewhere. On the first crash day one bar opens with a gap of 13 % x beta.
    """
    random = np.random.default_rng(seed)
    common = _factor(random, regimes)
    gap_bar = CRASH_DAY * BARS_PER_DAY + 13
    frames = {}
    for coin in coins:
        own = _shocks(random, len(common)) * coin.own_volatility / np.sqrt(BARS_PER_DAY * STEPS_PER_BAR)
        moves = coin.beta * common + own
        if gap_bar * STEPS_PER_BAR < len(moves):
            moves[gap_bar * STEPS_PER_BAR] += coin.beta * CRASH_GAP
        frames[coin.symbol] = _candles(random, coin, moves)
    return frames


def write(directory: Path, seed: int = 20250101) -> None:
    """Write the sample: one Parquet file a symbol."""
    directory.mkdir(parents=True, exist_ok=True)
    for symbol, frame in generate(seed).items():
        frame.to_parquet(directory / f"{symbol}.parquet", compression="zstd", index=False)


def _shocks(random: np.random.Generator, count: int) -> Floats:
    """Return fat-tailed shocks of unit variance (Student t with 4 degrees of freedom)."""
    shocks: Floats = random.standard_t(4, size=count) / np.sqrt(2.0)
    return shocks


def _factor(random: np.random.Generator, regimes: Sequence[Regime]) -> Floats:
    """Return the common factor's log moves, one a step."""
    pieces = []
    for regime in regimes:
        steps = regime.days * BARS_PER_DAY * STEPS_PER_BAR
        per_day = BARS_PER_DAY * STEPS_PER_BAR
        shocks = _shocks(random, steps) * regime.volatility / np.sqrt(per_day)
        moves, level = np.empty(steps), 0.0
        for n in range(steps):
            moves[n] = shocks[n] + (regime.drift - regime.pull * level) / per_day
            level += moves[n]
        pieces.append(moves)
    return np.concatenate(pieces)


def _candles(random: np.random.Generator, coin: Coin, moves: Floats) -> pd.DataFrame:
    prices = coin.price * np.exp(np.cumsum(moves))
    bars = prices.reshape(-1, STEPS_PER_BAR)
    # A bar opens where its first step has led, so a jump between two bars stands as a gap.
    opens, closes = bars[:, 0], bars[:, -1]
    spread = np.abs(np.log(closes / opens)) + 0.0008
    high = bars.max(axis=1) * (1 + 0.25 * spread * random.random(len(bars)))
    low = bars.min(axis=1) * (1 - 0.25 * spread * random.random(len(bars)))
    basis = np.clip(pd.Series(np.log(closes / opens)).ewm(span=48).mean().to_numpy(), -0.002, 0.002)
    frame = pd.DataFrame(
        {
            "date": pd.date_range(START, periods=len(bars), freq="h", tz="UTC").as_unit("ms"),
            "open": opens, "high": high, "low": low, "close": closes,
            "volume": coin.volume * (1 + 60 * spread) * (0.5 + random.random(len(bars))),
            "mark_open": opens * (1 - basis), "mark_high": bars.max(axis=1) * (1 - basis),
            "mark_low": bars.min(axis=1) * (1 - basis), "mark_close": closes * (1 - basis),
        }
    )  # fmt: skip
    prices_at = [column for column in frame.columns if column not in ("date", "volume")]
    frame[prices_at] = frame[prices_at].round(coin.digits)
    frame["volume"] = frame["volume"].round(3)
    hour = np.arange(len(bars))
    rates = np.clip(0.0001 + 0.35 * basis + 0.00005 * _shocks(random, len(bars)), -FUNDING_LIMIT, FUNDING_LIMIT)
    frame["funding_rate"] = np.where(hour % FUNDING_EVERY == 0, rates.round(8), np.nan)
    return frame
