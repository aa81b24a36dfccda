# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic candles: correlated perpetuals through quiet, trending, ranging and crashing regimes.

The data imitates no real market. The same seed gives the same candles.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from crossmargin_bt.errors import ConfigurationError, StoreError, suggestion

Floats = npt.NDArray[np.float64]

STEPS_PER_BAR = 12
BARS_PER_DAY = 24
FUNDING_INTERVAL_BARS = 8
FUNDING_RATE_CAP = 0.003


class SyntheticCoin(NamedTuple):
    """A synthetic coin: initial price, loading on the common factor, idiosyncratic daily volatility, price decimals, mean volume."""

    symbol: str
    price: float
    beta: float
    own_volatility: float
    digits: int
    volume: float


class Regime(NamedTuple):
    """A regime of the common factor: length in days, daily drift, daily volatility, rate of mean reversion to the level at its start."""

    days: int
    drift: float
    volatility: float
    pull: float = 0.0


COINS = (
    SyntheticCoin("SIMBTC", 40_000.0, 1.0, 0.004, 1, 900.0),
    SyntheticCoin("SIMETH", 2_500.0, 1.25, 0.010, 2, 9_000.0),
    SyntheticCoin("SIMALT", 0.8, 1.5, 0.020, 5, 9_000_000.0),
)
QUIET, RISING, RANGING = Regime(60, 0.0003, 0.009), Regime(90, 0.0045, 0.018), Regime(75, 0.0, 0.016, 0.12)
COLLAPSE, FALLING, RECOVERY = Regime(3, -0.05, 0.075), Regime(62, -0.004, 0.028), Regime(75, 0.003, 0.020)
REGIMES = (QUIET, RISING, RANGING, COLLAPSE, FALLING, RECOVERY)
CRASH_DAY = QUIET.days + RISING.days + RANGING.days
CRASH_GAP = 0.13
CRASH = date(2025, 1, 1) + timedelta(days=CRASH_DAY)


MEAN_FUNDING_RATES = {"mixed": 0.0001, "positive": 0.0006, "negative": -0.0006}
"""Mean rate per settlement, by funding regime."""


class SyntheticMarket(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the synthetic market.

    `correlation` is the correlation of the coins' returns; None derives it from their idiosyncratic volatilities. `jump` is the
    log-return (times a coin's beta) of the gap on the first crash day, `crash` that day, `funding` a key of `MEAN_FUNDING_RATES`.

    Raises:
        ConfigurationError: a value is out of range, or the funding regime is unknown.
    """

    seed: int = 20250101
    correlation: float | None = None
    jump: float = CRASH_GAP
    crash: date = CRASH
    funding: str = "mixed"

    def __post_init__(self) -> None:
        if self.correlation is not None and not 0 < self.correlation <= 1:
            raise ConfigurationError(f"correlation must be above 0 and at most 1, got {self.correlation!r}")
        if not 0 <= self.jump < 1:
            raise ConfigurationError(
                f"jump must be a fraction from 0 up to but not including 1 (0.13 is 13 %), got {self.jump!r}"
            )
        if self.funding not in MEAN_FUNDING_RATES:
            raise ConfigurationError(
                f"unknown funding regime {self.funding!r}{suggestion(self.funding, MEAN_FUNDING_RATES)}"
            )

    @property
    def start(self) -> date:
        """First day of the data, such that the crash starts on `crash`."""
        return self.crash - timedelta(days=CRASH_DAY)


def generate_candles(
    market: SyntheticMarket | None = None, coins: Sequence[SyntheticCoin] = COINS, regimes: Sequence[Regime] = REGIMES
) -> dict[str, pd.DataFrame]:
    """Return 1h candles by symbol: `date open high low close volume mark_open ... mark_close funding_rate`.

    `date` is the UTC open time of a bar. `funding_rate` is set on the bars at 00:00, 08:00 and 16:00 and NaN on all others. One bar
    of the first crash day opens with a gap.
    """
    chosen = market or SyntheticMarket()
    random = np.random.default_rng(chosen.seed)
    common = _factor(random, regimes)
    per_step = float(common.std())
    gap_bar = CRASH_DAY * BARS_PER_DAY + 13
    frames = {}
    for coin in coins:
        volatility = coin.own_volatility / np.sqrt(BARS_PER_DAY * STEPS_PER_BAR)
        if chosen.correlation is not None:
            volatility = coin.beta * per_step * np.sqrt(1 / chosen.correlation - 1)
        moves = coin.beta * common + _shocks(random, len(common)) * volatility
        if gap_bar * STEPS_PER_BAR < len(moves):
            moves[gap_bar * STEPS_PER_BAR] -= coin.beta * chosen.jump
        frames[coin.symbol] = _candles(random, coin, moves, chosen)
    return frames


def write_candles(directory: Path, market: SyntheticMarket | None = None) -> None:
    """Write the candles as one Parquet file per symbol.

    Raises:
        StoreError: the folder cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for symbol, frame in generate_candles(market).items():
            frame.to_parquet(directory / f"{symbol}.parquet", compression="zstd", index=False)
    except OSError as error:
        raise StoreError(f"{directory} cannot be written to: {error}") from error


def _shocks(random: np.random.Generator, count: int) -> Floats:
    """Return fat-tailed shocks of unit variance (Student t with 4 degrees of freedom)."""
    shocks: Floats = random.standard_t(4, size=count) / np.sqrt(2.0)
    return shocks


def _factor(random: np.random.Generator, regimes: Sequence[Regime]) -> Floats:
    """Return the log-returns of the common factor, one per step."""
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


def _candles(random: np.random.Generator, coin: SyntheticCoin, moves: Floats, chosen: SyntheticMarket) -> pd.DataFrame:
    prices = coin.price * np.exp(np.cumsum(moves))
    bars = prices.reshape(-1, STEPS_PER_BAR)
    # A bar opens at the price after its first step, so that a jump between two bars is visible as a gap.
    opens, closes = bars[:, 0], bars[:, -1]
    spread = np.abs(np.log(closes / opens)) + 0.0008
    high = bars.max(axis=1) * (1 + 0.25 * spread * random.random(len(bars)))
    low = bars.min(axis=1) * (1 - 0.25 * spread * random.random(len(bars)))
    basis = np.clip(pd.Series(np.log(closes / opens)).ewm(span=48).mean().to_numpy(), -0.002, 0.002)
    frame = pd.DataFrame(
        {
            "date": pd.date_range(chosen.start, periods=len(bars), freq="h", tz="UTC").as_unit("ms"),
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
    rates = np.clip(
        MEAN_FUNDING_RATES[chosen.funding] + 0.35 * basis + 0.00005 * _shocks(random, len(bars)),
        -FUNDING_RATE_CAP,
        FUNDING_RATE_CAP,
    )
    frame["funding_rate"] = np.where(hour % FUNDING_INTERVAL_BARS == 0, rates.round(8), np.nan)
    return frame
