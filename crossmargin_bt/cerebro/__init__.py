# SPDX-License-Identifier: GPL-3.0-or-later
"""`Cerebro`: a subclass of backtrader's with a faster run loop and identical results, bit for bit."""

from crossmargin_bt.cerebro.cerebro import Cerebro

__all__ = ["Cerebro"]
