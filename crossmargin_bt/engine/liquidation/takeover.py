# SPDX-License-Identifier: GPL-3.0-or-later
"""Bankrupt pools: takeover by the insurance fund at the bankruptcy price, and auto-deleveraging (ADL).

A pool whose closing in the market would leave negative equity is taken over. If the insurance fund is exhausted,
profitable opposite legs may be closed against it (ADL).
"""

from collections.abc import Iterator, Sequence

import msgspec

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation.forced_close import Close, PoolCloser, share_of
from crossmargin_bt.engine.margin import metrics

# Assumption: cap of the takeover price, at most 50 % better than the market; any further deficit becomes bad debt.
TAKEOVER_RELIEF_MAX = 0.5


def insurance_takeover(closer: PoolCloser, closes: Sequence[Close]) -> events.InsuranceFundTakeover | None:
    """Return the takeover of a pool if these closes are all it holds and would leave negative equity; else None.

    A closing fee set aside in an isolated margin pays the fee of the takeover and no losses.

    Assumption: all legs are taken over at their market prices moved in their favour by the same fraction, as KuCoin
    moves the prices of a shared pool to derive its liquidation prices (docs/sources.md#liquidation-price).
    """
    if sorted(closes) != sorted(closer.all_legs()):
        return None
    left = closer.equity_if_closed() - metrics.fee_set_aside(closer.account, closer.pool)
    books = closer.account.books
    markets = {str(close.leg): closer.price(close) for close in closes}
    values = {
        close: closer.rate(close) * books[close.symbol].instrument.value(close.lots, markets[str(close.leg)])
        for close in closes
    }
    amount, by_fund = fills.loss_coverage(closer.account, closer.pool.currency, -left) if left < 0 else (0.0, 0.0)
    amount = min(amount, TAKEOVER_RELIEF_MAX * sum(values.values()))
    if amount <= 0:
        return None
    share = amount / sum(values.values())
    return events.InsuranceFundTakeover(
        time_ms=closer.time_ms,
        pool=closer.pool.name,
        currency=closer.pool.currency,
        left=left,
        amount=amount,
        by_fund=min(by_fund, amount),
        fund_paid=min(by_fund, amount) * closer.account.price(closer.pool.currency),
        markets=markets,
        takeovers={
            str(close.leg): _takeover_price(closer, close, markets[str(close.leg)], share * value)
            for close, value in values.items()
        },
        prices=closer.account.prices(),
    )


def _takeover_price(closer: PoolCloser, close: Close, market: float, relief: float) -> float:
    """Return the price at which closing a leg brings `relief` (pool's currency) more than at its `market` price."""
    leg = closer.leg(close)
    return closer.account.books[close.symbol].instrument.bankruptcy_price(
        leg.lots, market, -relief / closer.rate(close), entry=leg.entry
    )


def takeover_entries(
    closer: PoolCloser, closes: Sequence[Close], takeover: events.InsuranceFundTakeover, *, deleverages: bool
) -> Iterator[events.InsuranceFundTakeover | events.Filled | events.Deleveraged]:
    """Yield a takeover and its fills; with `deleverages`, then the ADL of the share that the fund cannot cover."""
    at = closer._replace(price=lambda close: takeover.takeovers[str(close.leg)])
    opposite = {close: -closer.direction(close) for close in closes}
    yield takeover
    for close in closes:
        entry = at.forced_fill(close)
        alone = closer.pool.isolated or not closer.account.pooled
        if takeover.amount == -takeover.left and close == closes[-1] and alone:
            # Removes the rounding error: the pool ends at exactly 0.
            fee = metrics.fee_set_aside(closer.account, closer.pool)
            entry = msgspec.structs.replace(entry, realised=fee + _loss_of_all_collateral(closer, close), fee=fee)
        yield entry
    unpaid = 1 - takeover.by_fund / takeover.amount
    for close in closes if unpaid > 0 and deleverages else ():
        part = close._replace(lots=share_of(close.lots, unpaid))
        yield from _deleveraged(closer, part, takeover.takeovers[str(close.leg)], opposite[close])


def _loss_of_all_collateral(closer: PoolCloser, close: Close) -> float:
    return -closer.leg(close).margin if closer.pool.isolated else -closer.account.balances[closer.pool.currency]


def _deleveraged(
    closer: PoolCloser, part: Close, price: float, direction: int
) -> Iterator[events.Filled | events.Deleveraged]:
    """Yield the ADL of the contract's profitable legs in `direction` in other pools, at the takeover price.

    Assumption: the account's own legs rank first in the ADL queue, and ADL is free of fees.
    """
    book, lots = closer.account.books[part.symbol], part.lots
    for side, leg in list(book.legs.items()):
        taken = min(lots, abs(leg.lots)) * direction
        if not taken or leg.lots * direction <= 0 or book.instrument.profit(taken, leg.entry, price) <= 0:
            continue
        market = closer.price(Close(part.symbol, side, abs(taken)))
        if book.instrument.profit(taken, price, market) <= 0:
            continue  # ADL at a price better than the market would be a gain
        lots -= abs(taken)
        yield events.Deleveraged(
            time_ms=closer.time_ms,
            pool=closer.pool.name,
            symbol=part.symbol,
            side=side,
            lots=-taken,
            price=price,
            market=market,
            amount=book.instrument.profit(taken, price, market),
        )
        yield fills.fill_entry(book, closer.time_ms, side, lots=-taken, price=price, fee=0.0, cause="liquidation")
