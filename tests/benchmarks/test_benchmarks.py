# SPDX-License-Identifier: GPL-3.0-or-later
"""Every script of benchmarks/ runs to its end, on a sliver of data."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from places import PROJECT
from random_trader import candles

BENCHMARKS = PROJECT / "benchmarks"

# A sliver of every script, and a word of its output. {folder} holds generated candles, {out} takes files.
SLIVERS = {
    "calls.py": (["--bars", "150"], "W3"),
    "candle_error.py": (
        ["{folder}", "--out", "{out}", "--every", "24h", "--hold", "2h", "--leverage", "50"],
        "| all | 60min | path | 3 |",
    ),
    "download.py": (["1"], "rows/s"),
    "growth.py": (["--out", "{out}", "--scale", "0.001"], "bars of a batch of one account"),
    "liquidation_by_venue.py": (["{folder}", "--venue", "okx"], "| okx | 1 | 8,788.95 | 1 | 8,788.95 |"),
    "many_runs.py": (["batch", "--bars", "200", "--cpus", "1"], '"runs": 64'),
    "one_run.py": (["W2", "house", "--bars", "200"], '"bars": 800'),
    "peers.py": (["--bars", "200", "--workload", "W1"], "| batch |"),
    "tables.py": (["--scale", "0.02", "--only", "W5"], "W5: 50 x 100 bars"),
    "whole_account.py": (["{folder}", "--plan", "hedging 2020", "--bars", "300"], "| multi_currency |"),
}
# Modules that scripts import.
PARTS = {"workloads.py", "peer_nautilus.py"}


def finished(script: str, *arguments: str) -> str:
    """Return the output of a script, run in a process of its own."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated candles under the names that the scripts read."""
    made = tmp_path_factory.mktemp("candles")
    for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        minutes = candles(seed, 18 * 60 + 121, volatility=0.002).reset_index(names="date")
        minutes["date"] = pd.date_range("2021-05-19", periods=len(minutes), freq="min")
        minutes.to_parquet(made / f"{symbol}_spot_1m.parquet")
    hours = (
        candles(3, 400).rename_axis("date").set_axis(pd.date_range("2020-02-01", periods=400, freq="h", name="date"))
    )
    prices = ["open", "high", "low", "close"]
    perpetual, spot = made / "binance_um_perp_1h_2020_2022", made / "binance_spot_1h_2020_2022"
    perpetual.mkdir()
    spot.mkdir()
    hours[[*prices, "volume"]].reset_index().to_parquet(perpetual / "BTCUSDT_last_1h.parquet")
    hours[[f"mark_{price}" for price in prices]].set_axis(prices, axis=1).reset_index().to_parquet(
        perpetual / "BTCUSDT_mark_1h.parquet"
    )
    hours["funding_rate"].dropna().to_frame().to_csv(perpetual / "BTCUSDT_funding.csv")
    hours[[*prices, "volume"]].reset_index().to_parquet(spot / "BTCUSDT_spot_1h.parquet")
    return made


@pytest.mark.parametrize("script", sorted(file.name for file in BENCHMARKS.glob("*.py") if file.name not in PARTS))
def test_a_script_runs_on_a_sliver(script: str, folder: Path, tmp_path: Path) -> None:
    """It ends without an error and prints what it is for; a script without an entry runs as it is."""
    arguments, expected = SLIVERS.get(script, ([], ""))
    out = tmp_path / "out"
    assert expected in finished(script, *(argument.format(folder=folder, out=out) for argument in arguments))
    if "{out}" in arguments:
        assert out.with_suffix(".md").read_text(encoding="utf-8").startswith("| ")
        assert "</svg>" in out.with_suffix(".svg").read_text(encoding="utf-8")


def test_the_slivers_are_of_scripts_that_exist() -> None:
    """An entry goes when its script goes."""
    assert {file.name for file in BENCHMARKS.glob("*.py")} >= {*SLIVERS, *PARTS}


@pytest.mark.parametrize("tool", ["backtrader_next", "nautilus_trader", "backtesting", "vectorbt"])
def test_a_peer_that_is_installed_runs(tool: str) -> None:
    """One that is not installed is named as missing by the table; this test then says so too."""
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: pip install {tool.replace('_', '-')}")
    assert json.loads(finished("peers.py", "--tool", tool, "--bars", "500").splitlines()[-1]) > 0
