# SPDX-License-Identifier: GPL-3.0-or-later
"""How every venue liquidates a small position, and one strategy under every rule book, on recorded candles.

    python benchmarks/liquidation_by_venue.py FOLDER
    python benchmarks/liquidation_by_venue.py FOLDER --bars 200 --venue okx bybit

FOLDER holds folders of candles as `crossmargin compare --data` reads them. Prints the tables of docs/liquidation-by-venue.md.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import backtrader as bt
import pandas as pd

from crossmargin_bt import CrossMarginBroker, Instrument, events, feeds, venues
from crossmargin_bt.candles import folder
from crossmargin_bt.compare import Settings, load, run

STRATEGIES = Path(__file__).parents[1] / "strategies"
START = "2026-02-02"


class Period(NamedTuple):
    """Recorded candles: their folder, symbols, and days."""

    folder: str
    symbols: tuple[str, ...]
    start: str
    end: str


PERIODS = (
    Period("binance_um_perp_1h_2020_2022", ("BTCUSDT", "ETHUSDT", "XRPUSDT"), "2020-02-20", "2020-03-20"),
    Period("binance_um_perp_1h_2020_2022", ("BTCUSDT", "ETHUSDT", "XRPUSDT"), "2020-01-06", "2022-12-31"),
    Period("binance_um_perp_1h_2025-06_2026-02", ("BTCUSDT", "ETHUSDT", "SOLUSDT"), "2025-06-01", "2026-02-28"),
)


class BuyOnce(bt.Strategy):
    """Buys 5 on the first bar."""

    def next(self) -> None:
        """Buy."""
        if len(self) == 1:
            self.buy(size=5.0)


def fall(end: float, back: float) -> pd.DataFrame:
    """Return hourly candles from 2,500 down to `end` in steps of half a percent, then in one bar to `back`."""
    closes = [2500.0, 2500.0]
    while closes[-1] * 0.995 > end:
        closes.append(closes[-1] * 0.995)
    closes += [end, back, back]
    opens = [closes[0], *closes[:-1]]
    frame = pd.DataFrame({"open": opens, "close": closes})
    frame["high"], frame["low"] = frame.max(axis=1), frame.min(axis=1)
    return frame.set_index(pd.date_range(START, periods=len(frame), freq="h"))


def one_position(venue: str, frame: pd.DataFrame) -> tuple[int, float]:
    """Return the forced fills and the final equity of 5 ETH bought at 2,500, isolated, at 10x, out of 10,000."""
    cerebro = bt.Cerebro(stdstats=False)
    instrument = Instrument(symbol="ETHUSDT", lot=0.001, underlying="ETH", leverage_max=10.0)
    cerebro.adddata(feeds.from_frame(frame, name="ETHUSDT", instrument=instrument))
    broker = CrossMarginBroker(venue=venue, mode="isolated", leverage=10.0, cash=10_000.0)
    cerebro.setbroker(broker)
    cerebro.addstrategy(BuyOnce)
    cerebro.run()
    forced = sum(isinstance(entry, events.Filled) and entry.cause == "liquidation" for entry in broker.journal)
    return forced, broker.getvalue()


def table(heads: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for cells in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--venue", nargs="+", default=[name for name in venues.shipped() if name != "binance_coinm"])
    parser.add_argument("--bars", type=int, help="the first hours of each period; all when left out")
    options = parser.parse_args()
    print(f"\n5 ETH at 2,500, isolated at 10x, from {START}\n")
    rows = []
    for venue in options.venue:
        down, final = one_position(venue, fall(1800.0, 1800.0))
        dip, kept = one_position(venue, fall(2254.0, 2500.0))
        said = venues.load(venue).at(pd.Timestamp(START).date()).statements["liquidation"]
        says = f"{said.says} ({said.source or 'no source'})"
        rows.append([venue, str(down), f"{final:,.2f}", str(dip), f"{kept:,.2f}", says])
    table(
        ["venue", "forced fills", "final equity", "forced fills, dip to 2,254", "final equity", "what the venue says"],
        rows,
    )
    for period in PERIODS:
        path = options.folder / period.folder
        absent = [symbol for symbol in period.symbols if not list(path.glob(f"{symbol}*"))]
        if absent:
            print(f"\n{path} has no candles of {', '.join(absent)}: left out")
            continue
        candles = folder.read(path, symbols=list(period.symbols), start=period.start, end=period.end)
        candles = [one._replace(frame=one.frame.iloc[: options.bars]) for one in candles]
        print(f"\nLongShort, {', '.join(period.symbols)}, {period.start} to {period.end}\n")
        rows = []
        for venue in options.venue:
            cells = [venue]
            for mode in ("isolated", "cross"):
                result = run(load(f"{STRATEGIES}/long_short.py"), candles, venue=venue, mode=mode, settings=Settings())
                forced = sum(entry["event"] == "Filled" and entry["cause"] == "liquidation" for entry in result.journal)
                changes = sum(
                    entry["event"] == "RulesChanged" and entry["time_ms"] > result.times_ms[0]
                    for entry in result.journal
                )
                cells += [f"{result.equity[-1]:,.0f}", str(result.liquidations), str(forced)]
            rows.append([*cells, str(changes)])
        heads = [
            f"{what}, {mode}"
            for mode in ("isolated", "cross")
            for what in ("final equity", "liquidations", "forced fills")
        ]
        table(["venue", *heads, "rule changes within"], rows)


if __name__ == "__main__":
    main()
