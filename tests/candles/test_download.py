# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a fake exchange: the stored rows are those of the exchange, or the missing ones are reported."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from budget import in_rotation
from downloads import DAY, START, check_rows, fetch, opened, request, times, truth
from fake_exchange import HOUR, FakeExchange, Fault

from crossmargin_bt.candles import catalog, contracts
from crossmargin_bt.candles.download import download
from crossmargin_bt.candles.exchange import Exchange, product_facts
from crossmargin_bt.candles.manifest import read_manifest
from crossmargin_bt.candles.series import Series
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, DownloadError
from crossmargin_bt.venues import tiers

VENUES = ("binanceusdm", "okx", "bybit")
CANDLE_PATHS = ("/fapi/v1/klines", "/api/v5/market/history-candles", "/v5/market/kline")


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("cap", [None, 7])
def test_stored_rows_equal_the_exchange(tmp_path: Path, venue: str, cap: int | None) -> None:
    """Late listing, outages, changing funding intervals, a page cap below the limit requested; a second run requests only the tail."""
    known = truth()
    with FakeExchange({"BTC": known}, cap=cap) as fake:
        outcomes = fetch(venue, fake, tmp_path)
        assert [(one.error, one.missing) for one in outcomes] == [(None, [])] * 4
        check_rows(tmp_path, venue, known, START - DAY, known.now)
        gaps = outcomes[0].gaps
        assert gaps[1:] == known.outages
        assert gaps[0] == (START - DAY, START + 2 * DAY + 5 * HOUR)
        manifest = read_manifest(Series(venue, "BTCUSDT", "candles", "1h").folder(tmp_path))
        assert manifest.gaps == gaps
        assert manifest.covered == [(START - DAY, START + 40 * DAY)]
        assert sum(entry.rows for entry in manifest.files.values()) == outcomes[0].stored
        known.now += 3 * HOUR
        before = len(fake.calls)
        fetch(venue, fake, tmp_path)
        check_rows(tmp_path, venue, known, START - DAY, known.now)
        asked = [
            path for path, query in fake.calls[before:] if "symbol" in query or "instId" in query or "pair" in query
        ]
        assert len(asked) < 14
        # An earlier start: only what is before is asked for.
        fetch(venue, fake, tmp_path, since_ms=START - 3 * DAY)
        check_rows(tmp_path, venue, known, START - 3 * DAY, known.now)


FAULTS = [
    Fault("", 429, 0), Fault("", 418, 0), Fault("", 429), Fault("", 500), Fault("", 503), Fault("broken off"), Fault("garbled"),
    Fault("cut at the end"), Fault("cut at the start"), Fault("holes"), Fault("doubled"), Fault("shuffled"), Fault("empty"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "venue"), in_rotation([(fault,) for fault in FAULTS], VENUES))
def test_every_fault_at_every_request(tmp_path: Path, fault: Fault, venue: str) -> None:
    """With any single request of a download faulty, the rows still equal those of the exchange."""
    known = truth(days=7)
    what = ("candles", "funding")

    async def run(fake: FakeExchange) -> None:
        async with opened(venue, fake) as exchange:
            faulty, requests = 0, 1
            while faulty < requests:
                out = tmp_path / str(faulty)
                fake.calls.clear()
                fake.faults = lambda n, _path, at=faulty: fault if n == at else None
                result = await download(exchange, request(kinds=what), out)
                requests = len(fake.calls)
                assert result.is_complete
                check_rows(out, venue, known, START - DAY, known.now, kinds=what)
                faulty += 1

    with FakeExchange({"BTC": known}, cap=60) as fake:
        asyncio.run(run(fake))


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("fault", FAULTS[:7], ids=lambda fault: f"{fault.kind}{fault.status or ''}")
def test_faults_while_the_markets_are_loaded(tmp_path: Path, venue: str, fault: Fault) -> None:
    """The request is repeated."""
    known = truth(days=4)
    for faulty in range(3):
        with FakeExchange({"BTC": known}, faults=lambda n, _path, at=faulty: fault if n == at else None) as fake:
            fetch(venue, fake, tmp_path / str(faulty), kinds=("candles",))
        frame = catalog.read_frame(tmp_path / str(faulty), Series(venue, "BTCUSDT", "candles", "1h"))
        assert len(frame) == len(known.candles("candles", START - DAY, START + 4 * DAY, HOUR))


