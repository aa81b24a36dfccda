# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic candles of one coin in every product: its spot market, its perpetual, and options on it.

The data imitates no real market. The perpetual is that of `crossmargin_bt.candles.synthetic` in 4h bars. The spot market trades
at the mark price of the perpetual, the options at Black-76 prices with a volatility that rises as the coin falls.
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from crossmargin_bt.candles.synthetic import SyntheticMarket, generate_candles
from crossmargin_bt.candles.theoretical import theoretical_candles
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import StoreError

PERPETUAL, SPOT = "SIMBTC", "SIMBTC-SPOT"
BAR_LENGTH = "4h"
# Annual volatility at the weekly average price, and its increase per unit of relative decline below that average.
VOLATILITY, LEVERAGE_EFFECT = 0.6, 2.0
BARS_PER_WEEK = 42
# Strikes of each expiry as multiples of the first price, by option type.
STRIKE_RATIOS = {"call": (1.1, 1.3), "put": (0.8,)}
EXPIRIES = (datetime(2025, 6, 27, 8, tzinfo=UTC), datetime(2025, 12, 26, 8, tzinfo=UTC))

INSTRUMENTS_TOML = f"""# Contract facts of the generated sample. Invented, in the manner of a large exchange. The coin is called BTC
# where venues have terms of their own for it.

[{PERPETUAL}]
symbol = "{PERPETUAL}"
underlying = "BTC"
lot = 0.001
tick = 0.1
notional_min = 5.0
leverage_max = 100.0

[{SPOT}]
symbol = "{SPOT}"
kind = "spot"
underlying = "BTC"
lot = 0.001
tick = 0.1
notional_min = 5.0
"""


def write_products(directory: Path, market: SyntheticMarket | None = None) -> None:
    """Write the candles as one Parquet file per symbol, and instruments.toml.

    Raises:
        StoreError: the folder cannot be written to.
    """
    hourly = generate_candles(market)[PERPETUAL].set_index("date")
    perpetual = _resampled(hourly)
    spot = perpetual[[*MARKS, "volume"]].rename(columns=dict(zip(MARKS, PRICES, strict=True)))
    facts, frames = INSTRUMENTS_TOML, {PERPETUAL: perpetual, SPOT: spot}
    average = spot["close"].rolling(BARS_PER_WEEK, min_periods=1).mean()
    spot_with_volatility = spot.assign(iv=(VOLATILITY - LEVERAGE_EFFECT * (spot["close"] / average - 1)).clip(0.3, 2.0))
    for expiry in EXPIRIES:
        for option, parts in STRIKE_RATIOS.items():
            for part in parts:
                strike = round(part * float(spot["open"].iloc[0]), -3)
                instrument = Instrument(
                    symbol=f"{PERPETUAL}-{expiry:%d%b%y}-{strike:.0f}-{option[0]}".upper(),
                    kind="option", underlying="BTC", expiry=expiry, strike=strike, lot=0.01,
                    option="call" if option == "call" else "put",
                )  # fmt: skip
                frames[instrument.symbol] = theoretical_candles(
                    spot_with_volatility, instrument, "iv", price_min=0.01
                ).round(6)
                facts += (
                    f'\n[{instrument.symbol}]\nsymbol = "{instrument.symbol}"\nkind = "option"\nunderlying = "BTC"\nlot = 0.01\n'
                    f'strike = {strike}\noption = "{option}"\nexpiry = {expiry:%Y-%m-%dT%H:%M:%SZ}\n'
                )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for symbol, frame in frames.items():
            frame.reset_index().to_parquet(directory / f"{symbol}.parquet", compression="zstd", index=False)
        (directory / "instruments.toml").write_text(facts, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{directory} cannot be written to: {error}") from error


def _resampled(hourly: pd.DataFrame) -> pd.DataFrame:
    """Return hourly candles in 4h bars; each funding rate stays on the bar at whose open it is due."""
    how = {
        name: how for names in (PRICES, MARKS) for name, how in zip(names, ("first", "max", "min", "last"), strict=True)
    }
    frame = hourly.resample(BAR_LENGTH).agg({**how, "volume": "sum"})
    return frame.assign(funding_rate=hourly["funding_rate"].reindex(frame.index))
