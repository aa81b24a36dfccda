# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the accounts of a batch: the compiled loop, and the broker for every bar at which the loop stops."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from crossmargin_bt.batch import layout
from crossmargin_bt.batch.accounts import BatchAccount, BatchResult, LimitOrders
from crossmargin_bt.batch.broker_fallback import AccountState, run_with_broker
from crossmargin_bt.batch.layout import OrderSchedule, PositionArrays, RestingOrders
from crossmargin_bt.batch.market import Market, Period
from crossmargin_bt.broker.api.settings import MARGIN_MODES
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.venues import Venue

LOG = logging.getLogger(__name__)
# Upper bound, in bars, of one run of the broker. The length doubles while the loop stops again at the bar where the broker ended.
STRETCH_MAX = 4096


def simulate(
    candles: Sequence[Candles],
    targets: Sequence[Any],
    accounts: Sequence[BatchAccount],
    *,
    orders: Sequence[LimitOrders] = (),
    venue: str | Venue = "generic",
    path: str = "path",
    curves: bool = False,
    workers: int = 1,
) -> list[BatchResult]:
    """Run accounts that follow target positions, place limit orders, or both; return one result per account, in the same order.

    At each bar's end an account sends a market order for the difference between its target and its position, which fills at the
    next open, as a strategy with `order_target_size` does. Limit orders that are replaced are cancelled first; the new ones are
    placed after the market order, by market and by slot.

    Args:
        candles: the markets, on the same bars, settled in one currency; mark prices and funding are used where present.
        targets: arrays of target positions in contracts at each bar's end, signed, shape (bars,) for one market or
            (bars, markets); NaN keeps the position. Orders are rounded to whole lots toward zero; one of less than a lot counts as
            refused.
        accounts: targets, limit orders, leverage, mode and cash of each account (see `batch.accounts`).
        orders: arrays of limit orders that accounts refer to by index.
        venue: name of a shipped rule book, path of a rule book, or a `crossmargin_bt.venues.Venue`.
        path: the intrabar path, as in `CrossMarginBroker`.
        curves: also return every account's equity at the end of every bar.
        workers: number of threads; the compiled loop releases the GIL.

    Raises:
        ConfigurationError: the extra `[fast]` is missing, an account's mode, targets or orders do not exist, or the venue or a contract
            has rules that the compiled loop does not support (the text names them): use the broker.
        FeedError: the candles are unusable, or their bars differ.
    """
    return run_accounts(Market(candles, venue, path), targets, accounts, orders=orders, curves=curves, workers=workers)


def run_accounts(
    market: Market,
    targets: Sequence[Any],
    accounts: Sequence[BatchAccount],
    *,
    orders: Sequence[LimitOrders] = (),
    curves: bool = False,
    workers: int = 1,
) -> list[BatchResult]:
    """Run accounts as `simulate` does, over a market that is already prepared."""
    kernel = compiled_loop()
    if not isinstance(workers, int) or workers < 1:
        raise ConfigurationError(f"workers must be a whole number of at least 1, got {workers!r}")
    for name, given, kind in (("accounts", accounts, BatchAccount), ("orders", orders, LimitOrders)):
        if isinstance(given, kind) or not all(isinstance(one, kind) for one in given):
            raise ConfigurationError(f"{name} must be a list of batch.{kind.__name__}")
    target_sizes = [market.target_sizes(one) for one in targets]
    limit_orders = [market.limit_orders(one) for one in orders]
    for account in accounts:
        if account.mode not in MARGIN_MODES:
            raise ConfigurationError(f"a batch has modes 'cross' and 'isolated', got {account.mode!r}")
        _check_index("targets", account.targets, len(target_sizes))
        _check_index("limit orders", account.orders, len(limit_orders))
        market.check(account)
    no_targets = np.full((market.bars, len(market.books)), np.nan)

    def run(account: BatchAccount) -> BatchResult:
        sizes = no_targets if account.targets is None else target_sizes[account.targets]
        limits = None if account.orders is None else limit_orders[account.orders]
        return _AccountRun(market, account, OrderSchedule(sizes, limits), curves=curves).run(kernel)

    if workers == 1:
        return [run(account) for account in accounts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, accounts))


