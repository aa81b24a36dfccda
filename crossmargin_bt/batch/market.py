# SPDX-License-Identifier: GPL-3.0-or-later
"""The market of a batch, as arrays: candles, contracts, rules, and what accounts want in it."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from crossmargin_bt.batch import layout
from crossmargin_bt.batch.accounts import Account, LimitOrders
from crossmargin_bt.batch.layout import Quotes
from crossmargin_bt.broker.api.settings import Settings, cash_of, one_of
from crossmargin_bt.broker.bar.risk_monitor import thresholds
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.ledger.account import Account as EngineAccount
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.math.intrabar_path import POLICIES
from crossmargin_bt.engine.terms.instrument import DUST, Instrument
from crossmargin_bt.engine.terms.rates import TierTable
from crossmargin_bt.errors import ConfigurationError, FeedError
from crossmargin_bt.feeds import from_frame
from crossmargin_bt.frames import candle_arrays
from crossmargin_bt.venues import Venue, tiers

# From so many lots on a hair of a size is a whole one (`crossmargin_bt.engine.terms.instrument.whole_lots`), and rounded twice it is two.
LOTS_MAX = 10**13


class Market:
    """Candles, contracts and rules as the compiled loop takes them."""

    def __init__(self, candles: Sequence[Candles], venue: str | Venue, path: str = "path") -> None:
        if not candles:
            raise FeedError("there are no candles")
        if isinstance(candles, Candles) or not all(isinstance(one, Candles) for one in candles):
            raise FeedError("candles are a list of batch.Candles, as candles.folder.read returns it")
        one_of("path", path, POLICIES)
        self.path = path
        self.venue = tiers.load_with(venue, None)
        engine = EngineAccount(self.venue.rules)
        self.books: list[Book] = [engine.list_instrument(one.instrument) for one in candles]
        _refuse_unknown(self.venue, self.books)
        if len(engine.books) < len(candles):
            raise FeedError("two of the candles are of the same instrument; give each a symbol of its own")
        self._candles = candles
        loaded = [_columns(one) for one in candles]
        self._columns = columns = [own for own, _ in loaded]
        self._times = loaded[0][1]
        for one, (_, times) in zip(candles, loaded, strict=True):
            if not times.equals(self._times):
                raise FeedError(f"{one.symbol} and {candles[0].symbol} have different bars; give them the same")
        self.last = _side_by_side(columns, [PRICES] * len(columns))
        marked = [MARKS if MARKS[0] in own else PRICES for own in columns]
        self.mark = _side_by_side(columns, marked) if MARKS in marked else self.last
        self.contracts = np.array(
            [
                [one.units_per_lot, one.inverse, book.maker, book.taker, 0.0, one.lot, one.lots_per_contract]
                for book in self.books
                for one in [book.instrument]
            ],
            dtype=np.float64,
        )
        rules = self.venue.rules
        if rules.closing_fee_in_maintenance != "none" or rules.isolated_closing_fee != "none":
            # At a bankruptcy price of up to twice the value.
            self.contracts[:, layout.KEPT] = 2 * np.abs(self.contracts[:, layout.TAKER])
        self.funding = np.array([np.nan_to_num(own["funding_rate"]) for own in columns])
        self.levels = np.array([threshold.level for threshold in thresholds(rules)])

    @cached_property
    def times_ms(self) -> Any:
        """The times of the bars in milliseconds since 1970-01-01 UTC."""
        return self._times.as_unit("ms").asi8

    @cached_property
    def frames(self) -> list[tuple[str, pd.DataFrame, Instrument]]:
        """The name, candles and contract of every market, for the broker to go on with."""
        told = zip(self._candles, self._columns, strict=True)
        return [(one.symbol, pd.DataFrame(own, index=self._times), one.instrument) for one, own in told]

    @cached_property
    def _steps(self) -> tuple[Any, Any]:
        """By bar, the shortest step between two bars so far: in days, as backtrader counts them, and in milliseconds."""
        days = np.frombuffer(from_frame(self.frames[0][1], name=self._candles[0].symbol).p.columns["datetime"])
        steps = np.append(math.inf, np.diff(days))
        steps[steps <= 0] = math.inf
        shortest = np.minimum.accumulate(steps)
        first = np.maximum.accumulate(np.where(steps < np.append(math.inf, shortest[:-1]), np.arange(len(steps)), 0))
        return shortest, np.append(0, np.diff(self.times_ms))[first]

    def step(self, at: int) -> tuple[float, int]:
        """Return the shortest step between two bars up to one, as a `BrokerSession` has it."""
        days, step_ms = self._steps
        return float(days[at]), int(step_ms[at])

    @property
    def bars(self) -> int:
        """How many bars there are."""
        return int(self.last.shape[1])

    def terms(self, account: Account) -> layout.Terms:
        """Return what an account trades under, as the compiled loop takes it."""
        rules = self.venue.rules
        return layout.Terms(
            floor_raises=rules.tier_leverage_breach == "raise",
            smallest=float(max(book.instrument.notional_min for book in self.books)),
            gains_pay="cross_orders" in rules.profit_pays_for,
            markup=float(rules.sell_order_markup or 0.0),
            leverage=float(account.leverage),
            isolated=account.mode == "isolated",
            nets=rules.order_offset != "sum",
            adverse=self.path == "adverse",
        )

    def tables(self, mode: str) -> Any:
        """Return the tiers of every contract in a mode, shape (instruments, 4, tiers)."""
        own = [book.rates[mode] for book in self.books]
        most = max(len(table.tiers) for table in own if isinstance(table, TierTable))
        filled = np.zeros((len(own), 4, most))
        filled[:, layout.BEGINS] = np.inf
        for n, table in enumerate(own):
            assert isinstance(table, TierTable)
            for k, tier in enumerate(table.tiers):
                floor = 0.0 if tier.leverage_max is None else 1 / tier.leverage_max
                places = [layout.BEGINS, layout.RATE, layout.DEDUCTION, layout.FLOOR]
                filled[n, places, k] = tier.notional_min, tier.maintenance_rate, table.deductions[k], floor
        return filled

    def sizes(self, targets: Any) -> Any:
        """Return targets as the compiled loop takes them, shape (bars, instruments)."""
        if not np.ndim(targets):
            raise ConfigurationError("targets are several arrays; write [targets] for one")
        sizes = _numbers("targets", self._in_order(targets))
        sizes = sizes[:, None] if sizes.ndim == 1 else sizes
        if sizes.shape != (self.bars, len(self.books)):
            raise ConfigurationError(
                f"targets have the shape {sizes.shape}, candles are {self.bars} bars of {len(self.books)} markets"
            )
        self._check_sizes("target", sizes)
        return sizes

    def _in_order(self, targets: Any) -> Any:
        """Return targets with names in the order of the markets."""
        if not isinstance(targets, pd.Series | pd.DataFrame):
            return targets
        known = (self._times, *(one.frame.index for one in self._candles))
        if len(targets) == self.bars and not any(targets.index.equals(one) for one in known):
            raise ConfigurationError("targets have other times than the candles; reindex them, or give an array")
        columns: Any = getattr(targets, "columns", pd.RangeIndex(1))
        if isinstance(columns, pd.RangeIndex):
            return targets
        symbols = [book.instrument.symbol for book in self.books]
        if sorted(map(str, columns)) != sorted(symbols):
            raise ConfigurationError(
                f"targets have the columns {', '.join(map(str, columns))}; give one for each of {', '.join(symbols)}"
            )
        return targets[symbols]

    def _check_sizes(self, what: str, sizes: Any) -> None:
        if np.isinf(sizes).any():
            raise ConfigurationError(f"a {what} is infinite; give sizes in contracts, NaN to leave things as they are")
        for n, book in enumerate(self.books):
            most = float(np.nanmax(np.abs(sizes[:, n]), initial=0.0))
            if book.instrument.lots(most) >= LOTS_MAX:
                raise ConfigurationError(f"a {what} of {most:g} contracts of {book.instrument.symbol} is too large")

    def quotes(self, given: LimitOrders) -> Quotes:
        """Return limit orders in whole lots, at prices on ticks."""
        sizes, prices = (_numbers("limit orders", one) for one in (given.sizes, given.prices))
        if sizes.shape != prices.shape:
            raise ConfigurationError(f"limit orders have sizes of shape {sizes.shape} and prices of {prices.shape}")
        if sizes.ndim == 2 and len(self.books) == 1:
            sizes, prices = sizes[:, None], prices[:, None]
        if sizes.ndim != 3 or sizes.shape[:2] != (self.bars, len(self.books)):
            raise ConfigurationError(
                f"limit orders have the shape {sizes.shape}, candles are {self.bars} bars of {len(self.books)} markets"
                " (bars, markets, slots)"
            )
        self._check_sizes("limit order", sizes)
        lots = np.full(sizes.shape, layout.LEAVE, dtype=np.int64)
        for n, book in enumerate(self.books):
            own = sizes[:, n]
            is_said = ~np.isnan(own)
            distinct, places = np.unique(own[is_said], return_inverse=True)
            lots[:, n][is_said] = np.array([book.instrument.lots(size) for size in distinct.tolist()], np.int64)[places]
        is_placed = (lots != layout.LEAVE) & (lots != 0)
        self._check_prices(is_placed, prices, "")
        on_ticks = np.where(is_placed, prices, 0.0)
        for n, book in enumerate(self.books):
            if book.instrument.tick:
                own, placed = on_ticks[:, n], is_placed[:, n]
                own[placed] = [
                    book.instrument.round_price(price, "down" if size > 0 else "up")
                    for price, size in zip(own[placed].tolist(), lots[:, n][placed].tolist(), strict=True)
                ]
        self._check_prices(is_placed, on_ticks, " on its ticks")
        dust = np.array([DUST * book.instrument.lot for book in self.books])[:, None]
        too_small = int(((lots == 0) & (np.abs(sizes) >= dust)).sum())
        said = (lots != layout.LEAVE).any(axis=(1, 2))
        return Quotes(np.ascontiguousarray(lots), np.ascontiguousarray(on_ticks), said, too_small)

    def _check_prices(self, is_placed: Any, prices: Any, where: str) -> None:
        unusable = is_placed & ~((prices > 0) & np.isfinite(prices))
        if unusable.any():
            bar, market, slot = np.argwhere(unusable)[0].tolist()
            raise ConfigurationError(
                f"the limit order of bar {bar}, {self.books[market].instrument.symbol}, slot {slot} has the price "
                f"{prices[bar, market, slot]:g}{where}; give one above 0"
            )

    def check(self, account: Account) -> None:
        """Refuse an account that the broker would, or whose margins the compiled loop does not know."""
        if account.mode == "isolated" and self.venue.rules.isolated_fee_in_margin != "none":
            raise ConfigurationError(
                f"a batch does not know closing fees kept with isolated margins (venue {self.venue.name}); use mode 'cross', or the "
                "broker, a sweep without --fast"
            )
        for book in self.books:
            highest = book.instrument.leverage_max
            Settings.check(book.instrument.symbol, leverage=account.leverage, leverage_max=highest)
        cash_of(account.cash)


def _refuse_unknown(venue: Venue, books: Sequence[Book]) -> None:
    """Refuse what the compiled loop cannot vouch for."""
    rules = venue.rules
    unknown = []
    if rules.volatility_scaling is not None:
        unknown.append("rates that follow volatility")
    for book in books:
        if book.is_fully_funded or book.instrument.kind == "margin" or book.instrument.expiry is not None:
            unknown.append(f"{book.instrument.symbol}, which is of kind {book.instrument.kind!r} or expires")
        if any(not isinstance(rule, TierTable) for rule in book.rates.values()):
            unknown.append(f"maintenance of {book.instrument.symbol} that is no table of tiers")
        if len(rules.terms(book.instrument.symbol)) > 1 and book.instrument.maintenance is None:
            unknown.append(f"terms of {book.instrument.symbol} that change")
    if len({book.instrument.settle for book in books}) > 1:
        unknown.append("several settle currencies")
    if unknown:
        raise ConfigurationError(
            f"a batch does not know {'; '.join(unknown)} (venue {venue.name}); use the broker, a sweep without --fast"
        )


def _columns(one: Candles) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the columns of a market by name, with the rate due at each bar's open, and its times."""
    rows, times = candle_arrays(one.frame, one.symbol, one.funding)
    columns = {name: np.frombuffer(rows[name]) for name in (*PRICES, *MARKS, "volume", "funding_rate") if name in rows}
    for names in (PRICES, MARKS):
        _refuse_unsound(one.symbol, times, [columns[name] for name in names if name in columns])
    return {"funding_rate": np.full(len(times), np.nan), **columns}, times


def _refuse_unsound(symbol: str, times: pd.DatetimeIndex, prices: Sequence[Any]) -> None:
    """Refuse candles whose range leaves their open or close out, which the compiled loop takes for where prices stay."""
    if not prices:
        return
    opened, high, low, close = prices
    unsound = (np.maximum(opened, close) > high) | (np.minimum(opened, close) < low)
    if unsound.any():
        at = times[unsound][0]
        raise FeedError(f"{symbol}: high and low at {at} leave open or close out; mend that row, or use the broker")


def _numbers(what: str, given: Any) -> Any:
    found = np.asarray(given)
    if found.dtype.kind not in "fiub":
        raise ConfigurationError(f"{what} are arrays of numbers, got {found.dtype}")
    return np.ascontiguousarray(found, dtype=np.float64)


def _side_by_side(columns: Sequence[dict[str, Any]], names: Sequence[Sequence[str]]) -> Any:
    """Return columns of every market as one array, shape (instruments, bars, columns)."""
    found = np.empty((len(columns), len(columns[0]["close"]), len(names[0])))
    for n, (own, wanted) in enumerate(zip(columns, names, strict=True)):
        for k, name in enumerate(wanted):
            found[n, :, k] = own[name]
    return found
