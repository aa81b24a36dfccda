# SPDX-License-Identifier: GPL-3.0-or-later
"""What a comparison says before it ranks: what the data lack, books that were not built as asked, accounts that died early."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pandas as pd
import pytest
from market_files import candles

from crossmargin_bt import compare
from crossmargin_bt.candles import folder
from crossmargin_bt.compare.data_warnings import data_warnings
from crossmargin_bt.report import summary
from crossmargin_bt.report.metric_rows import METRIC_ROWS
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.results import RunResult

STRATEGY = """
import backtrader as bt
class Two(bt.Strategy):
    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data=data, size=SIZE)
"""


def run(
    tmp_path: Path, frames: dict[str, pd.DataFrame], mode: str, size: float = 1.0, cash: float = 1_000.0
) -> RunResult:
    """Run the strategy on candles in a folder."""
    home = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    home.mkdir()
    for name, frame in frames.items():
        frame.to_csv(home / f"{name}.csv")
    (home / "two.py").write_text(STRATEGY.replace("SIZE", str(size)), encoding="utf-8")
    settings = compare.Settings(cash=cash, leverage=10.0)
    return compare.run(
        compare.load(f"{home / 'two.py'}:Two"), folder.read(home), venue="generic", mode=mode, settings=settings
    )


@pytest.mark.parametrize("mode", ["cash", "isolated", "cross", "multi_currency", "portfolio"])
def test_a_market_that_ends_is_said_in_every_mode(tmp_path: Path, mode: str) -> None:
    """Settled in the margin modes, kept in cash mode; a position in the other market is open to the end."""
    result = run(tmp_path, {"AAAUSDT": candles(20), "BBBUSDT": candles(60)}, mode)
    (said,) = [text for text in result.warnings if "others go on" in text]
    assert said.startswith("AAAUSDT: its candles end at 2024-01-01 19:00")
    ended = [entry["symbol"] for entry in result.journal if entry["event"] == "Delisted"]
    settled = [entry for entry in result.journal if entry["event"] == "Filled" and entry.get("cause") == "delisting"]
    assert (ended, len(settled)) == (([], 0) if mode == "cash" else (["AAAUSDT"], 1))
    if mode != "cash":
        assert settled[0]["fee"] == pytest.approx(settled[0]["price"] * 0.0005)
        assert result.exposure == {} or result.exposure["AAAUSDT"][-1] == 0


@pytest.mark.parametrize("rows", [(60, 60), (60, 61)])
def test_no_end_without_a_later_bar_that_was_due(tmp_path: Path, rows: tuple[int, int]) -> None:
    """Markets that end together; one bar more of the other is an end, because a bar was due."""
    result = run(tmp_path, dict(zip(("AAAUSDT", "BBBUSDT"), map(candles, rows), strict=True)), "cross")
    ended = any(entry["event"] == "Delisted" for entry in result.journal)
    assert ended == any("others go on" in text for text in result.warnings) == (rows[0] != rows[1])


def test_halts_marks_and_funding_are_named(tmp_path: Path) -> None:
    """One line each; nothing is said of a market that has them."""
    rows = candles()
    rows.iloc[10:13] = [100.0, 100.0, 100.0, 100.0, 0.0]
    rows.iloc[9, 3] = rows.iloc[13, 0] = 100.0
    rows["high"] = rows[["open", "high", "close"]].max(axis=1)
    rows["low"] = rows[["open", "low", "close"]].min(axis=1)
    rows.to_csv(tmp_path / "BTCUSDT_last_1h.csv")
    texts = data_warnings(folder.read(tmp_path))
    assert [text.partition(";")[0] for text in texts] == [
        "BTCUSDT: no mark prices",
        "BTCUSDT: no funding rates",
        "BTCUSDT: 3 bars have one price and no volume, as in a halt (first 2024-01-01 10:00)",
    ]
    rows[["open", "high", "low", "close"]].to_csv(tmp_path / "BTCUSDT_mark_1h.csv")
    pd.DataFrame({"funding_rate": 0.0001}, index=rows.index[::8]).to_csv(tmp_path / "BTCUSDT_funding.csv")
    assert [text.partition(":")[2][:3] for text in data_warnings(folder.read(tmp_path))] == [" 3 "]


def test_a_book_that_was_not_built_is_said_beside_the_headline(tmp_path: Path) -> None:
    """Two orders, of which one fits: the headline says so, and names the market that is missing."""
    frames = {"AAAUSDT": candles(30), "BBBUSDT": candles(30, seed=5)}
    whole, part = run(tmp_path, frames, "cross"), run(tmp_path, frames, "isolated", size=60.0)
    headline = summary.findings([whole, part])[0]
    assert "isolated (1 of 2 orders refused; never traded BBBUSDT)" in headline
    assert "cross (" not in headline.lower()


def test_forced_fills_are_not_the_strategys(tmp_path: Path) -> None:
    """A long that is liquidated: one fill of its own, one forced."""
    fall = candles(30)
    fall.iloc[10:, :4] *= 0.5
    fall.iloc[10, 0] = fall.iloc[9, 3]
    fall["high"] = fall[["open", "high", "close"]].max(axis=1)
    result = run(tmp_path, {"AAAUSDT": fall}, "cross", size=80.0)
    figures = summarise(result)
    assert (figures.liquidations, figures.fills, figures.forced_fills) == (1, 1, 1)
    assert figures.total_return < -0.9


@pytest.mark.parametrize(
    "key", ["liquidations", "margin_used_mean", "margin_used_peak", "fees", "refused", "drawdown_max"]
)
def test_a_dead_account_is_best_at_nothing(tmp_path: Path, key: str) -> None:
    """It used less margin, paid less and was liquidated once: the others, which lived, are compared with each other."""
    alive = summarise(run(tmp_path, {"AAAUSDT": candles(30)}, "cross"))
    changed = {key: type(getattr(alive, key))(getattr(alive, key) + 1)}
    worse = msgspec.structs.replace(alive, mode="isolated", **changed)
    dead = msgspec.structs.replace(alive, mode="portfolio", total_return=-0.95, **{key: type(getattr(alive, key))(0)})
    row = next(row for row in METRIC_ROWS if row.key == key)
    assert row.best([dead, alive, worse]) == {1}
    assert row.best([msgspec.structs.replace(dead, total_return=0.0), alive, worse]) == {0} or not getattr(alive, key)
