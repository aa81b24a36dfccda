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
from crossmargin_bt.engine.ledger import events
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
    broker = CrossMarginBroker(
        cash=of(1_000), leverage=of(5), warning_levels=(of(3),), liquidation_slippage=of(0), liquidation_impact=of(0),
        insurance_fund=of(7), deposits={"BTC": of(2)}, prices={"BTC": of(9)}, interest_rates={"BTC": of(1)},
    )  # fmt: skip
    given = broker.p
    assert (given.warning_levels, given.insurance_fund, given.deposits, given.prices) == (
        (3,),
        7,
        {"BTC": 2},
        {"BTC": 9},
    )
    assert all(
        type(one) in (int, float) for one in (given.insurance_fund, *given.warning_levels, given.deposits["BTC"])
    )
    with pytest.raises(RuleError, match="BTC: lot must be a finite number, got '1'"):
        Instrument(symbol="BTC", lot="1")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="cash must be a number, got '1000'"):
        CrossMarginBroker(cash="1000")
    with pytest.raises(ConfigurationError, match=r"leverage of the account must be a number, got array\(5\)"):
        CrossMarginBroker(leverage=np.array(5))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"deposits": {"BTC": True}}, "deposits of BTC must be a number, got True"),
        ({"deposits": {"BTC": float("inf")}}, "deposits of BTC must be a number, got inf"),
        ({"prices": {"BTC": "9"}}, "prices of BTC must be a number, got '9'"),
        ({"warning_levels": ("3",)}, "a warning level must be a number, got '3'"),
        ({"insurance_fund": float("nan")}, "insurance_fund must be a number, got nan"),
        ({"liquidation_slippage": None}, "liquidation_slippage must be a number, got None"),
    ],
)
def test_settings_that_are_no_numbers_are_refused(settings: dict[str, Any], text: str) -> None:
    """With their name."""
    with pytest.raises(ConfigurationError, match=text):
        CrossMarginBroker(**settings)


@pytest.mark.parametrize("of", OF_OTHERS, ids=lambda of: of.__name__)
def test_what_is_asked_and_changed_in_a_run_takes_them_too(of: Any) -> None:
    """Previews, money paid in, margin moved."""
    told: dict[str, Any] = {}

    class Asks(bt.Strategy):
        def next(self) -> None:
            broker = self.broker
            if len(self) == 2:
                self.buy(size=1.0)
            if len(self) == 4:
                told["preview"] = broker.preview(data=self.data, size=of(1), price=of(90)).refusal
                told["paid in"] = broker.transfer("USDT", of(5))
                told["moved"] = broker.add_margin(self.data, of(3))
                told["distance"] = broker.aggregate_distance({"BTC": of(1)})
                with pytest.raises(ConfigurationError, match="the order's price must be a number, got '90'"):
                    broker.preview(data=self.data, size=1.0, price="90")
                with pytest.raises(ConfigurationError, match="the amount must be a number, got True"):
                    broker.transfer("USDT", True)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feeds.from_frame(frame_of(3, 10), name="BTC", instrument=Instrument(symbol="BTC", lot=0.1)))
    broker = CrossMarginBroker(cash=1_000.0, mode="isolated", leverage=5.0)
    cerebro.setbroker(broker)
    cerebro.addstrategy(Asks)
    cerebro.run()
    assert (told["preview"], told["paid in"], told["moved"]) == (None, None, None)
    amounts = [
        entry.amount
        for entry in broker.journal
        if isinstance(entry, events.CashTransferred | events.IsolatedMarginAdjusted)
    ]
    assert amounts == [1_000.0, 5.0, 3.0]


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
