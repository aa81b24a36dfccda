# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged stores, unusual names and broken import files: no data is lost, and every problem is reported."""

from __future__ import annotations

import errno
import gzip
import shutil
from pathlib import Path

import pandas as pd
import pytest
from downloads import DAY, START, check_rows, command, fetch, months, small, stored_bytes, times, truth
from fake_exchange import HOUR, FakeExchange, Fault

from crossmargin_bt import feeds
from crossmargin_bt.candles import catalog, contracts, manifest, sanity
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.candles.month_file import AtomicWrite
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.errors import FeedError, StoreError

CANDLES = Series("bybit", "BTCUSDT", "candles", "1h")


def faults(out: Path) -> list[str]:
    return [one.kind for one in sanity.check(out) if one.is_fault]


def run_repair(fake: FakeExchange, out: Path):
    return command("data", "repair", out, "--api-base", fake.base, "--no-rate-limit")


@pytest.mark.parametrize("month", ["2024-01", "2024-02", "2024-03"])
@pytest.mark.parametrize("damage", ["cut", "gone", "a folder"])
def test_a_damaged_month_is_reported_until_repaired(tmp_path: Path, month: str, damage: str) -> None:
    """First, middle or last month: reported as a fault before and after another download, and run_repair byte for byte."""
    with FakeExchange({"BTC": months(65)}) as fake:
        fetch("bybit", fake, tmp_path, kinds=("candles",), since_ms=START)
        whole = stored_bytes(tmp_path)
        source = manifest.read_manifest(CANDLES.folder(tmp_path)).source
        path = CANDLES.folder(tmp_path) / f"{month}.parquet"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-40])
        else:
            path.unlink()
        if damage == "a folder":
            path.mkdir()
        assert faults(tmp_path)
        asked = ["download", "--exchange", "bybit", "--symbols", "BTCUSDT", "--what", "candles", "--out", tmp_path]
        before = sorted(tmp_path.rglob("*"))
        planned = command(*asked, "--since", "2024-01-01", "--api-base", fake.base, "--no-rate-limit", "--dry-run")
        assert f"{month}-01 00:00 to" in planned.output
        assert sorted(tmp_path.rglob("*")) == before
        fetch("bybit", fake, tmp_path, kinds=("candles",), since_ms=START + 64 * DAY)
        if month != "2024-03":
            assert faults(tmp_path) == ["lost"]
        assert run_repair(fake, tmp_path).exit_code == 0
        assert not sanity.check(tmp_path)
        assert stored_bytes(tmp_path) == whole
        assert manifest.read_manifest(CANDLES.folder(tmp_path)).source == source


def test_unpublished_rows_are_not_gaps(tmp_path: Path) -> None:
    """Two seconds after the hour, its candle and its funding are left to a later download."""
    known = truth(days=10, now=START + 10 * DAY + 2_000)
    with FakeExchange({"BTC": known}) as fake:
        candles, _, _, funding = fetch("bybit", fake, tmp_path)
        assert candles.task.time_range[1] == START + 10 * DAY - HOUR
        assert funding.task.time_range[1] < START + 10 * DAY
        known.now += 2 * DAY + 600_000
        fetch("bybit", fake, tmp_path)
        check_rows(tmp_path, "bybit", known, START - DAY, known.now)


