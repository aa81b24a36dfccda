# SPDX-License-Identifier: GPL-3.0-or-later
"""Explanations: the full arithmetic of a journal entry that margin decided, with every position, rate, price and sum.

The account is replayed from the journal up to the entry. The printed terms are the ones the engine adds up, so
their sums equal the figures of the entry.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills, immediate_orders
from crossmargin_bt.engine.margin import currencies, metrics, portfolio
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES, cross, isolated
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rules import Rules

Explainable = (
    events.OrderRefused
    | events.RiskState
    | events.Liquidated
    | events.CollateralToppedUp
    | events.InsuranceFundTakeover
)


def is_explainable(entry: events.JournalEntry) -> bool:
    """Return whether an entry has an explanation: decided by margin, and with the prices of that moment."""
    return isinstance(entry, Explainable) and bool(entry.prices)


def account_before(
    journal: Sequence[events.JournalEntry],
    at: int,
    rules: Rules,
    instruments: Mapping[str, Instrument],
    **setup: Any,
) -> Account:
    """Return the account before the journal entry with index `at`, valued at the prices of that entry.

    `setup` is the configuration of the account (`Account.setup`). An option has the volatility implied by its mark.
    """
    account = replay(journal[:at], rules, instruments, **setup)
    set_to_entry(account, journal[at])
    return account


def set_to_entry(account: Account, entry: events.JournalEntry) -> None:
    """Set the time and the prices of an account to those of an entry. Side effect: changes the account."""
    assert isinstance(entry, Explainable)
    account.now_ms = entry.time_ms
    account.set_prices(entry.prices)


def explain(account: Account, entry: events.JournalEntry) -> list[str]:
    """Return the lines of text that derive the figures of an entry, given the account before it."""
    if isinstance(entry, events.OrderRefused):
        return _explain_refusal(account, entry)
    if isinstance(entry, events.Liquidated):
        head = f"{entry.pool} is liquidated: its collateral does not exceed its requirement."
        return [head, *_explain_risk(account, entry.pool), *_bankruptcy_lines(entry)]
    if isinstance(entry, events.CollateralToppedUp):
        return _explain_top_up(account, entry)
    if isinstance(entry, events.InsuranceFundTakeover):
        return _explain_takeover(account, entry)
    assert isinstance(entry, events.RiskState)
    head = f"{entry.pool} enters the state {entry.state!r}"
    head += (
        f" at a margin level of {entry.threshold:.6g}."
        if entry.threshold
        else ": margin in use exceeds balance plus unrealised profit."
    )
    return [
        head,
        *(_explain_risk(account, entry.pool) if entry.threshold else _explain_margin_in_use(account, entry.pool)),
    ]


def _explain_risk(account: Account, name: str) -> list[str]:
    """Return the components of a pool's collateral and requirement, and its margin level."""
    pool = next((pool for pool in metrics.pools(account) if pool.name == name), None)
    if pool is None:
        return ["The pool holds no position any more."]
    risk = metrics.risk(account, pool)
    lines = ["", "Collateral:"]
    books = [account.books[pool.legs[0][0]]] if pool.isolated else _pooled_books(account, pool)
    if pool.isolated:
        ((symbol, side),) = pool.legs
        lines.append(f"  margin of the position {account.books[symbol].legs[side].margin!r}")
    elif account.pooled:
        lines += _currency_lines(account)
    else:
        lines.append(f"  balance {account.balances[pool.currency]!r}")
    lines += [line for book in books for line in _profit_lines(book, pool)]
    if not pool.isolated:
        lines += _order_lines(account, pool)
    lines.append(f"  = {risk.collateral!r} {pool.currency}")
    lines += ["", "Requirement:"]
    lines += _isolated_requirement_lines(account, pool) if pool.isolated else _shared_requirement_lines(account, books)
    lines.append(f"  = {risk.requirement!r} {pool.currency}")
    level = (
        f"{risk.collateral!r} / {risk.requirement!r} = {risk.margin_level!r}"
        if risk.requirement
        else "infinite, the requirement is 0"
    )
    return [*lines, "", f"Margin level: {level}; liquidation at 1"]