@pytest.mark.parametrize("venue", VENUES)
def test_a_failing_exchange_keeps_received_rows(tmp_path: Path, venue: str) -> None:
    """Rows received are stored and the rest is reported; the next run continues from there."""
    known = truth(days=30)
    down = {"after": 8}

    def broken(_number: int, path: str) -> Fault | None:
        down["after"] -= path in CANDLE_PATHS
        return Fault("", 500) if down["after"] < 0 else None

    with FakeExchange({"BTC": known}, cap=50, faults=broken) as fake:
        outcomes = fetch(venue, fake, tmp_path, tries=2, kinds=("candles",))
        (one,) = outcomes
        assert one.missing
        assert "failed 2 times" in one.error
        assert 0 < one.stored < 30 * 24
        first = len(fake.calls)
        down["after"] = 10**6
        (again,) = fetch(venue, fake, tmp_path, kinds=("candles",))
        assert not again.missing
        assert again.fetched == again.stored - one.stored
        assert len(fake.calls) > first
    frame = catalog.read_frame(tmp_path, Series(venue, "BTCUSDT", "candles", "1h"))
    assert times(frame) == [row[0] for row in known.candles("candles", START, START + 30 * DAY, HOUR)]


def test_retry_after_is_observed(tmp_path: Path) -> None:
    """For as long as Retry-After says; beyond a quarter of an hour the download ends and reports the time."""
    known = truth(days=3)
    begun = time.monotonic()
    with FakeExchange({"BTC": known}, faults=lambda n, _: Fault("", 429, 1) if n == 3 else None) as fake:
        (one,) = fetch("bybit", fake, tmp_path / "a", kinds=("candles",))
        assert one.error is None
    assert time.monotonic() - begun >= 1.0
    with FakeExchange(
        {"BTC": known}, faults=lambda n, path: Fault("", 429, 7200) if "klines" in path else None
    ) as fake:
        (one,) = fetch("binanceusdm", fake, tmp_path / "b", kinds=("candles",))
        assert "retry after 7200 s" in one.error


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("skew", [-5 * HOUR, 0])
def test_the_open_candle_is_left_out(tmp_path: Path, venue: str, skew: int) -> None:
    """By the exchange's clock; if that clock lags, more candles are left out and coverage stays correct."""
    known = truth(days=4)
    with FakeExchange({"BTC": known}, skew=skew) as fake:
        (one,) = fetch(venue, fake, tmp_path, kinds=("candles",))
    frame = catalog.read_frame(tmp_path, Series(venue, "BTCUSDT", "candles", "1h"))
    assert times(frame)[-1] == START + 4 * DAY - HOUR + skew
    assert one.task.time_range[1] == START + 4 * DAY + skew


def test_contracts_and_tiers(tmp_path: Path) -> None:
    """Contract facts fill the instruments; tiers form a file for `--tiers`, one snapshot per day, in the settle currency."""
    known = truth(days=4)
    for venue, size in (("okx", 0.01), ("bybit", 1.0)):
        with FakeExchange({"BTC": known, "ETH": known}) as fake:
            what = {"symbols": ("BTCUSDT", "ETHUSDT"), "kinds": ("markets", "tiers", "candles")}
            fetch(venue, fake, tmp_path, **what)
            known.now += DAY
            fetch(venue, fake, tmp_path, symbols=("BTCUSDT",), kinds=("markets", "tiers"))
            known.now -= DAY
        found, _ = contracts.read_instruments(tmp_path / venue)
        assert (found["BTCUSDT"].contract_size, found["BTCUSDT"].tick, found["BTCUSDT"].leverage_max) == (
            size,
            0.1,
            100.0,
        )
        assert contracts.read_contracts(tmp_path / venue)["ETHUSDT"].as_of == "2024-01-05"
        table = found["BTCUSDT"].maintenance
        assert table.marginal == (venue == "bybit")
        # OKX: 1,000 contracts of 0.01 at 30,000; Bybit: 2,000,000.
        assert table.tiers[1].notional_min == {"okx": 300_000.0, "bybit": 2_000_000.0}[venue]
        terms = tiers.read(tmp_path / venue / "tiers.json")
        assert [(one.symbols[0], str(one.since)) for one in terms] == [
            ("BTC/USDT:USDT", "2024-01-05"), ("ETH/USDT:USDT", "2024-01-05"), ("BTC/USDT:USDT", "2024-01-06"),
        ]  # fmt: skip


