# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyzers of a margin account. Every `get_analysis()` is plain data that can be pickled and written as JSON.

Usage: `cerebro.addanalyzer(crossmargin_bt.analyzers.MarginUse)`. Amounts are in the account's currency, times in
milliseconds since 1970-01-01 UTC. In cash mode, which has no margin and no journal, unavailable figures are 0, None or
empty.
"""

from crossmargin_bt.analyzers.journal_events import FundingAndFees, Journal, Liquidations, Rejections
from crossmargin_bt.analyzers.performance import CapitalEfficiency, CryptoReturns, MarginUse
from crossmargin_bt.analyzers.trade_journal import TradeJournal
from crossmargin_bt.broker.analyzers import LiquidationDistance

__all__ = [
    "CapitalEfficiency", "CryptoReturns", "FundingAndFees", "Journal", "LiquidationDistance", "Liquidations", "MarginUse",
    "Rejections", "TradeJournal",
]  # fmt: skip
