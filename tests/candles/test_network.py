# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fake cannot prove: real exchanges, asked by `pytest -m network`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crossmargin_bt.candles import sanity
from crossmargin_bt.candles.download import Result, Wanted, download
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.candles.series import UNITS


@pytest.mark.network
@pytest.mark.parametrize("venue", ["binanceusdm", "okx", "bybit"])
def test_a_real_exchange(venue: str, tmp_path: Path) -> None:
    """Ten days of hours, up to now: complete, and nothing wrong with them."""

    async def run() -> Result:
        async with Exchange(venue) as exchange:
            since = await exchange.now() - 10 * UNITS["d"]
            what = ("candles", "mark", "index", "funding", "markets")
            wanted = Wanted(symbols=("BTC/USDT:USDT",), what=what, timeframe="1h", since=since)
            return await download(exchange, wanted, tmp_path)

    assert asyncio.run(run()).is_complete
    assert not [one for one in sanity.check(tmp_path) if one.is_fault]
