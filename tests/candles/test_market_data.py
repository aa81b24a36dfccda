# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands around downloads: from an exchange to a comparison, and maintenance of the store."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from downloads import DAY, START, command, fetch, killed_truth, months, small, stored_bytes, times
from fake_exchange import HOUR, FakeExchange, Fault
from places import PROJECT
from waiting import GENEROUS_S, wait_until

from crossmargin_bt import CrossMarginBroker, feeds
from crossmargin_bt.candles import catalog, folder, sanity, synthetic
from crossmargin_bt.candles.manifest import read_manifest
from crossmargin_bt.candles.month_file import MonthData, RowArrays, write_month
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.store import SeriesStore
from crossmargin_bt.errors import FeedError, StoreError


def test_from_an_exchange_to_a_comparison(tmp_path: Path) -> None:
    """Plan, download, list, check and compare, with the command line alone."""
    out = tmp_path / "data"
    with FakeExchange({"BTC": months(40, outages=[(START + DAY, START + DAY + 3 * HOUR)]), "ETH": months(40)}) as fake:
        asked = [
            "download", "--exchange", "bybit", "--symbols", "BTC/USDT:USDT,ETHUSDT", "--since", "2024-01-01",
            "--what", "candles,mark,funding,markets,tiers", "--out", out, "--api-base", fake.base, "--no-rate-limit",
        ]  # fmt: skip
        plan = command(*asked, "--dry-run")
        assert plan.exit_code == 0
        assert "BTCUSDT candles-1h: 2024-01-01 00:00 to 2024-02-10 00:00; about 960 rows" in plan.output
        assert not list(tmp_path.rglob("*.parquet"))
        done = command(*asked)
        assert done.exit_code == 0, done.output
        assert "BTCUSDT candles-1h: 957 rows fetched, 957 stored" in done.output
        assert "the exchange has none from 2024-01-02 00:00 to 2024-01-02 03:00" in done.output
        assert "0 rows fetched, 957 stored" in command(*asked).output
    listing = command("data", "list", out)
    assert listing.exit_code == 0
    assert listing.output.count("BTCUSDT") == 3
    checked = command("data", "check", out)
    assert checked.exit_code == 0, checked.output
    assert (
        "note   bybit/BTCUSDT/candles-1h: gap: 3 rows from 2024-01-02 00:00 to 2024-01-02 03:00; the exchange has none"
        in checked.output
    )
    assert command("data", "check", out, "--strict").exit_code == 1
    strategy = PROJECT / "strategies" / "hedging.py:Hedging"
    compared = command(
        "compare", strategy, "--data", out, "--modes", "cross", "--venue", "bybit", "--json", tmp_path / "r.json"
    )
    assert compared.exit_code == 0, compared.output
    assert "tiers last downloaded" in compared.output
    (btc, eth) = feeds.load(out / "bybit", ["BTCUSDT", "ETHUSDT"], start="2024-01-05", end="2024-02-01")
    assert (btc._name, btc.instrument.tick, btc.instrument.maintenance.tiers[0].leverage_max) == ("BTCUSDT", 0.1, 100.0)
    assert btc.has_mark
    assert btc.has_funding
    cerebro = bt.Cerebro(stdstats=False)
    for feed in (btc, eth):
        cerebro.adddata(feed)
    cerebro.setbroker(CrossMarginBroker(venue="bybit"))
    cerebro.addstrategy(bt.Strategy)
    (ran,) = cerebro.run()
    assert len(ran) == 27 * 24