def test_invalid_requests_fail_early(tmp_path: Path) -> None:
    """Unknown exchanges, symbols, timeframes and kinds, and missing credentials, before any request for rows."""
    with FakeExchange({"BTC": truth(days=4)}) as fake:
        with pytest.raises(ConfigurationError, match="no market 'BTC/USDC:USDC'; did you mean"):
            fetch("bybit", fake, tmp_path, symbols=("BTC/USDC:USDC",))
        with pytest.raises(ConfigurationError, match="no candles of 7m"):
            fetch("bybit", fake, tmp_path, timeframe="7m")
        with pytest.raises(ConfigurationError, match="unknown kind of data 'candle'; did you mean 'candles'"):
            fetch("bybit", fake, tmp_path, kinds=("candle",))
        with pytest.raises(ConfigurationError, match="not after its start"):
            fetch("bybit", fake, tmp_path, until_ms=START - 2 * DAY)
        with pytest.raises(DownloadError, match=r"requires credentials.*CROSSMARGIN_API_KEY"):
            fetch("binanceusdm", fake, tmp_path, kinds=("tiers",))
        assert not list(tmp_path.rglob("*.parquet"))
    with pytest.raises(ConfigurationError, match="ccxt knows no exchange 'binanceusd'; did you mean"):
        Exchange("binanceusd")


def test_a_broken_file_is_renamed_and_fetched_again(tmp_path: Path) -> None:
    """One flipped byte in a month; a month without a manifest is verified and kept."""
    known = truth()
    with FakeExchange({"BTC": known}) as fake:
        fetch("bybit", fake, tmp_path, kinds=("candles",))
        series = Series("bybit", "BTCUSDT", "candles", "1h")
        path = series.folder(tmp_path) / "2024-01.parquet"
        whole = path.read_bytes()
        spoiled = bytearray(whole)
        spoiled[len(whole) // 3] ^= 1
        path.write_bytes(bytes(spoiled))
        (one,) = fetch("bybit", fake, tmp_path, kinds=("candles",))
        assert "2024-01.parquet.broken" in one.notes[0]
        assert path.read_bytes() == whole
        (path.parent / "manifest.json").unlink()
        (one,) = fetch("bybit", fake, tmp_path, kinds=("candles",))
        assert one.fetched == 0
        with SeriesStore(tmp_path, series) as store:
            store.discard_coverage([(START + 20 * DAY, START + 21 * DAY)])
            assert store.missing((START, START + 40 * DAY)) == [(START + 20 * DAY, START + 21 * DAY)]
        (one,) = fetch("bybit", fake, tmp_path, kinds=("candles",))
        assert one.fetched == 24
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("market", "kind"),
    [
        ({"type": "spot", "spot": True, "quote": "USDT"}, "spot"),
        ({"type": "swap", "swap": True, "quote": "USDT"}, "perpetual"),
        ({"type": "future", "future": True, "quote": "USDT", "expiry": 1_750_982_400_000}, "future"),
        (
            {
                "type": "option", "option": True, "quote": "USD", "expiry": 1_750_982_400_000, "strike": 50_000,
                "optionType": "put",
            },
            "option",
        ),
    ],
)  # fmt: skip
def test_product_facts(market: dict, kind: str) -> None:
    """Spot, perpetuals, futures and options by their ccxt market types."""
    instrument = Instrument(symbol="X", underlying="BTC", settle=market["quote"], **product_facts(market))
    assert instrument.kind == kind
    if kind in ("future", "option"):
        assert str(instrument.expiry) == "2025-06-27 00:00:00+00:00"
    if kind == "option":
        assert (instrument.strike, instrument.option) == (50_000.0, "put")
