# SPDX-License-Identifier: GPL-3.0-or-later
"""The second model's decisions: what a fill does, whether an order is admitted, and what a liquidation closes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction as F  # noqa: N817 - as in the model
from typing import Any

from second_model import (
    ROUNDING,
    ZERO,
    Account,
    Book,
    Order,
    bankruptcy_fee,
    is_table,
    largest_size,
    maintenance,
    profit,
    quantity,
    tier_of,
)


@dataclass
class Fill:
    """What a fill does: realised profit, fee, and the change of the leg's own margin."""

    realised: F
    fee: F
    margin: F


def closes(held: int, lots: int) -> int:
    """Return how many of signed lots close a position."""
    return min(abs(held), abs(lots)) if held * lots < 0 else 0


def fill(
    account: Account,
    symbol: str,
    side: str,
    lots: int,
    price: F,
    *,
    maker: bool = False,
    fee: F | None = None,
    forced: bool = False,
    mark: F | None = None,
) -> Fill:
    """Book a fill: the part that closes realises profit, the rest opens at the price."""
    book = account.books[symbol]
    leg = book.legs[side]
    if not lots:
        return Fill(ZERO, ZERO, ZERO)
    closed = closes(leg.lots, lots)
    opened = abs(lots) - closed
    sign = 1 if lots > 0 else -1
    realised, margin = ZERO, ZERO
    paid = book.value(lots, price) * book.fee_rate(maker) if fee is None else fee
    if closed:
        realised = profit(book.instrument, -sign * closed, leg.entry, price)
        margin -= leg.margin * closed / abs(leg.lots)
        if forced and closed < abs(leg.lots) and book.mode == "isolated":
            margin = realised - paid  # What remains keeps the margin: only the loss and the fee leave it.
    before = leg.lots + sign * closed
    if opened:
        leg.entry = average(book, before, leg.entry, opened, price)
        if book.mode == "isolated":
            margin += opening_margin(book, abs(before), opened, sign, price, mark)
    leg.lots += lots
    leg.margin += margin
    account.balance += realised - paid - margin
    account.fees += paid
    if not leg.lots:
        leg.entry = leg.margin = ZERO
        if not book.is_held():
            book.adopt()
    return Fill(realised, paid, margin)


def average(book: Book, held: int, entry: F, opened: int, price: F) -> F:
    """Return the average entry: by quantity, of inverse contracts the harmonic mean."""
    held = abs(held)
    if not held:
        return price
    if book.instrument.inverse:
        return (held + opened) / (held / entry + opened / price)
    return (held * entry + opened * price) / (held + opened)


def opening_margin(book: Book, held: int, opened: int, sign: int, price: F, mark: F | None) -> F:
    """Return the margin that an isolated opening takes, at the rate of the tier of the whole position."""
    amount, at = book.value(opened, price), price if mark is None else mark
    rate = book.initial_rate(book.value(held + opened, at), quantity(book.instrument, held + opened, at))
    by = book.rules.isolated_fee_in_margin
    if by == "none":
        return amount * rate
    return amount * rate + (
        bankruptcy_fee(book, amount, sign) if by == "bankruptcy" else amount * book.fee_rate(maker=False)
    )


def pays_maker(order: Order, price: F) -> bool:
    """Whether a fill pays the maker fee: of a limit order that rested, not of one that traded at the open after its entry."""
    return not order.immediate and not (order.fresh and price != order.price)


def executable(book: Book, order: Order) -> int:
    """Return the lots that an order may fill now: of a reduce-only order, or one against a leg in hedge mode, what it closes."""
    closed = closes(book.legs[order.side].lots, order.lots)
    exits = order.reduce_only or (order.side == "long" and order.lots < 0) or (order.side == "short" and order.lots > 0)
    return int(math.copysign(closed, order.lots)) if exits else order.lots


def after_market_orders(account: Account) -> Account:
    """Return a copy of the account in which the market orders that were admitted have been filled at their prices."""
    later = account.copy()
    for symbol, book in later.books.items():
        for one in sorted(book.orders.values(), key=lambda order: order.number):
            if one.immediate:
                del book.orders[one.number]
                fill(later, symbol, one.side, executable(book, one), one.price, mark=book.mark(one.side))
    return later


@dataclass
class Verdict:
    """Whether an order is admitted, and the amounts a refusal names."""

    admitted: bool
    needed: F = ZERO
    available: F = ZERO


