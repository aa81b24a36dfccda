# SPDX-License-Identifier: GPL-3.0-or-later
"""Metamorphic laws: what a run becomes when its inputs are changed in a way whose effect is known without a model.

The law of the mirror (prices p become 1/p, longs become shorts) is exact between a linear contract and an inverse one that settles
in its own quote: a linear long of q coins earns q (P - E), an inverse short of q quote units at 1/P earns q (1/(1/P) - 1/(1/E)).
Mirrored candles of one linear contract are not exact: profit is linear in the price and value is not symmetric.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import backtrader as bt
import msgspec
import pandas as pd
import pytest
from random_trader import candles, seeds

from crossmargin_bt import CrossMarginBroker, Instrument, feeds, venues
from crossmargin_bt.engine.terms.rates import flat_rate, tier_table

Order = tuple[int, str, float, float | None, str | None]
"""The bar after which an order is entered, its symbol, its signed size in contracts, its limit (None: market), and its leg."""

NAMES = ("AAA", "BBB")
VENUES = [name for name in venues.shipped() if name != "binance_coinm"]


class Scripted(bt.Strategy):
    """Enters the orders of a script and keeps equity, cash and margin used of every bar."""

    params = (("orders", ()), ("all_in", False))

    def __init__(self) -> None:
        self.curve: list[tuple[float, float, float]] = []

    def next(self) -> None:
        broker = self.broker
        self.curve.append((broker.equity, broker.getcash(), broker.margin_used))
        if self.p.all_in and broker.getposition(self.data).size and broker.getcash() > 0:
            assert broker.add_margin(self.data, broker.getcash()) is None
        for bar, symbol, size, limit, side in self.p.orders:
            if bar != len(self):
                continue
            words: dict[str, Any] = {"data": self.getdatabyname(symbol), "size": abs(size)}
            if limit is not None:
                words |= {"exectype": bt.Order.Limit, "price": limit}
            if side is not None:
                words["position_side"] = side
            (self.buy if size > 0 else self.sell)(**words)


def script(seed: int, frames: dict[str, pd.DataFrame], *, worth: float = 4000.0) -> list[Order]:
    """Return random market and limit orders in whole lots of 0.01; prices and sizes do not depend on the account."""
    draw = random.Random(seed)  # noqa: S311 - a seeded test
    orders: list[Order] = []
    for bar in range(1, len(next(iter(frames.values())))):
        if draw.random() < 0.5:
            symbol = draw.choice(list(frames))
            close = float(frames[symbol]["close"].iloc[bar - 1])
            size = round(draw.uniform(0.1, 1.0) * worth / close, 2) * draw.choice([1, -1])
            limit = close * (1 + draw.uniform(-0.02, 0.02)) if draw.random() < 0.5 else None
            orders.append((bar, symbol, size, limit, None))
    return orders


def frames_of(seed: int, bars: int = 60, names: tuple[str, ...] = NAMES) -> dict[str, pd.DataFrame]:
    """Return candles of some contracts, with mark prices and funding."""
    return {name: candles(seed + 50 * number, bars) for number, name in enumerate(names)}


def instruments_of(frames: dict[str, pd.DataFrame], **terms: Any) -> dict[str, Instrument]:
    """Return a contract for each frame: tiers marginal for one, whole-position for the other."""
    table = [(0.0, 0.01, 50.0), (5000.0, 0.02, 25.0), (12_000.0, 0.05, 10.0)]
    return {
        name: msgspec.structs.replace(
            Instrument(symbol=name, lot=0.01, maintenance=tier_table(table, marginal=number == 0)), **terms
        )
        for number, name in enumerate(frames)
    }


def play(
    frames: dict[str, pd.DataFrame],
    instruments: dict[str, Instrument],
    orders: list[Order],
    *,
    all_in: bool = False,
    **settings: Any,
) -> Scripted:
    """Run a script."""
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in frames.items():
        cerebro.adddata(feeds.from_frame(frame, name=name, instrument=instruments[name]))
    cerebro.setbroker(CrossMarginBroker(**{"cash": 1000.0, "leverage": 10.0, **settings}))
    cerebro.addstrategy(Scripted, orders=orders, all_in=all_in)
    return cerebro.run()[0]


def shapes(strategy: Scripted) -> list[str]:
    """Return the kinds of the journal's entries, in order: the decisions of a run without its amounts."""
    return [
        f"{type(one).__name__} {getattr(one, 'code', '')}{getattr(one, 'state', '')}" for one in strategy.broker.journal
    ]


def agree(one: Scripted, other: Scripted, factor: float = 1.0) -> None:
    """Check that two runs made the same decisions, and that all figures of the other are a factor of the first's."""
    assert shapes(other) == shapes(one)
    for mine, theirs in zip(one.curve, other.curve, strict=True):
        assert [figure * factor for figure in mine] == pytest.approx(theirs, rel=1e-9, abs=1e-7 * factor)


