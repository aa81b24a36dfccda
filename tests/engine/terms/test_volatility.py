# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates that follow realised volatility."""

from __future__ import annotations

import math
from importlib import resources
from itertools import pairwise

import backtrader as bt
import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import FLAT, bars, run

from crossmargin_bt import CrossMarginBroker, Instrument
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import replay
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.terms.rates import flat_rate
from crossmargin_bt.engine.terms.volatility import MS_PER_DAY, RealisedVolatility, VolatilityScaling
from crossmargin_bt.errors import RuleError

PLAIN = Instrument(symbol="BTC", lot=1.0, maker=0.0, taker=0.0, maintenance=flat_rate(0.005))


def scaled(tmp_path, venue: str = "generic", **figures: float) -> str:
    """Return a rule book with rates that follow volatility, as a user writes it."""
    text = (resources.files("crossmargin_bt.venues") / f"{venue}.toml").read_text()
    lines = "".join(f"{key} = {value}\n" for key, value in figures.items())
    path = tmp_path / "scaled.toml"
    path.write_text(f"{text}\n[rules.volatility_scaling]\n{lines}")
    return str(path)


def test_rates_follow_volatility(tmp_path) -> None:
    """Against NumPy over whole days; what is required of a position, and the liquidation, move with the factor."""
    closes = [100.0, 101.0, 99.0, 99.5, 103.0, 103.0, 103.1, 103.2, 103.1, 103.2, 103.1]
    rows = [(a, max(a, b), min(a, b), b) for a, b in pairwise(closes)]
    figures = {"reference": 0.2, "cap": 2.5, "window_days": 4, "half_life_days": 2}
    broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=scaled(tmp_path, **figures))
    frame = bars(*rows)
    frame.index = pd.date_range("2025-01-01", periods=len(rows), freq="D")
    requirements = []

    def note(strategy) -> None:
        if len(strategy) == 1:
            strategy.buy(size=50)
        for pool in metrics.pools(broker.account):
            risk = metrics.risk(broker.account, pool)
            requirements.append(risk.requirement / (0.005 * 50 * strategy.data.close[0]))

    run(broker, frame, scripts=(dict.fromkeys(range(1, 12), note),), instrument=PLAIN)
    expected = []
    for n in range(2, len(rows) + 1):
        returns = np.diff(np.log([row[3] for row in rows[:n]]))[-4:]
        weights = 0.5 ** (np.arange(len(returns))[::-1] / 2)
        volatility = math.sqrt(365 * (weights * returns**2).sum() / weights.sum())
        factor = round(volatility / 0.2 / 0.05) * 0.05 if n > 2 else 1.0
        expected.append(min(2.5, max(1.0, factor)))
    assert len(set(expected)) > 4
    assert requirements == pytest.approx(expected)
    changes = [event for event in broker.journal if isinstance(event, events.RatesScaled)]
    assert [event.factor for event in changes] == pytest.approx([b for a, b in pairwise([1.0, *expected]) if a != b])
    again = replay(broker.journal, broker.account.rules, {"BTC": PLAIN})
    assert again.books["BTC"].scale == broker.account.books["BTC"].scale


def test_higher_rates_liquidate_earlier(tmp_path) -> None:
    """After a day of swings the maintenance rate is four times 0.5 %: the fall to 91 is survived without it only."""
    swings = [
        FLAT,
        FLAT,
        *[(100.0, 110.0, 100.0, 110.0), (110.0, 110.0, 100.0, 100.0)] * 3,
        (100.0, 100.0, 91.0, 91.0),
        FLAT,
    ]
    wild = scaled(tmp_path, reference=0.1, cap=4.0, window_days=1, half_life_days=0.01)
    ends = {}
    for venue in ("generic", wild):
        broker = CrossMarginBroker(cash=1000.0, leverage=10.0, venue=venue, warning_levels=(2.0,))
        run(broker, bars(*swings), scripts=({8: lambda s: s.buy(size=95)},), instrument=PLAIN)
        ends[venue] = [event for event in broker.journal if isinstance(event, events.Liquidated)]
    assert not ends["generic"]
    (end,) = ends[wild]
    assert end.requirement == pytest.approx(4 * 0.005 * 95 * end.marks["BTC:net"])
    assert "(with rates x 4.0 for volatility)" in broker.explain(end)
    assert admits(wild, leverage=125.0) is False
    with pytest.raises(RuleError, match="floor <= 1 <= cap"):
        CrossMarginBroker(venue=scaled(tmp_path, reference=0.1, cap=0.5, window_days=1, half_life_days=1))


def admits(venue: str, *, leverage: float) -> bool:
    """Return whether 9,000 fit into 100 at the highest leverage, after wild bars."""
    broker = CrossMarginBroker(cash=100.0, leverage=leverage, venue=venue)
    rows = [FLAT, *[(100.0, 110.0, 100.0, 110.0), (110.0, 110.0, 100.0, 100.0)] * 3, FLAT, FLAT]
    run(broker, bars(*rows), scripts=({7: lambda s: s.buy(size=90)},), instrument=PLAIN)
    return bool(broker.account.books["BTC"].legs)


@given(st.lists(st.tuples(st.integers(1, 10**7), st.floats(-0.3, 0.3)), min_size=2, max_size=60))
def test_a_window_is_what_is_in_it(steps: list[tuple[int, float]]) -> None:
    """Updated per close, volatility is what the returns of the window make it, whatever came before them."""
    scaling = VolatilityScaling(reference=1.0, cap=1.0, window_days=0.2, half_life_days=0.001)
    seen, at, price, returns = RealisedVolatility(scaling), 0, 100.0, []
    seen.add(at, price)
    for took, move in steps:
        at, price = at + took, price * math.exp(move)
        returns.append((at, move, took))
        volatility = seen.add(at, price)
    kept = [(0.5 ** ((at - when) / 86_400), move, took) for when, move, took in returns if when > at - 0.2 * MS_PER_DAY]
    squares = math.fsum(weight * move**2 for weight, move, _ in kept)
    years = math.fsum(weight * took for weight, _, took in kept) / (365 * MS_PER_DAY)
    if volatility is not None:
        assert volatility == pytest.approx(math.sqrt(squares / years), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("venue", "states"), [("generic", ["margin_call"]), ("gate", ["margin_call", "orders_cancelled"])]
)
def test_orders_alone_may_be_too_much(tmp_path, venue: str, states: list[str]) -> None:
    """Rates that rise make resting orders lock more than there is: a call, and where the venue does that they go."""
    figures = {"reference": 0.1, "cap": 5.0, "window_days": 1, "half_life_days": 0.01}
    broker = CrossMarginBroker(cash=1000.0, leverage=100.0, venue=scaled(tmp_path, venue, **figures))
    rows = [FLAT, FLAT, *[(100.0, 103.0, 100.0, 103.0), (103.0, 103.0, 100.0, 100.0)] * 4, FLAT]
    limit = {1: lambda s: s.buy(size=900, price=90.0, exectype=bt.Order.Limit)}
    run(broker, bars(*rows), scripts=(limit,), instrument=msgspec.structs.replace(PLAIN, leverage_max=100.0))
    assert [event.state for event in broker.journal if isinstance(event, events.RiskState)] == states
    assert bool(broker.account.books["BTC"].orders) == (venue == "generic")
