# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fake cannot prove: real exchanges, asked by `pytest -m network`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crossmargin_bt.candles import sanity
from crossmargin_bt.candles.download import DownloadRequest, DownloadResult, download
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.time_units import UNIT_MS


@pytest.mark.network
@pytest.mark.parametrize("venue", ["binanceusdm", "okx", "bybit"])
def test_a_real_exchange(venue: str, tmp_path: Path) -> None:
    """Ten days of hours, up to now: complete, and nothing wrong with them."""

    async def run() -> DownloadResult:
        async with Exchange(venue) as exchange:
            since = await exchange.server_time() - 10 * UNIT_MS["d"]
            what = ("candles", "mark", "index", "funding", "markets")
            wanted = DownloadRequest(symbols=("BTC/USDT:USDT",), kinds=what, timeframe="1h", since_ms=since)
            return await download(exchange, wanted, tmp_path)

    assert asyncio.run(run()).is_complete
    assert not [one for one in sanity.check(tmp_path) if one.is_fault]
