# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of one journal entry, written down: every position, rate, price and sum that decided it.

The account is brought back from the journal to the moment before the entry; what is printed are the
terms the engine adds up, so their sums are the entry's own figures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crossmargin_bt.engine.admission import order_admission
from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.account import Account, replay
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.lifecycle import fills
from crossmargin_bt.engine.margin import currencies, metrics, portfolio, requirement
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES
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
    """Return whether an entry was decided by margin: a refusal that was judged, a state, what a pool got or lost."""
    return isinstance(entry, Explainable) and bool(entry.prices)


def account_before(
    journal: Sequence[events.JournalEntry],
    at: int,
    rules: Rules,
    instruments: Mapping[str, Instrument],
    **setup: Any,
) -> Account:
    """Return the account as it stood before entry number `at`, at the prices that entry names.

    `setup` is that of the account (`Account.setup`). An option is given the volatility that its mark implies.
    """
    account = replay(journal[:at], rules, instruments, **setup)
    set_to_entry(account, journal[at])
    return account


def set_to_entry(account: Account, entry: events.JournalEntry) -> None:
    """Bring an account that stands before an entry to the time and the prices that entry names."""
    assert isinstance(entry, Explainable)
    account.now_ms = entry.time_ms
    account.set_prices(entry.prices)


def explain(account: Account, entry: events.JournalEntry) -> list[str]:
    """Return the lines that lead to the figures of an entry, given the account before it."""
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
    head = f"{entry.pool} comes to the state {entry.state!r}"
    head += f" at a margin level of {entry.threshold:.6g}." if entry.threshold else ": more is in use than there is."
    return [
        head,
        *(_explain_risk(account, entry.pool) if entry.threshold else _explain_margin_in_use(account, entry.pool)),
    ]


def _explain_risk(account: Account, name: str) -> list[str]:
    """Return how the collateral and the requirement of a pool add up."""
    pool = next((pool for pool in metrics.pools(account) if pool.name == name), None)
    if pool is None:
        return ["Nothing is held in it any more."]
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
        else "nothing is required"
    )
    return [*lines, "", f"Margin level: {level}; liquidation at 1"]


def _currency_lines(account: Account) -> list[str]:
    """Return what every currency of a pool of many counts for; floating profit is in the amounts."""
    return [
        f"  {one.currency} {one.amount!r}, with the profit below, at {one.price!r}: worth {one.value!r}, counts for {one.collateral_value!r}"
        for one in currencies.holdings(account)
        if one.amount
    ]


def _shared_requirement_lines(account: Account, books: list[Book]) -> list[str]:
    """Return what a shared pool's positions and debts keep."""
    lines = []
    if account.portfolio:
        for unit in portfolio.units(account, with_orders=True):
            bare = unit.without_orders
            scenario = "" if bare.worst_scenario is None else f" in {bare.worst_scenario}"
            lines.append(
                f"  {unit.underlying} risk unit keeps {unit.maintenance!r}: worst loss {bare.worst_loss!r}{scenario}, "
                f"charges {bare.charges!r}, minimum {bare.minimum_charge!r}"
            )
    else:
        lines += [line for book in books for line in _requirement_lines(account, book)]
    if account.pooled:
        lines += [
            f"  debt of {one.debt!r} {one.currency} keeps {one.maintenance_margin!r}"
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
    """Return what resting orders take from the collateral, where the venue counts that."""
    lines = []
    for book in account.books_of(pool.currency):
        if not book.orders:
            continue
        if MODES[book.margin_mode].FULLY_FUNDED and (account.pooled or book.margin_mode == "option"):
            continue
        if MODES[book.margin_mode].POOLED:
            taken = requirement.orders_in_ratio(book)
            if taken:
                lines.append(f"  {book.instrument.symbol} fees and losses of resting orders -{taken!r}")
        elif account.rules.isolated_orders_in_ratio:
            lines.append(f"  {book.instrument.symbol} isolated orders -{MODES[book.margin_mode].in_use(book)!r}")
    return lines


def _requirement_lines(account: Account, book: Book) -> list[str]:
    if book.margin_mode == "option" or book.instrument.kind == "margin":
        kept = account.conversion_rate(book.instrument.settle) * requirement.book_requirement(book, with_orders=True)
        return [f"  {book.instrument.symbol} ({book.instrument.kind}), orders that count included: {kept!r}"]
    lines = []
    scaled = "" if book.scale == 1.0 else f" (with rates x {book.scale!r} for volatility)"
    for direction, lots, tier, price in requirement.margined_sides(book, with_orders=True):
        value = book.instrument.value(lots, price)
        margin = book.maintenance_of(lots, price, tier)
        lines.append(
            f"  {book.instrument.symbol} {'long' if direction > 0 else 'short'} {book.instrument.size(lots):g} at {price!r}, "
            f"orders that count included: {value!r} x {margin / value!r} = {margin!r}{scaled}"
        )
    fees = requirement.closing_fees(book, with_orders=True)
    if fees:
        lines.append(f"  {book.instrument.symbol} fee of closing it {fees!r}")
    if len(lines) > 1 and book.rules.hedge_maintenance == "larger":
        lines.append(f"  {book.instrument.symbol}: of two sides only the larger margin counts")
    return lines


def _isolated_requirement_lines(account: Account, pool: Pool) -> list[str]:
    ((symbol, side),) = pool.legs
    book = account.books[symbol]
    leg = book.legs[side]
    price, margin, fee = requirement.isolated_requirement(book, leg)
    value = book.instrument.value(leg.lots, price)
    lines = [f"  {abs(book.instrument.size(leg.lots)):g} at {price!r}: {value!r} x {margin / value!r} = {margin!r}"]
    return [*lines, f"  fee of closing it {fee!r}"] if fee else lines


def _bankruptcy_lines(entry: events.Liquidated) -> list[str]:
    prices = ", ".join(
        f"{leg} at {'no price' if price is None else format(price, '.8g')}"
        for leg, price in entry.bankruptcy_prices.items()
    )
    return ["", f"Used up by one leg alone, the others bare: {prices}"]


def _explain_top_up(account: Account, entry: events.CollateralToppedUp) -> list[str]:
    return [
        f"{entry.pool} is replenished out of the reserve, up to a margin level of {entry.to_level:.6g}.",
        *_explain_risk(account, entry.pool),
        "",
        f"Wanted: {entry.to_level!r} x {entry.requirement!r} - {entry.collateral!r} = {entry.wanted!r}",
        f"Came: {entry.amount!r} {entry.currency}, all that the reserve gives at once; it has {entry.left!r} left"
        if entry.amount < entry.wanted
        else f"Came: {entry.amount!r} {entry.currency}; the reserve has {entry.left!r} left",
    ]


def _explain_takeover(account: Account, entry: events.InsuranceFundTakeover) -> list[str]:
    """Return what closing in the market would leave of a pool, and the prices at which the fund takes it over."""
    pool = next(pool for pool in metrics.pools(account) if pool.name == entry.pool)
    lines = [f"{entry.pool} is taken over: closing it in the market would leave it below zero.", "", "Closed there:"]
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
    fund = f"{entry.by_fund!r} by the insurance fund, {entry.amount - entry.by_fund!r} by the venue"
    return [*lines, f"  = {entry.left!r} {entry.currency}", "", f"Borne for it: {entry.amount!r}; {fund}"]


def _explain_margin_in_use(account: Account, currency: str) -> list[str]:
    """Return what is in use of a currency's shared balance, and what that leaves."""
    total = metrics.pool_balance(account, currency)
    head = f"Balance {total.balance!r}, floating profit of cross positions {total.cross_profit!r} {currency}"
    head += f", haircuts {total.haircut!r}" if total.haircut else ""
    lines = ["", head, "In use:"]
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
            f"  {one.currency}: debts, what its orders may borrow, what is set aside {one.initial_margin!r}"
            for one in currencies.holdings(account)
            if one.initial_margin
        ]
    elif account.has_coins or account.set_aside:
        aside = account.set_aside.get(currency, 0.0)
        lines.append(f"  coins in resting sells {currencies.reserved_coins(account, currency)!r}, set aside {aside!r}")
    return [*lines, f"  = {total.in_use!r}"]


