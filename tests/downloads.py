# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a fake exchange, and its candles on the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner, Result
from fake_exchange import HOUR, MINUTE, FakeExchange, Truth

from crossmargin_bt.candles import catalog
from crossmargin_bt.candles.download import DownloadRequest, DownloadResult, FetchOutcome, download
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.candles.series import Series
from crossmargin_bt.cli import commands
from crossmargin_bt.errors import DownloadError

DAY = 24 * HOUR
START = 1_704_067_200_000  # 2024-01-01
KINDS = ("candles", "mark", "index", "funding")


def truth(days: int = 40, **facts) -> Truth:
    """Return a market with a late listing, outages, and funding intervals of eight hours, one hour and four hours."""
    given = {
        "start": START,
        "now": START + days * DAY + 12 * MINUTE,
        "listed": START + 2 * DAY + 5 * HOUR,
        "outages": [(START + 4 * DAY, START + 5 * DAY), (START + 6 * DAY, START + 6 * DAY + HOUR)],
        "intervals": [(0, 8 * HOUR), (START + 5 * DAY, HOUR), (START + 7 * DAY, 4 * HOUR)],
        "late_ms": 7,
    }
    return Truth(**{**given, **facts})


def opened(venue: str, fake: FakeExchange, tries: int = 4) -> Exchange:
    """Return a client of the fake exchange, not yet entered."""
    return Exchange(venue, api_base=fake.base, rate_limited=False, tries=tries, pause_s=0.001)


def request(**given) -> DownloadRequest:
    """Return a request for all kinds of BTC data from the day before the start on, with overrides."""
    return DownloadRequest(
        **{"symbols": ("BTC/USDT:USDT",), "kinds": KINDS, "timeframe": "1h", "since_ms": START - DAY, **given}
    )


def fetch(venue: str, fake: FakeExchange, out: Path, *, tries: int = 4, **given) -> list[FetchOutcome]:
    """Download and return the outcome of each series."""

    async def run() -> DownloadResult:
        async with opened(venue, fake, tries) as exchange:
            return await download(exchange, request(**given), out)

    result = asyncio.run(run())
    assert result.is_complete == (not result.failures and not any(one.missing for one in result.outcomes))
    if result.failures:
        raise DownloadError("; ".join(result.failures))
    return result.outcomes


def times(frame: pd.DataFrame) -> list[int]:
    return [int(stamp.timestamp() * 1000 + 0.5) for stamp in frame.index]


def check_rows(out: Path, venue: str, known: Truth, start: int, end: int, kinds: tuple[str, ...] = KINDS) -> None:
    """Check every kind against the rows of the exchange in a time range: closed candles and due settlements."""
    for kind in kinds[:-1]:
        frame = catalog.read_frame(out, Series(venue, "BTCUSDT", kind, "1h"))
        rows = [row for row in known.candles(kind, start, end, HOUR) if row[0] + HOUR <= known.now]
        assert times(frame) == [row[0] for row in rows]
        assert frame.to_numpy().tolist() == [[float(x) for x in row[1 : 1 + frame.shape[1]]] for row in rows]
    frame = catalog.read_frame(out, Series(venue, "BTCUSDT", "funding"))
    assert list(zip(times(frame), frame["funding_rate"], strict=True)) == known.funding(start, min(end, known.now))


def command(*words: object) -> Result:
    return CliRunner().invoke(commands, [str(word) for word in words], catch_exceptions=False)


def months(days: int, **facts) -> Truth:
    return Truth(START, START + days * DAY + 5 * MINUTE, **facts)


def killed_truth() -> Truth:
    """Return a month and a half of 1m candles with an outage."""
    return months(45, outages=[(START + 20 * DAY, START + 21 * DAY)])


def stored_bytes(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def small(days: int = 3, freq: str = "1h") -> pd.DataFrame:
    """Return a few days of candles as a frame."""
    index = pd.date_range("2024-01-30", periods=days * 24, freq=freq, tz="UTC").as_unit("ms")
    base = np.linspace(100.0, 110.0, len(index))
    return pd.DataFrame(
        {"date": index, "open": base, "high": base + 2, "low": base - 2, "close": base + 1, "volume": 5.0}
    )
