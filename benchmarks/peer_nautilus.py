# SPDX-License-Identifier: GPL-3.0-or-later
"""The workloads' strategies for nautilus_trader, which knows neither backtrader's strategies nor its indicators.

    pip install nautilus_trader

The same rules on the same candles, prices rounded to six decimals, which is what it counts in. It asks for margin, but never
liquidates; what it makes of bars (fills at the trigger, at once) differs in details, so fills differ a little too.
"""

import time
from decimal import Decimal
from typing import Any

import pandas as pd
import workloads
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
DECIMALS = 6


class Traded(StrategyConfig, frozen=True):
    """What a strategy trades: one instrument."""

    instrument: Any
    bars: Any


class Crossover(Strategy):
    """W1: long above, short below."""

    def __init__(self, config: Traded) -> None:
        super().__init__(config)
        self.traded = config.instrument
        self.fast, self.slow = SimpleMovingAverage(10), SimpleMovingAverage(50)
        self.was_above: bool | None = None

    def on_start(self) -> None:
        for average in (self.fast, self.slow):
            self.register_indicator_for_bars(self.config.bars, average)
        self.subscribe_bars(self.config.bars)

    def on_bar(self, bar: Any) -> None:
        if not self.slow.initialized or self.fast.value == self.slow.value:
            return
        is_above = self.fast.value > self.slow.value
        if self.was_above is not None and is_above != self.was_above:
            self.turn(is_above, bar)
        self.was_above = is_above

    def turn(self, is_long: bool, bar: Any) -> None:  # noqa: ARG002, FBT001
        """Turn the position."""
        held = abs(float(self.portfolio.net_position(self.traded.id)))
        side = OrderSide.BUY if is_long else OrderSide.SELL
        self.submit_order(self.order_factory.market(self.traded.id, side, self.traded.make_qty(1.0 + held)))


class CrossoverWithStop(Crossover):
    """W2: the same with a protective stop."""

    def __init__(self, config: Traded) -> None:
        super().__init__(config)
        self.protection: Any = None

    def turn(self, is_long: bool, bar: Any) -> None:  # noqa: FBT001
        """Cancel the stop, turn the position, and place the next stop."""
        if self.protection is not None and self.protection.is_open:
            self.cancel_order(self.protection)
        super().turn(is_long, bar)
        price = self.traded.make_price(float(bar.close) * (0.99 if is_long else 1.01))
        side = OrderSide.SELL if is_long else OrderSide.BUY
        self.protection = self.order_factory.stop_market(self.traded.id, side, self.traded.make_qty(1.0), price)
        self.submit_order(self.protection)


class Quoter(Strategy):
    """W3: ten limit orders a side, requoted every 20 bars."""

    def __init__(self, config: Traded) -> None:
        super().__init__(config)
        self.traded = config.instrument
        self.seen = 0

    def on_start(self) -> None:
        self.subscribe_bars(self.config.bars)

    def on_bar(self, bar: Any) -> None:
        self.seen += 1
        if self.seen % 20:
            return
        self.cancel_all_orders(self.traded.id)
        close, one = float(bar.close), self.traded.make_qty(1.0)
        for level in range(1, 11):
            for side, sign in ((OrderSide.BUY, -1), (OrderSide.SELL, 1)):
                price = self.traded.make_price(close * (1 + sign * 0.0005 * level))
                self.submit_order(self.order_factory.limit(self.traded.id, side, one, price))


STRATEGIES = {"W1": Crossover, "W2": CrossoverWithStop, "W3": Quoter}


def perpetual(name: str) -> CryptoPerpetual:
    """Return a contract at the workloads' fee."""
    fee = Decimal(str(workloads.FEE))
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol(name), VENUE), raw_symbol=Symbol(name), base_currency=USDT, quote_currency=USDT,
        settlement_currency=USDT, is_inverse=False, price_precision=DECIMALS, size_precision=3,
        price_increment=Price(10**-DECIMALS, DECIMALS), size_increment=Quantity(0.001, 3), margin_init=Decimal("0.1"),
        margin_maint=Decimal("0.05"), maker_fee=fee, taker_fee=fee, ts_event=0, ts_init=0,
    )  # fmt: skip


def seconds(name: str, bars: int) -> float:
    """Return the seconds of a workload, candles made ready included; print how many fills there were."""
    workload = workloads.WORKLOADS[name]
    data = workloads.frames(workload, bars)
    began = time.perf_counter()
    engine = BacktestEngine(config=BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        VENUE, OmsType.NETTING, AccountType.MARGIN, starting_balances=[Money(workloads.CASH, USDT)],
        default_leverage=Decimal(str(workloads.LEVERAGE)), base_currency=USDT,
    )  # fmt: skip
    for n, frame in enumerate(data):
        contract = perpetual(f"S{n}")
        kind = BarType.from_str(f"S{n}.SIM-{workload.minutes}-MINUTE-LAST-EXTERNAL")
        engine.add_instrument(contract)
        told = frame.set_axis(pd.DatetimeIndex(frame.index, tz="UTC"))
        engine.add_data(BarDataWrangler(kind, contract).process(told))
        engine.add_strategy(
            STRATEGIES[name](Traded(strategy_id=f"{name}-{n}", order_id_tag=str(n), instrument=contract, bars=kind))
        )
    engine.run()
    taken = time.perf_counter() - began
    print(sum(order.filled_qty > 0 for order in engine.cache.orders()), "orders filled")
    return taken
