# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on loopback that speaks Binance USD-M, OKX and Bybit to the real ccxt clients, with faults on demand."""

from fake_exchange.server import FakeExchange, Fault
from fake_exchange.truth import HOUR, MINUTE, Truth

__all__ = ["HOUR", "MINUTE", "FakeExchange", "Fault", "Truth"]