def _currency_lines(account: Account) -> list[str]:
    """Return the value and collateral value of every currency; unrealised profit is included in the amounts."""
    return [
        f"  {one.currency} {one.amount!r}, including the profit below, at {one.price!r}: value {one.value!r}, "
        f"collateral value {one.collateral_value!r}"
        for one in currencies.holdings(account)
        if one.amount
    ]


def _shared_requirement_lines(account: Account, books: list[Book]) -> list[str]:
    """Return the maintenance margin of a shared pool's positions and debts."""
    lines = []
    if account.portfolio:
        for unit in portfolio.units(account, with_orders=True):
            margin = unit.without_orders
            scenario = "" if margin.worst_scenario is None else f" in {margin.worst_scenario}"
            lines.append(
                f"  {unit.underlying} risk unit: maintenance margin {unit.maintenance!r}, worst loss {margin.worst_loss!r}{scenario}, "
                f"charges {margin.charges!r}, minimum {margin.minimum_charge!r}"
            )
    else:
        lines += [line for book in books for line in _requirement_lines(account, book)]
    if account.pooled:
        lines += [
            f"  debt of {one.debt!r} {one.currency}: maintenance margin {one.maintenance_margin!r}"
            for one in currencies.holdings(account)
            if one.debt
        ]
    return lines


def _pooled_books(account: Account, pool: Pool) -> list[Book]:
    return [
        book
        for book in account.books_of(pool.currency)
        if MODES[book.margin_mode].POOLED and (book.legs or book.orders)
    ]


def _profit_lines(book: Book, pool: Pool) -> list[str]:
    lines = []
    for side, leg in book.legs.items() if not book.is_fully_funded else ():
        if pool.isolated and (book.instrument.symbol, side) not in pool.legs:
            continue
        size = book.instrument.size(leg.lots)
        lines.append(
            f"  {book.instrument.symbol}:{side} {size:+g} from {leg.entry!r}, mark {book.mark_of(leg.lots)!r}: "
            f"profit {book.profit(leg)!r}"
        )
    return lines


def _order_lines(account: Account, pool: Pool) -> list[str]:
    """Return the deductions of resting orders from the collateral, as far as the venue counts them."""
    lines = []
    for book in account.books_of(pool.currency):
        taken = metrics.orders_against_collateral(account, book)
        if taken:
            what = "fees and open losses of resting" if MODES[book.margin_mode].POOLED else "margin of isolated"
            lines.append(f"  {book.instrument.symbol} {what} orders -{taken!r}")
    return lines


def _requirement_lines(account: Account, book: Book) -> list[str]:
    if book.margin_mode == "option" or book.instrument.kind == "margin":
        margin = MODES[book.margin_mode].maintenance_margin(book, with_orders=True)
        margin *= account.conversion_rate(book.instrument.settle)
        return [f"  {book.instrument.symbol} ({book.instrument.kind}), including the orders that count: {margin!r}"]
    lines = []
    scaled = "" if book.scale == 1.0 else f" (with rates x {book.scale!r} for volatility)"
    for direction, lots, tier, price in cross.margined_sides(book, with_orders=True):
        value = book.instrument.value(lots, price)
        margin = book.maintenance_of(lots, price, tier)
        lines.append(
            f"  {book.instrument.symbol} {'long' if direction > 0 else 'short'} {book.instrument.size(lots):g} at {price!r}, "
            f"including the orders that count: {value!r} x {margin / value!r} = {margin!r}{scaled}"
        )
    fees = cross.closing_fees(book, with_orders=True)
    if fees:
        lines.append(f"  {book.instrument.symbol} closing fee {fees!r}")
    if len(lines) > 1 and book.rules.hedge_maintenance == "larger":
        lines.append(f"  {book.instrument.symbol}: only the larger margin of the two sides counts")
    return lines