def test_flipped_bits_are_detected(tmp_path: Path) -> None:
    """With any bit flipped, a month returns the rows written or raises."""
    with FakeExchange({"BTC": months(35)}) as fake:
        fetch("bybit", fake, tmp_path, kinds=("candles",), since_ms=START)
    path = CANDLES.folder(tmp_path) / "2024-01.parquet"
    whole, rows = path.read_bytes(), catalog.read_frame(tmp_path, CANDLES)
    refused = 0
    for at in range(0, len(whole), len(whole) // 60):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.write_bytes(bytes(changed))
        try:
            assert catalog.read_frame(tmp_path, CANDLES).equals(rows)
        except StoreError:
            refused += 1
    assert refused > 30


def test_a_manifest_is_verified_against_the_files(tmp_path: Path) -> None:
    """A manifest that claims more coverage than the files is corrected by the next download and reported by the check."""
    with FakeExchange({"BTC": months(35)}) as fake:
        fetch("bybit", fake, tmp_path, kinds=("candles",), since_ms=START, until_ms=START + 19 * DAY)
        path = CANDLES.folder(tmp_path) / "manifest.json"
        path.write_text(path.read_text().replace(str(START + 19 * DAY), str(START + 30 * DAY)))
        assert "manifest" in faults(tmp_path) or "lost" in faults(tmp_path)
        (one,) = fetch("bybit", fake, tmp_path, kinds=("candles",), since_ms=START, until_ms=START + 30 * DAY)
        assert one.fetched == 11 * 24
        assert not sanity.check(tmp_path)


def test_two_names_of_one_market_give_one_series(tmp_path: Path) -> None:
    with FakeExchange({"BTC": months(5)}) as fake:
        outcomes = fetch(
            "bybit", fake, tmp_path, symbols=("BTCUSDT", "BTC/USDT:USDT"), kinds=("candles", "candles", "mark")
        )
        assert [one.task.series.kind for one in outcomes] == ["candles", "mark"]


def test_two_perpetuals_of_a_pair_have_two_names() -> None:
    """If an exchange lists both, the inverse one has the long name; alone it has the short one."""
    exchange = Exchange("krakenfutures")
    linear = {"symbol": "BTC/USD:USD", "swap": True, "inverse": False, "base": "BTC", "quote": "USD", "id": "PF_XBTUSD"}
    inverse = {**linear, "symbol": "BTC/USD:BTC", "inverse": True, "id": "PI_XBTUSD"}
    exchange._client.markets = {"BTC/USD:USD": linear, "BTC/USD:BTC": inverse}
    assert [exchange.market(text).stored_symbol for text in ("PF_XBTUSD", "PI_XBTUSD")] == ["BTCUSD", "BTC-USD-BTC"]
    exchange._client.markets = {"BTC/USD:BTC": inverse}
    assert exchange.market("BTCUSD").unified_symbol == "BTC/USD:BTC"


def test_repair_continues_after_unknown_markets(tmp_path: Path) -> None:
    """A delisted market and an unknown exchange are reported, all other series are run_repair; foreign files are ignored."""
    known = months(35, outages=[(START + DAY, START + DAY + 3 * HOUR)])
    small().drop(index=[20]).to_csv(tmp_path / "AAA_last_1h.csv", index=False)
    out = tmp_path / "out"
    with FakeExchange({"BTC": known}) as fake:
        fetch("bybit", fake, out, kinds=("candles",), since_ms=START)
        for exchange in ("bybit", "mine"):
            assert (
                command("data", "import", tmp_path / "AAA_last_1h.csv", "--exchange", exchange, "--out", out).exit_code
                == 0
            )
        (CANDLES.folder(out) / "notes.parquet").touch()
        known.outages.clear()
        done = run_repair(fake, out)
        assert done.exit_code == 1
        assert "missing: bybit has no market 'AAA'" in done.output
        assert "missing: mine: ccxt knows no exchange 'mine'" in done.output
        frame = catalog.read_frame(out, CANDLES)
        assert times(frame) == [row[0] for row in known.candles("candles", START, START + 35 * DAY, HOUR)]
        assert (CANDLES.folder(out) / "notes.parquet").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each write: files written before stay valid, and the lock is released."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with FakeExchange({"BTC": months(65)}) as fake:
        asked = [
            "download", "--exchange", "bybit", "--symbols", "BTCUSDT", "--what", "candles,markets", "--since", "2024-01-01",
            "--out", tmp_path, "--api-base", fake.base, "--no-rate-limit",
        ]  # fmt: skip
        entered = AtomicWrite.__enter__
        for allowed in range(4):
            left = [allowed]

            def entering(self, left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise full
                return entered(self)

            monkeypatch.setattr(AtomicWrite, "__enter__", entering)
            done = command(*asked)
            assert done.exit_code in (1, 2)
            assert "No space left" in done.output
        monkeypatch.undo()
        assert command(*asked).exit_code == 0
        assert not sanity.check(tmp_path)
        (tmp_path / "bybit" / "contracts.json").unlink()
        (tmp_path / "bybit" / "contracts.json").mkdir()
        done = command(*asked)
        assert done.exit_code in (0, 1)
        assert "rows fetched" in done.output


def test_broken_contracts_are_rebuilt(tmp_path: Path) -> None:
    """By downloading the markets again, as the message says."""
    with FakeExchange({"BTC": months(5)}) as fake:
        fetch("bybit", fake, tmp_path, kinds=("candles", "markets"))
        path = tmp_path / "bybit" / "contracts.json"
        path.write_text("{")
        with pytest.raises(StoreError, match="download --what markets again"):
            feeds.load(tmp_path)
        fetch("bybit", fake, tmp_path, kinds=("markets",))
        assert list(contracts.read_contracts(tmp_path / "bybit")) == ["BTCUSDT"]


def test_import_names_cannot_leave_the_store(tmp_path: Path) -> None:
    """Unified symbols are stored under the names of downloads; names that would leave the folder are refused."""
    path = tmp_path / "x.csv"
    small().to_csv(path, index=False)
    out = tmp_path / "out"
    assert (
        command("data", "import", path, "--exchange", "bybit", "--symbol", "BTC/USDT:USDT", "--out", out).exit_code == 0
    )
    assert [one.symbol for one in catalog.list_series(out)] == ["BTCUSDT"]
    for words in (
        ("--exchange", "bybit", "--symbol", "../../e"),
        ("--exchange", "../e", "--symbol", "A"),
        ("--exchange", "", "--symbol", "A"),
    ):
        done = command("data", "import", path, *words, "--out", out)
        assert (done.exit_code, "is not a valid" in done.stderr) == (2, True)


def odd_files(folder: Path) -> dict[str, str]:
    """Write files that cannot be imported; return the expected message by file name."""
    folder.mkdir()
    frame = small()
    text = frame.to_csv(index=False)
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text(text.splitlines()[0])
    (folder / "words.csv").write_text(text.replace("100.0", "a hundred", 1))
    (folder / "dates.csv").write_text(text.replace("2024-01-30", "someday", 1))
    (folder / "torn.csv.gz").write_bytes(gzip.compress(text.encode())[:-20])
    (folder / "torn.json.gz").write_bytes(gzip.compress(b"[[1,2,3,4,5,6]]")[:-5])
    (folder / "BTCUSDT-1h-2024-01.zip").write_bytes(b"PK no archive")
    frame.assign(open=-5.0).to_csv(folder / "negative.csv", index=False)
    late = frame["date"].where(frame.index < 30, frame["date"] + pd.Timedelta("7min"))
    frame.assign(date=late).to_csv(folder / "beside.csv", index=False)
    frame.drop(columns="close").to_csv(folder / "columns.csv", index=False)
    return {
        "empty.csv": "holds no rows", "header.csv": "holds no rows", "words.csv": "a hundred", "dates.csv": "is not a date in ISO 8601",
        "torn.csv.gz": "cannot be read", "torn.json.gz": "cannot be read", "BTCUSDT-1h-2024-01.zip": "cannot be read",
        "negative.csv": "prices must be above 0", "beside.csv": "is not a whole number of 1h after", "columns.csv": "column 'close' is missing",
    }  # fmt: skip


def test_an_unreadable_import_is_one_line(tmp_path: Path) -> None:
    for name, said in odd_files(tmp_path / "files").items():
        done = command("data", "import", tmp_path / "files" / name, "--exchange", "bybit", "--out", tmp_path / "out")
        assert (done.exit_code, said in done.stderr, len(done.stderr.splitlines())) == (2, True, 1), (name, done.stderr)
    small().to_csv(tmp_path / "hours.csv", index=False)
    done = command(
        "data", "import", tmp_path / "hours.csv", "--exchange", "bybit", "--timeframe", "15m", "--out", tmp_path / "out"
    )
    assert "its rows are 1h apart, not 15m" in done.stderr
    seconds = pd.DataFrame({"time": (small()["date"][::8].astype("int64") // 1000), "funding_rate": 0.0001})
    seconds.to_csv(tmp_path / "BTCUSDT_funding.csv", index=False)
    command("data", "import", tmp_path / "BTCUSDT_funding.csv", "--exchange", "bybit", "--out", tmp_path / "out")
    assert catalog.read_frame(tmp_path / "out", Series("bybit", "BTCUSDT", "funding")).index[0].year == 2024


def test_load_errors_name_the_missing_part(tmp_path: Path) -> None:
    """No date, no candles, no symbol, and a market that begins after the period."""
    with FakeExchange({"BTC": months(20), "ETH": months(20, listed=START + 12 * DAY)}) as fake:
        fetch("bybit", fake, tmp_path / "both", symbols=("BTCUSDT", "ETHUSDT"), kinds=("candles",), since_ms=START)
        fetch("bybit", fake, tmp_path / "funding", kinds=("funding",), since_ms=START)
    for text in ("", "nat", "nan"):
        with pytest.raises(FeedError, match="is not a date"):
            feeds.load(tmp_path / "both", start=text)
    with pytest.raises(FeedError, match="has no candles of ETHUSDT in that period"):
        feeds.load(tmp_path / "both", ["BTCUSDT", "ETHUSDT"], end="2024-01-10")
    with pytest.raises(FeedError, match="no symbol is given"):
        feeds.load(tmp_path / "both", [])
    with pytest.raises(FeedError, match="holds no candles"):
        feeds.load(tmp_path / "funding")
    shutil.rmtree(tmp_path / "both" / "bybit" / "ETHUSDT")
    assert [feed._name for feed in feeds.load(tmp_path / "both")] == ["BTCUSDT"]


def test_the_lock_is_released_if_opening_fails(tmp_path: Path) -> None:
    series = Series("a", "b", "funding")
    with SeriesStore(tmp_path, series) as store:
        store.add((0, 10), [SeriesRow(5, (0.1,))])
    (series.folder(tmp_path) / "manifest.json").unlink()
    (series.folder(tmp_path) / "manifest.json").mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be written to"), SeriesStore(tmp_path, series):
            pass


def test_several_faults_at_once(tmp_path: Path) -> None:
    """One answer in three is faulty in one of several ways, and the rows are still correct."""
    kinds = ["", "broken off", "cut at the end", "holes", "shuffled", "doubled", "cut at the start"]
    known = truth(days=20)
    for seed in range(6):

        def faulty(number: int, _path: str, seed: int = seed) -> Fault | None:
            draw = (number * 7919 + seed * 104_729) % 97
            kind = kinds[draw % len(kinds)]
            return None if draw % 3 else Fault(kind, 0 if kind else 500)

        venue = ("binanceusdm", "okx", "bybit")[seed % 3]
        with FakeExchange({"BTC": known}, cap=80 + seed, faults=faulty) as fake:
            outcomes = fetch(venue, fake, tmp_path / str(seed), tries=12, kinds=("candles",))
        assert not any(one.missing for one in outcomes)
        frame = catalog.read_frame(tmp_path / str(seed), CANDLES._replace(exchange=venue))
        assert times(frame) == [row[0] for row in known.candles("candles", START - DAY, START + 20 * DAY, HOUR)]
