# SPDX-License-Identifier: GPL-3.0-or-later
"""Run accounts of a batch: the compiled loop, and the broker where that stops."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from crossmargin_bt.batch import layout
from crossmargin_bt.batch.accounts import Account, Outcome
from crossmargin_bt.batch.lane import State, work_through
from crossmargin_bt.batch.layout import Held
from crossmargin_bt.broker.settings import MARGIN_MODES, Settings, one_of
from crossmargin_bt.broker.watch import thresholds
from crossmargin_bt.candles.market import Candles
from crossmargin_bt.columns import MARKS, PRICES
from crossmargin_bt.engine.account import Account as EngineAccount
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.path import POLICIES
from crossmargin_bt.engine.rates import TierTable
from crossmargin_bt.errors import ConfigurationError, FeedError
from crossmargin_bt.feeds import from_frame
from crossmargin_bt.venues import Venue, tiers

LOG = logging.getLogger(__name__)
# Lots from here on have no place in the compiled loop's arithmetic.
LOTS_MAX = 2**53
# A stretch that the broker works through doubles while the one before did not bring the account to rest.
STRETCH_MAX = 4096


def simulate(
    candles: Sequence[Candles],
    targets: Sequence[Any],
    accounts: Sequence[Account],
    *,
    venue: str | Venue = "generic",
    path: str = "path",
    curves: bool = False,
    workers: int = 1,
) -> list[Outcome]:
    """Run accounts towards targets, and return what became of each, in their order.

    An account orders at each bar's end what separates its position from the target, at market, and gets it at the next open,
    as a strategy with `order_target_size` does.

    Args:
        candles: the markets, on the same bars, settled in one currency; marks and funding are taken where there are any.
        targets: arrays of sizes in contracts wanted at each bar's end, signed, shape (bars,) for one market or
            (bars, markets); NaN leaves a position as it is. Sizes are rounded to lots toward zero.
        accounts: which targets each follows, and its leverage, mode and cash (see `batch.accounts`).
        venue: a shipped rule book, the path of one, or a `crossmargin_bt.venues.Venue`.
        path: what is read into a candle, as `CrossMarginBroker` takes it.
        curves: also return every account's equity at the end of every bar.
        workers: threads; the compiled loop runs in them side by side.

    Raises:
        ConfigurationError: the extra `[fast]` is missing, an account's mode or targets do not exist, or the venue or a contract
            has rules the compiled loop does not know (the text names them): use the broker.
        FeedError: candles that cannot be traded on, or whose bars differ.
    """
    return follow(Market(candles, venue, path), targets, accounts, curves=curves, workers=workers)


def follow(
    market: "Market", targets: Sequence[Any], accounts: Sequence[Account], *, curves: bool = False, workers: int = 1
) -> list[Outcome]:
    """Run accounts as `simulate` does, in a market that has been made ready."""
    kernel = compiled_loop()
    wanted = [market.lots(one) for one in targets]
    for account in accounts:
        if account.mode not in MARGIN_MODES:
            raise ConfigurationError(f"a batch has modes 'cross' and 'isolated', got {account.mode!r}")
        if not 0 <= account.targets < len(wanted):
            raise ConfigurationError(
                f"there are {len(wanted)} arrays of targets, account asks for number {account.targets}"
            )
        market.check(account)

    def one(account: Account) -> Outcome:
        return _simulated(kernel, market, account, wanted[account.targets], curves=curves)

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


class Market:
    """Candles, contracts and rules as the compiled loop takes them."""

    def __init__(self, candles: Sequence[Candles], venue: str | Venue, path: str = "path") -> None:
        if not candles:
            raise FeedError("there are no candles")
        one_of("path", path, POLICIES)
        self.path = path
        self.venue = tiers.load_with(venue, None)
        engine = EngineAccount(self.venue.rules)
        self.books: list[Book] = [engine.list_instrument(one.instrument) for one in candles]
        _refuse_unknown(self.venue.rules, self.books)
        index = candles[0].frame.index
        for one in candles[1:]:
            if not one.frame.index.equals(index):
                raise FeedError(f"{one.symbol} and {candles[0].symbol} have different bars; give them the same")
        self.times_ms = pd.DatetimeIndex(index).as_unit("ms").asi8
        self.frames = [(one.symbol, _with_funding(one), one.instrument) for one in candles]
        frames = [frame for _, frame, _ in self.frames]
        self.last = np.ascontiguousarray([frame[list(PRICES)].to_numpy(np.float64) for frame in frames])
        marked = [MARKS if MARKS[0] in frame else PRICES for frame in frames]
        self.mark = np.ascontiguousarray(
            [frame[list(names)].to_numpy(np.float64) for frame, names in zip(frames, marked, strict=True)]
        )
        self.contracts = np.array(
            [[b.instrument.units_per_lot, float(b.instrument.inverse), b.maker, b.taker, 0.0] for b in self.books]
        )
        rules = self.venue.rules
        if rules.closing_fee_in_maintenance != "none" or rules.isolated_closing_fee != "none":
            # At a bankruptcy price of up to twice the value.
            self.contracts[:, layout.KEPT] = 2 * np.abs(self.contracts[:, layout.TAKER])
        self.funding = np.ascontiguousarray(
            [np.nan_to_num(frame["funding_rate"].to_numpy(np.float64)) for frame in frames]
        )

        self.levels = np.array([threshold.level for threshold in thresholds(rules)])

    @property
    def bars(self) -> int:
        """How many bars there are."""
        return int(self.last.shape[1])

    def terms(self, account: Account) -> layout.Terms:
        """Return what an account trades under, as the compiled loop takes it."""
        rules = self.venue.rules
        return layout.Terms(
            floor_raises=rules.above_tier_leverage == "raise",
            smallest=float(max(book.instrument.notional_min for book in self.books)),
            gains_pay="cross_orders" in rules.profit_pays_for,
            markup=float(rules.sell_order_markup or 0.0),
            leverage=float(account.leverage),
            isolated=account.mode == "isolated",
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

    def lots(self, targets: Any) -> Any:
        """Return sizes in contracts as whole lots, shape (bars, instruments)."""
        sizes = np.asarray(targets, dtype=np.float64)
        sizes = sizes[:, None] if sizes.ndim == 1 else sizes
        if sizes.shape != (self.bars, len(self.books)):
            raise ConfigurationError(
                f"targets have the shape {sizes.shape}, candles are {self.bars} bars of {len(self.books)} markets"
            )
        if np.isinf(sizes).any():
            raise ConfigurationError("a target is infinite; give sizes in contracts, NaN to leave a position")
        for n, book in enumerate(self.books):
            most = float(np.nanmax(np.abs(sizes[:, n]), initial=0.0))
            if book.instrument.lots(most) >= LOTS_MAX:
                raise ConfigurationError(f"a target of {most:g} contracts of {book.instrument.symbol} is too large")
        whole = np.full(sizes.shape, layout.LEAVE, dtype=np.int64)
        for n, book in enumerate(self.books):
            given = ~np.isnan(sizes[:, n])
            distinct, places = np.unique(sizes[given, n], return_inverse=True)
            whole[given, n] = np.array([book.instrument.lots(size) for size in distinct.tolist()], dtype=np.int64)[
                places
            ]
        return whole

    def check(self, account: Account) -> None:
        """Refuse an account that the broker would."""
        for book in self.books:
            highest = book.instrument.leverage_max or math.inf
            Settings.check(book.instrument.symbol, leverage=account.leverage, leverage_max=highest)
        if not account.cash > 0:
            raise ConfigurationError(f"cash must be above 0, got {account.cash!r}")


def _refuse_unknown(rules: Any, books: Sequence[Book]) -> None:
    """Refuse what the compiled loop cannot vouch for."""
    unknown = []
    if rules.volatility_scaling is not None:
        unknown.append("rates that follow volatility")
    if rules.isolated_fee_in_margin != "none":
        unknown.append("closing fees kept with isolated margins")
    for book in books:
        if book.is_paid or book.instrument.kind == "margin" or book.instrument.expiry is not None:
            unknown.append(f"{book.instrument.symbol}, which is of kind {book.instrument.kind!r} or expires")
        if any(not isinstance(rule, TierTable) for rule in book.rates.values()):
            unknown.append(f"maintenance of {book.instrument.symbol} that is no table of tiers")
        if len(rules.terms(book.instrument.symbol)) > 1 and book.instrument.maintenance is None:
            unknown.append(f"terms of {book.instrument.symbol} that change")
    if len({book.instrument.settle for book in books}) > 1:
        unknown.append("several settle currencies")
    if unknown:
        raise ConfigurationError(f"a batch does not know {'; '.join(unknown)}; use the broker")


def _with_funding(one: Candles) -> pd.DataFrame:
    """Return the frame of a market with the rate due at each bar's open."""
    rows = from_frame(one.frame, name=one.symbol, instrument=one.instrument, funding=one.funding).p.rows
    names = [name for name in (*PRICES, *MARKS) if name in rows]
    frame = pd.DataFrame({name: np.frombuffer(rows[name]) for name in names}, index=one.frame.index)
    frame["volume"] = np.frombuffer(rows["volume"])
    frame["funding_rate"] = np.frombuffer(rows["funding_rate"]) if "funding_rate" in rows else np.nan
    return frame


