# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a pool that the market would leave below zero: the insurance fund takes it over where it is used up.

Where the fund is empty, profitable legs may be closed against it (auto-deleveraging).
"""

from collections.abc import Iterator, Sequence

import msgspec

from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.liquidation.forced_close import Close, PoolCloser, share_of

# The fund takes a leg at no more than this part of its price better than the market; what is short beyond that is a debt.
TAKEOVER_RELIEF_MAX = 0.5


def taken_over(work: PoolCloser, found: Sequence[Close]) -> events.InsuranceFundTakeover | None:
    """Return the takeover of a pool, where these closes are its end and leave it below zero.

    Assumption: the legs of a pool are all taken at their market prices moved in their favour by the same part, as
    KuCoin moves the prices of a shared pool for its liquidation prices (docs/sources.md#liquidation-price).
    """
    if sorted(found) != sorted(work.all_legs()):
        return None
    left = work.equity_if_closed()
    books = work.account.books
    markets = {str(close.leg): work.price(close) for close in found}
    values = {
        close: work.rate(close) * books[close.symbol].instrument.value(close.lots, markets[str(close.leg)])
        for close in found
    }
    amount, by_fund = fills.loss_coverage(work.account, work.pool.currency, -left) if left < 0 else (0.0, 0.0)
    amount = min(amount, TAKEOVER_RELIEF_MAX * sum(values.values()))
    if amount <= 0:
        return None
    share = amount / sum(values.values())
    takeovers = {
        str(close.leg): books[close.symbol].instrument.bankruptcy_price(
            work.leg(close).lots,
            markets[str(close.leg)],
            -share * value / work.rate(close),
            entry=work.leg(close).entry,
        )
        for close, value in values.items()
    }
    return events.InsuranceFundTakeover(
        time_ms=work.time_ms,
        pool=work.pool.name,
        currency=work.pool.currency,
        left=left,
        amount=amount,
        by_fund=min(by_fund, amount),
        fund_paid=min(by_fund, amount) * work.account.price(work.pool.currency),
        markets=markets,
        takeovers=takeovers,
        prices=work.account.prices(),
    )


def entries(
    work: PoolCloser, found: Sequence[Close], taken: events.InsuranceFundTakeover, *, deleverages: bool
) -> Iterator[events.InsuranceFundTakeover | events.Filled | events.Deleveraged]:
    """Yield a takeover and its fills; then what is deleveraged where the fund is empty."""
    at = work._replace(price=lambda close: taken.takeovers[str(close.leg)])
    opposite = {close: -work.direction(close) for close in found}
    yield taken
    for close in found:
        entry = at.forced_fill(close)
        alone = work.pool.isolated or not work.account.pooled
        if taken.amount == -taken.left and close == found[-1] and alone:
            # What rounding would leave: the pool ends at exactly nothing.
            entry = msgspec.structs.replace(entry, realised=_all_there_is(work, close), fee=0.0)
        yield entry
    unpaid = 1 - taken.by_fund / taken.amount
    for close in found if unpaid > 0 and deleverages else ():
        part = close._replace(lots=share_of(close.lots, unpaid))
        yield from _deleveraged(work, part, taken.takeovers[str(close.leg)], opposite[close])


def _all_there_is(work: PoolCloser, close: Close) -> float:
    return -work.leg(close).margin if work.pool.isolated else -work.account.balances[work.pool.currency]


def _deleveraged(
    work: PoolCloser, part: Close, price: float, direction: int
) -> Iterator[events.Filled | events.Deleveraged]:
    """Yield the closing of the contract's legs in `direction` that other pools hold with a profit at the price.

    Assumption: the account's own legs are the first of the ranking, and deleveraging costs no fee.
    """
    book, lots = work.account.books[part.symbol], part.lots
    for side, leg in list(book.legs.items()):
        taken = min(lots, abs(leg.lots)) * direction
        if not taken or leg.lots * direction <= 0 or book.instrument.profit(taken, leg.entry, price) <= 0:
            continue
        market = work.price(Close(part.symbol, side, abs(taken)))
        if book.instrument.profit(taken, price, market) <= 0:
            continue  # nobody is deleveraged to his gain
        lots -= abs(taken)
        yield events.Deleveraged(
            time_ms=work.time_ms,
            pool=work.pool.name,
            symbol=part.symbol,
            side=side,
            lots=-taken,
            price=price,
            market=market,
            amount=book.instrument.profit(taken, price, market),
        )
        yield fills.fill_entry(book, work.time_ms, side, lots=-taken, price=price, fee=0.0, cause="liquidation")