def _isolated_requirement_lines(account: Account, pool: Pool) -> list[str]:
    ((symbol, side),) = pool.legs
    book = account.books[symbol]
    leg = book.legs[side]
    price, margin, fee = isolated.leg_requirement(book, leg)
    value = book.instrument.value(leg.lots, price)
    lines = [f"  {abs(book.instrument.size(leg.lots)):g} at {price!r}: {value!r} x {margin / value!r} = {margin!r}"]
    return [*lines, f"  closing fee {fee!r}"] if fee else lines


def _bankruptcy_lines(entry: events.Liquidated) -> list[str]:
    prices = ", ".join(
        f"{leg} at {'no price' if price is None else format(price, '.8g')}"
        for leg, price in entry.bankruptcy_prices.items()
    )
    return ["", f"Bankruptcy price per leg, the marks of the others unchanged: {prices}"]


def _explain_top_up(account: Account, entry: events.CollateralToppedUp) -> list[str]:
    return [
        f"{entry.pool} is topped up from the reserve, to a margin level of {entry.to_level:.6g}.",
        *_explain_risk(account, entry.pool),
        "",
        f"Needed: {entry.to_level!r} x {entry.requirement!r} - {entry.collateral!r} = {entry.wanted!r}",
        f"Transferred: {entry.amount!r} {entry.currency}, the maximum of one transfer; the reserve has {entry.left!r} left"
        if entry.amount < entry.wanted
        else f"Transferred: {entry.amount!r} {entry.currency}; the reserve has {entry.left!r} left",
    ]


def _explain_takeover(account: Account, entry: events.InsuranceFundTakeover) -> list[str]:
    """Return the equity that closing a pool in the market would leave, and the prices of the takeover."""
    pool = next(pool for pool in metrics.pools(account) if pool.name == entry.pool)
    lines = [
        f"{entry.pool} is taken over: closing it in the market would leave negative equity.",
        "",
        "Equity if closed in the market:",
    ]
    if not pool.isolated:
        lines.append(f"  balance {account.balance(pool.currency)!r}")
    for symbol, side in pool.legs:
        book = account.books[symbol]
        leg, name = book.legs[side], f"{symbol}:{side}"
        if pool.isolated:
            lines.append(f"  margin of the position {leg.margin!r}")
        at = entry.markets[name]
        profit = book.instrument.profit(leg.lots, leg.entry, at)
        text = f"  {name} {book.instrument.size(leg.lots):+g} from {leg.entry!r} at {at!r}: profit {profit!r}"
        lines.append(f"{text}; taken over at {entry.takeovers[name]!r}")
    aside = metrics.fee_set_aside(account, pool)
    if aside:
        lines.append(f"  closing fee set aside -{aside!r}")
    fund = f"{entry.by_fund!r} by the insurance fund, {entry.amount - entry.by_fund!r} by the venue"
    return [*lines, f"  = {entry.left!r} {entry.currency}", "", f"Loss covered: {entry.amount!r}; {fund}"]


def _explain_margin_in_use(account: Account, currency: str) -> list[str]:
    """Return the balance of a shared pool and the components of its margin in use."""
    total = metrics.pool_balance(account, currency)
    head = f"Balance {total.balance!r}, unrealised profit of cross positions {total.cross_profit!r} {currency}"
    head += f", haircuts {total.haircut!r}" if total.haircut else ""
    lines = ["", head, "Margin in use:"]
    if account.portfolio:
        lines += [
            f"  {unit.underlying} risk unit {unit.initial!r}" for unit in portfolio.units(account, with_orders=True)
        ]
    for book in account.books_of(currency) if not account.portfolio else ():
        if (book.legs or book.orders) and not (account.pooled and book.margin_mode == "spot"):
            used = account.conversion_rate(book.instrument.settle) * MODES[book.margin_mode].in_use(book)
            lines.append(
                f"  {book.instrument.symbol} ({book.margin_mode}, {book.leverage:g}x, {len(book.orders)} orders) {used!r}"
            )
    if account.pooled:
        lines += [
            f"  {one.currency}: debt, potential debt of its orders, amount set aside {one.initial_margin!r}"
            for one in currencies.holdings(account)
            if one.initial_margin
        ]
    elif account.has_coins or account.set_aside:
        aside = account.set_aside.get(currency, 0.0)
        lines.append(
            f"  coins reserved by resting sells {currencies.reserved_coins(account, currency)!r}, set aside {aside!r}"
        )
    return [*lines, f"  = {total.in_use!r}"]