def test_api_base_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CROSSMARGIN_API_BASE is the default of --api-base."""
    with FakeExchange({"BTC": months(3)}) as fake:
        monkeypatch.setenv("CROSSMARGIN_API_BASE", fake.base)
        asked = ["download", "--exchange", "okx", "--symbols", "BTCUSDT", "--since", "2024-01-01", "--no-rate-limit"]
        done = command(*asked, "--what", "candles", "--out", tmp_path)
        assert (done.exit_code, "72 rows fetched" in done.output) == (0, True)
        assert fake.calls


def test_missing_data_exits_with_code_1(tmp_path: Path) -> None:
    """The missing time ranges are printed; invalid arguments end with code 2 and one line."""
    with FakeExchange({"BTC": months(40)}, faults=lambda _, path: Fault("", 500) if "kline" in path else None) as fake:
        asked = ["download", "--exchange", "bybit", "--out", tmp_path, "--api-base", fake.base, "--no-rate-limit"]
        done = command(*asked, "--symbols", "BTCUSDT", "--since", "2024-01-01", "--what", "candles", "--retries", 1)
        assert done.exit_code == 1
        assert (
            "missing: BTCUSDT candles-1h from 2024-01-01 00:00 to 2024-02-10 00:00: bybit failed 1 times" in done.output
        )
        wrong = command(*asked, "--symbols", "BTCUSDT", "--since", "soon")
        assert (wrong.exit_code, wrong.stderr) == (2, "error: 'soon' is not a date; write it as 2020-03-12\n")
        wrong = command(*asked, "--symbols", "BTCUSDT", "--since", "2024-01-01", "--what", "candels")
        assert "did you mean 'candles'" in wrong.stderr
    assert command("data", "check", tmp_path / "nothing").exit_code == 2
    assert "holds no downloads" in command("data", "list", tmp_path / "nothing").stderr


def spoil(out: Path, series: Series, change) -> None:
    """Rewrite January of a series with changed rows, and with valid checksum and manifest."""
    path = series.folder(out) / "2024-01.parquet"
    with SeriesStore(out, series) as store:
        rows, covered = store._read("2024-01")
        write_month(path, series, MonthData(change(rows), covered))
    with SeriesStore(out, series) as store:
        store._write_manifest()


def without_rows(rows: RowArrays, first: int, last: int) -> RowArrays:
    keep = np.r_[0:first, last : len(rows.times)]
    return RowArrays(rows.times[keep], rows.values[keep])  # noqa: PD011


def valued(rows: RowArrays, at: slice | int, column: int, value: float) -> RowArrays:
    values = rows.values.copy()  # noqa: PD011
    values[at, column] = value
    return RowArrays(rows.times, values)


def shifted(rows: RowArrays, at: int, milliseconds: int) -> RowArrays:
    moved = rows.times.copy()
    moved[at] += milliseconds
    return RowArrays(moved, rows.values)


FAULTS = [
    ("candles", lambda rows: valued(rows, 5, 1, 1.0), "impossible candle: at 2024-01-01 05:00"),
    ("candles", lambda rows: valued(rows, 5, 3, float("nan")), "impossible price: at 2024-01-01 05:00"),
    ("candles", lambda rows: valued(rows, slice(10, 40), 4, 0.0), "no volume: 30 rows from 2024-01-01 10:00"),
    ("candles", lambda rows: valued(rows, 7, 1, 50_000.0), "outlier: at 2024-01-01 07:00 the last price is"),
    ("candles", lambda rows: shifted(rows, 9, 60_000), "misaligned: 2024-01-01 09:01"),
    ("candles", lambda rows: shifted(rows, 9, HOUR), "duplicate: two rows at 2024-01-01 10:00"),
    ("candles", lambda rows: shifted(rows, 9, 3 * HOUR), "disorder: 2024-01-01 10:00 follows 2024-01-01 12:00"),
    (
        "funding",
        lambda rows: without_rows(rows, 3, 9),
        "late funding: nothing from 2024-01-01 16:00 to 2024-01-04 00:00",
    ),
    ("funding", lambda rows: valued(rows, 3, 0, 2.0), "impossible rate: at 2024-01-02 00:00"),
]


@pytest.mark.parametrize(("kind", "change", "said"), FAULTS, ids=[said.partition(":")[0] for _, _, said in FAULTS])
def test_check_finds_faults(tmp_path: Path, kind: str, change, said: str) -> None:
    """One fault each, in files that are otherwise valid."""
    with FakeExchange({"BTC": months(35)}) as fake:
        fetch("bybit", fake, tmp_path, since_ms=START)
    assert not [one for one in sanity.check(tmp_path) if one.is_fault]
    spoil(tmp_path, Series("bybit", "BTCUSDT", kind, "1h" if kind == "candles" else ""), change)
    found = [f"{one.kind}: {one.where}" for one in sanity.check(tmp_path) if one.is_fault]
    assert any(text.startswith(said) for text in found), found
    assert command("data", "check", tmp_path).exit_code == 1


def test_repair_fetches_missing_rows(tmp_path: Path) -> None:
    """A gap the exchange has filled since, a broken month, a range between two downloads: all rows are present afterwards."""
    known = months(65, outages=[(START + DAY, START + DAY + 3 * HOUR)])
    series = Series("bybit", "BTCUSDT", "candles", "1h")
    with FakeExchange({"BTC": known}) as fake:
        for since, until in ((START, START + 10 * DAY), (START + 12 * DAY, None)):
            fetch("bybit", fake, tmp_path, kinds=("candles",), since_ms=since, until_ms=until)
        path = series.folder(tmp_path) / "2024-02.parquet"
        path.write_bytes(path.read_bytes()[:-40])
        known.outages.clear()
        found = [f"{one.kind}: {one.where}" for one in sanity.check(tmp_path) if one.is_fault]
        assert found[0].startswith("broken file")
        asked = ("data", "repair", tmp_path, "--api-base", fake.base, "--no-rate-limit")
        assert command(*asked).exit_code == 0
        assert command("data", "check", tmp_path).output == "no faults\n"
        frame = catalog.read_frame(tmp_path, series)
        assert times(frame) == [row[0] for row in known.candles("candles", START, START + 65 * DAY, HOUR)]
        assert read_manifest(series.folder(tmp_path)).gaps == []


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from fake_exchange import FakeExchange
from downloads import fetch, killed_truth
with FakeExchange({{"BTC": killed_truth()}}, cap={cap}, faults=lambda number, _: time.sleep(600.0 * (number >= {stalls}))) as fake:
    fetch("binanceusdm", fake, Path({out!r}), kinds=("candles", "funding"), timeframe="1m", since_ms={start})
"""


