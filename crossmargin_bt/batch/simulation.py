# SPDX-License-Identifier: GPL-3.0-or-later
"""Run accounts of a batch: the compiled loop, and the broker where that stops."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from crossmargin_bt.batch import layout
from crossmargin_bt.batch.accounts import Account, LimitOrders, Outcome
from crossmargin_bt.batch.broker_fallback import State, work_through
from crossmargin_bt.batch.layout import Held, Resting, Wanted
from crossmargin_bt.batch.market import Market
from crossmargin_bt.broker.api.settings import MARGIN_MODES
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.venues import Venue

LOG = logging.getLogger(__name__)
# A stretch that the broker works through doubles while the one before did not bring the account to rest.
STRETCH_MAX = 4096


def simulate(
    candles: Sequence[Candles],
    targets: Sequence[Any],
    accounts: Sequence[Account],
    *,
    orders: Sequence[LimitOrders] = (),
    venue: str | Venue = "generic",
    path: str = "path",
    curves: bool = False,
    workers: int = 1,
) -> list[Outcome]:
    """Run accounts towards targets, with limit orders or without, and return what became of each, in their order.

    An account orders at each bar's end what separates its position from the target, at market, and gets it at the next open,
    as a strategy with `order_target_size` does. Of limit orders it first cancels what is replaced, and places the new ones
    behind the order at market, market by market and slot by slot.

    Args:
        candles: the markets, on the same bars, settled in one currency; marks and funding are taken where there are any.
        targets: arrays of sizes in contracts wanted at each bar's end, signed, shape (bars,) for one market or
            (bars, markets); NaN leaves a position as it is. What separates from them is cut to whole lots; where it is less than
            one, the order counts as refused.
        accounts: which targets each follows, which limit orders it places, and its leverage, mode and cash (see `batch.accounts`).
        orders: what limit orders are placed, each as arrays.
        venue: a shipped rule book, the path of one, or a `crossmargin_bt.venues.Venue`.
        path: what is read into a candle, as `CrossMarginBroker` takes it.
        curves: also return every account's equity at the end of every bar.
        workers: threads; the compiled loop runs in them side by side.

    Raises:
        ConfigurationError: the extra `[fast]` is missing, an account's mode, targets or orders do not exist, or the venue or a contract
            has rules the compiled loop does not know (the text names them): use the broker.
        FeedError: candles that cannot be traded on, or whose bars differ.
    """
    return follow(Market(candles, venue, path), targets, accounts, orders=orders, curves=curves, workers=workers)


def follow(
    market: Market,
    targets: Sequence[Any],
    accounts: Sequence[Account],
    *,
    orders: Sequence[LimitOrders] = (),
    curves: bool = False,
    workers: int = 1,
) -> list[Outcome]:
    """Run accounts as `simulate` does, in a market that has been made ready."""
    kernel = compiled_loop()
    if not isinstance(workers, int) or workers < 1:
        raise ConfigurationError(f"workers are a whole number from 1 on, got {workers!r}")
    for name, given, kind in (("accounts", accounts, Account), ("orders", orders, LimitOrders)):
        if isinstance(given, kind) or not all(isinstance(one, kind) for one in given):
            raise ConfigurationError(f"{name} are a list of batch.{kind.__name__}")
    wanted = [market.sizes(one) for one in targets]
    placed = [market.quotes(one) for one in orders]
    for account in accounts:
        if account.mode not in MARGIN_MODES:
            raise ConfigurationError(f"a batch has modes 'cross' and 'isolated', got {account.mode!r}")
        for name, number, there in (("targets", account.targets, wanted), ("limit orders", account.orders, placed)):
            if number is not None and not (isinstance(number, int | np.integer) and 0 <= number < len(there)):
                raise ConfigurationError(
                    f"there are {len(there)} arrays of {name}, account asks for number {number!r}; None is none"
                )
        market.check(account)
    nowhere = np.full((market.bars, len(market.books)), np.nan)

    def one(account: Account) -> Outcome:
        sizes = nowhere if account.targets is None else wanted[account.targets]
        quotes = None if account.orders is None else placed[account.orders]
        return _simulated(kernel, market, account, Wanted(sizes, quotes), curves=curves)

    if workers == 1:
        return [one(account) for account in accounts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, accounts))


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
        LOG.info("loading the compiled loop; where it is new it is compiled first, which takes some seconds")
    return kernel


def _simulated(kernel: Any, market: Market, account: Account, wanted: Wanted, *, curves: bool) -> Outcome:
    held = Held.nothing(len(market.books))
    money, counts = np.array([account.cash, 0.0, 0.0, account.cash, 0.0], np.float64), np.zeros(4, np.int64)
    curve = np.full(market.bars if curves else 0, float(account.cash))
    given: tuple[Any, ...] = (
        market.last, market.mark, market.funding, bool(market.funding.any()), wanted.sizes, market.contracts,
        market.tables(account.mode), market.levels, market.terms(account), *held, money, counts, curve,
    )  # fmt: skip
    resting = Resting.none(len(market.books), 0 if wanted.quotes is None else wanted.quotes.lots.shape[2])
    given += (resting.bounds,)
    if wanted.quotes is not None:
        given += (*wanted.quotes[:-1], resting.orders, resting.prices)
        counts[layout.REFUSED] = wanted.quotes.too_small
    settings = {
        "venue": market.venue, "mode": account.mode, "leverage": account.leverage, "cash": account.cash,
        "currency": market.books[0].instrument.settle, "path": market.path,
    }  # fmt: skip
    at, worked, warnings, liquidations, bad_debt, stretch, back = 0, 0, 0, 0, 0.0, 1, -1
    while (at := int(kernel.run(at, *given))) < market.bars - 1:
        stretch = min(2 * stretch, STRETCH_MAX) if at == back else 1
        sums = {"fees": money[layout.FEES_PAID], "funding": money[layout.RECEIVED], "bad_debt": bad_debt}
        holds = Held(*(one.copy() for one in held))
        before = State(float(money[layout.BALANCE]), holds, sums, resting.listed(), step=market.step(at))
        state, end = _worked_through(market, wanted, at, before, stretch=stretch, settings=settings)
        for own, after in zip(held, state.held, strict=True):
            own[:] = after
        resting.take(state.orders)
        counts[layout.ARRIVED], counts[layout.RESTING] = len(state.orders), kernel.resting.sum_up(*resting)
        money[layout.BALANCE], bad_debt = state.balance, state.sums["bad_debt"]
        money[layout.FEES_PAID], money[layout.RECEIVED] = state.sums["fees"], state.sums["funding"]
        counts[[layout.FILLS, layout.REFUSED]] += (state.fills, state.refused)
        warnings += state.warnings
        liquidations += state.liquidations
        worked += end - 1 - at
        _count_equity(money, state.curve[1:])
        if curves:
            curve[at + 1 : end] = state.curve[1:]
        at = back = end - 1
    if back != market.bars - 1:  # otherwise the broker has seen the last bar's end
        counts[layout.REFUSED] += _too_small(market, wanted, held)
    return Outcome(
        account, _equity(market, money[layout.BALANCE], held), float(money[layout.DRAWDOWN]), float(money[layout.FEES_PAID]),
        float(money[layout.RECEIVED]), int(counts[layout.FILLS]), int(counts[layout.REFUSED]), warnings, liquidations, bad_debt, worked,
        curve if curves else None,
    )  # fmt: skip


def _too_small(market: Market, wanted: Wanted, held: Held) -> int:
    """Return how many orders of the last bar's end are less than a lot."""
    found = 0
    for book, size, lots in zip(market.books, wanted.sizes[-1].tolist(), held.lots.tolist(), strict=True):
        missing = 0.0 if math.isnan(size) else size - book.instrument.size(lots)
        found += not (book.instrument.is_dust(missing) or book.instrument.lots(missing))
    return found