def _explain_refusal(account: Account, entry: events.OrderRefused) -> list[str]:
    first = [] if entry.at_fill else order_admission.immediate_orders(account)
    counted = [
        (number, account.books[symbol].instrument, account.books[symbol].orders[number]) for number, symbol in first
    ]
    if first:
        account = order_admission.after_immediate_orders(account)
    book = account.books[entry.symbol]
    size = book.instrument.size(entry.lots)
    stage = "its fill is judged" if entry.at_fill else "it is judged as it would rest"
    if entry.immediate:
        stage = "it is judged by the fill it would get"
    fill = None
    if entry.kind == "margin" and (entry.at_fill or entry.immediate):
        fill = fills.order_fill(
            account, entry.time_ms, entry.symbol, entry.side,
            number=entry.number, lots=entry.lots, price=entry.price, maker=False,
        )  # fmt: skip
    closed = 0
    if fill is not None and not book.is_fully_funded:
        closed, opened = position.split_fill(book.leg(entry.side).lots, fill.lots)
        account = order_admission.without_orders_of(account, fill)
        book = account.books[entry.symbol]
        if closed:
            account.apply(order_admission.part_of(book, fill, closed))
        fill = order_admission.part_of(book, fill, opened)
    lines = [
        f"Order {entry.number}, {size:+g} {entry.symbol} at {entry.price!r}, is refused; {stage}.",
        f"  {entry.reason}",
        *(
            f"MarginedSide as filled before it: order {number}, {instrument.size(order.lots):+g} {instrument.symbol} at {order.price!r}"
            for number, instrument, order in counted
        ),
        *([f"MarginedSide as closed before it opens: {book.instrument.size(closed):+g} of it"] if closed else []),
        *_explain_margin_in_use(account, account.pool_of(book.instrument.settle)),
        "",
        f"For {book.margin_mode} orders that leaves {metrics.available_margin(account, book)!r}",
    ]
    if entry.kind != "margin":
        return lines
    after = account.copy(entry.symbol)
    if fill is not None:
        after.apply(fill)
        unasked = MODES[book.margin_mode].POOLED and not account.rules.order_fees_reserved
        fee = f"fee {fill.fee!r}{', which the venue does not ask for' if unasked else ''}"
        lines.append(
            f"With the fill ({fee}) it would be {metrics.available_margin(after, after.books[entry.symbol])!r}"
        )
    else:
        resting = OpenOrder(entry.number, entry.side, entry.lots, entry.price, group=entry.group)
        after = account.copy(entry.symbol)
        after.books[entry.symbol].orders[entry.number] = resting
        lines.append(f"With the order it would be {metrics.available_margin(after, after.books[entry.symbol])!r}")
    return [*lines, f"Needed {entry.needed!r}, available {entry.available!r}"]