def judge(account: Account, symbol: str, order: Order, *, at_fill: bool = False) -> Verdict:
    """Decide on an order: as one that rests, a market order and a fill through the fill itself.

    What a fill closes is booked first, with its fee; the lots that open need their margin and the loss against the mark.
    """
    state = account.copy()
    rested = state.books[symbol].orders.pop(order.number, None)
    maker = at_fill and rested is not None and pays_maker(rested, order.price)
    if at_fill:
        for one in state.books.values():
            one.orders = {number: other for number, other in one.orders.items() if not other.immediate}
    else:
        state = after_market_orders(state)
    book = state.books[symbol]
    lots = order.lots if not order.immediate else executable(book, order)
    if order.immediate or at_fill:
        closed = int(math.copysign(closes(book.legs[order.side].lots, lots), lots))
        fill(state, symbol, order.side, closed, order.price, maker=maker, mark=book.mark(order.side))
        lots -= closed
    free = state.available(book.mode)
    before = state.balance + state.cross_profit() - state.in_use()
    if order.immediate or at_fill:
        fee = None if account.rules.order_fees_reserved or book.mode == "isolated" else ZERO
        fill(state, symbol, order.side, lots, order.price, maker=maker, fee=fee, mark=book.mark(order.side))
    else:
        book.orders[order.number] = order
    needed = before - (state.balance + state.cross_profit() - state.in_use())
    return Verdict(needed <= free, needed, free)


def leads_to_a_lower_leverage(account: Account, symbol: str, order: Order) -> bool:
    """Whether an order that opens leads to a tier whose maximum leverage is below the leverage set, on a venue that refuses."""
    state = after_market_orders(account)
    book = state.books[symbol]
    if book.rules.tier_leverage_breach != "refuse" or not is_table(book.rule) or order.reduce_only:
        return False
    held = book.legs[order.side].lots
    same = sum(one.lots for one in book.shown(order.side) if one.lots * order.lots > 0)
    largest = abs(held + same + order.lots) if (held + same + order.lots) * order.lots > 0 else 0
    if order.lots * (1 if order.side == "long" else -1 if order.side == "short" else order.lots) < 0:
        return False
    if largest and book.mode == "cross" and book.rules.tier_exposure == "added":
        largest += sum(largest_size(book, side) for side in book.legs if side != order.side)
    worth = max(book.value(largest, order.price), book.value(largest, book.mark(order.side)))
    highest = book.rule.tiers[tier_of(book.rule, worth)].leverage_max
    return bool(highest) and F(highest) < book.leverage


def change_rules(account: Account, rules: Any, *, opened_since: bool) -> None:
    """Adopt changed rules; with `opened_since` contracts with an open position follow when they are flat."""
    account.rules = rules
    for book in account.books.values():
        book.next_rules = rules
        if not opened_since or not book.is_held():
            book.adopt()


# --- liquidation -------------------------------------------------------------------------------------------------------


def members(account: Account, pool: str) -> list[tuple[str, str]]:
    """Return the legs of a pool that are open, as symbol and side."""
    alone = ":" in pool
    legs = [(symbol, side) for symbol, book in account.books.items() for side, leg in book.legs.items() if leg.lots]
    if alone:
        return [(symbol, side) for symbol, side in legs if f"{symbol}:{side}" == pool]
    return [(symbol, side) for symbol, side in legs if account.books[symbol].mode == "cross"]


def is_safe(account: Account, pool: str) -> bool:
    """Whether a partial liquidation may stop: the margin level is above the safe level."""
    return account.collateral(pool) > account.requirement(pool) * F(account.rules.safe_level)


def after_closing(account: Account, closing: dict[tuple[str, str], int]) -> Account:
    """Return a copy of the account in which lots are closed at the last price, with taker and liquidation fee."""
    later = account.copy()
    for (symbol, side), lots in closing.items():
        if lots:
            book = later.books[symbol]
            fee = book.value(lots, book.last) * (book.fee_rate(maker=False) + F(book.rules.liquidation_fee))
            fill(later, symbol, side, lots, book.last, fee=fee, forced=True)
    return later


def forced_fee(account: Account, symbol: str, side: str, lots: int, price: F) -> F:
    """Return the taker and liquidation fee of a forced close, at most what closing all of the pool at last prices would leave."""
    book = account.books[symbol]
    full = book.value(lots, price) * (book.fee_rate(maker=False) + F(book.rules.liquidation_fee))
    later = account.copy()
    fill(later, symbol, side, lots, price, fee=ZERO, forced=True)
    if book.mode == "isolated":
        leg = book.legs[side]
        left = leg.margin + profit(book.instrument, leg.lots, leg.entry, price)
    else:
        left = later.balance
        for one in later.cross():
            left += sum(
                (profit(one.instrument, leg.lots, leg.entry, one.last) for leg in one.legs.values() if leg.lots), ZERO
            )
    return min(full, max(ZERO, left))


