# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixed matrix of runs and the digests of everything they leave behind: journal, notifications, curves, results.

    PYTHONPATH=tests python -m unchanged.matrix --write

records `digests.json` anew. Do that only for a change that is meant to change numbers, and name it in the change log.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import backtrader as bt
import mixed_runs
import msgspec
import random_runs
import scenario
from places import SHARED, TESTS
from random_trader import RandomTrader, candles

from crossmargin_bt import Cerebro, CrossMarginBroker, Recorder, compare, feeds, venues
from crossmargin_bt.candles import folder
from unchanged import renames

DIGESTS = Path(__file__).parent / "digests.json"
STRATEGIES = TESTS.parent / "strategies"
RUN_MODES: tuple[dict[str, Any], ...] = ({}, {"runonce": False}, {"exactbars": -1}, {"preload": False})
RANDOM_RUNS, MIXED_RUNS = 220, 80
# Sentences are no figures: they may be reworded.
PROSE = {"OrderRefused": ("reason", "code"), "GuardActed": ("reason",)}


def plain_entry(entry: Any) -> dict[str, Any]:
    """Return a journal entry under the names it had when the digests were recorded, its sentences left out."""
    fields = dict(entry) if isinstance(entry, dict) else msgspec.to_builtins(entry)
    fields["event"] = renames.EVENTS.get(fields["event"], fields["event"])
    event = fields["event"]
    for new, old in renames.FIELDS.items():
        if new in fields:
            fields[old] = fields.pop(new)
    for (kind, name, new), old in renames.VALUES.items():
        if kind == event and fields.get(name) == new:
            fields[name] = old
    for name in PROSE.get(event, ()):
        fields.pop(name, None)
    return fields


