# SPDX-License-Identifier: GPL-3.0-or-later
"""A script as a user writes it: no complaint of a type checker. Checked by tests/test_typing.py, never run."""

import crossmargin_bt as cm
from crossmargin_bt import CrossMarginBroker, Instrument, Refusal, events, feeds, load_venue
from crossmargin_bt.guards import MaximumLeverage


def account(table: "dict[str, Instrument]") -> CrossMarginBroker:
    """Return a broker with settings of its own and of backtrader's."""
    return CrossMarginBroker(
        cash=10_000.0,
        slip_perc=0.0005,
        venue=load_venue("okx"),
        mode="cross",
        leverage={"BTCUSDT": 20.0},
        position_mode="hedge",
        instruments=table,
        guards=[MaximumLeverage(5.0)],
        reserve=cm.Reserve(amount=500.0, at_level=1.5, to_level=3.0, each=200.0),
    )


def contract() -> Instrument:
    """Return a contract."""
    return Instrument(symbol="BTCUSDT", lot=0.001, tick=0.1, maker=0.0002, taker=0.0005, leverage_max=100.0)


def short_by(refusal: Refusal) -> float:
    """Return what was missing."""
    if refusal.code == "insufficient_margin":
        return refusal.needed - refusal.available
    return 0.0


def liquidated(journal: list[events.JournalEntry]) -> float:
    """Return the collateral of the first liquidation."""
    return next((entry.collateral for entry in journal if isinstance(entry, events.Liquidated)), 0.0)


def sources(name: str) -> dict[str, str]:
    """Return the sources of a venue; an unknown one is an error that can be caught by its name."""
    try:
        venue: cm.Venue = cm.venues.load(name)
    except cm.errors.ConfigurationError:
        return {}
    return venue.sources


def run(candles: cm.Candles) -> None:
    """Add a feed, sizer, analyzers and observers, and run."""
    cerebro = cm.Cerebro()
    cerebro.adddata(feeds.from_frame(candles.frame, name=candles.symbol, instrument=candles.instrument))
    cerebro.setbroker(account({}))
    cerebro.addsizer(cm.MaximumSizer, share=0.9)
    cerebro.addanalyzer(cm.analyzers.Rejections)
    cerebro.addobserver(cm.observers.MarginLevel)
    cerebro.run()