def _worked_through(
    market: Market, wanted: Wanted, at: int, before: State, *, stretch: int, settings: dict[str, Any]
) -> tuple[State, int]:
    """Let the broker go on from the end of a bar until the account is at rest; return where it stands, and the bar after."""
    while True:
        end = min(at + stretch + 1, market.bars)
        frames = [(symbol, frame.iloc[at:end], instrument) for symbol, frame, instrument in market.frames]
        state = work_through(frames, wanted.rows(at, end), before, settings, is_last=end == market.bars)
        if state.is_at_rest or end == market.bars:
            return state, end
        stretch *= 2


def _count_equity(money: Any, curve: Sequence[float]) -> None:
    """Take bars that the broker worked through into the drawdown."""
    for equity in curve:
        money[layout.PEAK] = max(money[layout.PEAK], equity)
        if money[layout.PEAK] > 0:
            money[layout.DRAWDOWN] = max(money[layout.DRAWDOWN], 1 - equity / money[layout.PEAK])


def _equity(market: Market, balance: float, held: Held) -> float:
    """Return what an account is worth at the last closes."""
    profit, kept = 0.0, 0.0
    closes = market.mark[:, -1, layout.CLOSE]
    for book, lots, entry, margin, mark in zip(market.books, *held[:3], closes, strict=True):
        if lots:
            profit += book.instrument.profit(int(lots), float(entry), float(mark))
            kept += float(margin)
    return float(balance) + profit + kept
