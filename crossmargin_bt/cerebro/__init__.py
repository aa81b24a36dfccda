# SPDX-License-Identifier: GPL-3.0-or-later
"""`Cerebro`: backtrader's own with a lean run loop; the results are the same, bit for bit."""

from crossmargin_bt.cerebro.cerebro import Cerebro

__all__ = ["Cerebro"]
