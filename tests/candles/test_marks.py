# SPDX-License-Identifier: GPL-3.0-or-later
"""Mark prices of another timeframe than the candles: used for what they say, and no further."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import candles

from crossmargin_bt.candles import folder
from crossmargin_bt.candles.marks import with_marks

PRICES = ["open", "high", "low", "close"]


def frame(rows: list[tuple[float, float, float, float]], freq: str) -> pd.DataFrame:
    """Return candles from 2025-01-01 on."""
    index = pd.date_range("2025-01-01", periods=len(rows), freq=freq, tz="UTC")
    return pd.DataFrame(rows, columns=PRICES, index=index)


def marks_of(found: pd.DataFrame) -> list[list[float]]:
    """Return the mark prices of candles, bar by bar."""
    return found[[f"mark_{name}" for name in PRICES]].to_numpy().tolist()


def test_coarse_marks_bound_the_fine_ones_by_hand() -> None:
    """A mark bar of two candles: 100 to 104, between 97 and 106. The last price fell to 90 in the second: the mark to 97, there."""
    fine = frame([(100, 110, 99, 102), (102, 103, 90, 101)], "30min")
    coarse = frame([(100, 106, 97, 104)], "1h")
    found, texts = with_marks(fine, {"1h": coarse}, "X")
    assert marks_of(found) == [[100, 106, 99, 102], [102, 104, 97, 104]]
    assert len(texts) == 1
    assert "mark prices of 1h beside finer candles" in texts[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("every", [2, 4, 12])
def test_what_a_coarse_mark_says_is_met(seed: int, every: int) -> None:
    """Open, high, low and close of every coarse bar are those of its fine bars together, and each fine bar is possible."""
    fine = candles(48, freq="5min", seed=seed)[PRICES]
    groups = candles(48, freq="5min", seed=seed + 50)[PRICES].resample(f"{5 * every}min")
    coarse = groups.agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    found, _ = with_marks(fine, {f"{5 * every}m": coarse}, "X")
    marks = found[[f"mark_{name}" for name in PRICES]].set_axis(PRICES, axis=1)
    again = marks.resample(f"{5 * every}min").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    pd.testing.assert_frame_equal(again, coarse, check_freq=False)
    assert (marks["high"] >= marks.max(axis=1)).all()
    assert (marks["low"] <= marks.min(axis=1)).all()


def test_finer_marks_are_aggregated() -> None:
    """The mark of an hour is that of its minutes; an hour without any is a hole, which the last price fills."""
    minutes = candles(180, freq="1min")[PRICES]
    hours = candles(4, seed=9)[PRICES]
    found, texts = with_marks(hours, {"1m": minutes}, "X")
    expected = minutes.resample("1h").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    assert marks_of(found)[:3] == expected.to_numpy().tolist()
    assert marks_of(found)[3] == hours.iloc[3].tolist()
    assert texts == ("X: 1 of 4 bars have no mark price; the last price is taken for it",)


@pytest.mark.parametrize("holes", [[20], [0], [47], [3, 4, 5, 30]])
def test_holes_are_filled_by_one_rule_in_every_layout(tmp_path: Path, holes: list[int]) -> None:
    """In files beside each other and in one file: the last price, and the number of bars is said."""
    rows = candles()
    marks = rows[PRICES].add_prefix("mark_") * 1.0
    marks.iloc[holes] = np.nan
    for name in ("beside", "inside"):
        (tmp_path / name).mkdir()
    rows.to_csv(tmp_path / "beside" / "BTCUSDT_last_1h.csv")
    rows[PRICES].drop(rows.index[holes]).to_csv(tmp_path / "beside" / "BTCUSDT_mark_1h.csv")
    rows.join(marks).to_csv(tmp_path / "inside" / "BTCUSDT.csv")
    for name in ("beside", "inside"):
        (market,) = folder.read(tmp_path / name)
        assert marks_of(market.frame) == rows[PRICES].to_numpy().tolist()
        assert any(f"{len(holes)} of 48 bars have no mark price" in text for text in market.assumptions)


def test_a_phantom_liquidation_is_gone(tmp_path: Path) -> None:
    """Coarse marks beside finer candles in a folder bound the wick of the last price."""
    fine = candles(24, freq="5min")
    fine.iloc[7, fine.columns.get_loc("low")] = 60.0
    coarse = fine[PRICES].resample("1h").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    coarse["low"] = coarse[["open", "close"]].min(axis=1) - 0.5
    fine.to_csv(tmp_path / "BTCUSDT_last_5m.csv")
    coarse.to_csv(tmp_path / "BTCUSDT_mark_1h.csv")
    (market,) = folder.read(tmp_path)
    assert market.frame["mark_low"].min() == coarse["low"].min() > 90