@pytest.mark.parametrize("times_killed", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_download_resumes(tmp_path: Path, times_killed: int) -> None:
    """No stored row is lost, and the final files are byte for byte those of an uninterrupted download."""
    code = KILLED.format(tests=str(PROJECT / "tests"), out=str(tmp_path / "killed"), cap=200, start=START, stalls=10**9)
    draw = random.Random(times_killed)  # noqa: S311 - a seeded test
    series = Series("binanceusdm", "BTCUSDT", "candles", "1m")
    had = 0
    for _ in range(times_killed):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        journal = series.folder(tmp_path / "killed") / "pages.part"
        wait_until(lambda journal=journal, process=process: journal.exists() or process.poll() is not None)
        time.sleep(draw.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with SeriesStore(tmp_path / "killed", series) as store:
            assert not store.notes
            assert store.rows >= had
            had = store.rows
    assert had > 0
    with FakeExchange({"BTC": killed_truth()}, cap=1000) as fake:
        for out in (tmp_path / "killed", tmp_path / "whole"):
            (candles, funding) = fetch(
                "binanceusdm", fake, out, kinds=("candles", "funding"), timeframe="1m", since_ms=START
            )
            assert not candles.missing + funding.missing
    assert stored_bytes(tmp_path / "killed") == stored_bytes(tmp_path / "whole")


def test_concurrent_processes_wait_for_each_other(tmp_path: Path) -> None:
    """One waits for the lock and finds nothing missing; the files are those of a single process."""
    code = KILLED.format(tests=str(PROJECT / "tests"), out=str(tmp_path / "both"), cap=1000, start=START, stalls=10**9)
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=GENEROUS_S) for process in both] == [0, 0]
    with FakeExchange({"BTC": killed_truth()}, cap=1000) as fake:
        fetch("binanceusdm", fake, tmp_path / "one", kinds=("candles", "funding"), timeframe="1m", since_ms=START)
    assert stored_bytes(tmp_path / "both") == stored_bytes(tmp_path / "one")


def test_a_torn_page_is_fetched_again(tmp_path: Path) -> None:
    """After a power failure the page log is replayed up to its first incomplete page."""
    series = Series("bybit", "BTCUSDT", "candles", "1h")
    with SeriesStore(tmp_path, series) as store:
        for n in range(3):
            rows = [SeriesRow(START + (10 * n + k) * HOUR, (1.0, 2.0, 0.5, 1.5, 9.0)) for k in range(10)]
            store.add((START + 10 * n * HOUR, START + 10 * (n + 1) * HOUR), rows)
        torn = (store.folder / "pages.part").read_bytes()[:-7]
        shutil.copytree(store.folder, tmp_path / "copy" / "bybit" / "BTCUSDT" / "candles-1h")
    copy = tmp_path / "copy"
    (series.folder(copy) / "pages.part").write_bytes(torn)
    with SeriesStore(copy, series) as store:
        assert store.covered == [(START, START + 20 * HOUR)]
        assert store.rows == 20
        assert not (store.folder / "pages.part").exists()


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    """Here because its parent is a file."""
    (tmp_path / "a").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written to"), SeriesStore(tmp_path, Series("a", "b", "funding")):
        pass


@pytest.mark.usefixtures("interruptible")
def test_keyboard_interrupt_keeps_fetched_rows(tmp_path: Path) -> None:
    """Control-C stops a waiting download at once, and all fetched rows are in the month files."""
    code = KILLED.format(tests=str(PROJECT / "tests"), out=str(tmp_path), cap=200, start=START, stalls=30)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    series = Series("binanceusdm", "BTCUSDT", "candles", "1m")
    pages = series.folder(tmp_path) / "pages.part"
    wait_until(lambda: pages.exists() and pages.stat().st_size, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=GENEROUS_S) != 0
    assert not pages.exists()
    manifest = read_manifest(series.folder(tmp_path))
    assert sum(entry.rows for entry in manifest.files.values()) > 0


