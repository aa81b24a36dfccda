# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of accounts over the same candles, in machine code where nothing can happen to them.

`simulate` runs target positions and limit orders through as many accounts as wanted. Bars in which every order surely fits and no
position can come near its requirement pass in a compiled loop; every other bar is worked through by the broker itself, so that the venue's whole
rule book holds and every account ends as a run of the broker does, bit for bit. Needs the extra `[fast]`.
"""

from crossmargin_bt.batch.accounts import Account, LimitOrders, Outcome, accounts
from crossmargin_bt.batch.simulation import simulate
from crossmargin_bt.candles.market import Candles

__all__ = ["Account", "Candles", "LimitOrders", "Outcome", "accounts", "simulate"]
