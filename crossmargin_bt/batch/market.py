# SPDX-License-Identifier: GPL-3.0-or-later
"""The market of a batch as arrays: candles, contracts, rules, and the checked inputs of accounts."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossmargin_bt.batch import layout
from crossmargin_bt.batch.accounts import BatchAccount, LimitOrders
from crossmargin_bt.batch.layout import LimitOrderSchedule
from crossmargin_bt.batch.rule_support import any_applies, unsupported_rules
from crossmargin_bt.broker.api.settings import Settings, cash_of, one_of
from crossmargin_bt.broker.bar.risk_monitor import thresholds
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.math.intrabar_path import POLICIES
from crossmargin_bt.engine.math.tolerances import LOT_REMAINDER_MIN
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rates import TierTable
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.errors import ConfigurationError, FeedError
from crossmargin_bt.feeds import from_frame
from crossmargin_bt.frames import candle_arrays
from crossmargin_bt.venues import Venue, load_with

# Upper bound on lots: above it the rounding tolerance of `crossmargin_bt.engine.terms.instrument.whole_lots` is a whole lot, so that
# rounding twice may differ from rounding once.
LOTS_MAX = 10**13


class Period(NamedTuple):
    """The bars from `first` up to, not including, `end`, in which one set of rules and contract terms is in force."""

    first: int
    end: int
    rules: Rules
    books: list[Book]
    contracts: Any
    """The contracts as one array, shape (instruments, 7), float64, see `layout.UNITS`."""
    levels: Any
    """Margin levels of the venue's thresholds, in descending order, shape (thresholds,), float64."""

    def terms(self, account: BatchAccount, path: str) -> layout.TradingTerms:
        """Return the terms of an account for the compiled loop."""
        return layout.TradingTerms(
            tier_raises_rate=self.rules.tier_leverage_breach == "raise",
            notional_min=float(max(book.instrument.notional_min for book in self.books)),
            profit_pays="cross_orders" in self.rules.profit_pays_for,
            sell_markup=float(self.rules.sell_order_markup or 0.0),
            leverage=float(account.leverage),
            isolated=account.mode == "isolated",
            nets_orders=self.rules.order_offset != "sum",
            is_adverse=path == "adverse",
        )

    def tables(self, mode: str) -> Any:
        """Return the tiers of every contract in a mode, shape (instruments, 4, tiers)."""
        own = [book.rates[mode] for book in self.books]
        most = max(len(table.tiers) for table in own if isinstance(table, TierTable))
        filled = np.zeros((len(own), 4, most))
        filled[:, layout.NOTIONAL_MIN] = np.inf
        for n, table in enumerate(own):
            assert isinstance(table, TierTable)
            for k, tier in enumerate(table.tiers):
                places = [layout.NOTIONAL_MIN, layout.MAINTENANCE_RATE, layout.DEDUCTION, layout.INITIAL_RATE_MIN]
                filled[n, places, k] = tier.notional_min, tier.maintenance_rate, table.deductions[k], tier.initial_floor
        return filled