def cases(few: int, many: int) -> Callable:
    """Return a parametrisation over seeds; the venue and the mode rotate with the seed."""
    return pytest.mark.parametrize("seed", seeds(few, many))


def setting(seed: int) -> dict[str, Any]:
    """Return the venue and the mode of a seed."""
    return {"venue": VENUES[seed % len(VENUES)], "mode": ("cross", "isolated")[seed // len(VENUES) % 2]}


def without_steps(name: str) -> venues.Venue:
    """Return a venue that closes a pool whole: steps have absolute amounts, and an interval that depends on the bar's length."""
    return venues.load(name).with_rules(lambda rules: msgspec.structs.replace(rules, liquidation=()))


def scaled_frame(frame: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Return candles with all prices times a factor."""
    prices = [name for name in frame if name.rpartition("_")[2] in ("open", "high", "low", "close")]
    return frame.assign(**{name: frame[name] * factor for name in prices})


@cases(8, 200)
def test_prices_and_cash_in_another_unit(seed: int) -> None:
    """Scale: with prices, cash and bounds of tiers times 8 every amount is times 8 (a power of two: floats scale exactly)."""
    frames = frames_of(seed)
    orders = script(seed, frames)
    settings = setting(seed)
    # Rates that are absolute amounts of their own (tiers, steps above a value) would have to be scaled too: contracts bring theirs.
    flat = {name: Instrument(symbol=name, lot=0.01, maintenance=flat_rate(0.01)) for name in frames}
    settings["venue"] = without_steps(settings["venue"])
    one = play(frames, flat, orders, **settings)
    large = {name: scaled_frame(frame, 8.0) for name, frame in frames.items()}
    moved = [(bar, name, size, limit and limit * 8.0, side) for bar, name, size, limit, side in orders]
    agree(one, play(large, flat, moved, cash=8000.0, **settings), 8.0)


@cases(8, 200)
def test_a_contract_of_another_size(seed: int) -> None:
    """Split: contracts a quarter as large, four times as many, are the same position."""
    frames = frames_of(seed)
    orders = script(seed, frames)
    one = play(frames, instruments_of(frames), orders, **setting(seed))
    small = instruments_of(frames, contract_size=0.25, lot=0.04)
    many = [(bar, name, size * 4, limit, side) for bar, name, size, limit, side in orders]
    agree(one, play(frames, small, many, **setting(seed)))


@cases(5, 100)
def test_other_names(seed: int) -> None:
    """Rename: with other symbols, in the same order, the run is the same."""
    frames = frames_of(seed)
    orders = script(seed, frames)
    one = play(frames, instruments_of(frames), orders, **setting(seed))
    names = dict(zip(NAMES, ("CCC", "DDD"), strict=True))
    renamed = {names[name]: frame for name, frame in frames.items()}
    moved = [(bar, names[name], size, limit, side) for bar, name, size, limit, side in orders]
    agree(one, play(renamed, instruments_of(renamed), moved, **setting(seed)))


@cases(5, 100)
def test_another_day(seed: int) -> None:
    """Shift: a week later, within one period of the venue's rules, the run is the same."""
    frames = frames_of(seed)
    orders = script(seed, frames)
    one = play(frames, instruments_of(frames), orders, **setting(seed))
    later = {name: frame.set_axis(frame.index + pd.Timedelta(days=7), axis=0) for name, frame in frames.items()}
    agree(one, play(later, instruments_of(later), orders, **setting(seed)))


@cases(5, 100)
def test_finer_bars(seed: int) -> None:
    """Finer bars: a bar whose prices only fall or rise, or its halves, take the account to the same close."""
    frames = {}
    for name, frame in frames_of(seed).items():
        straight = frame.assign(open=frame["close"].shift(1, fill_value=100.0)).drop(
            columns=[c for c in frame if "mark" in c]
        )
        straight["high"] = straight[["open", "close"]].max(axis=1)
        straight["low"] = straight[["open", "close"]].min(axis=1)
        frames[name] = straight
    orders = script(seed, frames)
    finer = {name: halves(frame) for name, frame in frames.items()}
    settings = setting(seed)
    # Orders that draw on more than there is are looked for at the end of a bar: finer bars have more ends.
    settings["venue"] = without_steps(settings["venue"]).with_rules(
        lambda rules: msgspec.structs.replace(rules, orders_cancelled_overdrawn=False)
    )
    one = play(frames, instruments_of(frames), orders, **settings)
    late = [((bar - 1) * 2 + 2, name, size, limit, side) for bar, name, size, limit, side in orders]
    other = play(finer, instruments_of(finer), late, **settings)
    fills = [
        [
            (e.symbol, e.lots, pytest.approx(e.price, rel=1e-9))
            for e in run.broker.journal
            if type(e).__name__ == "Filled"
        ]
        for run in (one, other)
    ]
    assert fills[0] == fills[1]
    assert [bar[0] for bar in one.curve] == pytest.approx([bar[0] for bar in other.curve[1::2]], rel=1e-9, abs=1e-7)


def halves(frame: pd.DataFrame) -> pd.DataFrame:
    """Return straight candles, each cut into two at the middle of its way."""
    middle = (frame["open"] + frame["close"]) / 2
    first = frame.assign(close=middle)
    second = frame.assign(open=middle, funding_rate=float("nan")).set_axis(
        frame.index + pd.Timedelta(minutes=30), axis=0
    )
    both = pd.concat([first, second]).sort_index()
    return both.assign(high=both[["open", "close"]].max(axis=1), low=both[["open", "close"]].min(axis=1))


@cases(6, 100)
def test_a_lone_position_cross_or_isolated(seed: int) -> None:
    """Lone position: isolated, with all of the balance moved to its margin, it is liquidated at the mark where the cross pool is."""
    draw = random.Random(seed)  # noqa: S311 - a seeded test
    frames = frames_of(seed, 120, ("AAA",))
    # The bar of the fill does not move: the margin is added at its close.
    for name in ("high", "low", "close"):
        frames["AAA"].loc[frames["AAA"].index[2], [name, f"mark_{name}"]] = (
            frames["AAA"].iloc[2][["open", "mark_open"]].to_numpy()
        )
    leverage = float(draw.choice([10, 20, 40]))
    size = round(700.0 * leverage / 100.0, 2) * draw.choice([1, -1])
    ends = []
    for mode in ("cross", "isolated"):
        plain = {"AAA": Instrument(symbol="AAA", lot=0.01, maintenance=flat_rate(0.01))}
        run = play(
            frames, plain, [(2, "AAA", size, None, None)], all_in=mode == "isolated", mode=mode, leverage=leverage
        )
        marks = [next(iter(one.marks.values())) for one in run.broker.journal if type(one).__name__ == "Liquidated"]
        ends.append((marks, run.broker.equity))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-9)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-9, abs=1e-6)


@cases(8, 200)
def test_a_hedge_with_one_leg(seed: int) -> None:
    """Hedge: long legs alone, never sold beyond what they hold, are the positions of one-way mode."""
    frames = frames_of(seed)
    held = dict.fromkeys(frames, 0.0)
    orders: list[Order] = []
    for bar, name, size, limit, _ in script(seed, frames, worth=1500.0):
        # Market orders that always fill, at a leverage that is not liquidated: what is held is known without the account.
        kept = round(max(-held[name], size), 2)
        if kept and limit is None and held[name] + kept < 40.0:
            held[name] = round(held[name] + kept, 2)
            orders.append((bar, name, kept, None, None))
    one = play(frames, instruments_of(frames), orders, cash=100_000.0, leverage=2.0, **setting(seed))
    legs = [(bar, name, size, limit, "long") for bar, name, size, limit, _ in orders]
    agree(
        one,
        play(
            frames, instruments_of(frames), legs, cash=100_000.0, leverage=2.0, position_mode="hedge", **setting(seed)
        ),
    )


@cases(5, 100)
def test_the_mirror_of_a_linear_contract_is_inverse(seed: int) -> None:
    """Mirror: at prices 1/p the inverse contract, bought where the linear one is sold, has the same profit, value and margin.

    Fees are equal too: both are a share of the same value. Without fee, order margin at own prices and maintenance agree.
    """
    frames = {"AAA": candles(seed, 60).drop(columns=["mark_open", "mark_high", "mark_low", "mark_close"])}
    mirrored = frames["AAA"].assign(
        open=1 / frames["AAA"]["open"], high=1 / frames["AAA"]["low"], low=1 / frames["AAA"]["high"], close=1 / frames["AAA"]["close"],
        funding_rate=-frames["AAA"]["funding_rate"],
    )  # fmt: skip
    orders = [one for one in script(seed, frames) if one[3] is None]
    opposite = [(bar, name, -size, None, side) for bar, name, size, _, side in orders]
    linear = {"AAA": Instrument(symbol="AAA", lot=0.01, maintenance=flat_rate(0.01))}
    inverse = {"AAA": Instrument(symbol="AAA", lot=0.01, inverse=True, maintenance=flat_rate(0.01))}
    mode = ("cross", "isolated")[seed % 2]
    one = play(frames, linear, orders, mode=mode, path="close")
    agree(one, play({"AAA": mirrored}, inverse, opposite, mode=mode, path="close"))
