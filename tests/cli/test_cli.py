# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as a user types it: tables, files, and one-line errors."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from places import PROJECT
from random_trader import candles

from crossmargin_bt import venues
from crossmargin_bt.candles import folder, synthetic
from crossmargin_bt.cli import commands

SHORT = ["--start", "2025-08-01", "--end", "2025-08-20"]

STRATEGY = """
import backtrader as bt

class Buyer(bt.Strategy):
    def next(self):
        if len(self) == 2:
            self.buy(size=0.9 * self.broker.getvalue() / self.data.close[0])

class NotOne:
    pass
"""


def crossmargin(*words: str):
    """Run the command in this process."""
    return CliRunner().invoke(commands, ["compare", *map(str, words)], env={"COLUMNS": "100"})


@pytest.fixture
def buyer(tmp_path: Path) -> Path:
    """A strategy file."""
    file = tmp_path / "buyer.py"
    file.write_text(STRATEGY, encoding="utf-8")
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of two symbols."""
    for n, symbol in enumerate(("AAA", "BBB")):
        frame = candles(n, 60).rename_axis("date").reset_index()
        (tmp_path / "candles").mkdir(exist_ok=True)
        frame.to_csv(tmp_path / "candles" / f"{symbol}.csv", index=False)
    return tmp_path / "candles"


def test_without_arguments_it_compares_the_examples_on_the_sample() -> None:
    """Three strategies, three modes, all metrics."""
    result = crossmargin(*SHORT)
    assert result.exit_code == 0, result.output
    for word in ("Hedging", "LongShort", "Scalping", "cash", "isolated", "cross", "lowest margin level", "bad debt"):
        assert word in result.output
    assert "Assumptions" in result.output


def test_json_holds_figures_curves_and_journals(tmp_path: Path, buyer: Path, data: Path) -> None:
    """The file agrees with the table, and the journal contains every balance change."""
    file = tmp_path / "out.json"
    result = crossmargin(f"{buyer}:Buyer", "--data", data, "--json", file, "--modes", "cash,cross")
    assert result.exit_code == 0, result.output
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["schema"] == 4
    cash, cross = content["runs"]
    assert (cash["summary"]["mode"], cross["summary"]["mode"]) == ("cash", "cross")
    assert f"{cross['summary']['final_equity']:,.2f}" in result.output
    assert len(cross["result"]["equity"]) == 60
    kinds = [entry["event"] for entry in cross["result"]["journal"]]
    assert {"CashTransferred", "OrderPlaced", "Filled", "FundingPaid"} <= set(kinds)
    assert [entry["event"] for entry in cash["result"]["journal"]] == ["Filled"]
    assert cash["summary"]["lowest_margin_level"] is None
    assert not list(tmp_path.glob(".*.partial"))


def test_the_same_command_gives_the_same_file(tmp_path: Path, buyer: Path, data: Path) -> None:
    """Byte for byte."""
    for name in ("a", "b"):
        assert crossmargin(buyer, "--data", data, "--json", tmp_path / name).exit_code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_several_venues_are_columns_of_one_table(buyer: Path, data: Path) -> None:
    """One column per mode and venue."""
    result = crossmargin(buyer, "--data", data, "--modes", "cross", "--venue", "kucoin,okx,binance")
    assert result.exit_code == 0
    for venue in ("kucoin", "okx", "binance"):
        assert f"cross {venue}" in result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--modes", "cash,crss"], "unknown mode 'crss'; did you mean 'cross'?"),
        (["--modes", ","], "no mode given"),
        (["--venue", "okxx"], "unknown venue 'okxx'; did you mean 'okx'?"),
        (["--venue", "mine.toml"], "venue file mine.toml does not exist"),
        (["--cash", "-5"], "cash must be above 0"),
        (["--leverage", "0.2"], "leverage of the account must be 1 or more"),
        (["--leverage", "60"], "leverage 60 of SIMALT is above its maximum of 50"),
        (["--path", "zigzag"], "unknown path 'zigzag'"),
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--symbols", "SIMBTCC"], "no candles of SIMBTCC; did you mean 'SIMBTC'?"),
        (["--start", "soon"], "'soon' is not a date"),
        (
            ["--start", "2025-02-01", "--end", "2025-01-01"],
            "starts at 2025-02-01, which is not before its end, 2025-01-01",
        ),
        (["--start", "2031-01-01"], "holds no candles"),
        (["--json", "no/such/folder/out.json"], "give --json a file in a folder that exists"),
        (["--symbols", "SIMBTC, SIMXRP"], "no candles of SIMXRP"),
        (["missing.py:Some"], "strategy file missing.py does not exist"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(words: list[str], text: str) -> None:
    """The problem and the remedy, without a traceback."""
    result = crossmargin(*words, *([] if "--start" in words else SHORT))
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert text in lines[0]


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        (STRATEGY, "Byer", "has no class 'Byer'; did you mean 'Buyer'?"),
        (STRATEGY, "NotOne", "is not a backtrader Strategy"),
        ("import nothing_of_the_kind\n", "Buyer", "does not import: ModuleNotFoundError"),
        ("class Broken(:\n", "Broken", "does not import: SyntaxError"),
        ("x = 1\n", "", "defines 0 strategies"),
        (
            STRATEGY.replace("len(self) == 2", "1 / 0"),
            "Buyer",
            "Buyer failed: ZeroDivisionError: division by zero (line 6",
        ),
        (
            STRATEGY.replace("self.data.close[0]", "self.datas[7].close[0]"),
            "Buyer",
            "does it use more feeds, or an indicator more bars?",
        ),
    ],
)
def test_a_wrong_strategy_file_is_one_line(tmp_path: Path, data: Path, source: str, name: str, text: str) -> None:
    """With the file, the reason and the line."""
    file = tmp_path / "mine.py"
    file.write_text(source, encoding="utf-8")
    result = crossmargin(f"{file}:{name}" if name else str(file), "--data", data)
    assert result.exit_code == 2
    assert text in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_error_names_the_line_of_the_strategy(tmp_path: Path, data: Path) -> None:
    """Not a line of backtrader."""
    file = tmp_path / "mine.py"
    file.write_text(STRATEGY.replace("len(self) == 2", "self.undefined_thing()"), encoding="utf-8")
    assert "(line 6 of mine.py)" in crossmargin(f"{file}:Buyer", "--data", data).stderr


def test_files_beside_candles_name_their_missing_column(tmp_path: Path, buyer: Path) -> None:
    """A funding file needs a column of rates."""
    frame = candles(1, 20)
    write(tmp_path / "three", "AAA_last_1h", frame)
    write(tmp_path / "three", "AAA_funding", frame[["funding_rate"]].rename(columns={"funding_rate": "fee"}))
    result = crossmargin(buyer, "--data", tmp_path / "three")
    assert result.exit_code == 2
    assert "AAA_funding.csv: no column funding_rate" in result.stderr


def test_wide_comparisons_stay_readable(buyer: Path, data: Path) -> None:
    """Two venues in three modes give two tables, and no figure is truncated at 80 characters."""
    result = CliRunner().invoke(
        commands, ["compare", str(buyer), "--data", str(data), "--venue", "okx,kucoin"], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0
    assert "…" not in result.output
    assert "USDT, okx" in result.output
    assert "USDT, kucoin" in result.output


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """With --debug."""
    words = [sys.executable, "-m", "crossmargin_bt.cli", "compare", "--venue", "okxx", "--debug"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Traceback" in result.stderr
    assert "unknown venue 'okxx'" in result.stderr


def write(directory: Path, symbol: str, frame: pd.DataFrame) -> None:
    """Write candles as CSV."""
    directory.mkdir(exist_ok=True)
    frame.rename_axis("date").reset_index().to_csv(directory / f"{symbol}.csv", index=False)


def test_broken_candles_are_one_line(tmp_path: Path, buyer: Path) -> None:
    """NaN, zero, misaligned, unreadable: the error has the file or feed, the column and the time."""
    good = candles(1, 50)
    spoiled = {
        "close is nan at 2025-01-01 07:00": good.assign(close=good["close"].where(good.index.hour != 7)),
        "low is 0 at": good.assign(low=0.0),
        "feeds are misaligned": good.set_axis(good.index + pd.Timedelta("30min"), axis=0),
        "column 'high' is missing": good.drop(columns="high"),
    }
    for n, (text, frame) in enumerate(spoiled.items()):
        directory = tmp_path / str(n)
        write(directory, "AAA", good)
        write(directory, "BBB", frame)
        result = crossmargin(buyer, "--data", directory)
        assert result.exit_code == 2, text
        assert text in result.stderr
    (tmp_path / "2" / "CCC.parquet").write_bytes(b"no parquet")
    assert "cannot be read" in crossmargin(buyer, "--data", tmp_path / "2").stderr
    (tmp_path / "1" / "instruments.toml").write_text("[AAA]\nsymbol = 'AAA'\nlots = 1\n", encoding="utf-8")
    assert "[AAA] has an unknown key 'lots'; did you mean 'lot'?" in crossmargin(buyer, "--data", tmp_path / "1").stderr


def test_help_does_not_import_the_heavy_modules() -> None:
    """--help does not wait for the import of pandas."""
    code = "import sys, crossmargin_bt.cli; print([m for m in ('pandas', 'backtrader', 'rich', 'ccxt') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_sample_is_what_the_generator_makes() -> None:
    """The shipped files equal the output of the seeded generator, and are small."""
    shipped = {one.symbol: one for one in folder.read(PROJECT / "data")}
    for symbol, frame in synthetic.generate_candles().items():
        stored, known = shipped[symbol].frame.reset_index(drop=True), shipped[symbol].funding
        prices = frame.drop(columns=["date", "funding_rate"])
        pd.testing.assert_frame_equal(stored, prices[stored.columns], rtol=1e-9, check_exact=False)
        due = frame.set_index("date")["funding_rate"].dropna()
        pd.testing.assert_series_equal(
            known, due, rtol=1e-9, check_exact=False, check_freq=False, check_index_type=False, check_names=False
        )
        assert frame["date"].iloc[0] == shipped[symbol].frame.index[0]
    assert sum(file.stat().st_size for file in (PROJECT / "data").iterdir()) < 2_000_000


def test_the_sample_has_the_documented_features() -> None:
    """Quiet, rising, ranging, a crash with a gap, funding three times a day."""
    frame = synthetic.generate_candles()["SIMBTC"]
    assert len(frame) == 365 * 24
    gap = (frame["open"] / frame["close"].shift() - 1).abs()
    assert gap.max() > 0.10
    assert gap.idxmax() == synthetic.CRASH_DAY * 24 + 13
    daily = frame["close"].pct_change().rolling(24 * 30).std()
    assert daily.iloc[24 * 50] < daily.iloc[24 * 130] < daily.iloc[24 * 240]
    assert frame["funding_rate"].notna().sum() == 365 * 3
    assert (
        (frame["low"] <= frame[["open", "close"]].min(axis=1)) & (frame["high"] >= frame[["open", "close"]].max(axis=1))
    ).all()


def test_rule_books_side_by_side_and_alone() -> None:
    """All rules of every venue, and one venue with its sources, tiers and assumptions."""
    wide = {"COLUMNS": "140"}
    listed = CliRunner().invoke(commands, ["venues"], env=wide).output
    for word in (*venues.shipped(), "order_offset", "12 tiers", "opening"):
        assert word in listed
    two = CliRunner().invoke(commands, ["venues", "--only", "okx,dydx"], env=wide).output
    assert "dydx" in two
    assert "kraken" not in two
    shown = CliRunner().invoke(commands, ["venues", "show", "kucoin"], env=wide).output
    for word in ("KuCoin support 35084093025049", "0.060%", "assumed", "Assumptions", "0.500%", "XBTUSDTM"):
        assert word in shown
    wrong = CliRunner().invoke(commands, ["venues", "show", "kucoim"])
    assert wrong.exit_code == 2
    assert "did you mean 'kucoin'?" in wrong.stderr


def test_every_decision_of_a_result_can_be_explained(tmp_path: Path) -> None:
    """Refusals, warnings and liquidations of a result file; the arithmetic gives the recorded figures."""
    file = tmp_path / "result.json"
    words = ["strategies/long_short.py", "--leverage", "40", "--cash", "800", "--modes", "cash,isolated,cross"]
    result = crossmargin(*words, "--venue", "okx", "--json", file)
    assert result.exit_code == 0, result.output
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    seen = set()
    for number in (2, 3):
        listed = CliRunner().invoke(commands, ["explain", str(file), "--run", str(number)])
        events = [line.split() for line in listed.output.splitlines()[1:] if line.split()[0].isdigit()]
        journal = runs[number - 1]["result"]["journal"]
        explained = Counter[str]()
        for event, *_ in events[:40]:
            entry = journal[int(event)]
            explained[entry["event"]] += 1
            if explained[entry["event"]] > 3:  # three of a kind are enough
                continue
            text = CliRunner().invoke(commands, ["explain", str(file), "--run", str(number), "--event", event]).output
            seen.add(entry["event"])
            if entry["event"] == "Liquidated":
                assert f"= {entry['collateral']!r} USDT" in text
                assert f"= {entry['requirement']!r} USDT" in text
            elif entry["event"] == "OrderRefused" and entry["kind"] == "margin":
                assert f"Needed {entry['needed']!r}, available {entry['available']!r}" in text
    assert {"Liquidated", "OrderRefused", "RiskState"} <= seen
    cash = CliRunner().invoke(commands, ["explain", str(file)])
    assert "no order was refused for margin" in cash.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["none.json"], "none.json does not exist; `crossmargin compare --json"),
        (["wrong.json"], "is not a result file of schema"),
        (["old.json"], "has schema 1, which does not contain the rules of the run; this version reads 2 to 4"),
        (["new.json"], "has schema 99, this version reads up to 4; update crossmargin_bt"),
        (["empty.json", "--run", "3"], "it has no runs"),
    ],
)
def test_explain_reports_invalid_input(tmp_path: Path, words: list[str], text: str) -> None:
    """A missing file, another format, an older schema, a missing run."""
    (tmp_path / "wrong.json").write_text("[]", encoding="utf-8")
    (tmp_path / "old.json").write_text('{"schema": 1, "runs": []}', encoding="utf-8")
    (tmp_path / "new.json").write_text('{"schema": 99, "runs": []}', encoding="utf-8")
    (tmp_path / "empty.json").write_text('{"schema": 2, "runs": []}', encoding="utf-8")
    result = CliRunner().invoke(commands, ["explain", str(tmp_path / words[0]), *words[1:]])
    assert result.exit_code == 2
    assert text in result.stderr
