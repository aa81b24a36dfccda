# SPDX-License-Identifier: GPL-3.0-or-later
"""Liquidation of a pool: reduce it in the venue's steps until it is safe, then close what that did not save.

What remains after fees stays with the account.
"""

import math
from collections.abc import Iterator, Sequence

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation import deficits, reduction, repayment, takeover
from crossmargin_bt.engine.liquidation.forced_close import Close, PoolCloser
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.terms.liquidation_steps import Fraction

Entries = Iterator[
    events.LiquidationStepTaken
    | events.InsuranceFundTakeover
    | events.Deleveraged
    | events.Filled
    | events.DebtCovered
    | events.Converted
]


def liquidation_entry(account: Account, time_ms: int, pool: Pool) -> events.Liquidated:
    """Return the entry that opens a liquidation, with the figures that brought it about."""
    risk = metrics.risk(account, pool)
    return events.Liquidated(
        time_ms=time_ms,
        pool=pool.name,
        collateral=risk.collateral,
        requirement=risk.requirement,
        marks={
            str(leg): account.books[leg.symbol].mark_of(account.books[leg.symbol].legs[leg.side].lots)
            for leg in pool.legs
        },
        bankruptcy_prices={
            leg: price if math.isfinite(price) else None
            for leg, price in metrics.bankruptcy_prices(account, pool).items()
        },
        prices=account.prices(),
    )


def liquidate(work: PoolCloser, *, cooled: bool = False, deleverages: bool = False) -> Entries:
    """Yield the steps of the venue, the fills of each, and what the insurance fund pays or takes over.

    The liquidation is due: something is closed even where rounding leaves the pool just above its requirement.
    Apply each entry before asking for the next; cancel the pool's orders when the step is "all". A step of a
    fraction is the last until its cool-down is over: then come again with `cooled`. With `deleverages` profitable
    legs of the account's other pools are closed against what the fund cannot take over.
    """
    due = True
    if work.account.pooled and not work.pool.isolated and currencies.is_in_debt(work.account):
        for entry in repayment.repayments(work.account, work.time_ms, work.price, "liquidation"):
            due = False
            yield entry
    for step in () if work.is_bankrupt else work.account.liquidation:
        is_fraction = isinstance(step, Fraction)
        if is_fraction and cooled:
            continue
        while (due or not work.is_safe) and (found := reduction.closes_for_step(work, step)):
            due = False
            yield from _closing(work, reduction.STEP_NAMES[type(step)], found, deleverages=deleverages)
            if is_fraction:
                return
    if due or not work.is_safe:
        yield from _closing(work, "all", work.margined_legs() or work.all_legs(), deleverages=deleverages)
        if work.all_legs() and not work.margined_legs() and work.account.balance(work.pool.currency) < 0:
            yield from _closing(work, "all", work.all_legs(), deleverages=deleverages)
    if not work.pool.isolated:
        yield from _ended(work)


def _ended(work: PoolCloser) -> Entries:
    """Yield what settles a shared pool without positions: debts paid back, and what is left below zero paid for."""
    account = work.account
    if not account.pooled:
        yield from deficits.cover_shared_pool(account, work.time_ms, work.pool.currency, work.price)
    elif not work.all_legs():
        yield from repayment.repayments(account, work.time_ms, work.price, "liquidation")
        yield from deficits.cover_remaining(account, work.time_ms, work.pool.name)


def _closing(work: PoolCloser, step: str, found: Sequence[Close], *, deleverages: bool) -> Entries:
    if not found:
        return
    signed = {str(one.leg): -work.direction(one) * one.lots for one in found}
    yield events.LiquidationStepTaken(time_ms=work.time_ms, pool=work.pool.name, step=step, closes=signed)
    taken = takeover.insurance_takeover(work, found)
    ending = (
        takeover.takeover_entries(work, found, taken, deleverages=deleverages)
        if taken
        else map(work.forced_fill, found)
    )
    for entry in ending:
        short = _short(work, entry) if isinstance(entry, events.Filled) else 0.0
        yield entry
        yield from _covered(work, short)


def _short(work: PoolCloser, entry: events.Filled) -> float:
    """Return what the end of an isolated leg leaves below zero; the loss of a part is taken from the margin of the rest of the leg."""
    book = work.account.books[entry.symbol]
    return fills.isolated_shortfall(book, entry) if entry.lots == -book.leg(entry.side).lots else 0.0


def _covered(work: PoolCloser, short: float) -> Iterator[events.DebtCovered]:
    return fills.cover_debt(work.account, work.time_ms, work.pool.name, work.pool.currency, short)


def cooldown_ms(account: Account) -> float:
    """Return how long a pool rests after a fraction of it was closed, in milliseconds."""
    return next((1000 * step.cooldown_s for step in account.liquidation if isinstance(step, Fraction)), 0.0)