class Market:
    """Candles, contracts and rules as arrays of the compiled loop."""

    def __init__(self, candles: Sequence[Candles], venue: str | Venue, path: str = "path") -> None:
        if not candles:
            raise FeedError("there are no candles")
        if isinstance(candles, Candles) or not all(isinstance(one, Candles) for one in candles):
            raise FeedError("candles must be a list of batch.Candles, as candles.folder.read returns it")
        one_of("path", path, POLICIES)
        self.path = path
        loaded = [_columns(one) for one in candles]
        self._times = loaded[0][1]
        instruments = [one.instrument for one in candles]
        if len({one.symbol for one in instruments}) < len(candles):
            raise FeedError("two of the candles are of the same instrument; give each a symbol of its own")
        self.venue = load_with(venue, None)
        self.periods = _periods(self.venue, instruments, self._times)
        """The periods between changes of rules or contract terms, in order; at least one."""
        self.books = self.periods[0].books
        self._candles = candles
        self._columns = columns = [own for own, _ in loaded]
        for one, (_, times) in zip(candles, loaded, strict=True):
            if not times.equals(self._times):
                raise FeedError(f"{one.symbol} and {candles[0].symbol} have different bars; give them the same")
        self.last = _side_by_side(columns, [PRICES] * len(columns))
        marked = [MARKS if MARKS[0] in own else PRICES for own in columns]
        self.mark = _side_by_side(columns, marked) if MARKS in marked else self.last
        self.funding = np.array([np.nan_to_num(own["funding_rate"]) for own in columns])

    @cached_property
    def times_ms(self) -> Any:
        """Times of the bars in milliseconds since 1970-01-01 UTC."""
        return self._times.as_unit("ms").asi8

    @cached_property
    def frames(self) -> list[tuple[str, pd.DataFrame, Instrument]]:
        """Symbol, frame and instrument of every market, as feeds of the broker."""
        markets = zip(self._candles, self._columns, strict=True)
        return [(one.symbol, pd.DataFrame(own, index=self._times), one.instrument) for one, own in markets]

    @cached_property
    def _steps(self) -> tuple[Any, Any]:
        """Per bar, the shortest interval between two bars so far: in days, as backtrader counts them, and in milliseconds."""
        days = np.frombuffer(from_frame(self.frames[0][1], name=self._candles[0].symbol).p.columns["datetime"])
        steps = np.append(math.inf, np.diff(days))
        steps[steps <= 0] = math.inf
        shortest = np.minimum.accumulate(steps)
        first = np.maximum.accumulate(np.where(steps < np.append(math.inf, shortest[:-1]), np.arange(len(steps)), 0))
        return shortest, np.append(0, np.diff(self.times_ms))[first]

    def step(self, at: int) -> tuple[float, int]:
        """Return the shortest interval between two bars up to bar `at`, in days and in milliseconds, as a `BrokerSession` has it."""
        days, step_ms = self._steps
        return float(days[at]), int(step_ms[at])

    def period(self, at: int) -> Period:
        """Return the period that contains a bar."""
        return [one for one in self.periods if one.first <= at][-1]

    @property
    def bars(self) -> int:
        """Number of bars."""
        return int(self.last.shape[1])

    def target_sizes(self, targets: Any) -> Any:
        """Return checked target positions for the compiled loop, shape (bars, instruments), float64.

        Raises:
            ConfigurationError: they are no numbers, have another shape or other times, or are too large.
        """
        if not np.ndim(targets):
            raise ConfigurationError("targets must be a list of arrays; write [targets] for a single one")
        sizes = _numbers("targets", self._in_order(targets))
        sizes = sizes[:, None] if sizes.ndim == 1 else sizes
        if sizes.shape != (self.bars, len(self.books)):
            raise ConfigurationError(
                f"targets have the shape {sizes.shape}, candles are {self.bars} bars of {len(self.books)} markets"
            )
        self._check_sizes("target", sizes)
        return sizes

    def _in_order(self, targets: Any) -> Any:
        """Return targets with the columns in the order of the markets."""
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
            raise ConfigurationError(f"a {what} is infinite; give sizes in contracts, NaN for no change")
        for n, book in enumerate(self.books):
            most = float(np.nanmax(np.abs(sizes[:, n]), initial=0.0))
            if book.instrument.lots(most) >= LOTS_MAX:
                raise ConfigurationError(f"a {what} of {most:g} contracts of {book.instrument.symbol} is too large")

    def limit_orders(self, given: LimitOrders) -> LimitOrderSchedule:
        """Return checked limit orders in whole lots and at prices on ticks.

        Raises:
            ConfigurationError: they are no numbers, have another shape, are too large, or have a price that is not above 0.
        """
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
        lots = np.full(sizes.shape, layout.UNCHANGED, dtype=np.int64)
        for n, book in enumerate(self.books):
            own = sizes[:, n]
            has_size = ~np.isnan(own)
            distinct, places = np.unique(own[has_size], return_inverse=True)
            lots[:, n][has_size] = np.array([book.instrument.lots(size) for size in distinct.tolist()], np.int64)[
                places
            ]
        is_placed = (lots != layout.UNCHANGED) & (lots != 0)
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
        dust = np.array([LOT_REMAINDER_MIN * book.instrument.lot for book in self.books])[:, None]
        too_small = int(((lots == 0) & (np.abs(sizes) >= dust)).sum())
        is_given = (lots != layout.UNCHANGED).any(axis=(1, 2))
        return LimitOrderSchedule(np.ascontiguousarray(lots), np.ascontiguousarray(on_ticks), is_given, too_small)

    def _check_prices(self, is_placed: Any, prices: Any, where: str) -> None:
        unusable = is_placed & ~((prices > 0) & np.isfinite(prices))
        if unusable.any():
            bar, market, slot = np.argwhere(unusable)[0].tolist()
            raise ConfigurationError(
                f"the limit order of bar {bar}, {self.books[market].instrument.symbol}, slot {slot} has the price "
                f"{prices[bar, market, slot]:g}{where}; give one above 0"
            )

    def check(self, account: BatchAccount) -> None:
        """Refuse an account with invalid settings, or in a mode whose rules the compiled loop does not support.

        Raises:
            ConfigurationError: the text names the setting or the rule.
        """
        for period in self.periods:
            unsupported = unsupported_rules(period.rules, account.mode)
            if not unsupported:
                continue
            other = "isolated" if account.mode == "cross" else "cross"
            raise ConfigurationError(
                f"a batch does not know {'; '.join(unsupported)} (venue {self.venue.name}); use mode {other!r}, or the broker, a sweep "
                "without --fast"
            )
        for book in self.books:
            highest = book.instrument.leverage_max
            Settings.check(book.instrument.symbol, leverage=account.leverage, leverage_max=highest)
        cash_of(account.cash)