def _check_index(name: str, index: Any, count: int) -> None:
    if index is not None and not (isinstance(index, int | np.integer) and 0 <= index < count):
        raise ConfigurationError(
            f"there are {count} arrays of {name}, the account names index {index!r}; use None for no {name}"
        )


def compiled_loop() -> Any:
    """Return the module of the compiled loop.

    Raises:
        ConfigurationError: numba is not installed.
    """
    try:
        from crossmargin_bt.batch import kernel  # noqa: PLC0415 - numba is an extra
    except ImportError as error:
        raise ConfigurationError("a batch needs numba: pip install 'crossmargin_bt[fast]'") from error
    if not kernel.run.signatures and not kernel.run.stats.cache_hits:
        LOG.info("loading the compiled loop; the first use compiles it, which takes several seconds")
    return kernel


class _AccountRun:
    """One account of a batch: the arrays that the compiled loop changes in place, and the totals that only the broker counts."""

    def __init__(self, market: Market, account: BatchAccount, schedule: OrderSchedule, *, curves: bool) -> None:
        self._market, self._account, self._schedule = market, account, schedule
        self._positions = PositionArrays.empty(len(market.books))
        limits = schedule.limit_orders
        self._resting = RestingOrders.empty(len(market.books), 0 if limits is None else limits.lots.shape[2])
        self._money = np.array([account.cash, 0.0, 0.0, account.cash, 0.0], np.float64)
        self._counts = np.zeros(4, np.int64)
        self._curve = np.full(market.bars if curves else 0, float(account.cash))
        self._warnings = self._liquidations = self._broker_bars = 0
        self._bad_debt = 0.0
        self._arguments_from: dict[int, tuple[Any, ...]] = {}
        """The arguments of the compiled loop by the first bar of their period."""
        self._settings = {
            "venue": market.venue, "mode": account.mode, "leverage": account.leverage, "cash": account.cash,
            "currency": market.books[0].instrument.settle, "path": market.path,
        }  # fmt: skip

    def run(self, kernel: Any) -> BatchResult:
        """Run to the end of the data: the compiled loop, and the broker wherever the loop stops."""
        market, last = self._market, self._market.bars - 1
        if self._schedule.limit_orders is not None:
            self._counts[layout.REFUSED] = self._schedule.limit_orders.too_small
        at, stretch, broker_end = 0, 1, -1
        while (at := self._continue_loop(kernel, at)) < last:
            stretch = min(2 * stretch, STRETCH_MAX) if at == broker_end else 1
            state, end = _run_until_at_rest(
                market, self._schedule, at, self._state(at), stretch=stretch, settings=self._settings
            )
            self._restore(state, at, end)
            self._counts[layout.RESTING] = kernel.resting.aggregate_orders(*self._resting)
            at = broker_end = end - 1
        if broker_end != last:  # otherwise the broker has processed the orders of the last bar
            self._counts[layout.REFUSED] += _orders_below_one_lot(market, self._schedule, self._positions)
        money, counts = self._money, self._counts
        return BatchResult(
            account=self._account,
            equity=_equity(market, money[layout.BALANCE], self._positions),
            drawdown_max=float(money[layout.DRAWDOWN]),
            fees=float(money[layout.FEES_PAID]),
            funding=float(money[layout.FUNDING_RECEIVED]),
            fills=int(counts[layout.FILLS]),
            refused=int(counts[layout.REFUSED]),
            warnings=self._warnings,
            liquidations=self._liquidations,
            bad_debt=self._bad_debt,
            broker_bars=self._broker_bars,
            curve=self._curve if len(self._curve) else None,
        )

    def _continue_loop(self, kernel: Any, at: int) -> int:
        """Continue the compiled loop after bar `at`; return the last bar processed, after which the broker takes over.

        It stops before each change of rules or contract terms, so that the broker processes the first bar with the new ones.
        """
        period = self._market.period(at)
        if period.first not in self._arguments_from:
            self._arguments_from[period.first] = self._arguments(period)
        return int(kernel.run(at, *self._arguments_from[period.first]))

    def _arguments(self, period: Period) -> tuple[Any, ...]:
        """Return the arguments of the compiled loop in a period, after `start`, see `kernel.run`."""
        market, limits = self._market, self._schedule.limit_orders
        arguments: tuple[Any, ...] = (
            period.end, market.last, market.mark, market.funding, bool(market.funding.any()), self._schedule.targets,
            period.contracts, period.tables(self._account.mode), period.levels, period.terms(self._account, market.path),
            *self._positions, self._money, self._counts, self._curve, self._resting.bounds,
        )  # fmt: skip
        if limits is None:
            return arguments
        return (*arguments, limits.lots, limits.prices, limits.is_given, self._resting.orders, self._resting.prices)

    def _state(self, at: int) -> AccountState:
        """Return a copy of the account's state at the end of bar `at`."""
        money = self._money
        sums = {
            "fees": money[layout.FEES_PAID], "funding": money[layout.FUNDING_RECEIVED], "bad_debt": self._bad_debt
        }  # fmt: skip
        positions = PositionArrays(*(one.copy() for one in self._positions))
        step = self._market.step(at)
        return AccountState(float(money[layout.BALANCE]), positions, sums, orders=self._resting.by_arrival(), step=step)

    def _restore(self, state: AccountState, at: int, end: int) -> None:
        """Write the state after a run of the broker over the bars from `at` up to, not including, `end` into the arrays."""
        money, counts = self._money, self._counts
        for own, after in zip(self._positions, state.held, strict=True):
            own[:] = after
        self._resting.replace_all(state.orders)
        counts[layout.ARRIVED] = len(state.orders)
        money[layout.BALANCE], self._bad_debt = state.balance, state.sums["bad_debt"]
        money[layout.FEES_PAID], money[layout.FUNDING_RECEIVED] = state.sums["fees"], state.sums["funding"]
        counts[[layout.FILLS, layout.REFUSED]] += (state.fills, state.refused)
        self._warnings += state.warnings
        self._liquidations += state.liquidations
        self._broker_bars += end - 1 - at
        _update_drawdown(money, state.curve[1:])
        if len(self._curve):
            self._curve[at + 1 : end] = state.curve[1:]


