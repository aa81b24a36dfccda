# SPDX-License-Identifier: GPL-3.0-or-later
"""How wrong is a candle? Liquidations read from coarse candles against the same minutes one by one.

    python benchmarks/candle_error.py FOLDER [FOLDER ...] --out docs/candle-error

FOLDER holds 1m candles as SYMBOL_*1m.parquet. Every eight hours a fresh account of 10,000 opens a book at
the same instant, on one-minute candles (the truth) and on candles of 5m, 15m and 1h made of them, under each path policy,
and holds it for a day (`--every`, `--hold`). Written: `OUT.md`, the table, and `OUT.svg`, its chart.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import backtrader as bt
import pandas as pd

from crossmargin_bt import CrossMarginBroker, Instrument, feeds
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.terms.rates import flat_rate

CASH, MAINTENANCE = 10_000.0, 0.005
TIMEFRAMES, POLICIES, LEVERAGES = ("5min", "15min", "60min"), ("path", "adverse", "close", "finer"), (10.0, 25.0, 50.0)
# Books: signed shares of the account's whole exposure by leg.
BOOKS = {
    "single": (("BTCUSDT", "long", 1.0),),
    "long/short": (("BTCUSDT", "long", 0.5), ("ETHUSDT", "short", 0.5)),
    "hedged": (("BTCUSDT", "long", 0.7), ("BTCUSDT", "short", 0.3)),
}
FIRST = "16h"


class Plan(NamedTuple):
    """When books are opened, for how long they are held and at which leverages."""

    every: str = "8h"
    hold: str = "1D"
    leverages: tuple[float, ...] = LEVERAGES


class Episode(NamedTuple):
    """A book held from one instant on, on candles of one length under one policy."""

    folder: str
    start: pd.Timestamp
    book: str
    leverage: float
    hold: str
    timeframe: str
    policy: str


class Outcome(NamedTuple):
    """Hours until the liquidation (None without one), and the equity at the end."""

    hours: float | None
    equity: float


class Opener(bt.Strategy):
    """Opens its legs at the second bar's open."""

    params = (("legs", ()), ("leverage", 1.0))

    def next(self) -> None:
        if len(self) == 1:
            for symbol, side, share in self.p.legs:
                data = self.getdatabyname(symbol)
                size = CASH * self.p.leverage * 0.9 * share / data.close[0]
                order = self.buy if side == "long" else self.sell
                order(data=data, size=size, position_side=side)


FRAMES: dict[str, dict[str, pd.DataFrame]] = {}


def frames(folder: str) -> dict[str, pd.DataFrame]:
    """Return the folder's one-minute candles by symbol."""
    if folder not in FRAMES:
        found = {}
        for file in sorted(Path(folder).glob("*1m.parquet")):
            found[file.name.partition("_")[0]] = pd.read_parquet(file).set_index("date")
        FRAMES[folder] = found
    return FRAMES[folder]


def run(episode: Episode) -> Outcome:
    """Return what becomes of an episode."""
    step = pd.Timedelta(episode.timeframe)
    cerebro = bt.Cerebro(stdstats=False)
    finer = {}
    symbols = dict.fromkeys(symbol for symbol, _, _ in BOOKS[episode.book])
    for symbol in symbols:
        minutes = frames(episode.folder)[symbol].loc[
            episode.start - step : episode.start + pd.Timedelta(episode.hold) - pd.Timedelta("1min")
        ]
        candles = minutes
        if episode.timeframe != "1min":
            how: Any = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
            candles = minutes.resample(episode.timeframe).agg(how).dropna()
            finer[symbol] = minutes
        instrument = Instrument(symbol=symbol, lot=1e-5, maintenance=flat_rate(MAINTENANCE), maker=0.0, taker=0.0)
        cerebro.adddata(feeds.from_frame(candles, name=symbol, instrument=instrument))
    broker = CrossMarginBroker(
        cash=CASH, leverage=episode.leverage, position_mode="hedge", venue="generic",
        path="path" if episode.policy == "finer" else episode.policy,
        finer=finer if episode.policy == "finer" else None,
    )  # fmt: skip
    cerebro.setbroker(broker)
    cerebro.addstrategy(Opener, legs=BOOKS[episode.book], leverage=episode.leverage)
    cerebro.run()
    end = next((event.time_ms for event in broker.journal if isinstance(event, events.Liquidated)), None)
    hours = None if end is None else (end - episode.start.timestamp() * 1000) / 3.6e6
    return Outcome(hours, broker.equity)


def episodes(folder: str, plan: Plan) -> Iterator[Episode]:
    """Yield every episode of a folder, the truth of each before its readings."""
    index = frames(folder)["BTCUSDT"].index
    last = index[-1] - pd.Timedelta(plan.hold)
    starts = pd.date_range(index[0].floor("D") + pd.Timedelta(FIRST), last, freq=plan.every)
    readings = [("1min", "path"), *product(TIMEFRAMES, POLICIES)]
    for start, book, leverage in product(starts, BOOKS, plan.leverages):
        for timeframe, policy in readings:
            yield Episode(folder, start, book, leverage, plan.hold, timeframe, policy)