def _periods(venue: Venue, instruments: Sequence[Instrument], times: pd.DatetimeIndex) -> list[Period]:
    """Return the periods of a market; refuse one whose rules or contracts the compiled loop does not support.

    Of contracts with maintenance of their own (`Instrument.maintenance`) the venue's dated terms do not count.
    """
    applying = [change for change in venue.changes if any_applies(change.rules)]
    moments = [change.since_ms for change in applying]
    for one in instruments:
        if one.maintenance is None:
            moments.extend(terms.since_ms for terms in venue.rules.terms(one.symbol)[1:])
    times_ms = times.as_unit("ms").asi8
    firsts = sorted({0, *(bar for bar in np.searchsorted(times_ms, moments).tolist() if bar < len(times_ms))})
    found = []
    for first, end in zip(firsts, [*firsts[1:], len(times_ms)], strict=True):
        rules = venue.rules if not len(times) else venue.at(times[first].to_pydatetime()).rules
        account = Account(rules)
        books = [account.list_instrument(one) for one in instruments]
        _refuse_unknown(venue.name, rules, books)
        levels = np.array([threshold.level for threshold in thresholds(rules)])
        found.append(Period(first, end, rules, books, _contract_array(books, rules), levels))
    kept = [change for change in applying if change.positions == "opened_since"]
    within = [change for change in kept if len(times_ms) and times_ms[0] < change.since_ms <= times_ms[-1]]
    if within:
        raise ConfigurationError(
            f"a batch does not know positions that keep older rules: {venue.name} has new ones for positions opened since "
            f"{within[0].since} ({within[0].says}); end the candles before that day or begin them on it, or use the broker, a "
            "sweep without --fast"
        )
    return found


def _refuse_unknown(venue: str, rules: Rules, books: Sequence[Book]) -> None:
    """Refuse rules and contracts that the compiled loop does not support."""
    unknown = unsupported_rules(rules)
    for book in books:
        if book.is_fully_funded or book.instrument.kind == "margin" or book.instrument.expiry is not None:
            unknown.append(f"{book.instrument.symbol}, which is of kind {book.instrument.kind!r} or expires")
        if any(not isinstance(rule, TierTable) or rule.measure != "value" for rule in book.rates.values()):
            unknown.append(f"maintenance of {book.instrument.symbol} that is no table of tiers by value")
    if len({book.instrument.settle for book in books}) > 1:
        unknown.append("several settle currencies")
    if unknown:
        raise ConfigurationError(
            f"a batch does not know {'; '.join(unknown)} (venue {venue}); use the broker, a sweep without --fast"
        )


def _contract_array(books: Sequence[Book], rules: Rules) -> Any:
    """Return the contracts as one array, shape (instruments, 7), float64, see `layout.UNITS`."""
    rows = [
        [one.units_per_lot, one.inverse, book.maker, book.taker, 0.0, one.lot, one.lots_per_contract]
        for book in books
        for one in [book.instrument]
    ]
    contracts = np.array(rows, dtype=np.float64)
    if rules.closing_fee_in_maintenance != "none" or rules.isolated_closing_fee != "none":
        # Upper bound: the notional at the bankruptcy price is at most twice the notional.
        contracts[:, layout.CLOSING_COST_RATE] = 2 * np.abs(contracts[:, layout.TAKER])
    return contracts


def _columns(one: Candles) -> tuple[dict[str, Any], pd.DatetimeIndex]:
    """Return the columns of a market by name, including the funding rate due at each bar's open, and its times."""
    rows, times = candle_arrays(one.frame, one.symbol, one.funding)
    columns = {name: np.frombuffer(rows[name]) for name in (*PRICES, *MARKS, "volume", "funding_rate") if name in rows}
    return {"funding_rate": np.full(len(times), np.nan), **columns}, times


def _numbers(what: str, given: Any) -> Any:
    found = np.asarray(given)
    if found.dtype.kind not in "fiub":
        raise ConfigurationError(f"{what} must be arrays of numbers, got {found.dtype}")
    return np.ascontiguousarray(found, dtype=np.float64)


def _side_by_side(columns: Sequence[dict[str, Any]], names: Sequence[Sequence[str]]) -> Any:
    """Return the named columns of every market as one array, shape (instruments, bars, columns), float64."""
    found = np.empty((len(columns), len(columns[0]["close"]), len(names[0])))
    for n, (own, wanted) in enumerate(zip(columns, names, strict=True)):
        for k, name in enumerate(wanted):
            found[n, :, k] = own[name]
    return found
