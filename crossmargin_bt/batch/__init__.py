# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of accounts over the same candles, simulated by a compiled loop with the broker as fallback.

`simulate` runs any number of accounts that follow target positions or place limit orders. Bars in which every order provably fits
and no position can reach a margin threshold are processed by a loop compiled with numba. All other bars are processed by the
broker, so that the venue's complete rule book applies and every account ends bit for bit as a run of the broker does. Needs the
extra `[fast]`.
"""

from crossmargin_bt.batch.accounts import BatchAccount, BatchResult, LimitOrders, accounts
from crossmargin_bt.batch.simulation import simulate
from crossmargin_bt.candles.market import Candles

__all__ = ["BatchAccount", "BatchResult", "Candles", "LimitOrders", "accounts", "simulate"]