def fewest(account: Account, pool: str, legs: list[tuple[str, str]], most: int) -> int:
    """Return the fewest lots, closed of each leg, that make the pool safe; `most` if none do."""

    def safe(lots: int) -> bool:
        later = after_closing(account, {leg: opposite(account, leg) * lots for leg in legs})
        return not members(later, pool) or is_safe(later, pool)

    if most and safe(1):
        return 1
    if not safe(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if safe(middle) else (middle, high)
    return high


def kept_by(account: Account, leg: tuple[str, str]) -> F:
    """Return the maintenance margin of a leg, which decides the order of a step."""
    book = account.books[leg[0]]
    size = book.legs[leg[1]].lots
    return maintenance(
        book.rule, book.value(size, book.mark(leg[1])), quantity(book.instrument, size, book.mark(leg[1]))
    )


def tiers_close(account: Account, step: Any, leg: tuple[str, str]) -> int:
    """Return the lots that a leg loses in a step down the tiers: all of them below the tier `whole_below`."""
    book = account.books[leg[0]]
    lots, mark = abs(book.legs[leg[1]].lots), book.mark(leg[1])
    if not is_table(book.rule):
        return lots
    number = tier_of(book.rule, book.value(lots, mark))
    if number + 1 < (step.whole_below or step.down + 1) or number < step.down:
        return lots
    bound = F(book.rule.tiers[number - step.down + 1].notional_min)
    one = book.value(1, mark)
    return lots - (math.ceil(bound * (1 - ROUNDING) / one) - 1)


def opposite(account: Account, leg: tuple[str, str]) -> int:
    """Return the direction of a fill that closes a leg."""
    return -1 if account.books[leg[0]].legs[leg[1]].lots > 0 else 1


def pairs_close(account: Account, pool: str, sizes: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return the lots of the first contract with a long and a short leg, as few as make the pool safe."""
    for symbol in dict.fromkeys(symbol for symbol, _ in sizes):
        both = [leg for leg in sizes if leg[0] == symbol]
        if len(both) == 2:
            return dict.fromkeys(both, fewest(account, pool, both, min(sizes[leg] for leg in both)))
    return {}


def fraction_close(account: Account, step: Any, sizes: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return the share of every position above the value, to the nearest lot."""
    books = account.books
    large = [leg for leg in sizes if books[leg[0]].value(sizes[leg], books[leg[0]].mark(leg[1])) > F(step.above)]
    return {leg: max(1, round(sizes[leg] * F(str(step.share)))) for leg in large}


def above_close(
    account: Account, pool: str, step: Any, sizes: dict[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Return the fewest lots of the first position above the value, at most what is above it."""
    for leg, size in sizes.items():
        book = account.books[leg[0]]
        most = size - math.floor(F(step.value) / book.value(1, book.mark(leg[1])))
        if most > 0:
            return {leg: fewest(account, pool, [leg], most)}
    return {}


def portion_close(
    account: Account, pool: str, step: Any, sizes: dict[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Return the share of the leg that `reduce_close` takes first, or as many lots as are worth `value_min`."""
    (first,) = reduce_close(account, pool, sizes)
    share = math.ceil(sizes[first] * F(str(step.share)))
    return {first: min(sizes[first], max(lots_worth(account, first, step.value_min), share))}


def reduction_close(
    account: Account, pool: str, step: Any, sizes: dict[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Return the fewest lots of `reduce_close`, or as many as are worth `value_min`."""
    ((first, lots),) = reduce_close(account, pool, sizes).items()
    return {first: min(sizes[first], max(lots_worth(account, first, step.value_min), lots))}


def lots_worth(account: Account, leg: tuple[str, str], value: float) -> int:
    """Return the fewest lots of a leg that are worth a value at its mark, to a thousand-millionth of a lot."""
    book = account.books[leg[0]]
    return math.ceil(F(str(value)) / book.value(1, book.mark(leg[1])) - F(1, 10**9))


def reduce_close(account: Account, pool: str, sizes: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return the fewest lots of the leg whose complete closing leaves the largest excess of collateral."""

    def excess(leg: tuple[str, str]) -> F:
        later = after_closing(account, {leg: opposite(account, leg) * sizes[leg]})
        return later.collateral(pool) - later.requirement(pool)

    first = max(sizes, key=excess)
    return {first: fewest(account, pool, [first], sizes[first])}


def step_closes(account: Account, pool: str, step: Any) -> dict[str, int]:
    """Return the lots that a liquidation step closes first, signed, by symbol:side; `step` is None for the last, all."""
    legs = sorted(members(account, pool), key=lambda leg: -kept_by(account, leg))
    sizes = {leg: abs(account.books[leg[0]].legs[leg[1]].lots) for leg in legs}
    ways = {
        "NoneType": lambda: sizes,
        "Pairs": lambda: pairs_close(account, pool, sizes),
        "Tiers": lambda: {legs[0]: tiers_close(account, step, legs[0])},
        "Fraction": lambda: fraction_close(account, step, sizes),
        "Above": lambda: above_close(account, pool, step, sizes),
        "Portion": lambda: portion_close(account, pool, step, sizes),
        "Reduce": lambda: reduction_close(account, pool, step, sizes),
    }
    closing = ways[type(step).__name__]() if legs else {}
    return {f"{leg[0]}:{leg[1]}": lots * opposite(account, leg) for leg, lots in closing.items() if lots}
