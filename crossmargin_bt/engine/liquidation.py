# SPDX-License-Identifier: GPL-3.0-or-later
"""Liquidation of a pool: reduce it in the venue's steps until it is safe, then close what that did not save.

What remains after fees stays with the account.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from crossmargin_bt.engine import events, fills, formulas, reading
from crossmargin_bt.engine.account import Account
from crossmargin_bt.engine.book import Book
from crossmargin_bt.engine.rates import ShareTable, TierTable
from crossmargin_bt.engine.reading import Pool
from crossmargin_bt.engine.steps import Above, Fraction, Hedges, LiquidationStep, Pairs, Reduce, Tiers

Entries = Iterator[events.Reduced | events.Filled | events.DebtCovered]


class Close(NamedTuple):
    """Part of a leg to close: `lots` unsigned."""

    symbol: str
    side: str
    lots: int


def started(account: Account, time_ms: int, pool: Pool) -> events.Liquidated:
    """Return the entry that opens a liquidation, with the figures that brought it about."""
    risk = reading.risk(account, pool)
    return events.Liquidated(
        time_ms=time_ms,
        pool=pool.name,
        collateral=risk.collateral,
        requirement=risk.requirement,
        marks={
            f"{symbol}:{side}": account.books[symbol].mark_of(account.books[symbol].legs[side].lots)
            for symbol, side in pool.legs
        },
        bankruptcy_prices={
            leg: price if math.isfinite(price) else None
            for leg, price in reading.bankruptcy_prices(account, pool).items()
        },
        prices=account.prices(),
    )


class Liquidation(NamedTuple):
    """One pool at one moment, and the price at which part of a leg would be closed now."""

    account: Account
    time_ms: int
    pool: Pool
    price: Callable[[Close], float]

    def steps(self, *, cooled: bool = False) -> Entries:
        """Yield the steps of the venue, the fills of each, and what the insurance fund pays.

        The liquidation is due: something is closed even where rounding leaves the pool a hair above its requirement.
        Apply each entry before asking for the next; cancel the pool's orders when the step is "all". A step of a
        fraction is the last until its cool-down is over: then come again with `cooled`.
        """
        due = True
        for step in self.account.rules.liquidation:
            if isinstance(step, Fraction):
                found = [] if cooled else _fraction(self, step)
                if found:
                    yield from self._closing("fraction", found)
                    return
                continue
            while (due or not self.is_safe) and (found := self.next_closes(step)):
                due = False
                yield from self._closing(NAMES[type(step)], found)
        if due or not self.is_safe:
            yield from self._closing("all", self.whole())
        short = 0.0 if self.pool.isolated else fills.shared_shortfall(self.account, self.pool.currency)
        yield from self._covered(short)

    @property
    def is_safe(self) -> bool:
        """Whether collateral exceeds the requirement by as much as the venue asks, or nothing is left at risk."""
        if self.pool.isolated and not self.whole():
            return True
        risk = reading.risk(self.account, self.pool)
        return risk.collateral > self.account.rules.safe_level * risk.requirement

    def next_closes(self, step: LiquidationStep) -> list[Close]:
        """Return what a step closes next, in as few lots as make the pool safe; empty when it can do no more."""
        return [close for close in FINDERS[type(step)](self, step) if close.lots]

    def whole(self) -> list[Close]:
        """Return the closing of everything the pool still holds."""
        return [
            Close(symbol, side, abs(self.account.books[symbol].legs[side].lots))
            for symbol, side in self.pool.legs
            if side in self.account.books[symbol].legs
        ]

    def forced_fill(self, close: Close) -> events.Filled:
        """Return the forced close of part of a leg.

        Taker and liquidation fees are taken from what the losses leave, so a fee never makes a debt. What remains of
        an isolated leg keeps its margin: loss and fee come out of it.
        """
        book, at = self.account.books[close.symbol], self.price(close)
        value = book.instrument.value(close.lots, at)
        owed = formulas.fee(value, book.taker) + formulas.fee(value, self.account.rules.liquidation_fee)
        fee = min(owed, max(0.0, self._left()))
        lots = -self.direction(close) * close.lots
        entry = fills.entry_of(book, self.time_ms, close.side, number=0, lots=lots, price=at, fee=fee)
        if self.pool.isolated and close.lots < abs(book.legs[close.side].lots):
            return msgspec.structs.replace(entry, margin=entry.realised - entry.fee)
        return entry

    def direction(self, close: Close) -> int:
        """Return 1 for a part of a long, -1 for a part of a short."""
        return 1 if self.account.books[close.symbol].legs[close.side].lots > 0 else -1

    def margin(self, close: Close) -> float:
        """Return the maintenance margin the whole leg keeps by itself at its mark."""
        book = self.account.books[close.symbol]
        leg = book.legs[close.side]
        return book.maintenance_of(abs(leg.lots), book.mark_of(leg.lots))

    def value(self, close: Close) -> float:
        """Return what the part is worth at the mark."""
        book = self.account.books[close.symbol]
        return book.instrument.value(close.lots, book.mark_of(book.legs[close.side].lots))

    def after(self, found: Sequence[Close]) -> "Liquidation":
        """Return the same on an account in which these closes have happened."""
        after = self._replace(account=self.account.copy(*{close.symbol for close in found}))
        for close in found:
            if close.lots:
                after.account.apply(after.forced_fill(close))
        return after

    def fewest(self, most: int, closing: Callable[[int], list[Close]]) -> list[Close]:
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

    def _closing(self, step: str, found: Sequence[Close]) -> Entries:
        if not found:
            return
        signed = {f"{one.symbol}:{one.side}": -self.direction(one) * one.lots for one in found}
        yield events.Reduced(time_ms=self.time_ms, pool=self.pool.name, step=step, closes=signed)
        for close in found:
            entry = self.forced_fill(close)
            book = self.account.books[close.symbol]
            # What remains of a leg bears the loss of the part; only the end of it can be short.
            ends = close.lots == abs(book.legs[close.side].lots)
            short = fills.isolated_shortfall(book, entry) if ends else 0.0
            yield entry
            yield from self._covered(short)

    def _covered(self, short: float) -> Iterator[events.DebtCovered]:
        return fills.debts_covered(self.account, self.time_ms, self.pool.name, self.pool.currency, short)

    def _left(self) -> float:
        """Return what closing all the pool still holds would leave of it, before fees."""
        amount = 0.0 if self.pool.isolated else self.account.balances[self.pool.currency]
        for close in self.whole():
            book = self.account.books[close.symbol]
            held = book.legs[close.side]
            amount += held.margin + book.instrument.profit(held.lots, held.entry, self.price(close))
        return amount


def cooldown_ms(account: Account) -> float:
    """Return how long a pool rests after a fraction of it was closed, in milliseconds."""
    return next((1000 * step.cooldown_s for step in account.rules.liquidation if isinstance(step, Fraction)), 0.0)


def _pairs(pool: Liquidation, step: Pairs) -> list[Close]:  # noqa: ARG001 - the steps' common shape
    legs: dict[str, list[Close]] = {}
    for close in pool.whole():
        legs.setdefault(close.symbol, []).append(close)
    pairs = [sides for sides in legs.values() if len(sides) > 1]
    if not pairs:
        return []
    pair = max(pairs, key=lambda sides: (sum(map(pool.margin, sides)), sides[0].symbol))
    most = min(close.lots for close in pair)
    return pool.fewest(most, lambda lots: [close._replace(lots=lots) for close in pair])


# A count of lots that falls short of a whole one by a hair is that one.
LOT_HAIR = 1e-9


def _hedges(pool: Liquidation, step: Hedges) -> list[Close]:  # noqa: ARG001
    books = pool.account.books
    held = [close for close in pool.whole() if books[close.symbol].instrument.underlying]
    sets = [
        (one, other)
        for one in held
        for other in held
        if pool.direction(one) > pool.direction(other)
        and one.symbol != other.symbol
        and books[one.symbol].instrument.underlying == books[other.symbol].instrument.underlying
    ]
    if not sets:
        return []
    pair = max(sets, key=lambda sides: (sum(map(pool.margin, sides)), sides[0].symbol, sides[1].symbol))
    # Counted in lots of the coarser contract, so that the finer one can follow.
    fine, coarse = sorted(pair, key=lambda close: _coins_per_lot(books[close.symbol]))
    ratio = _coins_per_lot(books[coarse.symbol]) / _coins_per_lot(books[fine.symbol])
    most = min(coarse.lots, int(fine.lots / ratio + LOT_HAIR))
    return pool.fewest(
        most, lambda lots: [coarse._replace(lots=lots), fine._replace(lots=int(lots * ratio + LOT_HAIR))]
    )


def _coins_per_lot(book: Book) -> float:
    return book.instrument.base(1, book.long_mark)


def _reduce(pool: Liquidation, step: Reduce) -> list[Close]:  # noqa: ARG001
    held = pool.whole()
    if not held:
        return []
    best = max(held, key=lambda close: (_gap_without(pool, close), close.symbol, close.side))
    return pool.fewest(best.lots, lambda lots: [best._replace(lots=lots)])


def _gap_without(pool: Liquidation, close: Close) -> float:
    after = pool.after([close])
    return float("inf") if pool.pool.isolated else reading.risk(after.account, after.pool).gap


def _tiers(pool: Liquidation, step: Tiers) -> list[Close]:
    held = pool.whole()
    if not held:
        return []
    best = max(held, key=lambda close: (pool.margin(close), close.symbol, close.side))
    rule = pool.account.books[best.symbol].maintenance
    bounds = rule.knots if isinstance(rule, TierTable | ShareTable) else ()
    tier = sum(1 for bound in bounds if bound <= pool.value(best)) + 1
    if tier < step.whole_below or tier == 1:
        return [best]
    bound = bounds[max(1, tier - step.down) - 1]
    kept = min(best.lots - 1, int(best.lots * bound / pool.value(best)) + 1)
    while kept and pool.value(best._replace(lots=kept)) >= bound:
        kept -= 1
    return [best._replace(lots=best.lots - kept)]


def _above(pool: Liquidation, step: Above) -> list[Close]:
    large = [close for close in pool.whole() if pool.value(close) > step.value]
    if not large:
        return []
    best = max(large, key=lambda close: (pool.margin(close), close.symbol, close.side))
    most = min(best.lots, int(best.lots * (1 - step.value / pool.value(best))) + 1)
    return pool.fewest(most, lambda lots: [best._replace(lots=lots)])


def _fraction(pool: Liquidation, step: Fraction) -> list[Close]:
    large = [close for close in pool.whole() if pool.value(close) > step.above]
    return [close._replace(lots=max(1, round(close.lots * step.share))) for close in large]


NAMES: dict[type, str] = {Pairs: "pairs", Hedges: "hedges", Reduce: "reduce", Tiers: "tiers", Above: "above"}
FINDERS: dict[type, Callable[[Liquidation, Any], list[Close]]] = {
    Pairs: _pairs,
    Hedges: _hedges,
    Reduce: _reduce,
    Tiers: _tiers,
    Above: _above,
}