class Error(NamedTuple):
    """How far a reading is from the truth, over all its episodes."""

    episodes: int
    liquidated: int
    missed: int
    invented: int
    hours: float
    """Mean distance in time of those found in both."""
    money: float
    """Mean distance of the equity at the end, as a fraction of the starting cash."""


def error(pairs: list[tuple[Outcome, Outcome]]) -> Error:
    """Return the error of readings against truths."""
    both = [abs(a.hours - b.hours) for a, b in pairs if a.hours is not None and b.hours is not None]
    return Error(
        episodes=len(pairs),
        liquidated=sum(true.hours is not None for true, _ in pairs),
        missed=sum(true.hours is not None and read.hours is None for true, read in pairs),
        invented=sum(true.hours is None and read.hours is not None for true, read in pairs),
        hours=sum(both) / len(both) if both else 0.0,
        money=sum(abs(true.equity - read.equity) for true, read in pairs) / len(pairs) / CASH,
    )


def measure(folders: list[str], plan: Plan) -> dict[tuple[str, str, str], Error]:
    """Return the errors by (book, timeframe, policy)."""
    asked = [episode for folder in folders for episode in episodes(folder, plan)]
    with ProcessPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(run, asked, chunksize=16))
    pairs: dict[tuple[str, str, str], list[tuple[Outcome, Outcome]]] = {}
    key = lambda pair: pair[0][:4]  # noqa: E731 - folder, start, book, leverage
    for _, group in groupby(zip(asked, outcomes, strict=True), key=key):
        (_, truth), *readings = group
        for episode, outcome in readings:
            for book in (episode.book, "all"):
                pairs.setdefault((book, episode.timeframe, episode.policy), []).append((truth, outcome))
    ordered = [(book, timeframe, policy) for book in ("all", *BOOKS) for timeframe in TIMEFRAMES for policy in POLICIES]
    return {name: error(pairs[name]) for name in ordered}


def table(errors: dict[tuple[str, str, str], Error]) -> str:
    """Return the errors as a Markdown table."""
    lines = [
        "| book | candles | policy | episodes | liquidated | missed | invented | hours off | equity off |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (book, timeframe, policy), one in errors.items():
        lines.append(
            f"| {book} | {timeframe} | {policy} | {one.episodes} | {one.liquidated} | {one.missed} | {one.invented} "
            f"| {one.hours:.2f} | {one.money:.2%} |"
        )
    return "\n".join(lines) + "\n"


COLOURS = {"path": "#0072b2", "adverse": "#d55e00", "close": "#999999", "finer": "#009e73"}


def chart(errors: dict[tuple[str, str, str], Error]) -> str:
    """Return the mean distance of equity, all books, as an SVG bar chart."""
    most = max(one.money for (book, _, _), one in errors.items() if book == "all") or 1.0
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 300" role="img" font-family="sans-serif" font-size="13">',
        "<title>Mean distance of equity from the truth by candle length and path policy</title>",
        '<rect width="640" height="300" fill="white"/>',
    ]
    for n, timeframe in enumerate(TIMEFRAMES):
        for m, policy in enumerate(POLICIES):
            share = errors["all", timeframe, policy].money
            height, left = 200 * share / most, 50 + n * 200 + m * 46
            parts.append(
                f'<rect x="{left}" y="{240 - height:.1f}" width="40" height="{height:.1f}" fill="{COLOURS[policy]}"/>'
                f'<text x="{left + 20}" y="{234 - height:.1f}" text-anchor="middle">{share:.2%}</text>'
            )
        parts.append(f'<text x="{50 + n * 200 + 90}" y="262" text-anchor="middle">{timeframe}</text>')
    for m, policy in enumerate(POLICIES):
        parts.append(
            f'<rect x="{60 + m * 120}" y="276" width="12" height="12" fill="{COLOURS[policy]}"/>'
            f'<text x="{78 + m * 120}" y="287">{policy}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="the files' name without ending")
    parser.add_argument("--every", default=Plan().every, help="time between two openings, as pandas writes it")
    parser.add_argument("--hold", default=Plan().hold, help="how long a book is held")
    parser.add_argument("--leverage", type=float, nargs="+", default=LEVERAGES)
    options = parser.parse_args()
    errors = measure(options.folders, Plan(options.every, options.hold, tuple(options.leverage)))
    options.out.with_suffix(".md").write_text(table(errors), encoding="utf-8")
    options.out.with_suffix(".svg").write_text(chart(errors), encoding="utf-8")
    print(table(errors))


if __name__ == "__main__":
    main()
