# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles for tests that compare runs."""

import numpy as np
import pandas as pd


def frame_of(seed: int, bars: int, freq: str = "1h") -> pd.DataFrame:
    """Return seeded candles of a random walk from 100."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.006, bars)))
    opens = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(opens, close) * (1 + np.abs(random.normal(0, 0.002, bars)))
    low = np.minimum(opens, close) * (1 - np.abs(random.normal(0, 0.002, bars)))
    index = pd.date_range("2025-01-01", periods=bars, freq=freq)
    return pd.DataFrame(
        {"open": opens, "high": high, "low": low, "close": close, "volume": random.uniform(0, 9, bars)}, index=index
    )
