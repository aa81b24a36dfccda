# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores that were harmed, names that are odd, files from elsewhere that are broken: nothing is lost, everything is said."""

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
from crossmargin_bt.candles import contracts, manifest, sanity, stored
from crossmargin_bt.candles.exchange import Exchange
from crossmargin_bt.candles.months import Replacement
from crossmargin_bt.candles.series import Row, Series
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.errors import FeedError, StoreError

CANDLES = Series("bybit", "BTCUSDT", "candles", "1h")


def faults(out: Path) -> list[str]:
    return [one.kind for one in sanity.check(out) if one.is_fault]


def repaired(fake: FakeExchange, out: Path):
    return command("data", "repair", out, "--api-base", fake.base, "--no-rate-limit")


@pytest.mark.parametrize("month", ["2024-01", "2024-02", "2024-03"])
@pytest.mark.parametrize("harm", ["cut", "gone", "a folder"])
def test_a_harmed_month_is_known_until_it_is_back(tmp_path: Path, month: str, harm: str) -> None:
    """At either end as in the middle: a fault before and after another download, and repaired to the very bytes."""
    with FakeExchange({"BTC": months(65)}) as fake:
        fetch("bybit", fake, tmp_path, what=("candles",), since=START)
        whole = stored_bytes(tmp_path)
        source = manifest.read_manifest(CANDLES.folder(tmp_path)).source
        path = CANDLES.folder(tmp_path) / f"{month}.parquet"
        if harm == "cut":
            path.write_bytes(path.read_bytes()[:-40])
        else:
            path.unlink()
        if harm == "a folder":
            path.mkdir()
        assert faults(tmp_path)
        asked = ["download", "--exchange", "bybit", "--symbols", "BTCUSDT", "--what", "candles", "--out", tmp_path]
        before = sorted(tmp_path.rglob("*"))
        planned = command(*asked, "--since", "2024-01-01", "--api-base", fake.base, "--no-rate-limit", "--dry-run")
        assert f"{month}-01 00:00 to" in planned.output
        assert sorted(tmp_path.rglob("*")) == before
        fetch("bybit", fake, tmp_path, what=("candles",), since=START + 64 * DAY)
        if month != "2024-03":
            assert faults(tmp_path) == ["lost"]
        assert repaired(fake, tmp_path).exit_code == 0
        assert not sanity.check(tmp_path)
        assert stored_bytes(tmp_path) == whole
        assert manifest.read_manifest(CANDLES.folder(tmp_path)).source == source


def test_a_row_is_not_taken_for_missing_before_it_is_published(tmp_path: Path) -> None:
    """Two seconds after the hour its candle is left for later; so is the funding of that moment."""
    known = truth(days=10, now=START + 10 * DAY + 2_000)
    with FakeExchange({"BTC": known}) as fake:
        candles, _, _, funding = fetch("bybit", fake, tmp_path)
        assert candles.task.span[1] == START + 10 * DAY - HOUR
        assert funding.task.span[1] < START + 10 * DAY
        known.now += 2 * DAY + 600_000
        fetch("bybit", fake, tmp_path)
        check_rows(tmp_path, "bybit", known, START - DAY, known.now)


