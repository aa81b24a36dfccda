# SPDX-License-Identifier: GPL-3.0-or-later
"""Column names of candle frames, shared by feeds and by files of candles."""

PRICES = ("open", "high", "low", "close")
MARKS = tuple(f"mark_{price}" for price in PRICES)
OPTIONAL_COLUMNS = ("volume", "openinterest", "funding_rate", "volatility", "index_price", "interest_rate")
