# SPDX-License-Identifier: GPL-3.0-or-later
"""What is stored can be loaded: tiers are checked before they are written, and `data check` says what a reader should doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from downloads import DAY, START
from fake_exchange import HOUR
from market_files import candles

from crossmargin_bt import feeds
from crossmargin_bt.candles import contracts, importer, sanity
from crossmargin_bt.candles.pagination import fetch_pages
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.venues.tiers import File, Row, Snapshot

GOOD = [Row(0.0, 0.005, 100.0), Row(1e6, 0.01, 50.0)]
BAD = {
    "no bounds": [Row(0.0, 0.005, 100.0), Row(0.0, 0.01, 50.0)],
    "not from 0": [Row(5.0, 0.005, 100.0)],
    "rates that fall": [Row(0.0, 0.02, 50.0), Row(1e6, 0.01, 100.0)],
    "a leverage below 1": [Row(0.0, 0.02, 0.5)],
    "a deduction of its own": [
        Row(0.0, 0.005, 100.0, maintenance_amount=0.0),
        Row(1e6, 0.01, 50.0, maintenance_amount=7.0),
    ],
    "no tiers": [],
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_tiers_are_not_stored_and_block_nothing(tmp_path: Path, name: str) -> None:
    """The valid ones are; an older file that holds invalid ones is loaded without them, and says so."""
    candles().to_csv(tmp_path / "BTCUSDT.csv")
    importer.import_files([tmp_path / "BTCUSDT.csv"], tmp_path / "out", "x")
    contracts.store_contracts(tmp_path / "out", "x", "2025-01-01", {"BTCUSDT": (Instrument(symbol="BTCUSDT"), 0)})
    tables = {"BTC/USDT:USDT": BAD[name], "ETH/USDT:USDT": GOOD}
    (failure,) = contracts.store_tiers(tmp_path / "out", "x", "2025-01-01", tables)
    assert "BTC/USDT:USDT" in failure
    (feed,) = feeds.load(tmp_path / "out")
    assert feed.instrument.maintenance is None
    path = tmp_path / "out" / "x" / "tiers.json"
    path.write_bytes(msgspec.json.encode(File(snapshots=[Snapshot(as_of="2024-01-01", tiers=tables)])))
    found, invalid = contracts.read_instruments(tmp_path / "out" / "x")
    assert (list(found), list(invalid)) == (["BTCUSDT"], ["BTCUSDT"])
    assert len(feeds.load(tmp_path / "out")) == 1


def findings(frame: pd.DataFrame) -> list[tuple[str, bool]]:
    """Return kind and fault of what is found in candles."""
    series = Series("x", "BTCUSDT", "candles", "1h")
    return [(one.kind, one.is_fault) for one in sanity.check_rows(frame, series, [], None)]


@pytest.mark.parametrize(
    ("factor", "found"), [(1000.0, True), (0.001, True), (10.0, True), (4.0, False), (0.3, False), (1.0, False)]
)
def test_jumps_are_named(factor: float, found: bool) -> None:
    """A redenomination, and a fall that markets have seen."""
    rows = candles()
    rows.iloc[24:, :4] *= factor
    assert (("jump", True) in findings(rows)) == found


@pytest.mark.parametrize(("length", "expected"), [(2, []), (3, [("frozen", False)]), (30, [("frozen", True)])])
def test_frozen_stretches_are_named(length: int, expected: list) -> None:
    """From three bars of one price without volume on a note, from a day on a fault."""
    rows = candles(60)
    rows.iloc[10 : 10 + length] = [*[rows.iloc[9, 3]] * 4, 0.0]
    rows.iloc[10 + length, 0] = rows.iloc[9, 3]
    rows["high"], rows["low"] = rows[["open", "high", "close"]].max(axis=1), rows[["open", "low", "close"]].min(axis=1)
    assert findings(rows) == expected


def test_volumes_that_are_not_known_are_a_note() -> None:
    """Prices that move without any volume: the file has none."""
    assert [kind for kind, _ in findings(candles().assign(volume=0.0))] == ["no volume"]


async def _collected(phase: int, latest: int) -> list[int]:
    """Return the times fetched of daily bars."""
    rows = [SeriesRow(t, (1.0,) * 5) for t in range(START + phase, START + 40 * DAY, DAY)]

    async def answer(window: tuple[int, int]) -> list[SeriesRow]:
        return [row for row in rows if window[0] <= row.time < window[1]][:latest]

    series = Series("x", "BTCUSDT", "candles", "1d")
    pages = [page async for page in fetch_pages(answer, series, (START, START + 40 * DAY), latest * DAY)]
    covered = [page.time_range for page in pages]
    assert min(covered)[0] == START
    assert sum(end - start for start, end in covered) == 40 * DAY
    return [row.time for page in pages for row in page.rows]


@pytest.mark.parametrize("phase", [0, 8 * HOUR, 16 * HOUR])
@pytest.mark.parametrize("limit", [7, 30])
def test_days_of_any_phase_are_fetched(phase: int, limit: int) -> None:
    """Every bar once, and the whole range is covered."""
    times = asyncio.run(_collected(phase, limit))
    assert sorted(times) == list(range(START + phase, START + 40 * DAY, DAY))
    assert len(np.unique(times)) == 40
