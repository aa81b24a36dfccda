# SPDX-License-Identifier: GPL-3.0-or-later
"""A local HTTP server that answers the real ccxt clients like Binance USD-M, OKX and Bybit, with fault injection."""

from fake_exchange.server import FakeExchange, Fault
from fake_exchange.truth import HOUR, MINUTE, Truth

__all__ = ["HOUR", "MINUTE", "FakeExchange", "Fault", "Truth"]