def test_changed_bytes_are_never_traded_on(tmp_path: Path) -> None:
    """Wherever a bit of a month is turned, the rows are those that were written or there are none."""
    with FakeExchange({"BTC": months(35)}) as fake:
        fetch("bybit", fake, tmp_path, what=("candles",), since=START)
    path = CANDLES.folder(tmp_path) / "2024-01.parquet"
    whole, rows = path.read_bytes(), stored.frame(tmp_path, CANDLES)
    refused = 0
    for at in range(0, len(whole), len(whole) // 60):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.write_bytes(bytes(changed))
        try:
            assert stored.frame(tmp_path, CANDLES).equals(rows)
        except StoreError:
            refused += 1
    assert refused > 30


def test_a_manifest_is_believed_only_where_the_files_agree(tmp_path: Path) -> None:
    """One that claims more than was fetched is seen through by the next download and by the check."""
    with FakeExchange({"BTC": months(35)}) as fake:
        fetch("bybit", fake, tmp_path, what=("candles",), since=START, until=START + 19 * DAY)
        path = CANDLES.folder(tmp_path) / "manifest.json"
        path.write_text(path.read_text().replace(str(START + 19 * DAY), str(START + 30 * DAY)))
        assert "manifest" in faults(tmp_path) or "lost" in faults(tmp_path)
        (one,) = fetch("bybit", fake, tmp_path, what=("candles",), since=START, until=START + 30 * DAY)
        assert one.fetched == 11 * 24
        assert not sanity.check(tmp_path)


def test_one_market_by_two_names_is_one(tmp_path: Path) -> None:
    with FakeExchange({"BTC": months(5)}) as fake:
        outcomes = fetch(
            "bybit", fake, tmp_path, symbols=("BTCUSDT", "BTC/USDT:USDT"), what=("candles", "candles", "mark")
        )
        assert [one.task.series.kind for one in outcomes] == ["candles", "mark"]


def test_two_perpetuals_of_a_pair_have_two_names() -> None:
    """Where an exchange lists both, the inverse one is named in full; alone it has the short name."""
    exchange = Exchange("krakenfutures")
    linear = {"symbol": "BTC/USD:USD", "swap": True, "inverse": False, "base": "BTC", "quote": "USD", "id": "PF_XBTUSD"}
    inverse = {**linear, "symbol": "BTC/USD:BTC", "inverse": True, "id": "PI_XBTUSD"}
    exchange._client.markets = {"BTC/USD:USD": linear, "BTC/USD:BTC": inverse}
    assert [exchange.market(text).name for text in ("PF_XBTUSD", "PI_XBTUSD")] == ["BTCUSD", "BTC-USD-BTC"]
    exchange._client.markets = {"BTC/USD:BTC": inverse}
    assert exchange.market("BTCUSD").unified == "BTC/USD:BTC"


def test_repair_goes_on_past_what_an_exchange_does_not_know(tmp_path: Path) -> None:
    """A delisted market and a folder that is no exchange's are named, the others repaired; foreign files are left alone."""
    known = months(35, outages=[(START + DAY, START + DAY + 3 * HOUR)])
    small().drop(index=[20]).to_csv(tmp_path / "AAA_last_1h.csv", index=False)
    out = tmp_path / "out"
    with FakeExchange({"BTC": known}) as fake:
        fetch("bybit", fake, out, what=("candles",), since=START)
        for exchange in ("bybit", "mine"):
            assert (
                command("data", "import", tmp_path / "AAA_last_1h.csv", "--exchange", exchange, "--out", out).exit_code
                == 0
            )
        (CANDLES.folder(out) / "notes.parquet").touch()
        known.outages.clear()
        done = repaired(fake, out)
        assert done.exit_code == 1
        assert "missing: bybit has no market 'AAA'" in done.output
        assert "missing: mine: ccxt knows no exchange 'mine'" in done.output
        frame = stored.frame(out, CANDLES)
        assert times(frame) == [row[0] for row in known.candles("candles", START, START + 35 * DAY, HOUR)]
        assert (CANDLES.folder(out) / "notes.parquet").exists()


def test_a_disk_that_is_full_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every write there is; what was written before stays whole, and the lock is free again."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with FakeExchange({"BTC": months(65)}) as fake:
        asked = [
            "download", "--exchange", "bybit", "--symbols", "BTCUSDT", "--what", "candles,markets", "--since", "2024-01-01",
            "--out", tmp_path, "--api-base", fake.base, "--no-rate-limit",
        ]  # fmt: skip
        entered = Replacement.__enter__
        for allowed in range(4):
            left = [allowed]

            def entering(self, left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise full
                return entered(self)

            monkeypatch.setattr(Replacement, "__enter__", entering)
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


def test_broken_contracts_are_made_anew(tmp_path: Path) -> None:
    """As the message says: by downloading the markets again."""
    with FakeExchange({"BTC": months(5)}) as fake:
        fetch("bybit", fake, tmp_path, what=("candles", "markets"))
        path = tmp_path / "bybit" / "contracts.json"
        path.write_text("{")
        with pytest.raises(StoreError, match="download --what markets again"):
            feeds.load(tmp_path)
        fetch("bybit", fake, tmp_path, what=("markets",))
        assert list(contracts.read(tmp_path / "bybit")) == ["BTCUSDT"]


def test_names_of_imports_stay_in_the_store(tmp_path: Path) -> None:
    """A unified symbol is stored as downloads name it; names that would lead elsewhere are refused."""
    path = tmp_path / "x.csv"
    small().to_csv(path, index=False)
    out = tmp_path / "out"
    assert (
        command("data", "import", path, "--exchange", "bybit", "--symbol", "BTC/USDT:USDT", "--out", out).exit_code == 0
    )
    assert [one.symbol for one in stored.catalog(out)] == ["BTCUSDT"]
    for words in (
        ("--exchange", "bybit", "--symbol", "../../e"),
        ("--exchange", "../e", "--symbol", "A"),
        ("--exchange", "", "--symbol", "A"),
    ):
        done = command("data", "import", path, *words, "--out", out)
        assert (done.exit_code, "is no name of" in done.stderr) == (2, True)


def odd_files(folder: Path) -> dict[str, str]:
    """Write files that cannot be imported, by name with what is said of them."""
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
    frame.assign(date=frame["date"] + pd.Timedelta("7min")).to_csv(folder / "beside.csv", index=False)
    frame.drop(columns="close").to_csv(folder / "columns.csv", index=False)
    return {
        "empty.csv": "cannot be read", "header.csv": "holds no rows", "words.csv": "a hundred", "dates.csv": "holds no times",
        "torn.csv.gz": "cannot be read", "torn.json.gz": "cannot be read", "BTCUSDT-1h-2024-01.zip": "cannot be read",
        "negative.csv": "is not above 0", "beside.csv": "is not on the grid of 1h", "columns.csv": "no columns open high low close",
    }  # fmt: skip


def test_files_that_cannot_be_imported_are_a_line(tmp_path: Path) -> None:
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
    assert stored.frame(tmp_path / "out", Series("bybit", "BTCUSDT", "funding")).index[0].year == 2024


def test_loading_says_what_there_is_not(tmp_path: Path) -> None:
    """No date, no candles, no symbol, and a market that begins after the period."""
    with FakeExchange({"BTC": months(20), "ETH": months(20, listed=START + 12 * DAY)}) as fake:
        fetch("bybit", fake, tmp_path / "both", symbols=("BTCUSDT", "ETHUSDT"), what=("candles",), since=START)
        fetch("bybit", fake, tmp_path / "funding", what=("funding",), since=START)
    for text in ("", "nat", "nan"):
        with pytest.raises(FeedError, match="is no date"):
            feeds.load(tmp_path / "both", start=text)
    with pytest.raises(FeedError, match="has no candles of ETHUSDT in that period"):
        feeds.load(tmp_path / "both", ["BTCUSDT", "ETHUSDT"], end="2024-01-10")
    with pytest.raises(FeedError, match="no symbol is named"):
        feeds.load(tmp_path / "both", [])
    with pytest.raises(FeedError, match="holds no candles"):
        feeds.load(tmp_path / "funding")
    shutil.rmtree(tmp_path / "both" / "bybit" / "ETHUSDT")
    assert [feed._name for feed in feeds.load(tmp_path / "both")] == ["BTCUSDT"]


def test_a_lock_is_free_after_a_folder_that_cannot_be_opened(tmp_path: Path) -> None:
    series = Series("a", "b", "funding")
    with SeriesStore(tmp_path, series) as store:
        store.add((0, 10), [Row(5, (0.1,))])
    (series.folder(tmp_path) / "manifest.json").unlink()
    (series.folder(tmp_path) / "manifest.json").mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be written to"), SeriesStore(tmp_path, series):
            pass


def test_several_faults_at_once(tmp_path: Path) -> None:
    """One answer in three goes wrong in one way or another, and the rows are right all the same."""
    kinds = ["", "broken off", "cut at the end", "holes", "shuffled", "doubled", "cut at the start"]
    known = truth(days=20)
    for seed in range(6):

        def faulty(number: int, _path: str, seed: int = seed) -> Fault | None:
            draw = (number * 7919 + seed * 104_729) % 97
            kind = kinds[draw % len(kinds)]
            return None if draw % 3 else Fault(kind, 0 if kind else 500)

        venue = ("binanceusdm", "okx", "bybit")[seed % 3]
        with FakeExchange({"BTC": known}, cap=80 + seed, faults=faulty) as fake:
            outcomes = fetch(venue, fake, tmp_path / str(seed), tries=12, what=("candles",))
        assert not any(one.missing for one in outcomes)
        frame = stored.frame(tmp_path / str(seed), CANDLES._replace(exchange=venue))
        assert times(frame) == [row[0] for row in known.candles("candles", START - DAY, START + 20 * DAY, HOUR)]
