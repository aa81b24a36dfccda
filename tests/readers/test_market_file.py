# SPDX-License-Identifier: GPL-3.0-or-later
"""One reader for all files: the rows of the program that wrote them, or a question; never others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from market_files import BINANCE_HEAD, FORMATS, candles, klines, lines, stamps, zipped

from crossmargin_bt.candles import catalog, folder, importer
from crossmargin_bt.candles.series import Series
from crossmargin_bt.cli import commands
from crossmargin_bt.errors import ConfigurationError, CrossMarginError, FeedError
from crossmargin_bt.readers.file_names import FileMetadata, parse_file_name
from crossmargin_bt.readers.market_file import ReadOptions, read_markets

PRICES = ["open", "high", "low", "close"]


def command(*words: object):
    """Run the command line in this process."""
    return CliRunner().invoke(commands, [str(word) for word in words])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_rows_written(tmp_path: Path, name: str) -> None:
    """Through `--data` and through `data import`, to the last bit."""
    frame = candles()
    path = FORMATS[name](tmp_path / "files", frame)
    (table,) = read_markets(path)
    assert table.kind == "candles"
    pd.testing.assert_frame_equal(
        table.frame[[*PRICES, "volume"]],
        frame,
        check_freq=False,
        check_names=False,
        check_index_type=False,
        check_exact=True,
    )
    (market,) = folder.read(tmp_path / "files")
    assert market.frame["close"].tolist() == frame["close"].tolist()
    done = importer.import_files([path], tmp_path / "store", "binanceusdm")
    assert [(one.series.kind, one.series.timeframe, one.rows) for one in done] == [("candles", "1h", 48)]
    stored = catalog.read_frame(tmp_path / "store", done[0].series)
    assert stored["high"].tolist() == frame["high"].tolist()
    assert stored["volume"].tolist() == frame["volume"].tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTC_USDT-1h.feather", ("BTC-USDT", "candles", "1h", "spot")),
        ("BTC_USDT_USDT-250328-1h-futures.json", ("BTC-USDT-USDT-250328", "candles", "1h", "future")),
        ("BTC_USDT_USDT-8h-mark.feather", ("BTCUSDT", "mark", "8h", "perpetual")),
        ("1000SATS_USDT_USDT-8h-funding_rate.feather", ("1000SATSUSDT", "funding", "", "perpetual")),
        ("BTCUSD_PERP-1h-2024-01.zip", ("BTCUSD", "", "1h", "perpetual")),
        ("BTCUSDT_240329-1h-2024-01.zip", ("BTC-USDT-USDT-240329", "", "1h", "future")),
        ("BTCUSD_240329-1d-2024-01-05.zip", ("BTC-USD-BTC-240329", "", "1d", "future")),
        ("spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip", ("BTC-USDT", "candles", "1h", "spot")),
        (
            "futures/um/daily/indexPriceKlines/BTCUSDT/1h/BTCUSDT-1h-2024-01-02.zip",
            ("BTCUSDT", "index", "1h", "perpetual"),
        ),
        ("币安人生USDT-1h-2025-10.zip", ("币安人生USDT", "", "1h", "")),
        ("BTC-USDT-candlesticks-2024-01.zip", ("BTC-USDT", "candles", "", "spot")),
        ("BTC-USD-250328-candlesticks-2024-01-03.zip", ("BTC-USD-BTC-250328", "candles", "", "future")),
        ("ETH-USDT-SWAP-fundingrates-2022-03.zip", ("ETHUSDT", "funding", "", "perpetual")),
        ("BTCUSDT_last_5m.parquet", ("BTCUSDT", "candles", "5m", "")),
        ("BTCUSDT_spot_1m.parquet", ("BTC-USDT", "candles", "1m", "spot")),
        ("ETHUSDT_funding.csv", ("ETHUSDT", "funding", "", "")),
    ],
)
def test_what_a_name_says(name: str, expected: tuple[str, ...]) -> None:
    """Spot, perpetual, dated future, mark, index and funding of a pair have different names or kinds."""
    assert parse_file_name(Path(name))[:4] == expected


def test_months_and_days_of_a_market_join(tmp_path: Path) -> None:
    """A coin-margined perpetual and a dated future in months, a swap in days; the coin's volume, not the contracts'."""
    frames = [candles(24, day) for day in ("2024-01-31", "2024-02-01")]
    for name in ("BTCUSD_PERP", "BTCUSDT_240329"):
        for month, frame in zip(("2024-01", "2024-02"), frames, strict=True):
            zipped(tmp_path / "cm" / f"{name}-1h-{month}.zip", klines(frame, header=True))
    done = importer.import_files([tmp_path / "cm"], tmp_path / "out", "binancecoinm")
    assert {one.series.symbol: (one.files, one.rows) for one in done} == {
        "BTCUSD": (2, 48),
        "BTC-USDT-USDT-240329": (2, 48),
    }
    coins = catalog.read_frame(tmp_path / "out", Series("binancecoinm", "BTCUSD", "candles", "1h"))["volume"]
    assert coins.iloc[0] == pytest.approx(frames[0]["volume"].iloc[0] * frames[0]["close"].iloc[0], abs=1e-4)


def test_a_symbol_column_is_respected(tmp_path: Path) -> None:
    """A file of two markets is two; `--symbol` picks one of them, or is refused."""
    long = pd.concat(
        [
            candles(price=price, seed=n).assign(symbol=name)
            for n, (name, price) in enumerate({"BTCUSDT": 100, "ETH-USDT-SWAP": 50}.items())
        ]
    )
    path = tmp_path / "everything.csv"
    long.to_csv(path)
    assert [one.symbol for one in folder.read(tmp_path)] == ["BTCUSDT", "ETHUSDT"]
    (one,) = read_markets(path, ReadOptions(FileMetadata("ETH/USDT:USDT")))
    assert one.frame["close"].tolist() == candles(price=50, seed=1)["close"].tolist()
    with pytest.raises(ConfigurationError, match="its symbol column has BTCUSDT, ETH-USDT-SWAP, not SOLUSDT"):
        read_markets(path, ReadOptions(FileMetadata("SOLUSDT")))


@pytest.mark.parametrize("second", ["candles", "stored"])
def test_different_rows_of_one_time_are_a_question(tmp_path: Path, second: str) -> None:
    """In two files, or in a file and the store: three examples, nothing written; `--replace` takes the later."""
    one, other = candles(), candles()
    other.loc[other.index[5:10], "volume"] = 999.0
    for name, frame in (("a", one), ("b", other)):
        (tmp_path / name).mkdir()
        frame.to_csv(tmp_path / name / "BTCUSDT.csv")
    words = ["data", "import", "--exchange", "x", "--out", tmp_path / "out"]
    if second == "stored":
        assert command(*words, tmp_path / "a" / "BTCUSDT.csv").exit_code == 0
        files = [tmp_path / "b" / "BTCUSDT.csv"]
    else:
        files = [tmp_path / "a" / "BTCUSDT.csv", tmp_path / "b" / "BTCUSDT.csv"]
    done = command(*words, *files)
    assert done.exit_code == 2
    assert done.stderr.count("2024-01-01 0") == 3
    assert "999" in done.stderr
    assert "--replace" in done.stderr
    assert (tmp_path / "out").exists() == (second == "stored")
    assert command(*words, *files, "--replace").exit_code == 0
    stored = catalog.read_frame(tmp_path / "out", Series("x", "BTCUSDT", "candles", "1h"))
    assert stored["volume"].tolist() == other["volume"].tolist()


def test_nothing_is_imported_unless_everything_is_understood(tmp_path: Path) -> None:
    """The second file is a question, so the first is not stored either."""
    candles().to_csv(tmp_path / "BTCUSDT.csv")
    zipped(tmp_path / "ETHUSDT-1h-2024-01.zip", klines(candles().assign(volume=0.0), header=True))
    done = command("data", "import", tmp_path, "--exchange", "x", "--out", tmp_path / "out")
    assert (done.exit_code, "give --kind candles, mark or index" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


QUESTIONS = {
    "a description for a name": ("btc_data_2024.csv", candles().to_csv(), "give --symbol"),
    "a timeframe that is not its own": ("BTCUSDT-5m-2024-01.csv", klines(candles(), header=True), "give --timeframe 1h"),
    "columns in an order nobody has": ("BTCUSDT.csv", lines(candles(), "hlocv"), "no known order of columns"),
    "nine columns without names": ("BTCUSDT.csv", lines(candles(), "ohlcvvvv"), "rows of 9 columns have no known layout"),
    "no names in the first lines": ("BTCUSDT.csv", "a\nb\nc\n", "no line of column names"),
    "a line that is cut off": ("BTCUSDT.csv", candles().to_csv()[:-20], "cannot be read"),
    "a column twice": ("BTCUSDT.csv", candles().assign(Close=1.0).to_csv(), "column 'close' occurs twice"),
    "two volumes": ("BTCUSDT.csv", candles().drop(columns="volume").assign(**{"Volume ADA": 1, "Volume SOL": 2}).to_csv(), "rename one to 'volume'"),
    "a thousands separator": ("BTCUSDT.csv", candles().to_csv().replace("100.0,", '"1,000.0",', 1), "no thousands separators"),
    "day first": ("BTCUSDT.csv", candles().set_axis(candles().index.strftime("%d/%m/%Y %H:%M"), axis=0).rename_axis("date").to_csv(), "--time-format"),
    "1970": ("BTCUSDT.csv", candles().set_axis(range(48), axis=0).rename_axis("timestamp").to_csv(), "before 2009"),
    "the year 2242": ("BTCUSDT.csv", candles().set_axis([5 * t for t in stamps(candles())], axis=0).rename_axis("timestamp").to_csv(), "after tomorrow"),
    "two clocks": ("BTCUSDT.csv", candles().assign(unix=[t + 3_600_000 for t in stamps(candles())]).to_csv(), "name different times"),
    "an impossible candle": ("BTCUSDT.csv", candles().assign(high=1.0).to_csv(), "the high is below the low"),
    "a close outside": ("BTCUSDT.csv", candles().assign(close=1e6).to_csv(), "outside of high and low"),
    "a volume below zero": ("BTCUSDT.csv", candles().assign(volume=-1.0).to_csv(), "a volume is not negative"),
    "infinity": ("BTCUSDT.csv", candles().to_csv().replace("100.0,", "inf,", 1), "open is inf"),
    "a rate above 1": ("BTCUSDT_funding.csv", "date,funding_rate\n2024-01-01,3.0\n", "a rate is a fraction"),
    "premium index": ("BTC_USDT_USDT-1h-premiumIndex.csv", candles().to_csv(), "neither a price nor a funding rate"),
    "binary": ("BTCUSDT.csv", "date,open\0", "NUL"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_doubt_is_a_question(tmp_path: Path, name: str) -> None:
    """Asked in one line that names the file and what answers it, in both doors; nothing is imported."""
    file, text, said = QUESTIONS[name]
    (tmp_path / "files").mkdir()
    path = tmp_path / "files" / file
    path.write_text(text, encoding="utf-8")
    done = command("data", "import", path, "--exchange", "x", "--out", tmp_path / "out")
    assert (done.exit_code, said in done.stderr, len(done.stderr.splitlines())) == (2, True, 1), done.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(CrossMarginError, match=r".") as raised:
        folder.read(tmp_path / "files")
    assert "funding" in file or said in str(raised.value)


def test_funding_of_archives(tmp_path: Path) -> None:
    """Binance's and OKX's funding files, in a folder with the candles."""
    frame = candles()
    times = stamps(frame)[::8]
    zipped(
        tmp_path / "a" / "BTCUSDT-fundingRate-2024-01.zip",
        "calc_time,funding_interval_hours,last_funding_rate\n" + "".join(f"{t + 3},8,0.0001\n" for t in times),
    )
    zipped(
        tmp_path / "b" / "BTC-USDT-SWAP-fundingrates-2024-01.zip",
        "instrument_name,funding_rate,funding_time\n" + "".join(f"BTC-USDT-SWAP,0.0002,{t}\n" for t in times),
    )
    for name, rate in (("a", 0.0001), ("b", 0.0002)):
        frame.to_csv(tmp_path / name / "BTCUSDT.csv")
        (market,) = folder.read(tmp_path / name)
        assert market.funding.tolist() == [rate] * 6


def test_stated_formats_are_read(tmp_path: Path) -> None:
    """The options answer the questions."""
    frame = candles(24 * 12, "2020-04-01")
    text = frame.set_axis(frame.index.strftime("%d/%m/%Y %H:%M"), axis=0).rename_axis("date").to_csv()
    (tmp_path / "BTCUSDT.csv").write_text(text, encoding="utf-8")
    words = ["--exchange", "x", "--out", tmp_path / "out", "--time-format", "%d/%m/%Y %H:%M"]
    assert command("data", "import", tmp_path / "BTCUSDT.csv", *words).exit_code == 0
    assert catalog.read_frame(tmp_path / "out", Series("x", "BTCUSDT", "candles", "1h")).index.equals(frame.index)
    (tmp_path / "old").mkdir()
    candles(24, "1999-01-01").to_csv(tmp_path / "old" / "ORCL.csv")
    with pytest.raises(FeedError, match="before 2009"):
        folder.read(tmp_path / "old")
    done = command(
        "data", "import", tmp_path / "old", "--exchange", "y", "--out", tmp_path / "out", "--allow-unusual-times"
    )
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("freq", "start"),
    [("1D", "2024-01-01 16:00"), ("12h", "2024-01-01 04:00"), ("7D", "2024-01-04"), ("1h", "2024-01-01 00:30")],
)
def test_bars_may_have_any_phase(tmp_path: Path, freq: str, start: str) -> None:
    """Days of Hong Kong, half days, weeks from Thursday, hours from half past: stored on their own grid, without gaps."""
    candles(30, start, freq).to_csv(tmp_path / "BTCUSDT.csv")
    (one,) = importer.import_files([tmp_path / "BTCUSDT.csv"], tmp_path / "out", "x")
    assert one.stored == 30
    assert command("data", "check", tmp_path / "out").output == "no faults\n"
    (tmp_path / "more").mkdir()
    candles(30, start, freq).iloc[:3].set_axis(
        candles(30, start, freq).index[:3] + pd.Timedelta("7min"), axis=0
    ).to_csv(tmp_path / "more" / "BTCUSDT.csv")
    with pytest.raises(FeedError, match="not on one grid"):
        importer.import_files([tmp_path / "more"], tmp_path / "out", "x")


def test_funding_of_years_is_no_fault(tmp_path: Path) -> None:
    """Settlements every 8, then every 4 hours; one that is missing is the only fault."""
    times = pd.date_range("2024-01-01", periods=300, freq="8h", tz="UTC").append(
        pd.date_range("2024-04-10", periods=100, freq="4h", tz="UTC")
    )
    rates = pd.DataFrame({"funding_rate": 0.0001}, index=times.rename("date"))
    rates.to_csv(tmp_path / "BTCUSDT_funding.csv")
    importer.import_files([tmp_path / "BTCUSDT_funding.csv"], tmp_path / "out", "x")
    assert command("data", "check", tmp_path / "out").output == "no faults\n"
    rates.drop(times[50]).to_csv(tmp_path / "ETHUSDT_funding.csv")
    importer.import_files([tmp_path / "ETHUSDT_funding.csv"], tmp_path / "out", "x")
    found = command("data", "check", tmp_path / "out").output
    assert found.count("fault ") == 2  # not requested, and late
    assert f"{times[49]:%Y-%m-%d %H:%M} to {times[51]:%Y-%m-%d %H:%M}" in found


def test_several_files_of_a_folder_are_one_market(tmp_path: Path) -> None:
    """Two months of candles with mark prices and funding of freqtrade's data folder, its spot market beside."""
    frame = candles()
    frame.iloc[:24].to_csv(tmp_path / "BTC_USDT-1h.csv")
    (tmp_path / "futures").mkdir()
    frame.to_csv(tmp_path / "futures" / "BTC_USDT_USDT-1h-futures.csv")
    frame.iloc[::8].assign(open=0.0001, high=0.0, low=0.0, close=0.0, volume=0.0).to_csv(
        tmp_path / "futures" / "BTC_USDT_USDT-8h-funding_rate.csv"
    )
    frame.iloc[::4].to_csv(tmp_path / "futures" / "BTC_USDT_USDT-4h-mark.csv")
    spot, swap = folder.read(tmp_path)
    assert (spot.symbol, spot.instrument.kind, len(spot.frame)) == ("BTC-USDT", "spot", 24)
    assert (swap.symbol, swap.instrument.kind, swap.funding.tolist()) == ("BTCUSDT", "perpetual", [0.0001] * 6)
    assert "mark_open" in swap.frame
    assert not np.isnan(swap.frame["mark_low"]).any()


def test_spot_and_perpetual_under_one_name_are_refused(tmp_path: Path) -> None:
    """Their rows differ, so one would replace the other."""
    zipped(tmp_path / "a" / "BTCUSDT-1h-2024-01.zip", klines(candles(price=100.0), header=True))
    zipped(tmp_path / "b" / "BTCUSDT-1h-2024-01.zip", BINANCE_HEAD + klines(candles(price=200.0)))
    with pytest.raises(FeedError, match=r"48 times have rows with different values: .* --replace"):
        importer.import_files([tmp_path / "a", tmp_path / "b"], tmp_path / "out", "binance")
    with pytest.raises(FeedError, match="48 times have rows with different values"):
        folder.read(tmp_path)