def _explain_refusal(account: Account, entry: events.OrderRefused) -> list[str]:
    """Return the margin in use at a refusal, and the available margin with and without the order."""
    in_flight = [] if entry.at_fill else immediate_orders.immediate_orders(account)
    filled = [
        (number, account.books[symbol].instrument, account.books[symbol].orders[number]) for number, symbol in in_flight
    ]
    if in_flight:
        account = immediate_orders.after_immediate_orders(account)
    account, fill, closed = _opening_fill(account, entry)
    book = account.books[entry.symbol]
    stage = "checked at its fill" if entry.at_fill else "checked as a resting order"
    if entry.immediate:
        stage = "checked as a fill at the expected price"
    size = book.instrument.size(entry.lots)
    lines = [
        f"Order {entry.number}, {size:+g} {entry.symbol} at {entry.price!r}, is refused ({stage}).",
        f"  {entry.reason}",
        *(
            f"Assumed filled before it: order {number}, {instrument.size(order.lots):+g} {instrument.symbol} at {order.price!r}"
            for number, instrument, order in filled
        ),
        *([f"Assumed closed before it opens: {book.instrument.size(closed):+g} of it"] if closed else []),
        *_explain_margin_in_use(account, account.pool_of(book.instrument.settle)),
        "",
        f"Available for {book.margin_mode} orders: {metrics.available_margin(account, book)!r}",
    ]
    if entry.kind != "margin":
        return lines
    return [*lines, _available_with(account, entry, fill), f"Needed {entry.needed!r}, available {entry.available!r}"]


def _opening_fill(account: Account, entry: events.OrderRefused) -> tuple[Account, events.Filled | None, int]:
    """Return the account after the closing part of a refused fill, the opening part, and the lots that close.

    The fill is None if the order was checked as a resting order, or refused for another reason than margin.
    """
    if entry.kind != "margin" or not (entry.at_fill or entry.immediate):
        return account, None, 0
    fill = fills.order_fill(
        account, entry.time_ms, entry.symbol, entry.side,
        number=entry.number, lots=entry.lots, price=entry.price, maker=False,
    )  # fmt: skip
    book = account.books[entry.symbol]
    if book.is_fully_funded:
        return account, fill, 0
    closed, opened = position.split_fill(book.leg(entry.side).lots, fill.lots)
    account = order_admission.without_orders_of(account, fill)
    book = account.books[entry.symbol]
    if closed:
        account.apply(order_admission.part_of(book, fill, closed))
    return account, order_admission.part_of(book, fill, opened), closed


def _available_with(account: Account, entry: events.OrderRefused, fill: events.Filled | None) -> str:
    """Return the line of the available margin after the fill, or with the order resting if there is no fill."""
    after = account.copy(entry.symbol)
    book = after.books[entry.symbol]
    if fill is None:
        resting = OpenOrder(entry.number, entry.side, entry.lots, entry.price, group=entry.group)
        book.orders[entry.number] = resting
        return f"Available with the order: {metrics.available_margin(after, book)!r}"
    after.apply(fill)
    is_unreserved = MODES[book.margin_mode].POOLED and not account.rules.order_fees_reserved
    fee = f"fee {fill.fee!r}{', which the venue does not reserve' if is_unreserved else ''}"
    return f"Available after the fill ({fee}): {metrics.available_margin(after, after.books[entry.symbol])!r}"
