# SPDX-License-Identifier: GPL-3.0-or-later
"""The backtrader adapter: the broker and what goes with it; docs/architecture.md says in which order to read it."""

from crossmargin_bt.broker.broker import CrossMarginBroker

__all__ = ["CrossMarginBroker"]