def _simulated(kernel: Any, market: Market, account: Account, wanted: Any, *, curves: bool) -> Outcome:
    held = Held.nothing(len(market.books))
    money, counts = np.array([account.cash, 0.0, 0.0, account.cash, 0.0]), np.zeros(2, np.int64)
    curve = np.full(market.bars if curves else 0, account.cash)
    given = (
        market.last, market.mark, market.funding, bool(market.funding.any()), wanted, market.contracts,
        market.tables(account.mode), market.levels, market.terms(account), *held, money, counts, curve,
    )  # fmt: skip
    settings = {
        "venue": market.venue, "mode": account.mode, "leverage": account.leverage, "cash": account.cash,
        "currency": market.books[0].instrument.settle, "path": market.path,
    }  # fmt: skip
    at, worked, warnings, liquidations, bad_debt, stretch, back = 0, 0, 0, 0, 0.0, 1, -1
    while (at := int(kernel.run(at, *given))) < market.bars - 1:
        stretch = min(2 * stretch, STRETCH_MAX) if at == back else 1
        sums = {"fees": money[layout.FEES_PAID], "funding": money[layout.RECEIVED], "bad_debt": bad_debt}
        before = State(float(money[layout.BALANCE]), Held(*(one.copy() for one in held)), sums)
        state, end = _worked_through(market, wanted, at, before, stretch=stretch, settings=settings)
        for own, after in zip(held, state.held, strict=True):
            own[:] = after
        money[layout.BALANCE], bad_debt = state.balance, state.sums["bad_debt"]
        money[layout.FEES_PAID], money[layout.RECEIVED] = state.sums["fees"], state.sums["funding"]
        counts += (state.fills, state.refused)
        warnings += state.warnings
        liquidations += state.liquidations
        worked += end - 1 - at
        _count_equity(money, state.curve[1:])
        if curves:
            curve[at + 1 : end] = state.curve[1:]
        at = back = end - 1
    return Outcome(
        account, _equity(market, money[layout.BALANCE], held), float(money[layout.DRAWDOWN]), float(money[layout.FEES_PAID]),
        float(money[layout.RECEIVED]), int(counts[layout.FILLS]), int(counts[layout.REFUSED]), warnings, liquidations, bad_debt, worked,
        curve if curves else None,
    )  # fmt: skip


def _worked_through(
    market: Market, wanted: Any, at: int, before: State, *, stretch: int, settings: dict[str, Any]
) -> tuple[State, int]:
    """Let the broker go on from the end of a bar until the account is at rest; return where it stands, and the bar after."""
    while True:
        end = min(at + stretch + 1, market.bars)
        frames = [(symbol, frame.iloc[at:end], instrument) for symbol, frame, instrument in market.frames]
        state = work_through(frames, wanted[at:end], before, settings)
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