def test_import_file_formats(tmp_path: Path) -> None:
    """Feather and JSON of freqtrade, Binance's archives with and without a header, plain CSV and Parquet: the same rows."""
    frame, files = small(), tmp_path / "files"
    (files / "markPriceKlines").mkdir(parents=True)
    frame.to_feather(files / "BTC_USDT_USDT-1h-futures.feather")
    rates = pd.DataFrame(
        {"date": frame["date"][::8], "open": 0.0001, "high": 0.0, "low": 0.0, "close": 0.0, "volume": 0.0}
    )
    rates.reset_index(drop=True).to_feather(files / "BTC_USDT_USDT-8h-funding_rate.feather")
    stamps = frame["date"].dt.as_unit("ms").astype("int64")
    frame.assign(date=stamps).to_json(files / "ETH_USDT_USDT-1h-futures.json", orient="values")
    klines = frame.assign(date=stamps * 1000, end=0, quote=0, count=0, a=0, b=0, ignore=0)
    with zipfile.ZipFile(files / "SOLUSDT-1h-2024-01.zip", "w") as archive:
        archive.writestr("SOLUSDT-1h-2024-01.csv", klines.to_csv(index=False, header=False))
    with zipfile.ZipFile(files / "markPriceKlines" / "SOLUSDT-1h-2024-01.zip", "w") as archive:
        text = klines.assign(date=stamps).rename(columns={"date": "open_time"}).to_csv(index=False)
        archive.writestr("SOLUSDT-1h-2024-01.csv", text)
    with zipfile.ZipFile(files / "SOLUSDT-fundingRate-2024-01.zip", "w") as archive:
        funding = pd.DataFrame({"calc_time": stamps[::8], "funding_interval_hours": 8, "last_funding_rate": 0.0001})
        archive.writestr("x.csv", funding.to_csv(index=False))
    marked = frame.assign(
        **{f"mark_{name}": frame[name] for name in ("open", "high", "low", "close")}, funding_rate=np.nan
    )
    marked.loc[::8, "funding_rate"] = 0.0001
    marked.to_csv(files / "XRPUSDT.csv", index=False)
    frame.to_parquet(files / "ADAUSDT_last_1h.parquet", index=False)
    out = tmp_path / "out"
    done = command("data", "import", *sorted(files.rglob("*.*")), "--exchange", "binanceusdm", "--out", out)
    assert done.exit_code == 0, done.output
    stored = {f"{one.symbol} {one.name}" for one in catalog.list_series(out)}
    assert stored == {
        *(f"{name}USDT candles-1h" for name in ("ADA", "BTC", "ETH", "SOL", "XRP")), "SOLUSDT mark-1h", "XRPUSDT mark-1h",
        "BTCUSDT funding", "SOLUSDT funding", "XRPUSDT funding",
    }  # fmt: skip
    for series in catalog.list_series(out):
        rows = catalog.read_frame(out, series)
        if series.step_ms:
            assert times(rows) == stamps.tolist()
            assert rows["high"].tolist() == pytest.approx(frame["high"].tolist())
        else:
            assert rows["funding_rate"].tolist() == [0.0001] * 9
    wrong = command("data", "import", files / "XRPUSDT.csv", "--exchange", "x", "--kind", "candels", "--out", out)
    assert (wrong.exit_code, "did you mean 'candles'" in wrong.stderr) == (2, True)
    (tmp_path / "odd.xlsx").write_text("1")
    assert "unsupported file type" in command("data", "import", tmp_path / "odd.xlsx", "--exchange", "x").stderr


def test_gaps_of_an_import_are_downloaded(tmp_path: Path) -> None:
    """Imported rows are trusted; a gap in a file does not count as confirmed by the exchange."""
    known = months(35)
    frame = pd.DataFrame(
        known.candles("candles", START, START + 20 * DAY, HOUR),
        columns=["date", "open", "high", "low", "close", "volume"],
    )
    frame.drop(index=range(50, 70)).to_csv(tmp_path / "BTCUSDT_last_1h.csv", index=False)
    out = tmp_path / "out"
    assert (
        command("data", "import", tmp_path / "BTCUSDT_last_1h.csv", "--exchange", "bybit", "--out", out).exit_code == 0
    )
    faults = [one.kind for one in sanity.check(out) if one.is_fault]
    assert faults == ["not requested", "gap"]
    with FakeExchange({"BTC": known}) as fake:
        (one,) = fetch("bybit", fake, out, kinds=("candles",), since_ms=START)
    assert one.fetched == 20 + 15 * 24
    assert not sanity.check(out)