def _orders_below_one_lot(market: Market, schedule: OrderSchedule, positions: PositionArrays) -> int:
    """Return the number of market orders at the end of the last bar that are smaller than one lot."""
    count = 0
    for book, target, lots in zip(market.books, schedule.targets[-1].tolist(), positions.lots.tolist(), strict=True):
        size = 0.0 if math.isnan(target) else target - book.instrument.size(lots)
        count += not (book.instrument.is_dust(size) or book.instrument.lots(size))
    return count


def _run_until_at_rest(
    market: Market, schedule: OrderSchedule, at: int, before: AccountState, *, stretch: int, settings: dict[str, Any]
) -> tuple[AccountState, int]:
    """Run the broker from the end of bar `at` until no venue action is pending; return the state, and the next bar's index."""
    while True:
        end = min(at + stretch + 1, market.bars)
        frames = [(symbol, frame.iloc[at:end], instrument) for symbol, frame, instrument in market.frames]
        state = run_with_broker(frames, schedule.between(at, end), before, settings, is_last=end == market.bars)
        if state.is_at_rest or end == market.bars:
            return state, end
        stretch *= 2


def _update_drawdown(money: Any, curve: Sequence[float]) -> None:
    """Update peak and drawdown with the equity of bars that the broker has processed."""
    for equity in curve:
        money[layout.PEAK] = max(money[layout.PEAK], equity)
        if money[layout.PEAK] > 0:
            money[layout.DRAWDOWN] = max(money[layout.DRAWDOWN], 1 - equity / money[layout.PEAK])


def _equity(market: Market, balance: float, positions: PositionArrays) -> float:
    """Return the equity of an account at the last closes."""
    profit, isolated_margin = 0.0, 0.0
    closes = market.mark[:, -1, layout.CLOSE]
    for book, lots, entry, margin, mark in zip(market.books, *positions[:3], closes, strict=True):
        if lots:
            profit += book.instrument.profit(int(lots), float(entry), float(mark))
            isolated_margin += float(margin)
    return float(balance) + profit + isolated_margin