def digest(part: Any) -> str:
    """Return the digest of plain data; numbers count to the last bit."""
    text = json.dumps(part, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def digest_of_run(strategy: Any, *parts: Any) -> dict[str, Any]:
    """Return the digests of a run through the broker."""
    broker = strategy.broker
    figures = [broker.equity, broker.getcash(), broker.getvalue(), broker.margin_used, broker.lowest_margin_level]
    return {
        "entries": len(broker.journal),
        "journal": digest([plain_entry(entry) for entry in broker.journal]),
        "result": digest([*figures, broker.fills, broker.refused, *parts]),
    }


def scenarios() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield every scenario by its name."""
    for path in scenario.files():

        def told(path: Path = path) -> dict[str, Any]:
            done = scenario.run_file(path)
            if hasattr(done, "broker"):
                return digest_of_run(done, sorted(done.statuses.values()))
            return {"entries": len(done.journal), "journal": digest([plain_entry(entry) for entry in done.journal])}

        yield f"scenario {path.stem}", told


def random_run(number: int) -> dict[str, Any]:
    """Run a random trader on two contracts under a venue, a mode and settings drawn by the number of the run."""
    draw = random.Random(f"run {number}")  # noqa: S311 - a seeded test
    names = venues.shipped()
    venue = names[number % len(names)]
    hedged = draw.random() < 0.4
    choices = (
        [random_runs.INSTRUMENTS, random_runs.INVERSE]
        if venue == "binance_coinm"
        else [random_runs.PLAIN, random_runs.INSTRUMENTS, random_runs.INVERSE]
    )
    instruments = draw.choice(choices)
    run_mode = RUN_MODES[number // len(names) % len(RUN_MODES)]
    kind: Any = Cerebro if not run_mode and draw.random() < 0.5 else bt.Cerebro
    cerebro = kind(stdstats=False, **run_mode)
    volatility = draw.choice([0.002, 0.01, 0.02, 0.04])
    for place, (name, instrument) in enumerate(instruments.items()):
        frame = candles(number + place, 110, start=100.0 * (place + 1), volatility=volatility)
        frame = frame.iloc[place * 5 :].drop(frame.index[60 : 60 + 4 * place]) if draw.random() < 0.5 else frame
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instrument))
    slips = draw.random() < 0.5
    broker = CrossMarginBroker(
        mode=draw.choice(["cross", "isolated"]), venue=venue, position_mode="hedge" if hedged else "one_way",
        path=draw.choice(["path", "path", "adverse", "close"]), cash=draw.choice([150.0, 1000.0, 1000.0, 20_000.0]),
        leverage=draw.choice([3.0, 10.0, 20.0, 45.0]), warning_levels=draw.choice([(), (3.0, 1.5)]),
        on_liquidation=draw.choice(["continue", "refill", "stop"]), insurance_fund=draw.choice([math.inf, 50.0, 0.0]),
        negative_balance_protection=draw.random() < 0.8, auto_deleveraging=draw.random() < 0.3,
        liquidation_slippage=draw.choice([0.0, 0.01]), liquidation_impact=draw.choice([0.0, 0.05]),
        slip_perc=0.0005 if slips else 0.0, slip_open=slips,
    )  # fmt: skip
    cerebro.setbroker(broker)
    detail = draw.random() < 0.3
    cerebro.addanalyzer(Recorder, _name="record", detail=detail)
    rate = draw.choice([0.05, 0.3, 0.6])
    cerebro.addstrategy(
        RandomTrader, seed=number, hedged=hedged, reduces=True, size=draw.choice([5.0, 40.0]), rate=rate
    )
    (strategy,) = cerebro.run()
    record = strategy.analyzers.record.get_analysis()
    curves = [
        record[name]
        for name in ("equity", "margin_used", "free_margin", "margin_level", "exposure", "liquidation_prices")
    ]
    return digest_of_run(strategy, strategy.record, strategy.curve, strategy.trades, curves)


def mixed_run(number: int) -> dict[str, Any]:
    """Run a random trader on every product."""
    modes = mixed_runs.MODES
    settings = dict(modes[number % len(modes)])
    settings["cerebro"] = dict(RUN_MODES[number // len(modes) % len(RUN_MODES)])
    venue = (
        ("okx", "generic", "bybit", "derive")[number % 4]
        if settings["mode"] != "portfolio"
        else ("okx", "generic", "bybit")[number % 3]
    )
    if "pooling" in settings and not venues.load(venue).rules.collateral:
        venue = "okx"
    rate, volatility = (0.05, 0.4, 0.9)[number % 3], (0.005, 0.03)[number % 2]
    strategy = mixed_runs.run(
        number, bars=100, volatility=volatility, hedged=bool(number % 2), rate=rate, venue=venue, **settings
    )
    return digest_of_run(strategy, strategy.record, strategy.curve, strategy.trades)


RESULTS = (
    "equity", "margin_used", "free_margin", "margin_level", "exposure", "fills", "refused", "liquidations",
    "lowest_margin_level", "bad_debt", "fees", "funding", "interest", "times_ms",
)  # fmt: skip


def compared(file: str, market: Any, venue: str, mode: str) -> dict[str, Any]:
    """Run a shipped strategy as the command line does; what ends in an error has its words for a result."""
    result = compare.run(
        compare.load(f"{STRATEGIES}/{file}"), market, venue=venue, mode=mode, settings=compare.Settings()
    )
    built = msgspec.to_builtins(result)
    journal = built["journal"] if mode == "cash" else [plain_entry(entry) for entry in built["journal"]]
    estimates = built["liquidation_prices"]
    figures = digest([built[name] for name in RESULTS] + [estimates])
    return {"entries": len(journal), "journal": digest(journal), "result": figures}


WHOLE = ("hedging.py:SpotHedging", "funding_carry.py", "options_overlay.py")
FILES = ("hedging.py:Hedging", "long_short.py", "scalping.py")
MODES = ("cash", "isolated", "cross")


def sample_runs() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the shipped strategies on the sample and, where they are at hand, on recorded candles."""
    read: dict[str, Any] = {}

    def market(where: Path, **settings: Any) -> Any:
        key = f"{where} {settings}"
        if key not in read:
            read[key] = folder.read(where, **settings)
        return read[key]

    sample = TESTS.parent / "data"
    recorded = SHARED / "data" / "binance_um_perp_1h_2020_2022"
    crash = {"symbols": ("BTCUSDT", "ETHUSDT", "XRPUSDT"), "start": "2021-03-01", "end": "2021-07-31"}
    for file in FILES:
        for mode in MODES:
            for venue in ("generic", "okx", "kucoin"):
                yield f"sample {file} {venue} {mode}", lambda f=file, v=venue, m=mode: compared(f, market(sample), v, m)
            if recorded.is_dir():
                yield (
                    f"recorded {file} binance {mode}",
                    lambda f=file, m=mode: compared(f, market(recorded, **crash), "binance", m),
                )


def whole_account_runs() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the strategies of coins and options on their sample."""
    market = folder.read(TESTS.parent / "data" / "whole")
    for file in WHOLE:
        for mode in ("cross", "multi_currency", "portfolio"):
            yield f"whole {file} okx {mode}", lambda f=file, m=mode: compared(f, market, "okx", m)


def runs() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return every run of the matrix by its name."""
    found = dict(scenarios())
    found.update({f"random {number}": lambda n=number: random_run(n) for number in range(RANDOM_RUNS)})
    found.update({f"mixed {number}": lambda n=number: mixed_run(n) for number in range(MIXED_RUNS)})
    found.update(sample_runs())
    found.update(whole_account_runs())
    return found


def run_named(name: str) -> tuple[str, dict[str, Any]]:
    """Do one run, in a process of its own or not."""
    return name, runs()[name]()


def main() -> None:
    """Record the digests, or print the runs whose digests differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="record the digests anew")
    parser.add_argument("--only", default="", help="a part of the names of the runs to do")
    options = parser.parse_args()
    known = {} if options.write else json.loads(DIGESTS.read_text(encoding="utf-8"))
    wanted = [name for name in runs() if options.only in name]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        done = dict(pool.map(run_named, wanted))
    if options.write:
        DIGESTS.write_text(json.dumps(done, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        return
    differing = [name for name, found in done.items() if known.get(name) != found]
    for name in differing:
        sys.stdout.write(f"{name}: {known.get(name)} is now {done[name]}\n")
    sys.stdout.write(f"{len(done)} runs, {len(differing)} differ\n")


if __name__ == "__main__":
    main()
