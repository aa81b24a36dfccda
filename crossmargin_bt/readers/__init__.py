# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of market data: one reader for every file and table, and one validation for every candle, whichever way it comes in."""
