# SPDX-License-Identifier: GPL-3.0-or-later
"""The column names that candles come with, for feeds and for folders of files."""

PRICES = ("open", "high", "low", "close")
MARKS = tuple(f"mark_{price}" for price in PRICES)
OPTIONAL_COLUMNS = ("volume", "openinterest", "funding_rate", "volatility", "index_price", "interest_rate")
