# SPDX-License-Identifier: GPL-3.0-or-later
"""Forced closes of a pool's positions: their price, their fee, and whether the remaining positions are safe."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.position import LegId, Position
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.tolerances import LOT_TOL


def share_of(lots: int, share: float) -> int:
    """Return a share of unsigned lots in whole ones, rounded up.

    >>> share_of(10, 0.25), share_of(100, 1 - 0.7)
    (3, 30)
    """
    return min(lots, math.ceil(lots * share - LOT_TOL))


class Close(NamedTuple):
    """Part of a leg to close: `lots` unsigned."""

    symbol: str
    side: str
    lots: int

    @property
    def leg(self) -> LegId:
        """The leg it is a part of."""
        return LegId(self.symbol, self.side)


class PoolCloser(NamedTuple):
    """One pool at one moment, and the price at which part of a leg would be closed now."""

    account: Account
    time_ms: int
    pool: Pool
    price: Callable[[Close], float]

    @property
    def is_safe(self) -> bool:
        """Whether collateral exceeds the requirement by as much as the venue asks, or nothing is left at risk."""
        if self.pool.isolated and not self.all_legs():
            return True
        risk = metrics.risk(self.account, self.pool)
        return risk.collateral > self.account.safe_level * risk.requirement

    @property
    def is_bankrupt(self) -> bool:
        """Whether nothing is left of the pool, neither at the marks nor closed in the market: no part of it can save it."""
        return metrics.risk(self.account, self.pool).collateral <= 0 and self.equity_if_closed() <= 0

    def all_legs(self) -> list[Close]:
        """Return the closing of everything the pool still holds."""
        return [
            Close(symbol, side, abs(self.account.books[symbol].legs[side].lots))
            for symbol, side in self.pool.legs
            if side in self.account.books[symbol].legs
        ]

    def margined_legs(self) -> list[Close]:
        """Return the same without what keeps no margin: a long option."""
        books = self.account.books
        return [
            c for c in self.all_legs() if not books[c.symbol].is_fully_funded or books[c.symbol].legs[c.side].lots < 0
        ]

    def forced_fill(self, close: Close) -> events.Filled:
        """Return the forced close of part of a leg.

        Taker and liquidation fees are taken from what the losses leave, so a fee never makes a debt. What remains of
        an isolated leg keeps its margin: loss and fee come out of it.
        """
        book, at = self.account.books[close.symbol], self.price(close)
        value = book.instrument.value(close.lots, at)
        owed = book.fee(close.lots, at) + formulas.fee(value, self.account.rules.liquidation_fee)
        fee = min(owed, max(0.0, self.equity_if_closed() / self.rate(close)))
        lots = -self.direction(close) * close.lots
        entry = fills.fill_entry(book, self.time_ms, close.side, lots=lots, price=at, fee=fee, cause="liquidation")
        if self.pool.isolated and close.lots < abs(book.legs[close.side].lots):
            return msgspec.structs.replace(entry, margin=entry.realised - entry.fee)
        return entry

    def direction(self, close: Close) -> int:
        """Return 1 for a part of a long, -1 for a part of a short."""
        return 1 if self.account.books[close.symbol].legs[close.side].lots > 0 else -1

    def margin(self, close: Close) -> float:
        """Return the maintenance margin the whole leg keeps by itself at its mark, in the pool's currency."""
        book = self.account.books[close.symbol]
        return self.rate(close) * MODES[book.margin_mode].leg_maintenance(book, book.legs[close.side])

    def value(self, close: Close) -> float:
        """Return what the part is worth at the mark, in the currency it settles in."""
        book = self.account.books[close.symbol]
        return book.instrument.value(close.lots, book.mark_of(book.legs[close.side].lots))

    def quantity(self, close: Close) -> float:
        """Return the base coins of the part at the mark."""
        book = self.account.books[close.symbol]
        return book.instrument.base_quantity(close.lots, book.mark_of(book.legs[close.side].lots))

    def after(self, found: Sequence[Close]) -> "PoolCloser":
        """Return the same on an account in which these closes have happened."""
        after = self._replace(account=self.account.copy(*{close.symbol for close in found}))
        for close in found:
            if close.lots:
                after.account.apply(after.forced_fill(close))
        return after

    def min_lots_to_safety(self, most: int, closing: Callable[[int], list[Close]]) -> list[Close]:
        """Return the closes of the fewest lots, up to `most`, that make the pool safe; those of `most` when none do.

        Looked for from one lot upwards, doubling: where closing costs more the more is closed, all of it need not be safe.
        """
        short, enough = 0, min(1, most)
        while enough and not self.after(closing(enough)).is_safe:
            if enough == most:
                return closing(most)
            short, enough = enough, min(2 * enough, most)
        if not enough:
            return []
        while enough - short > 1:
            middle = (short + enough) // 2
            if self.after(closing(middle)).is_safe:
                enough = middle
            else:
                short = middle
        return closing(enough)

    def equity_if_closed(self) -> float:
        """Return what closing all the pool still holds would leave of it, before fees."""
        amount = 0.0 if self.pool.isolated else self.account.balance(self.pool.currency)
        for close in self.all_legs():
            amount += self.rate(close) * (self.leg(close).margin + self.profit(close))
        return amount

    def rate(self, close: Close) -> float:
        """Return what the currency a close settles in is worth in the pool's."""
        if self.pool.isolated:
            return 1.0
        return self.account.conversion_rate(self.account.books[close.symbol].instrument.settle)

    def leg(self, close: Close) -> Position:
        """Return the leg a close is part of."""
        return self.account.books[close.symbol].legs[close.side]

    def profit(self, close: Close) -> float:
        """Return what closing the whole leg would bring: its profit less the interest it accrued, an option's price."""
        book = self.account.books[close.symbol]
        held, instrument, at = self.leg(close), book.instrument, self.price(close)
        if book.is_fully_funded:
            return held.lots * instrument.units_per_lot * at
        profit = instrument.profit(held.lots, held.entry, at)
        return profit - instrument.interest_cost(held.lots, held.interest, at) if held.interest else profit
