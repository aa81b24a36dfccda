# SPDX-License-Identifier: GPL-3.0-or-later
"""The generated sample of a coin in every product, and the strategies that trade it."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from places import PROJECT

from crossmargin_bt import compare
from crossmargin_bt.candles import folder, synthetic_products
from crossmargin_bt.cli import commands
from crossmargin_bt.errors import StoreError

SAMPLE = PROJECT / "data" / "whole"
STRATEGIES = ("hedging.py:SpotHedging", "funding_carry.py:FundingCarry", "options_overlay.py:OptionsOverlay")


def test_sample_is_what_the_generator_makes(tmp_path: Path) -> None:
    """Same seed, same candles and facts: the committed files come from the code beside them."""
    synthetic_products.write_products(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in SAMPLE.iterdir() if path.name != "README.md")
    assert (tmp_path / "instruments.toml").read_text() == (SAMPLE / "instruments.toml").read_text()
    for name in names:
        if name.endswith(".parquet"):
            pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), pd.read_parquet(SAMPLE / name), rtol=1e-9)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written to"):
        synthetic_products.write_products(tmp_path / "file")


@pytest.fixture(scope="module")
def candles() -> list:
    return folder.read(SAMPLE)


@pytest.mark.parametrize("mode", ["cash", "isolated", "cross", "multi_currency", "portfolio"])
@pytest.mark.parametrize("strategy", STRATEGIES[:2])
def test_strategies_on_coins_run_in_every_mode(candles: list, strategy: str, mode: str) -> None:
    """Each trades, pays fees, and ends with money; funding reaches those that have a margin account."""
    spec = compare.load(f"{PROJECT}/strategies/{strategy}")
    kinds = {"perpetual", "spot"}
    used = [one for one in candles if one.instrument.kind in kinds]
    result = compare.run(spec, used, venue="okx", mode=mode, settings=compare.Settings(leverage=5.0, check=True))
    assert result.fills > 1
    assert result.equity[-1] > 5_000.0
    assert (result.funding != 0) == (mode != "cash")


def test_a_pool_of_many_currencies_saves_what_one_currency_loses(candles: list) -> None:
    """In the sample's rally the carry's short is liquidated on its dollars alone, and stands in one pool."""
    spec = compare.load(f"{PROJECT}/strategies/funding_carry.py")
    used = [one for one in candles if one.instrument.kind in {"perpetual", "spot"}]
    results = {
        mode: compare.run(spec, used, venue="okx", mode=mode, settings=compare.Settings(leverage=5.0))
        for mode in ("cross", "multi_currency", "portfolio")
    }
    assert results["cross"].liquidations > 0
    assert results["multi_currency"].liquidations == results["portfolio"].liquidations == 0
    assert max(results["portfolio"].margin_used) < max(results["multi_currency"].margin_used)


def test_an_overlay_locks_less_in_a_portfolio(candles: list) -> None:
    """The short call is covered by the perpetual: standard margin does not see that, scenarios do; options settle."""
    spec = compare.load(f"{PROJECT}/strategies/options_overlay.py")
    # Half the year, over the first expiry.
    cut = [one._replace(frame=one.frame.loc["2025-05-15":"2025-07-15"]) for one in candles]
    results = {
        mode: compare.run(spec, cut, venue="okx", mode=mode, settings=compare.Settings(leverage=5.0))
        for mode in ("cross", "portfolio")
    }
    assert max(results["portfolio"].margin_used) < 0.7 * max(results["cross"].margin_used)
    for result in results.values():
        ended = [entry["symbol"] for entry in result.journal if entry["event"] == "Expired"]
        assert ended == ["SIMBTC-27JUN25-44000-C", "SIMBTC-27JUN25-52000-C", "SIMBTC-27JUN25-32000-P"]


def test_the_command_line_knows_the_modes(tmp_path: Path) -> None:
    """Compare takes multi_currency and portfolio, data generate writes the sample, an unknown mode gets a hint."""
    made = CliRunner().invoke(commands, ["data", "generate", str(tmp_path / "made"), "--whole-account"])
    assert made.exit_code == 0, made.output
    words = [
        "compare",
        f"{PROJECT}/strategies/funding_carry.py",
        "--data",
        str(tmp_path / "made"),
        "--symbols",
        "SIMBTC,SIMBTC-SPOT",
    ]
    told = CliRunner().invoke(commands, [*words, "--modes", "multi_currency,portfolio", "--end", "2025-03-01"])
    assert told.exit_code == 0, told.output
    assert "multi_currency" in told.output
    assert "portfolio" in told.output
    wrong = CliRunner().invoke(commands, [*words, "--modes", "portfolios"])
    assert wrong.exit_code != 0
    assert "did you mean 'portfolio'" in wrong.output
