# SPDX-License-Identifier: GPL-3.0-or-later
"""Funding histories that are paged by number or by cursor, and exchanges that give only their latest rows: complete, or said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from budget import in_rotation
from downloads import DAY, START, opened, truth
from fake_exchange import HOUR, FakeExchange, Fault, Truth

from crossmargin_bt.candles import catalog, sanity
from crossmargin_bt.candles.download import DownloadRequest, DownloadResult, download
from crossmargin_bt.candles.manifest import read_manifest
from crossmargin_bt.candles.pagination import FetchedPage, fetch_pages
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.time_ranges import TimeRange

EXCHANGES = {"bitget": "BTC/USDT:USDT", "pacifica": "BTC/USDC:USDC"}
FAULTS = [
    Fault("", 429, 0), Fault("", 500), Fault("broken off"), Fault("garbled"), Fault("cut at the end"), Fault("cut at the start"),
    Fault("holes"), Fault("doubled"), Fault("shuffled"), Fault("empty"),
]  # fmt: skip


def request(exchange: str, **given: Any) -> DownloadRequest:
    """Return a request for funding from a day before the listing on."""
    asked = {"symbols": (EXCHANGES[exchange],), "kinds": ("funding",), "timeframe": "1h", "since_ms": START - DAY}
    return DownloadRequest(**{**asked, **given})


def fetch(exchange: str, fake: FakeExchange, out: Path, **given: Any) -> DownloadResult:
    """Download, and return the result."""

    async def run() -> DownloadResult:
        async with opened(exchange, fake) as client:
            client._client.milliseconds = lambda: next(iter(fake.truths.values())).now
            return await download(client, request(exchange, **given), out)

    return asyncio.run(run())


def stored(exchange: str, out: Path) -> list[tuple[int, float]]:
    """Return the settlements on the disk."""
    (series,) = catalog.list_series(out)
    frame = catalog.read_frame(out, series)
    return list(zip(frame.index.as_unit("ms").asi8.tolist(), frame["funding_rate"].tolist(), strict=True))


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("cap", [None, 7])
def test_every_settlement_is_stored(tmp_path: Path, exchange: str, cap: int | None) -> None:
    """Of a market listed late, whose interval changes; a later run asks for the new ones only, an earlier start for the rest."""
    known = truth(outages=[])
    with FakeExchange({"BTC": known}, cap=cap) as fake:
        result = fetch(exchange, fake, tmp_path, since_ms=START + 20 * DAY)
        assert result.is_complete
        assert stored(exchange, tmp_path) == known.funding(START + 20 * DAY, known.now - 120_000)
        fake.calls.clear()
        known.now += 9 * HOUR
        assert fetch(exchange, fake, tmp_path, since_ms=START + 20 * DAY).is_complete
        pages = [query for path, query in fake.calls if "fund" in path]
        assert len(pages) <= 4
        assert fetch(exchange, fake, tmp_path).is_complete
        assert stored(exchange, tmp_path) == known.funding(0, known.now - 120_000)
        fake.calls.clear()
        assert fetch(exchange, fake, tmp_path).is_complete
        assert not [path for path, _ in fake.calls if "fund" in path]
    assert [one.kind for one in sanity.check(tmp_path)] == ["start"]
    assert not any(one.is_fault for one in sanity.check(tmp_path))


@pytest.mark.parametrize(("fault", "exchange"), in_rotation([(fault,) for fault in FAULTS], tuple(EXCHANGES)))
def test_every_fault_at_every_request(tmp_path: Path, fault: Fault, exchange: str) -> None:
    """With any single request faulty, the settlements still equal those of the exchange."""
    known = truth(days=8, outages=[], intervals=[(0, 8 * HOUR)])

    async def run(fake: FakeExchange) -> None:
        async with opened(exchange, fake) as client:
            client._client.milliseconds = lambda: known.now
            faulty, requests = 0, 1
            while faulty < requests:
                out = tmp_path / str(faulty)
                fake.calls.clear()
                fake.faults = lambda n, _path, at=faulty: fault if n == at else None
                result = await download(client, request(exchange), out)
                requests = len(fake.calls)
                assert result.is_complete, result
                assert stored(exchange, out) == known.funding(0, known.now - 120_000)
                faulty += 1

    with FakeExchange({"BTC": known}, cap=8) as fake:
        asyncio.run(run(fake))


def test_bitget_has_no_page_below_its_listing(tmp_path: Path) -> None:
    """The manifest covers what was asked, so that nothing is asked again."""
    known = truth(days=5, outages=[])
    with FakeExchange({"BTC": known}) as fake:
        fetch("bitget", fake, tmp_path)
    manifest = read_manifest(Series("bitget", "BTCUSDT", "funding").folder(tmp_path))
    assert manifest.covered == [(START - DAY, known.now - 120_000)]
    assert manifest.requested == manifest.covered


async def _pages(known: Truth, span: TimeRange, latest: int, **given: Any) -> list[FetchedPage]:
    """Return the pages of an exchange that answers every request with its latest candles."""
    rows = [SeriesRow(t, tuple(map(float, rest))) for t, *rest in known.candles("candles", 0, known.now, HOUR)][
        -latest:
    ]

    async def answer(window: TimeRange) -> list[SeriesRow]:
        return [row for row in rows if row.time >= window[0]][:50]

    series = Series("x", "BTCUSDT", "candles", "1h")
    return [page async for page in fetch_pages(answer, series, span, 50 * HOUR, **given)]


@pytest.mark.parametrize("latest", [30, 72, 240])
def test_only_the_latest_rows_are_no_answer_for_those_before(latest: int) -> None:
    """What lies before them is not known to be empty, unless the market was listed then."""
    known = truth(days=40, outages=[], listed=START)
    end = START + 40 * DAY
    first = end + HOUR - latest * HOUR
    pages = asyncio.run(_pages(known, (START, end), latest))
    answered = [page for page in pages if page.outside is None]
    assert min(page.time_range[0] for page in answered) == first
    assert sum(len(page.rows) for page in answered) == latest - 1
    assert all(page.time_range[1] <= first for page in pages if page.outside is not None)
    pages = asyncio.run(_pages(known, (START, end), latest, listed=first))
    assert all(page.outside is None for page in pages)
