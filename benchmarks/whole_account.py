# SPDX-License-Identifier: GPL-3.0-or-later
"""A coin and its perpetual in a pool of one currency, a pool of many and a portfolio, on recorded candles.

    python benchmarks/whole_account.py FOLDER
    python benchmarks/whole_account.py FOLDER --venue bybit --plan carry --bars 1000

FOLDER holds `binance_spot_1h_2020_2022` and `binance_um_perp_1h_2020_2022`, candles of BTCUSDT as exchanges publish
them. Prints the tables of docs/whole-account.md.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from crossmargin_bt.candles.market import Candles
from crossmargin_bt.compare import Settings, load, run
from crossmargin_bt.compare.strategies import StrategySpec
from crossmargin_bt.engine.terms.instrument import Instrument

MODES = ("cross", "multi_currency", "portfolio")
STRATEGIES = Path(__file__).parents[1] / "strategies"
FACTS = {"underlying": "BTC", "lot": 0.001, "tick": 0.01}


class Plan(NamedTuple):
    """A strategy with its parameters, and the days it runs on."""

    title: str
    strategy: str
    params: dict[str, float]
    start: str
    end: str


PLANS = {
    "hedging 2020": Plan("SpotHedging", "hedging.py:SpotHedging", {"core": 0.8}, "2020-02-01", "2020-04-30"),
    "hedging 2021": Plan("SpotHedging", "hedging.py:SpotHedging", {"core": 0.8}, "2021-04-01", "2021-06-30"),
    "carry": Plan("FundingCarry", "funding_carry.py", {}, "2020-01-01", "2022-12-31"),
    "carry twice": Plan(
        "FundingCarry on twice the money", "funding_carry.py", {"size": 2.0}, "2020-01-01", "2022-12-31"
    ),
}


def candles(folder: Path, start: str, end: str) -> list[Candles]:
    """Return BTC's spot market and perpetual on the hours that both have."""
    perpetual = folder / "binance_um_perp_1h_2020_2022"
    last = pd.read_parquet(perpetual / "BTCUSDT_last_1h.parquet").set_index("date")
    mark = pd.read_parquet(perpetual / "BTCUSDT_mark_1h.parquet").set_index("date")
    spot = pd.read_parquet(folder / "binance_spot_1h_2020_2022" / "BTCUSDT_spot_1h.parquet").set_index("date")
    funding = pd.read_csv(perpetual / "BTCUSDT_funding.csv", parse_dates=["date"]).set_index("date")["funding_rate"]
    last = last.join(mark.add_prefix("mark_")).loc[start:end]
    return [
        Candles("BTC/USDT", spot.loc[start:end], None, Instrument(symbol="BTC/USDT", kind="spot", **FACTS)),
        Candles("BTCUSDT", last, funding, Instrument(symbol="BTCUSDT", leverage_max=125.0, **FACTS)),
    ]


def strategy(plan: Plan) -> StrategySpec:
    """Return a plan's strategy with the plan's parameters."""
    spec, params = load(f"{STRATEGIES}/{plan.strategy}"), plan.params
    if not params:
        return spec
    made = type(
        spec.strategy.__name__,
        (spec.strategy,),
        {"params": tuple(params.items()), "__module__": spec.strategy.__module__},
    )
    return StrategySpec(spec.name, made)


def row(spec: StrategySpec, data: list[Candles], mode: str, venue: str) -> list[str]:
    """Return the cells of one run."""
    result = run(spec, data, venue=venue, mode=mode, settings=Settings(leverage=5.0))
    equity, used = pd.Series(result.equity), pd.Series(result.margin_used)
    mean = used[used > 0].mean() if (used > 0).any() else 0.0
    profit = result.equity[-1] - result.starting_cash
    level = result.lowest_margin_level
    liquidated = [entry for entry in result.journal if entry["event"] == "Liquidated"]
    first = pd.Timestamp(liquidated[0]["time_ms"], unit="ms").strftime("%Y-%m-%d %H:%M") if liquidated else "-"
    years = len(equity) / 8760
    return [
        mode, f"{result.equity[-1]:,.0f}", f"{(equity / equity.cummax() - 1).min():.1%}", f"{mean:,.0f}", f"{used.max():,.0f}",
        f"{min(result.free_margin):,.0f}", "-" if level is None or level > 1e6 else f"{level:.0%}", str(len(liquidated)), first, f"{result.fees:,.0f}", f"{result.funding:,.0f}",
        f"{result.interest:,.0f}", f"{profit / mean / years:.0%}" if mean else "-",
    ]  # fmt: skip


HEAD = (
    "mode", "final equity", "drawdown", "locked, mean", "locked, peak", "free, lowest", "lowest level", "liquidations", "first", "fees",
    "funding", "interest", "profit a year on what is locked",
)  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--venue", default="okx")
    parser.add_argument("--plan", choices=PLANS, nargs="+", default=list(PLANS))
    parser.add_argument("--bars", type=int, help="the first hours of each plan; all when left out")
    options = parser.parse_args()
    for plan in (PLANS[name] for name in options.plan):
        months = [f"{day:.4}" if plan.title.startswith("Funding") else f"{day:.7}" for day in (plan.start, plan.end)]
        print(f"\n{plan.title}, {' to '.join(months)} ({options.venue})\n")
        # The profit of a directional strategy is no yield on its locked margin.
        columns = len(HEAD) - (plan.title == "SpotHedging")
        print("| " + " | ".join(HEAD[:columns]) + " |\n|" + "---|" * columns)
        data = candles(options.folder, plan.start, plan.end)
        if options.bars:
            data = [one._replace(frame=one.frame.iloc[: options.bars]) for one in data]
        for mode in MODES:
            cells = row(strategy(plan), data, mode, options.venue)
            print("| " + " | ".join(cells[:columns]) + " |", flush=True)


if __name__ == "__main__":
    main()
