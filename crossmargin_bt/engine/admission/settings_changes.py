# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of an account's settings and money during a run: why one cannot be, or None.

Margin mode and position mode change while nothing is open; leverage changes where margin and tiers allow it.
Assumption: no venue of these rule books lets a position change its mode.
"""

import msgspec

from crossmargin_bt.engine.admission import position_limits, spot_orders
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.refusal import Refusal, RefusalCode
from crossmargin_bt.engine.margin import currencies, metrics
from crossmargin_bt.engine.margin.modes import MODES, isolated
from crossmargin_bt.engine.math.tolerances import fits
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS


def margin_mode_refusal(account: Account, book: Book, margin_mode: str) -> Refusal | None:
    """Return why an instrument cannot change to "cross" or "isolated" now, or None."""
    symbol = book.instrument.symbol
    if margin_mode == "isolated" and account.portfolio:
        return Refusal("rejected", "margin_mode_unavailable", "a portfolio account has no isolated positions")
    if margin_mode == "isolated" and book.is_fully_funded:
        return Refusal("rejected", "margin_mode_unavailable", f"{symbol} has no isolated mode: it is paid for in full")
    if margin_mode != book.margin_mode and (book.legs or book.orders) and not book.is_fully_funded:
        code: RefusalCode = "position_open" if book.legs else "orders_open"
        return Refusal(
            "rejected", code, f"{symbol} has a position or orders; close them before changing its margin mode"
        )
    return None


def leverage_refusal(account: Account, book: Book, leverage: float) -> Refusal | None:
    """Return why an instrument's leverage cannot change now, or None: what it locks more must be free."""
    if book.is_fully_funded or account.portfolio or not (book.legs or book.orders):
        return None
    symbol, mode = book.instrument.symbol, MODES[book.margin_mode]
    changed = msgspec.structs.replace(book, leverage=leverage)
    moved = 0.0
    if book.legs and mode.ISOLATED and leverage != book.leverage:
        refusal = _isolated_leverage_refusal(book, changed)
        if refusal is not None:
            return refusal
        moves = margin_moves(book, leverage)
        moved = sum(amount for amount in moves.values() if amount > 0)
        for side, amount in moves.items():
            refusal = None if amount >= 0 else _release_refusal(account, book, side, -amount)
            if refusal is not None:
                return refusal
    beyond = position_limits.tier_limit_refusal(changed, position_limits.tier_exposures(changed))
    if beyond is not None:
        return beyond
    currency = account.pool_of(book.instrument.settle)
    needed = account.conversion_rate(book.instrument.settle) * (mode.in_use(changed) - mode.in_use(book) + moved)
    free = max(0.0, metrics.available_margin(account, book))
    if fits(needed, free, account.balance(currency)):
        return None
    reason = f"{symbol} at {leverage:g}x locks {needed:.2f} {currency} more, {free:.2f} {currency} are free for it"
    return Refusal("margin", "insufficient_margin", reason, needed, free, currency)


def _isolated_leverage_refusal(book: Book, changed: Book) -> Refusal | None:
    """Return why the venue does not change the leverage of an open isolated position, or None (`Rules.isolated_leverage`)."""
    symbol, rule = book.instrument.symbol, book.rules.isolated_leverage
    text = None
    if rule == "kept":
        text = f"{symbol} has an isolated position; close it before changing its leverage"
    elif rule == "raised" and changed.leverage < book.leverage:
        text = (
            f"{symbol} has an isolated position, whose leverage may only rise (now {book.leverage:g}x); close it first"
        )
    elif rule == "checked":
        for leg in book.legs.values():
            initial = isolated.initial_margin(changed, leg)
            if not fits(initial, leg.margin + min(0.0, book.profit(leg)), leg.margin):
                text = (
                    f"{symbol} at {changed.leverage:g}x needs {initial:.2f} {book.instrument.settle} of margin, its position has "
                    f"{leg.margin:.2f}; add margin first"
                )
    return None if text is None else Refusal("rejected", "leverage_of_isolated_position", text)


def _release_refusal(account: Account, book: Book, side: str, amount: float) -> Refusal | None:
    """Return why an isolated leg cannot give up `amount` of its margin, or None: it must not be liquidated at once."""
    symbol, settle = book.instrument.symbol, book.instrument.settle
    pool = next(pool for pool in metrics.pools(account) if (symbol, side) in pool.legs)
    spare = max(0.0, metrics.risk(account, pool).gap)
    if amount < spare:
        return None
    text = f"{symbol} would be liquidated at once: {amount:.2f} {settle} of its margin are to be freed, {spare:.2f} {settle} are spare"
    return Refusal("margin", "removal_above_spare_margin", text, amount, spare, settle)


def margin_moves(book: Book, leverage: float) -> dict[str, float]:
    """Return the margin that a change of leverage moves from the balance to each isolated leg (back, when negative).

    Assumption: the venue computes the new initial margin at the average entry price, and margin added by hand stays.
    """
    if not (book.legs and MODES[book.margin_mode].ISOLATED):
        return {}
    changed = msgspec.structs.replace(book, leverage=leverage)
    rule, moves = book.rules.isolated_leverage, {}
    for side, leg in book.legs.items():
        initial = isolated.initial_margin(changed, leg)
        if rule == "moves_margin":
            moves[side] = initial - isolated.initial_margin(book, leg)
        elif rule == "topped_up":
            moves[side] = max(0.0, initial - leg.margin)
    return {side: amount for side, amount in moves.items() if amount}


def position_mode_refusal(account: Account) -> Refusal | None:
    """Return why the position mode cannot change now, or None."""
    for symbol, book in account.books.items():
        if book.instrument.kind in HEDGE_MODE_KINDS and (book.legs or book.orders):
            what = "a position" if book.legs else "orders"
            code: RefusalCode = "position_open" if book.legs else "orders_open"
            return Refusal("rejected", code, f"{symbol} has {what}; close everything before changing the position mode")
    return None


def withdrawable(account: Account, currency: str) -> float:
    """Return how much of a currency may leave the account: what is there of it, as far as free margin without gains reaches.

    Where the venue asks for it, a share of the positions' notional value stays (`Rules.withdrawal_notional_share`).
    """
    balance = metrics.pool_balance(account, account.pool_of(currency))
    share = account.rules.withdrawal_notional_share
    if share is not None:
        kept = share * metrics.cross_notional(account, account.pool_of(currency))
        balance = balance._replace(in_use=max(balance.in_use, kept))
    free = balance.withdrawable
    if not account.pooled:
        return free
    price = account.conversion_rate(currency)
    kept = account.set_aside.get(currency, 0.0) + currencies.reserved(account, currency)
    there = max(0.0, account.balances.get(currency, 0.0) - kept)
    return min(there, free / price) if price else 0.0


def money_refusal(account: Account, currency: str, amount: float, *, aside: bool) -> Refusal | None:
    """Return why `amount` of a currency may not leave the account, or with `aside` not be set aside, or None."""
    there = spot_orders.available(account, currency) if aside else withdrawable(account, currency)
    if fits(amount, there):
        return None
    what = "set aside" if aside else "withdrawn"
    text = f"{amount:.8g} {currency} are to be {what}, {there:.8g} {currency} are available"
    code: RefusalCode = "insufficient_balance" if aside else "withdrawal_above_available"
    return Refusal("margin", code, text, amount, there, currency)
