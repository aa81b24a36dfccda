# SPDX-License-Identifier: GPL-3.0-or-later
"""What each journal entry does to an account, one function an entry; those not listed change nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from crossmargin_bt.engine.ledger import events, position
from crossmargin_bt.engine.ledger.book import Book, mode_of
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.terms.borrowing import Loan, loan_key
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS

if TYPE_CHECKING:
    from crossmargin_bt.engine.ledger.account import Account


def _deposited(account: "Account", event: events.CashTransferred) -> None:
    account.balances[event.currency] = account.balances.get(event.currency, 0.0) + event.amount


def _setting_changed(account: "Account", event: events.SettingChanged) -> None:
    book = account.books[event.symbol]
    book.margin_mode = mode_of(book.instrument, "isolated" if event.margin_mode == "isolated" else "cross")
    book.leverage = event.leverage


def _position_mode_changed(account: "Account", event: events.PositionModeChanged) -> None:
    account.hedged = event.position_mode == "hedge"
    for book in account.books.values():
        book.hedged = account.hedged and book.instrument.kind in HEDGE_MODE_KINDS


def _order_placed(account: "Account", event: events.OrderPlaced) -> None:
    account.books[event.symbol].orders[event.number] = OpenOrder(
        event.number,
        event.side,
        event.lots,
        event.price,
        event.reduce_only,
        event.group,
        event.immediate,
        event.covered,
    )


def _order_removed(account: "Account", event: events.OrderRemoved) -> None:
    account.books[event.symbol].orders.pop(event.number, None)


def _filled(account: "Account", event: events.Filled) -> None:
    book = account.books[event.symbol]
    effect = position.apply_fill(
        book.leg(event.side),
        event.lots,
        event.price,
        instrument=book.instrument,
        margin=event.margin,
    )
    if effect.position.lots:
        book.legs[event.side] = effect.position
    else:
        book.legs.pop(event.side, None)
    book.realised[event.side] = book.realised.get(event.side, 0.0) + event.realised
    book.last = event.price
    account.balances[book.instrument.settle] += event.realised - event.fee - event.margin - event.paid
    if event.received:
        account.balances[book.instrument.base_currency] += event.received
    account.add("fees", book.instrument.settle, event.fee)
    _shrink_order(book, event)


def _shrink_order(book: Book, event: events.Filled) -> None:
    order = book.orders.get(event.number)
    if order is None:
        return
    left = order.lots - event.lots
    if left:
        book.orders[order.number] = msgspec.structs.replace(order, lots=left, covered=min(order.covered, abs(left)))
    else:
        del book.orders[order.number]


def _funding_paid(account: "Account", event: events.FundingPaid) -> None:
    book = account.books[event.symbol]
    account.add("funding", book.instrument.settle, event.amount)
    if event.isolated:
        book.legs[event.side] = position.with_margin(book.legs[event.side], event.amount)
    else:
        account.balances[book.instrument.settle] += event.amount


def _margin_moved(account: "Account", event: events.IsolatedMarginAdjusted) -> None:
    book = account.books[event.symbol]
    book.legs[event.side] = position.with_margin(book.legs[event.side], event.amount)
    account.balances[book.instrument.settle] -= event.amount


def _maintenance_changed(account: "Account", event: events.MaintenanceChanged) -> None:
    account.books[event.symbol].rates = {"cross": event.maintenance, "isolated": event.isolated}


def _rates_scaled(account: "Account", event: events.RatesScaled) -> None:
    account.books[event.symbol].scale = event.factor


def _debt_covered(account: "Account", event: events.DebtCovered) -> None:
    account.balances[event.currency] += event.amount
    _borne(account, event)


def _borne(account: "Account", event: events.DebtCovered | events.InsuranceFundTakeover) -> None:
    account.add("bad_debt", event.currency, event.amount)
    account.insurance_fund -= event.fund_paid


def _taken_over(account: "Account", event: events.InsuranceFundTakeover) -> None:
    _borne(account, event)


def _replenished(account: "Account", event: events.CollateralToppedUp) -> None:
    symbol, _, side = event.pool.rpartition(":")
    if symbol not in account.books:
        account.balances[event.currency] += event.amount
        return
    legs = account.books[symbol].legs
    legs[side] = position.with_margin(legs[side], event.amount)


def _converted(account: "Account", event: events.Converted) -> None:
    account.balances[event.currency] -= event.amount
    account.balances[event.into] += event.received


def _set_aside(account: "Account", event: events.SetAside) -> None:
    account.set_aside[event.currency] = account.set_aside.get(event.currency, 0.0) + event.amount


def _expired(account: "Account", event: events.Expired) -> None:
    account.valuation.drop(event.symbol)


def _debt_repaid(account: "Account", event: events.DebtRepaid) -> None:
    account.loans.pop(event.name, None)


def _interest_charged(account: "Account", event: events.InterestCharged) -> None:
    account.add("interest", event.currency, event.amount)
    name = loan_key(event.currency, event.symbol, event.side)
    before = account.loans.get(name)
    peak = event.owed + (0.0 if event.symbol else event.amount)
    if before is not None and before.periods == event.periods:
        peak = max(peak, before.peak)
    account.loans[name] = Loan(event.since_ms, event.periods, peak)
    if event.symbol:
        book = account.books[event.symbol]
        book.legs[event.side] = msgspec.structs.replace(
            book.legs[event.side], interest=book.legs[event.side].interest + event.amount
        )
        return
    account.balances[event.currency] -= event.amount


POSTINGS: dict[type, Callable[["Account", Any], None]] = {
    events.CashTransferred: _deposited,
    events.SettingChanged: _setting_changed,
    events.PositionModeChanged: _position_mode_changed,
    events.OrderPlaced: _order_placed,
    events.OrderRemoved: _order_removed,
    events.Filled: _filled,
    events.FundingPaid: _funding_paid,
    events.IsolatedMarginAdjusted: _margin_moved,
    events.MaintenanceChanged: _maintenance_changed,
    events.RatesScaled: _rates_scaled,
    events.DebtCovered: _debt_covered,
    events.InsuranceFundTakeover: _taken_over,
    events.CollateralToppedUp: _replenished,
    events.Converted: _converted,
    events.SetAside: _set_aside,
    events.InterestCharged: _interest_charged,
    events.DebtRepaid: _debt_repaid,
    events.Expired: _expired,
}
