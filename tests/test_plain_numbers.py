# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of other libraries: taken where they are numbers, refused in words where they are none."""

from decimal import Decimal
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from compared import frame_of

import crossmargin_bt as cm
from crossmargin_bt import CrossMarginBroker, Instrument, feeds
from crossmargin_bt.engine import events
from crossmargin_bt.errors import ConfigurationError, RuleError

OF_OTHERS = [np.float64, np.float32, np.int64, Decimal]


class Quoter(bt.Strategy):
    """Buys at market, then at a limit off the tick grid, then sells with a bracket."""

    params = (("of", float),)

    def next(self) -> None:
        of = self.p.of
        if len(self) == 2:
            self.buy(size=of(2))
        elif len(self) == 4:
            self.buy(size=of(1), exectype=bt.Order.Limit, price=of(99))
        elif len(self) == 6:
            self.sell_bracket(size=of(1), price=of(101), stopprice=of(120), limitprice=of(90))


def journal(of: Any) -> list[Any]:
    cerebro = bt.Cerebro(stdstats=False)
    instrument = Instrument(symbol="BTC", lot=0.1, tick=0.5)
    cerebro.adddata(feeds.from_frame(frame_of(3, 80), name="BTC", instrument=instrument))
    broker = CrossMarginBroker(cash=1_000.0)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Quoter, of=of)
    cerebro.run()
    return list(broker.journal)


@pytest.mark.parametrize("of", OF_OTHERS, ids=lambda of: of.__name__)
def test_orders_take_numbers_of_any_library(of: Any) -> None:
    """The journal is that of Python's own."""
    own = journal(float)
    assert journal(of) == own
    assert sum(isinstance(entry, events.Filled) for entry in own) >= 3


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"size": "0.1"}, "size must be a number, got '0.1'"),
        ({"size": float("nan")}, "size must be a number of contracts, got nan"),
        ({"size": 1.0, "price": "100", "exectype": bt.Order.Limit}, "price must be a number, got '100'"),
        (
            {"size": 1.0, "price": 100.0, "plimit": [], "exectype": bt.Order.StopLimit},
            "plimit must be a number, got []",
        ),
    ],
)
@pytest.mark.parametrize("buys", [True, False])
def test_what_is_no_number_is_refused_with_a_reason(figures: dict[str, Any], reason: str, *, buys: bool) -> None:
    """The run goes on."""

    class Once(bt.Strategy):
        def next(self) -> None:
            if len(self) == 2:  # a strategy's own buy() takes the size's absolute value first
                (self.broker.buy if buys else self.broker.sell)(self, self.data, **figures)

    cerebro = bt.Cerebro(stdstats=False)
    instrument = Instrument(symbol="BTC", lot=0.1, tick=0.5)
    cerebro.adddata(feeds.from_frame(frame_of(3, 10), name="BTC", instrument=instrument))
    broker = CrossMarginBroker(cash=1_000.0)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Once)
    cerebro.run()
    (refused,) = [entry for entry in broker.journal if isinstance(entry, events.OrderRefused)]
    assert refused.reason == reason


@pytest.mark.parametrize("of", OF_OTHERS, ids=lambda of: of.__name__)
def test_instruments_and_settings_take_them_too(of: Any) -> None:
    """As Python's own: 0.7 in single precision is 0.7."""
    found = Instrument(symbol="BTC", lot=of(1), contract_size=of(1), tick=of(2), maker=of(0), leverage_max=of(50))
    assert found == Instrument(symbol="BTC", lot=1.0, contract_size=1.0, tick=2.0, maker=0.0, leverage_max=50.0)
    assert type(found.lot) in (int, float)
    assert Instrument(symbol="BTC", lot=np.float32(0.7)).lot == 0.7
    assert found.round_price(of(101), "down") == 100.0
    CrossMarginBroker(cash=of(1_000), leverage=of(5))
    with pytest.raises(RuleError, match="BTC: lot must be a number, got '1'"):
        Instrument(symbol="BTC", lot="1")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="cash must be a number, got '1000'"):
        CrossMarginBroker(cash="1000")
    with pytest.raises(ConfigurationError, match=r"leverage of the account must be a number, got array\(5\)"):
        CrossMarginBroker(leverage=np.array(5))


@pytest.mark.parametrize("mode", ["cross", "isolated", "portfolio"])
def test_fees_that_nobody_would_charge_are_refused(mode: str) -> None:
    """A margin account's are the venue's; in cash mode both calls are the stock broker's."""
    broker = CrossMarginBroker(mode=mode)
    for call in (lambda: broker.setcommission(0.01), lambda: broker.addcommissioninfo(bt.CommissionInfo())):
        with pytest.raises(ConfigurationError, match="a margin account takes fees from the venue"):
            call()
    cash = CrossMarginBroker(mode="cash")
    cash.setcommission(0.01)
    cash.addcommissioninfo(bt.CommissionInfo(commission=0.02), name="BTC")
    assert (cash.comminfo[None].p.commission, cash.comminfo["BTC"].p.commission) == (0.01, 0.02)


def test_a_recorder_wants_our_broker() -> None:
    """And says so."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame_of(3, 10), name="BTC"))
    cerebro.addanalyzer(cm.Recorder)
    cerebro.addstrategy(bt.Strategy)
    with pytest.raises(ConfigurationError, match="a Recorder needs a CrossMarginBroker"):
        cerebro.run()