def test_exports_equal_the_store(tmp_path: Path) -> None:
    """CSV and Parquet exports give the same markets, contracts included."""
    with FakeExchange({"BTC": months(35)}) as fake:
        fetch("okx", fake, tmp_path / "in", since_ms=START, kinds=("candles", "mark", "funding", "markets"))
    (kept,) = catalog.read_markets(tmp_path / "in")
    for form in ("csv", "parquet"):
        assert command("data", "export", tmp_path / "in", tmp_path / form, "--form", form).exit_code == 0
        (feed,) = feeds.load(tmp_path / form)
        assert feed.instrument == kept.instrument
        assert list(feed.p.columns["close"]) == kept.frame["close"].tolist()
        assert list(feed.p.columns["mark_low"]) == kept.frame["mark_low"].tolist()
    with pytest.raises(FeedError, match="has no candles of ETHUSDT"):
        feeds.load(tmp_path / "in", ["ETHUSDT"])
    with pytest.raises(FeedError, match="has no candles of 5m; it has 1h"):
        feeds.load(tmp_path / "in", timeframe="5m")


def test_feeds_of_downloads_equal_pandas_data(tmp_path: Path) -> None:
    """Loaded in one block, the lines equal those of PandasData bit for bit."""
    with FakeExchange({"BTC": months(10)}) as fake:
        fetch("bybit", fake, tmp_path, since_ms=START, kinds=("candles",))
    lines = []
    frame = catalog.read_frame(tmp_path, Series("bybit", "BTCUSDT", "candles", "1h"))
    for feed in (feeds.load(tmp_path)[0], bt.feeds.PandasData(dataname=frame.tz_localize(None), openinterest=None)):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feed)
        cerebro.addstrategy(bt.Strategy)
        cerebro.run()
        lines.append(
            {
                name: list(getattr(feed.lines, name).array)
                for name in ("datetime", "open", "high", "low", "close", "volume")
            }
        )
    assert lines[0] == lines[1]


def test_downloads_and_sample_in_one_folder(tmp_path: Path) -> None:
    """Downloads share the sample's folder: the symbols decide which are read, and without symbols the downloads are."""
    shutil.copytree(PROJECT / "data", tmp_path / "data")
    with FakeExchange({"BTC": months(5)}) as fake:
        fetch("bybit", fake, tmp_path / "data", since_ms=START, kinds=("candles",))
    assert [feed._name for feed in feeds.load(tmp_path / "data")] == ["BTCUSDT"]
    assert [feed._name for feed in feeds.load(tmp_path / "data", ["SIMETH"])] == ["SIMETH"]
    from_files = folder.read(tmp_path / "data", downloads=False)
    assert [one.symbol for one in from_files] == ["SIMBTC", "SIMETH", "SIMALT"]
    with pytest.raises(FeedError, match="no candles of SIMBTCC"):
        feeds.load(tmp_path / "data", ["SIMBTCC"])


def test_generator_options(tmp_path: Path) -> None:
    """Correlation, jump, crash date and funding have the requested effect; the same options give the same files."""
    words = ["--seed", 7, "--correlation", 0.9, "--jump", 0.3, "--crash-date", "2024-09-01", "--funding", "negative"]
    for name in ("a", "b"):
        assert command("data", "generate", tmp_path / name, *words).exit_code == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    closes = {
        name: pd.read_parquet(tmp_path / "a" / f"{name}.parquet").set_index("date") for name in ("SIMBTC", "SIMETH")
    }
    returns = pd.DataFrame({name: np.log(frame["close"]).diff() for name, frame in closes.items()})
    assert returns.corr().iloc[0, 1] == pytest.approx(0.9, abs=0.05)
    frame = closes["SIMBTC"]
    gap = frame["open"] / frame["close"].shift() - 1
    assert f"{gap.idxmin():%Y-%m-%d %H}" == "2024-09-01 13"
    assert gap.min() == pytest.approx(np.exp(-0.3) - 1, abs=0.02)
    assert frame["funding_rate"].mean() < -0.0004
    with pytest.raises(ValueError, match="unknown funding regime 'wild'"):
        synthetic.SyntheticMarket(funding="wild")
    assert "correlation must be above 0" in command("data", "generate", tmp_path, "--correlation", 2).stderr
